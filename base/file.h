/* Files that are whole or absent: bounded reads, and writes to a temporary name that are synced, renamed and whose
 * folder is synced, with the XXH128 digest of what was written. */
#pragma once

#include "base/buf.h"

#include <dirent.h>

#define DIGEST_SIZE 33 /* 32 hexadecimal digits of XXH128 and a NUL */

/* Appends the whole file to buf; -E2BIG when it would pass buf's ceiling. err->path is path. */
int file_read(const char *path, struct buf *buf, struct error *err);
/* The same of an open file, from where it stands; path is for err. */
int file_read_rest(int fd, const char *path, struct buf *buf, struct error *err);
/* Whether all that follows is this one line: 1 or 0; negative: it cannot be read. */
int file_is_line(int fd, const char *path, const char *line, struct error *err);

/* open(2) of what may only be a regular file, no link, and which waits for nobody: where others write, a FIFO may have
 * its name. With O_CREAT its mode is 0640. A descriptor; -ENXIO for anything else than a regular file. */
int file_open_regular(const char *path, int flags, struct error *err);

/* Exactly size bytes from an offset of an open file; -EBADMSG where it ends before. path is for err. */
int file_read_at(int fd, const char *path, int64_t offset, void *ret, size_t size, struct error *err);

/* What of a path lies below a folder, of two absolute ones without links: "" for the folder itself, NULL where it lies
 * elsewhere. The root may be given as "/" or "". */
const char *file_below(const char *path, const char *folder);

/* Writes data so that path holds either what it held before or all of it. ret_digest may be NULL. */
int file_write_atomic(const char *path, const void *data, size_t size, char ret_digest[DIGEST_SIZE], struct error *err);

/* The same for what does not fit into memory twice: open, append as often as needed, commit. */
struct file_writer;
int file_writer_new(const char *path, struct file_writer **ret, struct error *err);
int file_writer_append(struct file_writer *w, const void *data, size_t size, struct error *err);
/* Over what was appended at offset (a header that is known last); the digest stays that of what was appended. */
int file_writer_overwrite(struct file_writer *w, int64_t offset, const void *data, size_t size, struct error *err);
int file_writer_fd(const struct file_writer *w); /* borrowed, to read back what was written by pread(2) */
int file_writer_commit(struct file_writer *w, char ret_digest[DIGEST_SIZE], int64_t *ret_bytes, struct error *err);
struct file_writer *file_writer_free(struct file_writer *w); /* without commit: the temporary file is removed */

/* Removes what writers that were killed left in a folder: "NAME.EXTENSION.XXXXXX", six letters or digits, for each of
 * the extensions (NULL-terminated). Nobody else may be writing there. */
int file_sweep(const char *folder, const char *const *extensions, struct error *err);

/* Digest and size of a file as it is on disk. */
int file_digest(const char *path, char ret_digest[DIGEST_SIZE], int64_t *ret_bytes, struct error *err);

/* The same digest of what is in memory. */
void memory_digest(const void *data, size_t size, char ret[DIGEST_SIZE]);

/* Gives a file or folder that is in the way another name beside its own, PATH.aside (or .aside-2 and so on), and
 * replaces nothing. ret: the new path, of size bytes. */
int file_set_aside(const char *path, char *ret, size_t size, struct error *err);

/* The same of an open file from where it stands to its end, where it is left; path is for the error. */
int file_digest_fd(int fd, const char *path, char ret_digest[DIGEST_SIZE], int64_t *ret_bytes, struct error *err);

/* Makes the folder and its parents, mode 0750, each durable in the one above it; an existing one is success. */
int file_make_folder(const char *path, struct error *err);

/* Renames a file to another folder of the same file system, where it replaces what has its name; on disk when it
 * returns. */
int file_move(const char *from, const char *to, struct error *err);

/* Removes a folder and everything below it; a missing one is success. Does not follow links. */
int file_remove_tree(const char *path, struct error *err);

static inline void closedirp(DIR **d)
{
        if (*d)
                (void)closedir(*d);
}

DEFINE_CLEANUP(struct file_writer *, file_writer_free);
