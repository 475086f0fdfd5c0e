/* Who may ask: tokens, a browser's session, and who changed what. */
#include "ctl/command.h"

#include <stdio.h>
#include <string.h>

/* ---- tokens */

static int list_tokens(struct call *c)
{
        _cleanup_(reply_done) struct reply reply = {0};
        const json_t *t;
        size_t i;

        if (ask(c, "GET", "/v1/tokens", NULL, &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON])
                print_json(reply.document);
        else
                (void)printf("NAME                  ROLE    CREATED\n");
        json_array_foreach(json_object_get(reply.document, "tokens"), i, t)
        {
                if (!c->options[OPTION_JSON])
                        (void)printf("%-20s  %-6s  %s\n", text_of(t, "name"), text_of(t, "role"),
                                     text_of(t, "created"));
        }
        return EXIT_OK;
}

/* The token alone on standard output: it is shown this once, and goes to a file or another program. */
static int add_token(struct call *c)
{
        const char *role = c->options[OPTION_ROLE] ? c->options[OPTION_ROLE] : "read";
        _cleanup_json_ json_t *body = json_pack("{s:s, s:s}", "name", c->args[1], "role", role);
        _cleanup_(reply_done) struct reply reply = {0};

        if (!is_name(c->args[1], "a token"))
                return EXIT_USAGE;
        if (!body)
                return usage_error("--role is not UTF-8");
        if (ask(c, "POST", "/v1/tokens", body, &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON])
                print_json(reply.document);
        else
                (void)printf("%s\n", text_of(reply.document, "token"));
        return EXIT_OK;
}

static int remove_token(struct call *c)
{
        _cleanup_(reply_done) struct reply reply = {0};
        char path[128];

        if (!is_name(c->args[1], "a token"))
                return EXIT_USAGE;
        (void)snprintf(path, sizeof path, "/v1/tokens/%s", c->args[1]);
        return ask(c, "DELETE", path, NULL, &reply) < 0 ? EXIT_NO : EXIT_OK;
}

int command_token(struct call *c)
{
        static const struct {
                const char *name;
                int n_args;
                command_run *run;
        } verbs[] = {{"list", 1, list_tokens}, {"add", 2, add_token}, {"remove", 2, remove_token}};

        for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
                if (!strcmp(verbs[i].name, c->args[0]) && verbs[i].n_args == c->n_args)
                        return verbs[i].run(c);
        return usage_error("token takes: list, add NAME --role ROLE, or remove NAME");
}

/* ---- a browser */

int command_open(struct call *c)
{
        _cleanup_(reply_done) struct reply reply = {0};
        const json_t *url;
        size_t i;

        if (ask(c, "POST", "/v1/links", NULL, &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON]) {
                print_json(reply.document);
                return EXIT_OK;
        }
        json_array_foreach(json_object_get(reply.document, "urls"), i, url)
        {
                (void)printf("%s\n", json_string_value(url));
        }
        return i ? EXIT_OK : fail("the server listens on no address that a browser could open");
}

/* ---- who changed what */

static void print_change(const json_t *a)
{
        const char *who = *text_of(a, "token") ? text_of(a, "token") : text_of(a, "user");

        (void)printf("%s  %-16s %-16s %s\n", text_of(a, "time"), *who ? who : "-", text_of(a, "address"),
                     text_of(a, "action"));
}

/* All pages of it; with --json each as a line. */
int command_audit(struct call *c)
{
        char path[64] = "/v1/audit";

        for (;;) {
                _cleanup_(reply_done) struct reply reply = {0};
                const json_t *next, *a;
                size_t i;

                if (ask(c, "GET", path, NULL, &reply) < 0)
                        return EXIT_NO;
                if (c->options[OPTION_JSON])
                        print_json(reply.document);
                json_array_foreach(json_object_get(reply.document, "audit"), i, a)
                {
                        if (!c->options[OPTION_JSON])
                                print_change(a);
                }
                next = json_object_get(reply.document, "next");
                if (!json_is_integer(next))
                        return EXIT_OK;
                (void)snprintf(path, sizeof path, "/v1/audit?after=%lld", (long long)json_integer_value(next));
        }
}
