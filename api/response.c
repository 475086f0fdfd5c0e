#include "api/response.h"

#include "api/encoding.h"
#include "api/internal.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "contract/text.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LONG_BYTES ((int64_t)256 << 10)  /* a socket takes less at once */
#define PROBLEM_BYTES ((size_t)16 << 10) /* no problem document is longer */
#define DOCUMENT_BYTES_MAX ((size_t)64 << 20)
#define CODED_BYTES_MIN ((size_t)2 << 10) /* less goes in a packet or two */
#define CODED_BYTES_MAX ((size_t)8 << 20) /* 20 ms; more only where nobody waits for this thread */
#define STREAM_BLOCK ((size_t)64 << 10)
#define ACCESS_US US_PER_S /* after so long it is asked again whether he who reads a stream may */
#define POLICY_OF_DATA "default-src 'none'; frame-ancestors 'none'; sandbox"

/* An answer without one of its headers is another answer: a body that is not said to be compressed is garbage. */
void response_header(struct request *r, const char *name, const char *value)
{
        if (!r->response || MHD_add_response_header(r->response, name, value) == MHD_YES)
                return;
        log_error("request %s: no memory for a header of its answer", r->request_id);
        MHD_destroy_response(r->response);
        r->response = NULL;
}

/* Makes response the answer, with what all have. */
static void set(struct request *r, unsigned status, struct MHD_Response *response, const char *type, const char *policy)
{
        static const char *const always[][2] = {
                {"X-Content-Type-Options", "nosniff"},
                {"Referrer-Policy", "no-referrer"},
                {"Cross-Origin-Resource-Policy", "same-origin"},
        };

        if (r->response)
                MHD_destroy_response(r->response);
        r->response = response;
        r->status = status;
        r->sent_bytes = 0;
        if (!response) { /* the server closes the connection: there is no memory to say so to the client */
                log_error("request %s: no memory for its answer of status %u", r->request_id, status);
                return;
        }
        if (type)
                response_header(r, "Content-Type", type);
        response_header(r, "Content-Security-Policy", policy ? policy : POLICY_OF_DATA);
        for (size_t i = 0; i < ARRAY_LEN(always); i++)
                response_header(r, always[i][0], always[i][1]);
        if (r->request_id[0])
                response_header(r, "X-Request-Id", r->request_id);
}

int response_dump(const json_t *v, struct buf *b)
{
        int r = json_write(v, b);

        /* what could not be added to the document without memory is not left out of the answer */
        return r >= 0 && json_ran_out() ? -ENOMEM : r;
}

/* Makes the buffer's memory the answer's body, and says how it may be cached. Problems are small and always find room.
 */
static void set_buffer(struct request *r, unsigned status, const char *type, struct buf *b)
{
        size_t size = b->size;
        bool counted = size > PROBLEM_BYTES && !r->held_bytes;

        if (counted && !server_hold(r->server, size)) {
                problem(r, PROBLEM_BUSY, "ask again when others have read their answers");
                response_header(r, "Retry-After", "10");
                return;
        }
        r->held_bytes += counted ? size : 0;
        r->long_answer = (int64_t)size > LONG_BYTES;
        set(r, status, MHD_create_response_from_buffer(size, TAKE_PTR(b->data), MHD_RESPMEM_MUST_FREE), type, NULL);
        r->sent_bytes = (int64_t)size;
}

/* Whoever asks again and again for the same is told that it is the same. True: the answer is set. */
static bool set_unchanged(struct request *r, const char *etag)
{
        const char *none_match = request_header(r, "If-None-Match");

        if (!none_match || !etag_listed(none_match, etag))
                return false;
        response_empty(r, 304);
        return true;
}

/* In the coding that the client takes, where that is worth its time. */
static const char *compress_body(struct request *r, struct buf *b)
{
        const char *coding = encoding_choose(request_header(r, "Accept-Encoding"));
        struct buf smaller = BUF_INIT(b->size - b->size / 8);

        if (!coding || b->size < CODED_BYTES_MIN || (b->size > CODED_BYTES_MAX && !r->apart))
                return NULL;
        if (encoding_apply(coding, b, &smaller) < 0) {
                buf_done(&smaller);
                return NULL;
        }
        buf_done(b);
        *b = smaller;
        return coding;
}

/* How JSON may be cached; etag NULL: it is no answer to keep. */
static void json_headers(struct request *r, const char *etag, const char *coding)
{
        response_header(r, "Cache-Control", etag ? "private, no-cache" : "no-store");
        if (etag)
                response_header(r, "ETag", etag);
        if (coding)
                response_header(r, "Content-Encoding", coding);
        response_header(r, "Vary", "Accept-Encoding");
}

static void set_json(struct request *r, unsigned status, const char *type, struct buf *b)
{
        bool tagged = status == 200 && r->route && r->route->method == METHOD_GET;
        const char *coding = NULL;
        char digest[DIGEST_SIZE], etag[ETAG_SIZE];

        if (tagged) { /* weak: of what is said, not of how it is coded */
                memory_digest(b->data, b->size, digest);
                (void)snprintf(etag, sizeof etag, "W/\"%s\"", digest);
        }
        if (!tagged || !set_unchanged(r, etag)) {
                coding = compress_body(r, b);
                if (tagged)
                        kept_put(r, etag, coding, b);
                set_buffer(r, status, type, b);
        }
        if (r->status == status || r->status == 304) /* else there was no room for it */
                json_headers(r, tagged ? etag : NULL, coding);
}

