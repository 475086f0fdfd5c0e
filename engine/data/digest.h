/* XXH128 over a data set's files, in pieces: what its jobs know it by. */
#pragma once

#include "base/file.h"

struct digest;

/* err names path, what it is taken of. */
int digest_new(const char *path, struct digest **ret, struct error *err);
struct digest *digest_free(struct digest *d);

void digest_add(struct digest *d, const void *data, size_t size);
/* bytes of an open file from offset on, which is where it must end: -EBADMSG when it has grown or shrunk since its size
 * was asked for. Does not go through a mapping, nor move the file's position. path is for the error. */
int digest_add_file(struct digest *d, int fd, int64_t offset, int64_t bytes, const char *path, struct error *err);
void digest_text(const struct digest *d, char ret[DIGEST_SIZE]);

DEFINE_CLEANUP(struct digest *, digest_free);
