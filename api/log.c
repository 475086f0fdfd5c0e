/* A job's log, which only grows. A follower gets what is there and what comes, until the job is over; or asks now and
 * then for what stands behind the offset that it was told last. */
#include "api/events.h"
#include "api/internal.h"
#include "api/log_lines.h"
#include "api/response.h"
#include "base/file.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TAIL_MAX 100000
#define TAIL_BYTES_MAX ((int64_t)16 << 20) /* lines that are longer than any log's are not looked for without end */
#define BLOCK 65536
#define BLOCKS_AT_ONCE 16
#define LINES_BLOCK 8192 /* where each line is more than its bytes: a document, or a time */

enum form { FORM_TEXT, FORM_TIMED, FORM_JSON, FORM_FOLDED }; /* the first three by their names; folded: text, too */

static const char ndjson_type[] = "application/x-ndjson", text_type[] = "text/plain; charset=utf-8";

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

static void empty_log(struct request *r, int form)
{
        struct buf b = BUF_INIT(0);

        response_text(r, form == FORM_JSON ? ndjson_type : text_type, &b);
        response_header(r, "X-Log-Size", "0");
        response_header(r, "X-Log-Next-Offset", "0");
}

/* ---- one that is not sent as it lies there: with a hole in its middle (daemon/joblog.h), which is left out, folded,
 * its lines with their times, or followed */

struct parts {
        int fd; /* -1: there is none yet */
        const char *state_folder;
        bool follows;
        int64_t job;
        int client;             /* its socket, borrowed */
        struct sleeper sleeper; /* where it follows */
        int64_t at, size;
        enum form form;
        struct fold fold;
        struct log_lines lines;
};

/* Its lines are sent with their times, which come after them: until then they wait, or until the job is over. */
static bool is_timed(const struct parts *p)
{
        return p->form == FORM_TIMED || p->form == FORM_JSON;
}

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
        int64_t until, most = is_timed(p) ? LINES_BLOCK : BLOCK;
        ssize_t n;

        if (p->at < p->size && lseek(p->fd, p->at, SEEK_HOLE) == p->at)
                p->at = behind_hole(p);
        if (p->at >= p->size)
                return 0;
        until = lseek(p->fd, p->at, SEEK_HOLE);
        until = until < 0 ? p->size : MIN(until, p->size);
        n = pread(p->fd, block, (size_t)MIN(most, until - p->at), p->at);
        if (n <= 0)
                return error_set(err, n < 0 ? -errno : -EIO, NULL, "the log cannot be read");
        p->at += n;
        return n;
}

static int add_part(struct parts *p, const char *text, size_t size, struct buf *out, struct error *err)
{
        switch (p->form) {
        case FORM_FOLDED:
                return fold_text(&p->fold, text, size, out, err);
        case FORM_TIMED:
        case FORM_JSON:
                return log_lines_add(&p->lines, p->at - (int64_t)size, text, size, out, err);
        default:
                return buf_append(out, text, size, err);
        }
}

static int end_part(struct parts *p, struct buf *out, struct error *err)
{
        return p->form == FORM_FOLDED ? fold_end(&p->fold, out, err)
               : p->form != FORM_TEXT ? log_lines_end(&p->lines, out, err)
                                      : 0;
}

static int find_open(const struct attempt_row *a, void *user)
{
        bool *open = user;

        *open |= !a->ended_us;
        return 0;
}

/* And its worker is gone, so that nothing comes any more, nor the time of a line. */
static bool job_is_over(struct reader *reader, int64_t job)
{
        struct job_row j;
        bool over = true, open = false; /* one that was removed is over, too */

        if (reader_job_without(reader, job, WITHOUT_CONFIG | WITHOUT_OUTCOME, &j, NULL) >= 0) {
                over = job_state_is_final(j.state) || j.state == JOB_PAUSED;
                job_row_done(&j);
        }
        if (over)
                (void)reader_attempts(reader, job, find_open, &open, NULL);
        return over && !open;
}

/* A log that nothing is added to has nothing to send by which that would show. Who closed half of his connection has
 * what there was. */
static bool has_gone(int client)
{
        struct pollfd p = {.fd = client, .events = POLLRDHUP};

        return poll(&p, 1, 0) > 0;
}

