/* A job's log, which only grows. A follower asks for what stands behind the offset that it was told last. */
#include "api/response.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TAIL_MAX 100000
#define TAIL_BYTES_MAX ((int64_t)16 << 20) /* lines that are longer than any log's are not looked for without end */
#define BLOCK 65536

/* Where the last n lines begin, no further back than is read. An unfinished last line counts as one. */
static int tail_offset(int fd, int64_t size, int64_t n, int64_t *ret)
{
        int64_t at = size, first = MAX(size - TAIL_BYTES_MAX, 0);
        char block[BLOCK];

        while (at > first) {
                int64_t from = MAX(at - BLOCK, first);
                ssize_t got = pread(fd, block, (size_t)(at - from), from);
                const char *newline;

                if (got != at - from)
                        return -EIO;
                for (size_t left = (size_t)got; (newline = memrchr(block, '\n', left));
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

static void send_log(struct request *r, int fd, int64_t tail, int64_t offset)
{
        struct file_answer f = {.fd = fd, .type = "text/plain; charset=utf-8", .offset = MAX(offset, 0)};
        struct stat st;
        char size[24];

        if (fstat(fd, &st) < 0 || (tail >= 0 && tail_offset(fd, st.st_size, tail, &f.offset) < 0)) {
                (void)close(fd);
                problem(r, PROBLEM_INTERNAL, "the log cannot be read");
                return;
        }
        f.offset = MIN(f.offset, st.st_size);
        f.size = st.st_size - f.offset; /* the worker may be writing: what the headers say is what is sent */
        (void)snprintf(size, sizeof size, "%lld", (long long)st.st_size);
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
        int fd;

        if (!reader)
                return;
        (void)request_query_int(r, "tail", 1, TAIL_MAX, &tail);
        (void)request_query_int(r, "offset", 0, INT64_MAX, &offset);
        if (tail >= 0 && offset >= 0)
                (void)errors_add(&r->errs, -EINVAL, "tail", "expected either tail or offset");
        if (r->errs.n) {
                problem_errors(r, PROBLEM_QUERY_INVALID, &r->errs);
                return;
        }
        if (request_job(r, reader, r->id, &j) < 0)
                return;
        if (open_job_file(request_settings(r)->state_folder, &j, "log", &fd, &err) < 0)
                empty_log(r); /* a job that has not run yet */
        else
                send_log(r, fd, tail, offset);
}

void log_read(struct request *r)
{
        request_apart(r, read_log, false); /* it is read back from its end */
}
