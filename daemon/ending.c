#include "daemon/ending.h"

#include "base/file.h"
#include "contract/text.h"
#include "daemon/daemon.h"
#include "daemon/limit.h"
#include "daemon/memory.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* The last line of the job's log that is not empty, as printable UTF-8; "" when there is none. */
static void last_log_line(const struct worker *w, char *ret, size_t size)
{
        char path[PATH_MAX], tail[4096];
        _cleanup_(closep) int fd = -1;
        off_t end;
        ssize_t n;
        char *line;

        ret[0] = 0;
        if (!daemon_job_path(w->daemon, w->job_id, "log", path, sizeof path))
                return;
        fd = file_open_regular(path, O_RDONLY, NULL);
        end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
        if (end < 0)
                return;
        n = pread(fd, tail, sizeof tail - 1, MAX(end - (off_t)sizeof tail + 1, 0));
        if (n <= 0)
                return;
        while (n > 0 && strchr("\r\n\t ", tail[n - 1]))
                n--;
        tail[n] = 0;
        line = strrchr(tail, '\n');
        (void)snprintf(ret, size, "%.*s", (int)size - 1, line ? line + 1 : tail);
        ret[text_valid_utf8(ret, strlen(ret))] = 0;
        text_make_plain(ret, "");
}

/* The kernel says how many it has ended, not which: one that a signal 9 ended meanwhile, and not ours, is that one. */
static bool memory_was_short(const struct worker *w)
{
        bool perhaps =
                w->alive.status == -SIGKILL || (w->alive.status == INT_MIN && !w->alive.child && w->alive.pidfd < 0);

        return perhaps && !w->alive.killed && w->oom_kills >= 0 && memory_oom_kills("") > w->oom_kills;
}

static void describe(const struct worker *w, char *ret, size_t size)
{
        char how[128], line[512];

        if (w->no_start[0]) {
                (void)snprintf(ret, size, "the worker did not start: %s", w->no_start);
                return;
        }
        if (w->alive.status == INT_MIN && w->alive.child)
                (void)snprintf(how, sizeof how, "ended in an unknown way");
        else if (w->alive.status == INT_MIN && w->found)
                (void)snprintf(how, sizeof how, "ended while no daemon watched it, or after another had started it");
        else if (w->alive.status == INT_MIN)
                (void)snprintf(how, sizeof how, "could not be started");
        else if (w->alive.status < 0)
                (void)snprintf(how, sizeof how, "was ended by signal %d (%s)", -w->alive.status,
                               strsignal(-w->alive.status));
        else
                (void)snprintf(how, sizeof how, "ended with exit code %d", w->alive.status);
        last_log_line(w, line, sizeof line);
        (void)snprintf(ret, size, "the worker %s%s without done, error or stopped%s%s%s", how,
                       w->alive.killed ? ", killed by the daemon," : "",
                       memory_was_short(w) ? "; memory was short" : "",
                       line[0] ? "; its log ends: " : "; its log is empty", line);
}

enum job_trigger ending_stopped(struct worker *w, struct write *write)
{
        enum stop_reason reason = w->job->stop != STOP_NONE ? w->job->stop : STOP_SHUTDOWN;
        struct usage used = {0};
        struct error limit;

        write->attempt_row.outcome = OUTCOME_STOPPED;
        write->attempt_row.stop = reason;
        if (reason == STOP_LIMIT && limit_usage(w->daemon, w->job_id, &used, &limit) >= 0 &&
            limit_reached(&w->job->limits, &used, w->last_step, &limit))
                write->detail = strdup(limit.text);
        return job_stop_trigger(reason);
}

/* Its limit of failed attempts, this one among them, as a sentence. */
static bool has_failed_enough(const struct worker *w, struct error *ret)
{
        struct limits_row l = {.of[LIMIT_FAILURES] = w->job->limits.of[LIMIT_FAILURES]};
        struct usage used = {0};

        if (!l.of[LIMIT_FAILURES] || limit_usage(w->daemon, w->job_id, &used, ret) < 0)
                return false;
        used.failures++;
        return limit_reached(&l, &used, 0, ret);
}

enum job_trigger ending_failed(struct worker *w, enum failure f, const char *said, struct write *write)
{
        struct error limit = {0};
        bool enough = has_failed_enough(w, &limit);

        if (asprintf(&write->detail, "%s%s%s", said, enough ? "; " : "", limit.text) < 0)
                write->detail = NULL;
        if (enough)
                write->row.error =
                        job_error(failure_rules[f].name, write->detail ? write->detail : limit.text, w->last_step);
        return enough ? TRIGGER_ERROR : TRIGGER_LOST;
}

/* It crashed, and nobody ended it: what it began with may be why. */
static bool has_crashed(const struct worker *w)
{
        static const int crashes[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL};

        for (size_t i = 0; i < ARRAY_LEN(crashes); i++)
                if (w->alive.status == -crashes[i] && !w->alive.killed)
                        return w->job->kind == JOB_TRAIN;
        return false;
}

enum job_trigger ending_of(struct worker *w, struct write *write)
{
        enum failure f = w->last_seq > 0 ? FAILURE_LOST : FAILURE_HOST;
        enum job_trigger trigger;
        char text[800];

        describe(w, text, sizeof text);
        if (w->job->stop != STOP_NONE || w->stop_requested) {
                trigger = ending_stopped(w, write);
                write->attempt_row.detail = strdup(text);
        } else {
                failure_note(f, text, &write->attempt_row);
                trigger = ending_failed(w, f, text, write);
                write->failed_start = has_crashed(w);
                if (w->checkpoints == 0) /* one that had brought something goes on at once */
                        w->failure = f;
        }
        if (!w->end_said)
                log_warning("job %lld: %s", (long long)w->job_id, text);
        w->end_said = true;
        if (!write->detail)
                write->detail = strdup(text);
        return trigger;
}
