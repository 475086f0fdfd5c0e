#include "ctl/command.h"

#include "base/units.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES_MAX ((size_t)1 << 20)

/* A value as JSON, or else as the text it is: 64, true, null, [1]; ema. New reference. */
static json_t *value_of(const char *s)
{
        json_t *v;

        return json_parse(s, strlen(s), &v, NULL) < 0 ? json_string(s) : v;
}

static int read_sets(const struct call *c, json_t *overrides)
{
        for (size_t i = 0; i < c->n_sets; i++) {
                const char *equals = strchr(c->sets[i], '=');
                char key[200];

                if (!equals || equals == c->sets[i] || (size_t)(equals - c->sets[i]) >= sizeof key)
                        return usage_error("--set takes KEY=VALUE, such as model.sm_n_embd=64");
                (void)snprintf(key, sizeof key, "%.*s", (int)(equals - c->sets[i]), c->sets[i]);
                if (json_object_set_new(overrides, key, value_of(equals + 1)) < 0)
                        return usage_error("--set %s: not UTF-8", key);
        }
        return EXIT_OK;
}

static int read_stdin(struct buf *b, struct error *err)
{
        ssize_t n;

        do {
                int r = buf_reserve(b, 4096, err);

                if (r < 0)
                        return r;
                n = read(STDIN_FILENO, b->data + b->size, 4096);
                b->size += (size_t)MAX(n, 0);
                b->data[b->size] = 0;
        } while (n > 0);
        return n < 0 ? error_set(err, -errno, NULL, "%s", strerror(errno)) : 0;
}

static int read_file(const char *path, json_t **ret)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(FILE_BYTES_MAX);
        struct error err;
        int r = strcmp(path, "-") ? file_read(path, &b, &err) : read_stdin(&b, &err);

        if (r >= 0)
                r = json_parse(b.data, b.size, ret, &err);
        return r < 0 ? fail("%s: %s", path, err.text) : EXIT_OK;
}

/* --evaluate JOB, --sample JOB or --from JOB, with --checkpoint. */
static int add_checkpoint(const struct call *c, json_t *body)
{
        bool from = c->options[OPTION_FROM];
        const char *key = from ? "start_from" : "checkpoint";
        const char *which = c->options[OPTION_CHECKPOINT] ? c->options[OPTION_CHECKPOINT] : "latest";
        const char *job = c->options[OPTION_EVALUATE] ? c->options[OPTION_EVALUATE]
                          : from                      ? c->options[OPTION_FROM]
                                                      : c->options[OPTION_SAMPLE];
        int64_t id = job_id(job);
        char *end;
        long long step = strtoll(which, &end, 10);

        if (!id)
                return EXIT_USAGE;
        if (!strcmp(which, "latest") || !strcmp(which, "best"))
                (void)json_object_set_new(
                        body, key,
                        json_pack("{s:I, s:s}", "job", (json_int_t)id, from ? "checkpoint" : "which", which));
        else if (*which && !*end && step >= 0)
                (void)json_object_set_new(
                        body, key,
                        json_pack("{s:I, s:I}", "job", (json_int_t)id, from ? "checkpoint" : "step", (json_int_t)step));
        else
                return usage_error("--checkpoint is latest, best or a step");
        return EXIT_OK;
}

/* name: of a configuration of the server, or NULL. */
static int add_config(const struct call *c, const char *name, json_t *body)
{
        json_t *document;
        int r;

        if (name)
                return json_object_set_new(body, "config", json_string(name)) < 0 ? usage_error("the name is not UTF-8")
                                                                                  : EXIT_OK;
        r = read_file(c->options[OPTION_FILE], &document);
        if (!r)
                (void)json_object_set_new(body, "config", document);
        return r;
}

