#include "base/buf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int buf_reserve(struct buf *b, size_t size, struct error *err)
{
        size_t need, capacity;
        char *data;

        if (!size_mul_add(1, b->size, size, &need) || need > b->ceiling)
                return error_set(err, -E2BIG, NULL, "more than %zu bytes", b->ceiling);
        if (b->data && need <= b->capacity)
                return 0;
        capacity = MIN(MAX(MAX(need, 2 * b->capacity), (size_t)256), b->ceiling); /* so what fits in it is allowed */
        data = realloc(b->data, capacity + 1);
        if (!data)
                return error_set(err, -ENOMEM, NULL, "no memory for a buffer of %zu bytes", capacity);
        data[b->size] = 0;
        b->data = data;
        b->capacity = capacity;
        return 0;
}

int buf_append(struct buf *b, const void *data, size_t size, struct error *err)
{
        int r = buf_reserve(b, size, err);

        if (r < 0)
                return r;
        if (size)
                memcpy(b->data + b->size, data, size);
        b->size += size;
        b->data[b->size] = 0;
        return 0;
}

int buf_printf(struct buf *b, struct error *err, const char *fmt, ...)
{
        va_list ap;
        int n, r;

        va_start(ap, fmt);
        n = vsnprintf(NULL, 0, fmt, ap);
        va_end(ap);
        if (n < 0)
                return error_set(err, -EINVAL, NULL, "text cannot be formatted");
        r = buf_reserve(b, (size_t)n, err);
        if (r < 0)
                return r;
        va_start(ap, fmt);
        (void)vsnprintf(b->data + b->size, (size_t)n + 1, fmt, ap);
        va_end(ap);
        b->size += (size_t)n;
        return 0;
}

void buf_consume(struct buf *b, size_t n)
{
        if (!n)
                return;
        memmove(b->data, b->data + n, b->size - n + 1);
        b->size -= n;
}

void buf_clear(struct buf *b)
{
        b->size = 0;
        if (b->data)
                b->data[0] = 0;
}

void buf_done(struct buf *b)
{
        free(b->data);
        *b = BUF_INIT(b->ceiling);
}