/* The log of a job that had not run yet, where it is there now, and the times of its lines are: they come after these.
 */
static void open_late(struct parts *p, struct reader *reader, bool over)
{
        bool timed = is_timed(p);
        _cleanup_(job_row_done) struct job_row j = {0};
        struct error err;
        int times_fd = -1;

        if (reader_job_without(reader, p->job, WITHOUT_CONFIG | WITHOUT_OUTCOME, &j, &err) < 0)
                return;
        if (timed && open_job_file(p->state_folder, &j, LOG_TIMES_NAME, &times_fd, &err) < 0 && !over)
                return;
        if (open_job_file(p->state_folder, &j, "log", &p->fd, &err) < 0) {
                closep(&times_fd);
                return;
        }
        log_lines_done(&p->lines);
        log_lines_init(&p->lines, 0, p->form == FORM_JSON, times_fd);
}

/* At the log's end: STREAM_WAITS, or 0: *ret_more: it has grown; else that was all, since the job is over. */
static int await_more(struct parts *p, struct reader *reader, bool *ret_more)
{
        int r = 0;

        *ret_more = false;
        while (r == 0) {
                bool over;
                struct stat st;
                int64_t told;

                sleeper_look(&p->sleeper, NULL); /* before all else is looked at: so nothing is missed */
                over = job_is_over(reader, p->job);
                if (p->fd < 0)
                        open_late(p, reader, over);
                told = is_timed(p) ? log_times_refresh(&p->lines.times) : INT64_MAX;
                if (p->fd >= 0 && fstat(p->fd, &st) >= 0 && (over ? st.st_size : MIN(st.st_size, told)) > p->size) {
                        p->size = over ? st.st_size : MIN(st.st_size, told);
                        *ret_more = true;
                        return 0;
                }
                if (over || has_gone(p->client))
                        return 0;
                r = sleeper_wait(&p->sleeper);
        }
        return r == -ESHUTDOWN ? 0 : r;
}

static int next_part(void *user, struct reader *reader, struct buf *piece, struct error *err)
{
        struct parts *p = user;
        char block[BLOCK];
        int r = 0;

        for (int i = 0; r >= 0 && !piece->size && i < BLOCKS_AT_ONCE; i++) {
                ssize_t n = read_part(p, block, err);
                bool more = n > 0;

                if (n == 0 && p->follows) {
                        r = await_more(p, reader, &more);
                        if (r == STREAM_WAITS)
                                return r;
                }
                if (!more)
                        return n < 0 ? (int)n : end_part(p, piece, err);
                if (n > 0)
                        r = add_part(p, block, (size_t)n, piece, err);
        }
        /* nothing but what is drawn over, for long: the connection's thread has others to serve. A return where nothing
         * was sent of a line shows nothing, and says that there is more; so is a blank between two documents. */
        return r >= 0 && !piece->size ? buf_append(piece, p->form == FORM_JSON ? " " : "\r", 1, err) : r;
}

static void free_parts(void *user)
{
        struct parts *p = user;

        if (p->follows)
                sleeper_leave(&p->sleeper);
        closep(&p->fd);
        fold_done(&p->fold);
        log_lines_done(&p->lines);
        free(p);
}

/* What is asked for. */
struct asked {
        int64_t tail, offset; /* -1: not */
        int folds;            /* 1, 0; -1: with a tail */
        int form;
        int follows;
};

/* Takes both descriptors; fd -1: that follows a log which is not there yet. */
static void send_parts(struct request *r, int fd, int times_fd, int64_t offset, int64_t size, enum form form,
                       bool follows)
{
        struct parts *p = malloc(sizeof *p);
        struct stream_answer a = {.type = form == FORM_JSON ? ndjson_type : text_type,
                                  .bytes = -1,
                                  .next = next_part,
                                  .free = free_parts,
                                  .user = p};

        if (!p) {
                closep(&fd);
                closep(&times_fd);
                problem_failed(r, "the log cannot be read", -ENOMEM, NULL);
                return;
        }
        *p = (struct parts){.fd = fd,
                            .state_folder = request_settings(r)->state_folder,
                            .follows = follows,
                            .job = r->id,
                            .client = r->fd,
                            .at = offset,
                            .size = size,
                            .form = form,
                            .fold = FOLD_INIT};
        log_lines_init(&p->lines, offset, form == FORM_JSON, times_fd);
        if (follows && is_timed(p))
                p->size = MIN(size, MAX(offset, log_times_refresh(&p->lines.times)));
        if (follows)
                sleeper_enter(&p->sleeper, r->server->events, r->connection);
        response_stream(r, &a);
}

