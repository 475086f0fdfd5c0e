/* What happened to a job, and why it is as it is. */
#include "ctl/command.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int get(struct call *c, int64_t id, const char *what, struct reply *ret)
{
        char path[96];

        (void)snprintf(path, sizeof path, "/v1/jobs/%lld%s", (long long)id, what);
        return ask(c, "GET", path, NULL, ret);
}

static void print_event(const json_t *e)
{
        const char *from = text_of(e, "from"), *to = text_of(e, "to");

        (void)printf("%s  %-10s ", text_of(e, "time"), text_of(e, "trigger"));
        if (!*from)
                (void)printf("%s", to);
        else if (strcmp(from, to) != 0)
                (void)printf("%s -> %s", from, to);
        (void)printf("%s%s\n", *text_of(e, "detail") ? "  " : "", text_of(e, "detail"));
}

/* All pages of it; with --json each as a line. */
static int print_events(struct call *c, int64_t id)
{
        char what[64] = "/events";

        for (;;) {
                _cleanup_(reply_done) struct reply reply = {0};
                const json_t *next, *e;
                size_t i;

                if (get(c, id, what, &reply) < 0)
                        return EXIT_NO;
                if (c->options[OPTION_JSON])
                        print_json(reply.document);
                json_array_foreach(json_object_get(reply.document, "events"), i, e)
                {
                        if (!c->options[OPTION_JSON])
                                print_event(e);
                }
                next = json_object_get(reply.document, "next");
                if (!json_is_integer(next))
                        return EXIT_OK;
                (void)snprintf(what, sizeof what, "/events?after=%lld", (long long)json_integer_value(next));
        }
}

static void print_attempt(const json_t *a)
{
        const json_t *device;
        size_t i;

        (void)printf("attempt %.0f on", real_of(a, "number"));
        json_array_foreach(json_object_get(a, "devices"), i, device)
        {
                (void)printf(" %s", json_string_value(device));
        }
        (void)printf(", steps %.0f to %.0f: %s", real_of(a, "first_step"), real_of(a, "last_step"),
                     *text_of(a, "outcome") ? text_of(a, "outcome") : "runs");
        if (*text_of(a, "stop"))
                (void)printf(" (%s)", text_of(a, "stop"));
        if (*text_of(a, "class"))
                (void)printf(", class %s, which is the %s's", text_of(a, "class"), text_of(a, "blame"));
        (void)printf("%s%s\n", *text_of(a, "detail") ? ": " : "", text_of(a, "detail"));
}

static int print_attempts(struct call *c, int64_t id)
{
        _cleanup_(reply_done) struct reply reply = {0};
        const json_t *a;
        size_t i;

        if (get(c, id, "/attempts", &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON])
                print_json(reply.document);
        json_array_foreach(json_object_get(reply.document, "attempts"), i, a)
        {
                if (!c->options[OPTION_JSON])
                        print_attempt(a);
        }
        return EXIT_OK;
}

int command_events(struct call *c)
{
        int64_t id = job_id(c->args[0]);
        int r = id ? print_events(c, id) : EXIT_USAGE;

        return r ? r : print_attempts(c, id);
}

void print_waiting(const json_t *job)
{
        const json_t *w = json_object_get(job, "waiting");

        if (!json_is_object(w))
                return;
        (void)printf("%s: %s", text_of(w, "reason"), text_of(w, "detail"));
        if (!isnan(real_of(w, "position")))
                (void)printf(" (number %.0f in the queue)", real_of(w, "position"));
        if (*text_of(w, "earliest_start"))
                (void)printf(", not before %s", text_of(w, "earliest_start"));
        (void)printf("\n");
}

static void print_why(const json_t *job)
{
        const json_t *paused = json_object_get(job, "paused");
        const char *stopping = text_of(job, "stopping");

        if (json_is_object(json_object_get(job, "waiting"))) {
                (void)printf("job %.0f waits: ", real_of(job, "id"));
                print_waiting(job);
        } else if (json_is_object(paused)) {
                (void)printf("job %.0f is paused: %s%s%s\n", real_of(job, "id"), text_of(paused, "reason"),
                             *text_of(paused, "detail") ? ": " : "", text_of(paused, "detail"));
        } else if (*stopping) {
                (void)printf("job %.0f writes a checkpoint and stops: %s\n", real_of(job, "id"), stopping);
        } else {
                print_outcome(job);
        }
}

int command_why(struct call *c)
{
        _cleanup_(reply_done) struct reply reply = {0};
        int64_t id = job_id(c->args[0]);

        if (!id)
                return EXIT_USAGE;
        if (get(c, id, "", &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON]) {
                print_json(json_object_get(reply.document, "waiting"));
                return EXIT_OK;
        }
        print_why(reply.document);
        return print_attempts(c, id);
}
