/* Answers: JSON, problems, texts, files. Each sets the request's response, with the headers that all have. */
#pragma once

#include "api/request.h"
#include "base/file.h"

#define ETAG_SIZE (DIGEST_SIZE + 4) /* W/"DIGEST" */

void response_json(struct request *r, unsigned status, json_t *document); /* takes document; NULL: no memory, a 500 */
void response_problem(struct request *r, unsigned status, json_t *document);
void response_text(struct request *r, const char *type, struct buf *b); /* takes b's memory */
void response_empty(struct request *r, unsigned status);
void response_header(struct request *r, const char *name, const char *value);

/* kept.c: JSON whose bytes and tag are known, status 200 or, to whoever has it, 304. b is copied. */
void response_kept(struct request *r, const char *etag, const char *coding, const struct buf *b);

/* Appends a document's text: -E2BIG past the buffer's ceiling, -ENOMEM. */
int response_dump(const json_t *v, struct buf *b);

struct file_answer {
        int fd; /* taken; a regular file */
        const char *type;
        const char *etag;     /* with its quotes, or NULL: no validation, no caching */
        const char *policy;   /* Content-Security-Policy; NULL: that of answers which are no page */
        const char *cache;    /* Cache-Control; NULL: to be validated, or nothing where there is no ETag */
        const char *encoding; /* Content-Encoding; NULL: none */
        bool varies;          /* by Accept-Encoding */
        int64_t offset, size; /* what is served of the file; size -1: all behind offset */
};

/* The file with Range, If-Range, If-None-Match. */
void response_file(struct request *r, struct file_answer *f);

/* An answer that is made while it is sent, piece by piece, on its connection's thread: each piece is a moment's work,
 * so that nobody waits for it, and no more than one is in memory. */
struct stream_answer {
        const char *type, *disposition; /* disposition may be NULL */
        int64_t bytes;                  /* -1: nobody knows before its end */
        bool endless;                   /* where it ends in order, nobody takes that for all there is */
        /* Appends a piece of at most STREAM_PIECE_MAX bytes; nothing: it is over. STREAM_WAITS: nothing for now, and it
         * has suspended the connection. Negative cuts the connection. The reader is its own for the call. */
        int (*next)(void *user, struct reader *reader, struct buf *piece, struct error *err);
        void (*free)(void *user);
        void *user; /* taken */
};
#define STREAM_WAITS 1
#define STREAM_PIECE_MAX ((size_t)32 << 20)

void response_stream(struct request *r, const struct stream_answer *a);

/* Opens a file of a job's folder, by its id and identity. -ENOENT also when the folder says that it is of another run
 * (daemon/folder.h). */
int open_job_file(const char *state_folder, const struct job_row *j, const char *name, int *ret_fd, struct error *err);

/* Opens folder/a/b.. for reading without following links below folder; regular files only. n segments, each a plain
 * name. -ENOENT for whatever is not such a file. */
int open_beneath(const char *folder, const char *const *segments, size_t n, int *ret_fd, struct error *err);
