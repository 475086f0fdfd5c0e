#include "api/encoding.h"

#include "api/target.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

/* Both at their fastest: JSON gets five to ten times smaller, and most of the time is the other side's network. */
#define LEVEL 1
#define GZIP_WINDOW (15 + 16) /* zlib's largest, with gzip's header */
#define GZIP_MEMORY 8

static int zstd(const struct buf *b, struct buf *ret)
{
        size_t n = ZSTD_compress(ret->data, ret->ceiling, b->data, b->size, LEVEL);

        if (ZSTD_isError(n))
                return -E2BIG;
        ret->size = n;
        return 0;
}

static int gzip(const struct buf *b, struct buf *ret)
{
        z_stream z = {.next_in = (Bytef *)b->data,
                      .avail_in = (uInt)b->size,
                      .next_out = (Bytef *)ret->data,
                      .avail_out = (uInt)ret->ceiling};
        int r;

        if (deflateInit2(&z, LEVEL, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY, Z_DEFAULT_STRATEGY) != Z_OK)
                return -ENOMEM;
        r = deflate(&z, Z_FINISH);
        ret->size = z.total_out;
        (void)deflateEnd(&z);
        return r == Z_STREAM_END ? 0 : -E2BIG;
}

static const struct {
        const char *name;
        int (*apply)(const struct buf *b, struct buf *ret);
} codings[] = {{"zstd", zstd}, {"gzip", gzip}};

const char *encoding_choose(const char *accepted)
{
        for (size_t i = 0; accepted && i < ARRAY_LEN(codings); i++)
                if (coding_accepted(accepted, codings[i].name))
                        return codings[i].name;
        return NULL;
}

int encoding_apply(const char *coding, const struct buf *b, struct buf *ret)
{
        size_t i = 0;
        int r = buf_reserve(ret, ret->ceiling, NULL);

        while (strcmp(codings[i].name, coding) != 0)
                i++;
        return r < 0 ? r : codings[i].apply(b, ret);
}
