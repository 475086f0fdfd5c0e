#include "base/error.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static void fill(struct error *err, int code, const char *path, const char *fmt, va_list ap)
{
        err->code = code;
        (void)snprintf(err->path, sizeof err->path, "%s", path ? path : "");
        (void)vsnprintf(err->text, sizeof err->text, fmt, ap);
        for (char *p = err->text; *p; p++)
                if (*p == '\n' || *p == '\r')
                        *p = ' ';
}

int error_set(struct error *err, int code, const char *path, const char *fmt, ...)
{
        va_list ap;

        assert(code < 0);
        if (!err)
                return code;
        va_start(ap, fmt);
        fill(err, code, path, fmt, ap);
        va_end(ap);
        return code;
}

int errors_add(struct errors *errs, int code, const char *path, const char *fmt, ...)
{
        va_list ap;

        assert(code < 0);
        if (errs->n < ARRAY_LEN(errs->items)) {
                va_start(ap, fmt);
                fill(&errs->items[errs->n], code, path, fmt, ap);
                va_end(ap);
        }
        errs->n++;
        return code;
}