void response_kept(struct request *r, const char *etag, const char *coding, const struct buf *b)
{
        bool unchanged = set_unchanged(r, etag);

        if (!unchanged) {
                set(r, 200, MHD_create_response_from_buffer(b->size, b->data, MHD_RESPMEM_MUST_COPY),
                    "application/json", NULL);
                r->sent_bytes = (int64_t)b->size;
        }
        json_headers(r, etag, unchanged ? NULL : coding);
}

static void set_document(struct request *r, unsigned status, const char *type, json_t *document)
{
        static char no_memory[] = "{\"type\":\"problems/internal\",\"title\":\"The server failed\",\"status\":500,"
                                  "\"detail\":\"no memory\"}";
        _cleanup_(buf_done) struct buf b = BUF_INIT(DOCUMENT_BYTES_MAX);
        bool whole = document && response_dump(document, &b) >= 0;

        json_decref(document);
        if (whole) {
                set_json(r, status, type, &b);
                return;
        }
        log_error("request %s: no memory for its answer of status %u", r->request_id, status);
        set(r, 500, MHD_create_response_from_buffer(strlen(no_memory), no_memory, MHD_RESPMEM_PERSISTENT),
            "application/problem+json", NULL);
}

void response_json(struct request *r, unsigned status, json_t *document)
{
        set_document(r, status, "application/json", document);
}

void response_problem(struct request *r, unsigned status, json_t *document)
{
        set_document(r, status, "application/problem+json", document);
}

void response_text(struct request *r, const char *type, struct buf *b)
{
        if (b->size) {
                set_buffer(r, 200, type, b);
        } else {
                response_empty(r, 200);
                response_header(r, "Content-Type", type);
        }
        if (r->status == 200)
                response_header(r, "Cache-Control", "no-store");
        buf_done(b);
}

void response_empty(struct request *r, unsigned status)
{
        set(r, status, MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT), NULL, NULL);
}

/* ---- files */

static struct MHD_Response *file_response(int fd, int64_t offset, int64_t size)
{
        if (size)
                return MHD_create_response_from_fd_at_offset64((uint64_t)size, fd, (uint64_t)offset);
        (void)close(fd);
        return MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT);
}

static void file_headers(struct request *r, const struct file_answer *f)
{
        response_header(r, "Cache-Control", f->cache ? f->cache : f->etag ? "no-cache" : "no-store");
        if (f->etag)
                response_header(r, "ETag", f->etag);
        if (f->varies)
                response_header(r, "Vary", "Accept-Encoding");
        response_header(r, "Accept-Ranges", "bytes");
}

void response_file(struct request *r, struct file_answer *f)
{
        _cleanup_(closep) int fd = f->fd;
        const char *none_match = request_header(r, "If-None-Match"), *range = request_header(r, "Range"),
                   *if_range = request_header(r, "If-Range");
        int64_t size, first = 0, last;
        enum range found = RANGE_NONE;
        char text[100];
        struct stat st;
        int code;

        f->fd = -1;
        code = fstat(fd, &st) < 0 ? -errno : f->offset > st.st_size ? -ENODATA : 0;
        if (code < 0) {
                problem_failed(r, "a file cannot be read", code, NULL);
                return;
        }
        size = f->size >= 0 ? f->size : st.st_size - f->offset;
        last = size - 1;
        if (f->etag && none_match && etag_listed(none_match, f->etag)) {
                set(r, 304, MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT), NULL, f->policy);
                file_headers(r, f);
                return;
        }
        r->long_answer = size > LONG_BYTES;
        /* If-Range takes a strong tag only; a date never matches here */
        if (range && (!if_range || (f->etag && !strcmp(if_range, f->etag))))
                found = range_parse(range, size, &first, &last);
        if (found == RANGE_UNSATISFIABLE) {
                problem(r, PROBLEM_RANGE, "the file has %lld bytes", (long long)size);
                (void)snprintf(text, sizeof text, "bytes */%lld", (long long)size);
                response_header(r, "Content-Range", text);
                return;
        }
        set(r, found == RANGE_OK ? 206 : 200, file_response(TAKE_FD(fd), f->offset + first, last - first + 1), f->type,
            f->policy);
        r->sent_bytes = last - first + 1;
        if (found == RANGE_OK) {
                (void)snprintf(text, sizeof text, "bytes %lld-%lld/%lld", (long long)first, (long long)last,
                               (long long)size);
                response_header(r, "Content-Range", text);
        }
        if (f->encoding)
                response_header(r, "Content-Encoding", f->encoding);
        file_headers(r, f);
}

/* ---- streams */