static int make_body(struct call *c, json_t *body)
{
        bool evaluate = c->options[OPTION_EVALUATE], sample = c->options[OPTION_SAMPLE], from = c->options[OPTION_FROM];
        bool other = evaluate || sample || from;
        json_t *overrides = json_object();
        int r = add_members(c, body);

        (void)json_object_set_new(body, "kind", json_string(evaluate ? "evaluate" : sample ? "sample" : "train"));
        (void)json_object_set_new(body, "overrides", overrides);
        if (r)
                return r;
        if (evaluate + sample + from > 1)
                return usage_error("--evaluate, --sample and --from are jobs of their own");
        if (other && (c->n_args || c->options[OPTION_FILE]))
                return usage_error("what begins with a checkpoint has its configuration; --set changes how it is made");
        if (!other && !!c->n_args + !!c->options[OPTION_FILE] != 1)
                return usage_error("submit needs one of: a configuration's name, --file, --from, --evaluate, --sample");
        if (!other && c->options[OPTION_CHECKPOINT])
                return usage_error("--checkpoint belongs to --evaluate, --sample or --from");
        if (c->options[OPTION_CHANGED_DATA])
                (void)json_object_set_new(body, "accept_changed_data", json_true());
        r = other ? add_checkpoint(c, body) : add_config(c, c->n_args ? c->args[0] : NULL, body);
        return r ? r : read_sets(c, overrides);
}

/* Prints the id of the new job, or follows it. */
static int send_job(struct call *c, const json_t *body)
{
        _cleanup_(reply_done) struct reply reply = {0};
        int64_t id;

        if (ask(c, "POST", "/v1/jobs", body, &reply) < 0)
                return EXIT_NO;
        id = json_integer_value(json_object_get(reply.document, "id"));
        if (c->options[OPTION_JSON])
                print_json(reply.document);
        else
                (void)printf("%lld\n", (long long)id);
        (void)fflush(stdout);
        return c->options[OPTION_WAIT] ? watch_job(c, id) : EXIT_OK;
}

/* What the job would need; nothing is submitted. */
static int check_job(struct call *c, const json_t *body)
{
        _cleanup_(reply_done) struct reply reply = {0};
        const json_t *device;
        char time[32], size[UNITS_SIZE];
        size_t i;

        if (ask(c, "POST", "/v1/jobs?dry_run=true", body, &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON]) {
                print_json(reply.document);
                return EXIT_OK;
        }
        (void)printf("%-12s %.0f\n", "steps", real_of(reply.document, "steps"));
        if (!isnan(real_of(reply.document, "memory_bytes")))
                (void)printf("%-12s %s\n", "memory",
                             units_bytes_text((int64_t)real_of(reply.document, "memory_bytes"), size));
        json_array_foreach(json_object_get(reply.document, "devices"), i, device)
        {
                (void)printf("%-12s %s\n", "fits on", json_string_value(device));
        }
        if (!isnan(real_of(reply.document, "seconds")))
                (void)printf("%-12s about %s\n", "time", duration(real_of(reply.document, "seconds"), time));
        return EXIT_OK;
}

int command_submit(struct call *c)
{
        _cleanup_json_ json_t *body = json_object();
        int r = make_body(c, body);

        if (r)
                return r;
        return c->options[OPTION_DRY_RUN] ? check_job(c, body) : send_job(c, body);
}

/* import checkpoint PATH [CONFIG], import events PATH */
int command_import(struct call *c)
{
        _cleanup_json_ json_t *body = json_object();
        bool checkpoint = !strcmp(c->args[0], "checkpoint");
        json_t *path = absolute_path(c->args[1]), *overrides;
        int r = add_members(c, body);

        (void)json_object_set_new(body, "kind", json_string("import"));
        (void)json_object_set_new(body, "what", json_string(c->args[0]));
        (void)json_object_set_new(body, "path", path);
        if (r || !path)
                return EXIT_USAGE;
        if (!checkpoint && strcmp(c->args[0], "events") != 0)
                return usage_error("import takes: checkpoint PATH CONFIG, or events PATH; see also dataset import");
        if (checkpoint && (c->n_args == 3) + !!c->options[OPTION_FILE] != 1)
                return usage_error("a checkpoint is read by a configuration: its name, or --file");
        if (!checkpoint && (c->n_args == 3 || c->options[OPTION_FILE] || c->n_sets))
                return usage_error("events have no configuration");
        if (checkpoint) {
                (void)json_object_set_new(body, "overrides", overrides = json_object());
                r = add_config(c, c->n_args == 3 ? c->args[2] : NULL, body);
                r = r ? r : read_sets(c, overrides);
        }
        return r ? r : send_job(c, body);
}
