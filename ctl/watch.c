/* Following a job: a bar that is drawn anew on a terminal, a line now and then otherwise. */
#include "ctl/command.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define POLL_MS 1000
#define LINE_EVERY_US (5 * US_PER_S) /* where it is not a terminal */
#define GONE_US (60 * US_PER_S)      /* so long may the daemon be away (it may be restarting) */
#define BAR_WIDTH 30

static void sleep_ms(long ms)
{
        (void)nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* The last train/bpd; NAN where there is none. */
static double last_bpd(struct call *c, int64_t id)
{
        _cleanup_(reply_done) struct reply reply = {0};
        struct error err;
        const json_t *s;
        char path[64];
        size_t i;

        (void)snprintf(path, sizeof path, "/v1/jobs/%lld/series", (long long)id);
        if (client_request(c->client, "GET", path, NULL, &reply, &err) < 0)
                return NAN;
        json_array_foreach(json_object_get(reply.document, "series"), i, s)
        {
                if (!strcmp(text_of(s, "name"), "train/bpd"))
                        return real_of(s, "last");
        }
        return NAN;
}

/* "1200/3000  bpd 7.310  11.5 images/s  2:35 left" */
static void describe(const json_t *job, double bpd, char *buf, size_t size)
{
        const json_t *p = json_object_get(job, "progress");
        double rate = real_of(p, "images_per_second"), left = real_of(p, "seconds_left");
        char part[64], time[32];

        (void)snprintf(buf, size, "%.0f/%.0f", real_of(p, "step"), real_of(p, "steps"));
        if (!isnan(bpd)) {
                (void)snprintf(part, sizeof part, "  bpd %.3f", bpd);
                (void)strncat(buf, part, size - strlen(buf) - 1);
        }
        if (!isnan(rate)) {
                (void)snprintf(part, sizeof part, "  %.1f images/s", rate);
                (void)strncat(buf, part, size - strlen(buf) - 1);
        }
        if (!isnan(left)) {
                (void)snprintf(part, sizeof part, "  %s left", duration(left, time));
                (void)strncat(buf, part, size - strlen(buf) - 1);
        }
}

static void draw_bar(const json_t *job, const char *text)
{
        const json_t *p = json_object_get(job, "progress");
        double share = real_of(p, "step") / real_of(p, "steps");
        int full = share > 0 ? (int)(MIN(share, 1.0) * BAR_WIDTH) : 0;

        (void)printf("\r%s [", text_of(job, "state"));
        for (int i = 0; i < BAR_WIDTH; i++)
                (void)putchar(i < full ? '#' : '.');
        (void)printf("] %s\033[K", text);
        (void)fflush(stdout);
}

/* What was printed last, so that a line that says nothing new is left out. */
struct watched {
        bool terminal;
        int64_t printed_us;
        double step;
        char state[16];
        char *json;
};

static void print_progress(struct call *c, int64_t id, const json_t *job, struct watched *w)
{
        double step = real_of(json_object_get(job, "progress"), "step");
        bool moved = strcmp(w->state, text_of(job, "state")) != 0;
        char text[200];

        if (!w->terminal && !moved && (step == w->step || clock_monotonic_us() - w->printed_us < LINE_EVERY_US))
                return;
        describe(job, !strcmp(text_of(job, "state"), "running") ? last_bpd(c, id) : NAN, text, sizeof text);
        if (w->terminal)
                draw_bar(job, text);
        else
                (void)printf("%s %s\n", text_of(job, "state"), text);
        (void)fflush(stdout);
        w->printed_us = clock_monotonic_us();
        w->step = step;
        (void)snprintf(w->state, sizeof w->state, "%s", text_of(job, "state"));
}

/* A line of JSON whenever the job changed. */
static void print_change(const json_t *job, struct watched *w)
{
        char *text = json_to_text(job);

        if (text && (!w->json || strcmp(text, w->json) != 0)) {
                (void)printf("%s\n", text);
                (void)fflush(stdout);
        }
        free(w->json);
        w->json = text;
}

/* Nobody answered, or the server has no time now. */
static bool is_for_a_while(int r)
{
        return r == -ECONNREFUSED || r == -EAGAIN;
}

/* The job as it is. A server that answered before may be restarting, or be asked by too many: it is waited for. */
static int ask_for_job(struct call *c, int64_t id, bool answered, struct reply *ret, struct buf *text)
{
        int64_t began = clock_monotonic_us();
        char path[64];
        int r;

        (void)snprintf(path, sizeof path, "/v1/jobs/%lld", (long long)id);
        while (is_for_a_while(r = client_expect(c->client, "GET", path, NULL, ret, text)) && answered &&
               clock_monotonic_us() - began < GONE_US) {
                buf_clear(text);
                sleep_ms(POLL_MS);
        }
        return r;
}

/* One look at the job: 1 when it is over, 0 when not, negative: told. */
static int look(struct call *c, int64_t id, struct watched *w, json_t **ret_job)
{
        _cleanup_(reply_done) struct reply reply = {0};
        _cleanup_(buf_done) struct buf text = BUF_INIT(1 << 16);
        int r = ask_for_job(c, id, w->printed_us, &reply, &text);

        if (r < 0) {
                if (w->terminal)
                        (void)printf("\n");
                (void)fail("%s", text.data);
                return r;
        }
        *ret_job = json_incref(reply.document);
        return job_is_over(reply.document);
}

int watch_job(struct call *c, int64_t id)
{
        struct watched w = {.terminal = isatty(STDOUT_FILENO), .step = -1};
        int r = 0, code = EXIT_NO;

        while (r == 0 && !ferror(stdout)) { /* nobody reads it any more: main says so */
                _cleanup_json_ json_t *job = NULL;

                r = look(c, id, &w, &job);
                if (r < 0)
                        break;
                if (c->options[OPTION_JSON])
                        print_change(job, &w);
                else if (!r || w.terminal)
                        print_progress(c, id, job, &w);
                w.printed_us = MAX(w.printed_us, 1);
                if (r > 0) {
                        if (!c->options[OPTION_JSON]) {
                                if (w.terminal)
                                        (void)printf("\n");
                                print_outcome(job);
                        }
                        code = strcmp(text_of(job, "state"), "succeeded") ? EXIT_NO : EXIT_OK;
                } else {
                        sleep_ms(POLL_MS);
                }
        }
        free(w.json);
        return code;
}

int command_watch(struct call *c)
{
        int64_t id = job_id(c->args[0]);

        return id ? watch_job(c, id) : EXIT_USAGE;
}

/* ---- the log */

/* As it comes, whatever its size: 1 when there was something, negative: told. Of a server that went away while it is
 * followed there is nothing yet. */
static int print_part(struct call *c, int64_t id, const char *query, bool following, int64_t *next)
{
        _cleanup_(buf_done) struct buf text = BUF_INIT(1 << 16);
        int64_t bytes = 0, behind = -1;
        char path[128];
        int r;

        (void)snprintf(path, sizeof path, "/v1/jobs/%lld/log%s", (long long)id, query);
        r = client_stream(c->client, path, &behind, &bytes, &text);
        (void)fflush(stdout);
        if (is_for_a_while(r) && following)
                return 0;
        if (r < 0) {
                (void)fail("%s", text.data);
                return r;
        }
        *next = behind;
        return bytes > 0;
}

static int is_over(struct call *c, int64_t id)
{
        _cleanup_(reply_done) struct reply reply = {0};
        _cleanup_(buf_done) struct buf text = BUF_INIT(1 << 16);
        int r = ask_for_job(c, id, true, &reply, &text);

        if (r < 0) {
                (void)fail("%s", text.data);
                return r;
        }
        return job_is_over(reply.document);
}

int command_log(struct call *c)
{
        const char *lines = c->options[OPTION_LINES], *form = c->options[OPTION_TIMES] ? "&format=timed" : "";
        int64_t id = job_id(c->args[0]), next = 0;
        char query[64] = "";
        int r;

        if (!id)
                return EXIT_USAGE;
        if (lines && (strspn(lines, "0123456789") != strlen(lines) || !*lines || strlen(lines) > 6))
                return usage_error("--lines takes a number");
        (void)snprintf(query, sizeof query, "?fold=true%s%s%s", form, lines ? "&tail=" : "", lines ? lines : "");
        r = print_part(c, id, query, false, &next);
        while (r >= 0 && c->options[OPTION_FOLLOW]) {
                int over = is_over(c, id); /* before the last look, which then sees all */

                (void)snprintf(query, sizeof query, "?offset=%lld%s", (long long)next, form);
                r = over < 0 ? over : print_part(c, id, query, true, &next);
                if (r == 0 && over)
                        break;
                if (r == 0)
                        sleep_ms(POLL_MS / 2);
        }
        return r < 0 ? EXIT_NO : EXIT_OK;
}