struct stream {
        struct request *request; /* which lasts longer than its answer is read */
        struct stream_answer answer;
        struct buf piece;
        size_t at;          /* of the piece: sent so far */
        int64_t allowed_us; /* monotonic: when he who reads it was last found to be allowed to */
};

/* A stream may go on for days: whoever lost his token, or ended his session, reads no more of it. 1: he may; 0: it
 * ends. */
static int check_access(struct stream *x, struct reader *reader, struct error *err)
{
        int64_t now_us = clock_monotonic_us();

        if (now_us - x->allowed_us < ACCESS_US)
                return 1;
        if (!access_holds(x->request, reader))
                return x->answer.endless ? 0 : error_set(err, -EACCES, NULL, "who asked for it may not any more");
        x->allowed_us = now_us;
        return 1;
}

/* 1: there is one; 0: over; negative: failed; 2: none for now. */
static int next_piece(struct stream *x, struct error *err)
{
        struct reader *reader;
        int r = server_take_reader(x->request->server, &reader, err);

        if (r < 0)
                return r;
        buf_clear(&x->piece);
        x->at = 0;
        r = check_access(x, reader, err);
        if (r > 0)
                r = x->answer.next(x->answer.user, reader, &x->piece, err);
        server_put_reader(x->request->server, reader);
        return r == STREAM_WAITS ? 2 : r < 0 ? r : x->piece.size > 0;
}

static ssize_t read_stream(void *user, uint64_t at _unused_, char *to, size_t size)
{
        struct stream *x = user;

        if (x->at == x->piece.size) {
                struct error err = {0};
                int r = next_piece(x, &err);

                if (r == 2)
                        return 0;
                if (r == 0)
                        return MHD_CONTENT_READER_END_OF_STREAM;
                if (r < 0) { /* its head has gone out: the client only sees that it broke off */
                        problem_log(x->request, "its answer broke off", r, &err);
                        return MHD_CONTENT_READER_END_WITH_ERROR;
                }
        }
        size = MIN(size, x->piece.size - x->at);
        memcpy(to, x->piece.data + x->at, size);
        x->at += size;
        x->request->sent_bytes += (int64_t)size;
        return (ssize_t)size;
}

static void free_stream(void *user)
{
        struct stream *x = user;

        x->answer.free(x->answer.user);
        buf_done(&x->piece);
        free(x);
}

void response_stream(struct request *r, const struct stream_answer *a)
{
        struct stream *x = calloc(1, sizeof *x);
        struct MHD_Response *response = NULL;

        if (x) {
                *x = (struct stream){.request = r,
                                     .answer = *a,
                                     .piece = BUF_INIT(STREAM_PIECE_MAX),
                                     .allowed_us = clock_monotonic_us()};
                response = MHD_create_response_from_callback(a->bytes < 0 ? MHD_SIZE_UNKNOWN : (uint64_t)a->bytes,
                                                             STREAM_BLOCK, read_stream, x, free_stream);
        }
        if (!response) {
                free(x);
                a->free(a->user);
                problem(r, PROBLEM_INTERNAL, "no memory");
                return;
        }
        if (r->head) /* libmicrohttpd ends chunks that it did not begin: a "0" before the next answer */
                (void)MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
        r->long_answer = true;
        set(r, 200, response, a->type, NULL);
        response_header(r, "Cache-Control", "no-store");
        if (a->disposition)
                response_header(r, "Content-Disposition", a->disposition);
}

int open_beneath(const char *folder, const char *const *segments, size_t n, int *ret_fd, struct error *err)
{
        _cleanup_(closep) int at = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
        struct stat st;

        for (size_t i = 0; at >= 0 && i < n; i++) {
                bool last = i + 1 == n;
                int next;

                if (!text_is_plain_name(segments[i], 255))
                        return error_set(err, -ENOENT, NULL, "there is no such file");
                /* O_NONBLOCK: opening a FIFO must not wait for its writer */
                next = openat(at, segments[i],
                              last ? O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC
                                   : O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                (void)close(at);
                at = next;
        }
        if (at < 0 && error_is_hosts(-errno))
                return error_set(err, -errno, NULL, "the file cannot be opened: %s", strerror(errno));
        if (at < 0 || fstat(at, &st) < 0 || !S_ISREG(st.st_mode))
                return error_set(err, -ENOENT, NULL, "there is no such file");
        *ret_fd = TAKE_FD(at);
        return 0;
}

int open_job_file(const char *state_folder, const struct job_row *j, const char *name, int *ret_fd, struct error *err)
{
        const char *marker = "identity";
        _cleanup_(closep) int fd = -1;
        char folder[4096];
        int r;

        /* it may be a link, of what a person moved to another disk: no job makes one there */
        (void)snprintf(folder, sizeof folder, "%s/jobs/%lld", state_folder, (long long)j->id);
        r = open_beneath(folder, &marker, 1, &fd, err);
        if (r < 0 && r != -ENOENT)
                return r;
        if (r >= 0) {
                r = file_is_line(fd, folder, j->identity, err);
                if (r <= 0)
                        return r < 0 ? r : error_set(err, -ENOENT, NULL, "the folder is of another run");
        }
        return open_beneath(folder, &name, 1, ret_fd, err);
}
