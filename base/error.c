#include "base/error.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Of a path that is too long the end says more: the name of the file. It does not begin inside a character. */
static void copy_path(char *ret, size_t size, const char *path)
{
        static const char cut[] = "...";
        size_t n = strlen(path);

        if (n >= size) {
                path += n - (size - sizeof cut);
                while ((*path & 0xc0) == 0x80)
                        path++;
        }
        (void)snprintf(ret, size, "%s%s", n >= size ? cut : "", path);
}

static void fill(struct error *err, int code, const char *path, const char *fmt, va_list ap)
{
        err->code = code;
        copy_path(err->path, sizeof err->path, path ? path : "");
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

bool error_is_hosts(int code)
{
        return code == -ENOMEM || code == -EIO || code == -ENOSPC || code == -EDQUOT || code == -EMFILE ||
               code == -ENFILE || code == -EAGAIN || code == -EROFS || code == -ESTALE;
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

void errors_copy(struct errors *to, const struct errors *from)
{
        to->n = from ? from->n : 0;
        if (from)
                memcpy(to->items, from->items, errors_kept(from) * sizeof *from->items);
}
