/* Webhooks: where events are told, what was sent, and once more. */
#include "ctl/command.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int list_hooks(struct call *c)
{
        _cleanup_(reply_done) struct reply reply = {0};
        const json_t *h;
        size_t i;

        if (ask(c, "GET", "/v1/webhooks", NULL, &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON]) {
                print_json(reply.document);
                return EXIT_OK;
        }
        (void)printf("NAME              TOLD  FAILED  NEXT TRY                  URL\n");
        json_array_foreach(json_object_get(reply.document, "webhooks"), i, h)
        {
                (void)printf("%-16s  %4.0f  %6.0f  %-24s  %s\n", text_of(h, "name"), real_of(h, "told"),
                             real_of(h, "failed"), *text_of(h, "next_try") ? text_of(h, "next_try") : "-",
                             text_of(h, "url"));
        }
        return EXIT_OK;
}

/* A path below the hook that the argument names. */
static int hook_path(const struct call *c, const char *below, char ret[256])
{
        if (!is_name(c->args[1], "a webhook"))
                return EXIT_USAGE;
        (void)snprintf(ret, 256, "/v1/webhooks/%s/%s", c->args[1], below);
        return EXIT_OK;
}

static int list_deliveries(struct call *c)
{
        _cleanup_(reply_done) struct reply reply = {0};
        char path[256];
        const json_t *d;
        size_t i;
        int r = hook_path(c, "deliveries", path);

        if (r)
                return r;
        if (ask(c, "GET", path, NULL, &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON]) {
                print_json(reply.document);
                return EXIT_OK;
        }
        (void)printf("TIME                      EVENT     JOB  ATTEMPT  ANSWER\n");
        json_array_foreach(json_object_get(reply.document, "deliveries"), i, d)
        {
                (void)printf("%s  %5.0f  %6.0f  %7.0f  ", text_of(d, "time"), real_of(d, "event"), real_of(d, "job"),
                             real_of(d, "attempt"));
                if (real_of(d, "code") > 0)
                        (void)printf("%.0f in %.1f s\n", real_of(d, "code"), real_of(d, "seconds"));
                else
                        (void)printf("none: %s\n", text_of(d, "error"));
        }
        return EXIT_OK;
}

static int send_again(struct call *c)
{
        _cleanup_(reply_done) struct reply reply = {0};
        _cleanup_json_ json_t *body = NULL;
        char path[256], *end = NULL;
        long long event;
        int r = hook_path(c, "send", path);

        if (r)
                return r;
        if (c->n_args == 3) {
                event = strtoll(c->args[2], &end, 10);
                if (*end || event < 1)
                        return usage_error("that is no event: mulunctl webhook deliveries NAME shows their numbers");
                body = json_pack("{s:I}", "event", (json_int_t)event);
        }
        if (ask(c, "POST", path, body, &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON])
                print_json(reply.document);
        return EXIT_OK;
}

int command_webhook(struct call *c)
{
        static const struct {
                const char *name;
                int min, max;
                command_run *run;
        } verbs[] = {{"list", 1, 1, list_hooks}, {"deliveries", 2, 2, list_deliveries}, {"send", 2, 3, send_again}};

        for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
                if (!strcmp(verbs[i].name, c->args[0]) && verbs[i].min <= c->n_args && c->n_args <= verbs[i].max)
                        return verbs[i].run(c);
        return usage_error("webhook takes: list, deliveries NAME, or send NAME [EVENT]");
}