/* Takes both descriptors. */
static void send_log(struct request *r, int fd, int times_fd, const struct asked *q)
{
        bool returns = q->tail < 0, folds;
        struct file_answer f = {.fd = fd, .type = text_type, .offset = MAX(q->offset, 0)};
        enum form form = (enum form)q->form;
        struct error err = {0};
        struct stat st;
        char size[24];
        int code = fstat(fd, &st) < 0 ? -errno : 0;

        if (code >= 0 && q->tail >= 0)
                code = tail_offset(fd, st.st_size, q->tail, &f.offset, &returns, &err);
        if (code < 0) {
                problem_failed(r, "the log cannot be read", code, &err);
                (void)close(fd);
                closep(&times_fd);
                return;
        }
        f.offset = MIN(f.offset, st.st_size);
        f.size = st.st_size - f.offset; /* the worker may be writing: what the headers say is what is sent */
        (void)snprintf(size, sizeof size, "%lld", (long long)st.st_size);
        folds = (returns || q->follows) && (q->folds == 1 || (q->folds < 0 && q->tail >= 0));
        if (form == FORM_TEXT && folds)
                form = FORM_FOLDED;
        if (form != FORM_TEXT || q->follows || has_hole(fd, f.offset, st.st_size))
                send_parts(r, fd, times_fd, f.offset, st.st_size, form, q->follows);
        else
                response_file(r, &f);
        response_header(r, "X-Log-Size", size);
        response_header(r, "X-Log-Next-Offset", size);
}

static bool read_query(struct request *r, struct asked *ret)
{
        static const char *const choices[] = {"false", "true", NULL}, *const forms[] = {"text", "timed", "ndjson",
                                                                                        NULL};

        *ret = (struct asked){.tail = -1, .offset = -1, .folds = -1, .form = FORM_TEXT};
        (void)request_query_int(r, "tail", 1, TAIL_MAX, &ret->tail);
        (void)request_query_int(r, "offset", 0, INT64_MAX, &ret->offset);
        (void)request_query_choice(r, "fold", choices, &ret->folds);
        (void)request_query_choice(r, "format", forms, &ret->form);
        (void)request_query_choice(r, "follow", choices, &ret->follows);
        if (ret->tail >= 0 && ret->offset >= 0)
                (void)errors_add(&r->errs, -EINVAL, "tail", "expected either tail or offset");
        if (r->errs.n)
                problem_errors(r, PROBLEM_QUERY_INVALID, &r->errs);
        return !r->errs.n;
}

static void read_log(struct request *r)
{
        struct reader *reader = request_reader(r);
        _cleanup_(job_row_done) struct job_row j = {0};
        struct asked q;
        struct error err;
        int fd, times_fd = -1, code;

        if (!reader || !read_query(r, &q) || request_job(r, reader, r->id, &j) < 0)
                return;
        code = open_job_file(request_settings(r)->state_folder, &j, "log", &fd, &err);
        if (code == -ENOENT && q.follows && !job_state_is_final(j.state)) {
                send_parts(r, -1, -1, 0, 0, q.form == FORM_TEXT && q.tail >= 0 ? FORM_FOLDED : (enum form)q.form, true);
        } else if (code == -ENOENT) {
                empty_log(r, q.form); /* a job that has not run yet */
        } else if (code < 0) {
                problem_failed(r, "the log cannot be read", code, &err);
        } else {
                if (q.form != FORM_TEXT) /* without it the lines have no times */
                        (void)open_job_file(request_settings(r)->state_folder, &j, LOG_TIMES_NAME, &times_fd, &err);
                send_log(r, fd, times_fd, &q);
        }
}

void log_read(struct request *r)
{
        request_apart(r, read_log, false); /* it is read back from its end */
}
