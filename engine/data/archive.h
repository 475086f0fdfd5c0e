/* Members of other people's archives, one after the other, through libarchive. Nothing is ever written to where a
 * member's name says: what is wanted goes to a file that the caller names. */
#pragma once

#include "base/error.h"

enum archive_kind {
        ARCHIVE_TAR, /* plain or compressed by gzip, whose checksum is verified */
        ARCHIVE_ZIP, /* by its directory at the end */
};

struct archive_in;

/* As open(2); -EBADMSG for what is no such archive, now or at the first member. */
int archive_open(const char *path, enum archive_kind kind, struct archive_in **ret, struct error *err);
struct archive_in *archive_close(struct archive_in *a);

/* The next member: 1 with its name (borrowed until the next call) and size (-1: not said); 0: no more, and the archive
 * is whole. Folders are passed over. Refused, with -EBADMSG: a name that is absolute or has "..", and in a tar anything
 * but files and folders (links, devices, FIFOs). */
int archive_next(struct archive_in *a, const char **ret_name, int64_t *ret_bytes, struct error *err);

/* Writes the member's bytes to a new file. -E2BIG past max_bytes. What was written of a member that fails stays. */
int archive_unpack(struct archive_in *a, const char *path, int64_t max_bytes, struct error *err);

DEFINE_CLEANUP(struct archive_in *, archive_close);
