/* A job's log, which only grows. A follower asks for what stands behind the offset that it was told last. */
#include "api/fold.h"
#include "api/response.h"
#include "base/file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TAIL_MAX 100000
#define TAIL_BYTES_MAX ((int64_t)16 << 20) /* lines that are longer than any log's are not looked for without end */
#define BLOCK 65536
#define BLOCKS_AT_ONCE 16

/* Where the last n lines begin, no further back than is read; whether there are carriage returns. An unfinished last
 * line counts as one. */
static int tail_offset(int fd, int64_t size, int64_t n, int64_t *ret, bool *ret_returns, struct error *err)
{
        int64_t at = size, first = MAX(size - TAIL_BYTES_MAX, 0);
        char block[BLOCK];

        while (at > first) {
                int64_t from = MAX(at - BLOCK, first);
                const char *newline;
                int r = file_read_at(fd, NULL, from, block, (size_t)(at - from), err);

                if (r < 0)
                        return r;
                *ret_returns |= memchr(block, '\r', (size_t)(at - from)) != NULL;
                for (size_t left = (size_t)(at - from); (newline = memrchr(block, '\n', left));
                     left = (size_t)(newline - block)) {
                        int64_t behind = from + (newline - block) + 1;

                        /* the newline that ends the file ends the last line, and begins none */
                        if (behind != size && --n == 0) {
                                *ret = behind;
                                return 0;
                        }
                }
                at = from;
        }
        *ret = first;
        return 0;
}

static void empty_log(struct request *r)
{
        struct buf b = BUF_INIT(0);

        response_text(r, "text/plain; charset=utf-8", &b);
        response_header(r, "X-Log-Size", "0");
        response_header(r, "X-Log-Next-Offset", "0");
}

/* ---- one that is not sent as it lies there: with a hole in its middle (daemon/joblog.h), which is left out, or folded
 */

struct parts {
        int fd;
        int64_t at, size;
        bool folds;
        struct fold fold;
};

static bool has_hole(int fd, int64_t offset, int64_t size)
{
        off_t hole = offset < size ? lseek(fd, offset, SEEK_HOLE) : -1;

        return hole >= 0 && hole < size;
}

/* Where text goes on: behind the hole, and what of its last block holds nothing. */
static int64_t behind_hole(const struct parts *p)
{
        off_t data = lseek(p->fd, p->at, SEEK_DATA);
        char block[BLOCK];
        ssize_t n = data < 0 ? 0 : pread(p->fd, block, (size_t)MIN((int64_t)BLOCK, p->size - data), data), k = 0;

        while (k < n && !block[k])
                k++;
        return n > 0 ? data + k : p->size;
}

/* At most a block of it; 0: its end. */
static ssize_t read_part(struct parts *p, char block[BLOCK], struct error *err)
{
        int64_t until;
        ssize_t n;

        if (p->at < p->size && lseek(p->fd, p->at, SEEK_HOLE) == p->at)
                p->at = behind_hole(p);
        if (p->at >= p->size)
                return 0;
        until = lseek(p->fd, p->at, SEEK_HOLE);
        until = until < 0 ? p->size : MIN(until, p->size);
        n = pread(p->fd, block, (size_t)MIN((int64_t)BLOCK, until - p->at), p->at);
        if (n <= 0)
                return error_set(err, n < 0 ? -errno : -EIO, NULL, "the log cannot be read");
        p->at += n;
        return n;
}

static int next_part(void *user, struct reader *reader _unused_, struct buf *piece, struct error *err)
{
        struct parts *p = user;
        char block[BLOCK];
        ssize_t n = 0;
        int r = 0;

        for (int i = 0; r >= 0 && !piece->size && i < BLOCKS_AT_ONCE; i++) {
                n = read_part(p, block, err);
                if (n <= 0)
                        return n < 0 || !p->folds ? (int)n : fold_end(&p->fold, piece, err);
                r = p->folds ? fold_text(&p->fold, block, (size_t)n, piece, err)
                             : buf_append(piece, block, (size_t)n, err);
        }
        /* nothing but what is drawn over, for long: the connection's thread has others to serve. A return where nothing
         * was sent of a line shows nothing, and says that there is more. */
        return r >= 0 && !piece->size ? buf_append(piece, "\r", 1, err) : r;
}

static void free_parts(void *user)
{
        struct parts *p = user;

        (void)close(p->fd);
        fold_done(&p->fold);
        free(p);
}

/* Takes fd. */
static void send_parts(struct request *r, int fd, int64_t offset, int64_t size, bool folds)
{
        struct parts *p = malloc(sizeof *p);
        struct stream_answer a = {
                .type = "text/plain; charset=utf-8", .bytes = -1, .next = next_part, .free = free_parts, .user = p};

        if (!p) {
                (void)close(fd);
                problem_failed(r, "the log cannot be read", -ENOMEM, NULL);
                return;
        }
        *p = (struct parts){fd, offset, size, folds, FOLD_INIT};
        response_stream(r, &a);
}

/* folds: 1, 0; -1: with a tail. */
static void send_log(struct request *r, int fd, int64_t tail, int64_t offset, int folds)
{
        bool returns = tail < 0;
        struct file_answer f = {.fd = fd, .type = "text/plain; charset=utf-8", .offset = MAX(offset, 0)};
        struct error err = {0};
        struct stat st;
        char size[24];
        int code = fstat(fd, &st) < 0 ? -errno : 0;

        if (code >= 0 && tail >= 0)
                code = tail_offset(fd, st.st_size, tail, &f.offset, &returns, &err);
        if (code < 0) {
                problem_failed(r, "the log cannot be read", code, &err);
                (void)close(fd);
                return;
        }
        f.offset = MIN(f.offset, st.st_size);
        f.size = st.st_size - f.offset; /* the worker may be writing: what the headers say is what is sent */
        (void)snprintf(size, sizeof size, "%lld", (long long)st.st_size);
        folds = returns && (folds == 1 || (folds < 0 && tail >= 0));
        if (folds || has_hole(fd, f.offset, st.st_size))
                send_parts(r, fd, f.offset, st.st_size, folds);
        else
                response_file(r, &f);
        response_header(r, "X-Log-Size", size);
        response_header(r, "X-Log-Next-Offset", size);
}

static void read_log(struct request *r)
{
        struct reader *reader = request_reader(r);
        int64_t tail = -1, offset = -1;
        _cleanup_(job_row_done) struct job_row j = {0};
        struct error err;
        static const char *const choices[] = {"false", "true", NULL};
        int fd, code, folds = -1;

        if (!reader)
                return;
        (void)request_query_int(r, "tail", 1, TAIL_MAX, &tail);
        (void)request_query_int(r, "offset", 0, INT64_MAX, &offset);
        (void)request_query_choice(r, "fold", choices, &folds);
        if (tail >= 0 && offset >= 0)
                (void)errors_add(&r->errs, -EINVAL, "tail", "expected either tail or offset");
        if (r->errs.n) {
                problem_errors(r, PROBLEM_QUERY_INVALID, &r->errs);
                return;
        }
        if (request_job(r, reader, r->id, &j) < 0)
                return;
        code = open_job_file(request_settings(r)->state_folder, &j, "log", &fd, &err);
        if (code == -ENOENT)
                empty_log(r); /* a job that has not run yet */
        else if (code < 0)
                problem_failed(r, "the log cannot be read", code, &err);
        else
                send_log(r, fd, tail, offset, folds);
}

void log_read(struct request *r)
{
        request_apart(r, read_log, false); /* it is read back from its end */
}
