#include "engine/data/digest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define CHUNK_BYTES ((size_t)1 << 20)

struct digest {
        XXH3_state_t *state;
        char *chunk; /* [CHUNK_BYTES] */
};

int digest_new(const char *path, struct digest **ret, struct error *err)
{
        _cleanup_(digest_freep) struct digest *d = calloc(1, sizeof *d);

        if (d) {
                d->state = XXH3_createState();
                d->chunk = malloc(CHUNK_BYTES);
        }
        if (!d || !d->state || !d->chunk)
                return error_set(err, -ENOMEM, path, "no memory to read it");
        (void)XXH3_128bits_reset(d->state);
        *ret = TAKE_PTR(d);
        return 0;
}

struct digest *digest_free(struct digest *d)
{
        if (!d)
                return NULL;
        (void)XXH3_freeState(d->state);
        free(d->chunk);
        free(d);
        return NULL;
}

void digest_add(struct digest *d, const void *data, size_t size)
{
        (void)XXH3_128bits_update(d->state, data, size);
}

int digest_add_file(struct digest *d, int fd, int64_t offset, int64_t bytes, const char *path, struct error *err)
{
        int64_t done = 0;

        for (;;) {
                ssize_t n = pread(fd, d->chunk, CHUNK_BYTES, (off_t)(offset + done));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set(err, -errno, path, "cannot be read: %s", strerror(errno));
                if (n == 0)
                        break;
                digest_add(d, d->chunk, (size_t)n);
                done += n;
        }
        if (done != bytes)
                return error_set(err, -EBADMSG, path, "has %lld bytes now, but had %lld when it was opened",
                                 (long long)(offset + done), (long long)(offset + bytes));
        return 0;
}

void digest_text(const struct digest *d, char ret[DIGEST_SIZE])
{
        XXH128_hash_t h = XXH3_128bits_digest(d->state);

        (void)snprintf(ret, DIGEST_SIZE, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
}
