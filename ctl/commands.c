#include "ctl/command.h"

#include "contract/text.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES 64

int ask(struct call *c, const char *method, const char *path, const json_t *body, struct reply *ret)
{
        _cleanup_(buf_done) struct buf text = BUF_INIT(1 << 16);
        int r = client_expect(c->client, method, path, body, ret, &text);

        if (r < 0)
                (void)fail("%s", text.data);
        return r;
}

int64_t job_id(const char *s)
{
        size_t n = strspn(s, "0123456789");

        if (!n || n > 18 || s[n] || strtoll(s, NULL, 10) < 1) {
                (void)usage_error("a job is named by its number; mulunctl list shows them");
                return 0;
        }
        return strtoll(s, NULL, 10);
}

bool is_name(const char *s, const char *what)
{
        if (text_is_plain_name(s, NAME_BYTES))
                return true;
        (void)usage_error("%s is named by 1 to %d letters, digits, '.', '-' and '_', not beginning with '.'", what,
                          NAME_BYTES);
        return false;
}

void print_json(const json_t *v)
{
        _cleanup_(freep) char *text = json_to_text(v);

        (void)printf("%s\n", text ? text : "null");
}

const char *text_of(const json_t *o, const char *key)
{
        const char *s = json_string_value(json_object_get(o, key));

        return s ? s : "";
}

double real_of(const json_t *o, const char *key)
{
        double d = NAN;

        (void)json_to_real(json_object_get(o, key), &d);
        return d;
}

const char *duration(double seconds, char buf[32])
{
        long long s = seconds > 0 && seconds < 1e12 ? (long long)(seconds + 0.5) : 0;

        if (s >= 3600)
                (void)snprintf(buf, 32, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
        else
                (void)snprintf(buf, 32, "%lld:%02lld", s / 60, s % 60);
        return buf;
}

/* A paused one, too: by itself it does not go on. */
bool job_is_over(const json_t *job)
{
        return strcmp(text_of(job, "state"), "queued") && strcmp(text_of(job, "state"), "running");
}

void print_outcome(const json_t *job)
{
        const json_t *error = json_object_get(job, "error"), *result = json_object_get(job, "result"),
                     *paused = json_object_get(job, "paused");
        double bpd = real_of(result, "bpd");

        (void)printf("job %.0f %s", real_of(job, "id"), text_of(job, "state"));
        if (json_is_object(error))
                (void)printf(": %s: %s", text_of(error, "class"), text_of(error, "detail"));
        else if (json_is_object(paused))
                (void)printf(": %s%s%s", text_of(paused, "reason"), *text_of(paused, "detail") ? ": " : "",
                             text_of(paused, "detail"));
        else if (!isnan(bpd))
                (void)printf(": %.4f bits per dimension", bpd);
        else if (!strcmp(text_of(result, "what"), "dataset"))
                (void)printf(": %s, %.0f images to train on, %.0f to test on", text_of(result, "dataset"),
                             real_of(result, "train"), real_of(result, "test"));
        (void)printf("\n");
}

/* ---- show */

void print_cell(const char *s, int width)
{
        int n = 0;

        for (; *s && (n < width || (*s & 0xc0) == 0x80); s++) {
                n += (*s & 0xc0) != 0x80;
                (void)putchar(*s);
        }
        for (; n < width + 2; n++)
                (void)putchar(' ');
}

static void print_members(const json_t *o)
{
        const char *key;
        json_t *v;

        json_object_foreach((json_t *)o, key, v)
        {
                _cleanup_(freep) char *text = json_is_string(v) ? strdup(json_string_value(v)) : json_to_text(v);

                (void)printf("%-12s %s\n", key, text ? text : "");
        }
}

static void print_job(const json_t *job)
{
        static const char *const texts[] = {"kind",        "state",   "name",    "notes",
                                            "config_name", "created", "started", "ended"};
        const json_t *p = json_object_get(job, "progress"), *result = json_object_get(job, "result"), *tag;
        char time[32];
        size_t i;

        (void)printf("%-12s %.0f\n", "id", real_of(job, "id"));
        for (i = 0; i < ARRAY_LEN(texts); i++)
                if (*text_of(job, texts[i]))
                        (void)printf("%-12s %s\n", texts[i], text_of(job, texts[i]));
        if (json_is_object(json_object_get(job, "waiting"))) {
                (void)printf("%-12s ", "waiting");
                print_waiting(job);
        }
        json_array_foreach(json_object_get(job, "tags"), i, tag)
        {
                (void)printf("%-12s %s\n", "tag", json_string_value(tag));
        }
        json_array_foreach(json_object_get(job, "after"), i, tag)
        {
                (void)printf("%-12s job %lld\n", "after", (long long)json_integer_value(tag));
        }
        if (real_of(job, "priority") != 0)
                (void)printf("%-12s %.0f\n", "priority", real_of(job, "priority"));
        (void)printf("%-12s %.0f\n%-12s %.0f of %.0f\n", "attempts", real_of(job, "attempts"), "step",
                     real_of(p, "step"), real_of(p, "steps"));
        if (!isnan(real_of(p, "images_per_second")))
                (void)printf("%-12s %.1f images/s\n", "speed", real_of(p, "images_per_second"));
        if (!isnan(real_of(p, "seconds_left")))
                (void)printf("%-12s %s\n", "time left", duration(real_of(p, "seconds_left"), time));
        if (json_is_object(json_object_get(job, "error")))
                (void)printf("%-12s %s: %s\n", "error", text_of(json_object_get(job, "error"), "class"),
                             text_of(json_object_get(job, "error"), "detail"));
        print_members(json_is_object(result) ? result : json_object_get(job, "import"));
}

/* One request about a job; its answer is printed as JSON, or by `print`. */
static int about_job(struct call *c, const char *method, const char *arg, const char *action, const json_t *body,
                     void (*print)(const json_t *job))
{
        _cleanup_(reply_done) struct reply reply = {0};
        int64_t id = job_id(arg);
        char path[64];

        if (!id)
                return EXIT_USAGE;
        (void)snprintf(path, sizeof path, "/v1/jobs/%lld%s", (long long)id, action);
        if (ask(c, method, path, body, &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON] && reply.document)
                print_json(reply.document);
        else if (print && reply.document)
                print(reply.document);
        return EXIT_OK;
}

int command_show(struct call *c)
{
        return about_job(c, "GET", c->args[0], "", NULL, print_job);
}

/* ---- actions */

static void print_state(const json_t *job)
{
        bool stopping = *text_of(job, "stopping");

        (void)printf("job %.0f is %s%s\n", real_of(job, "id"), text_of(job, "state"),
                     stopping ? " and stops after a checkpoint" : "");
}

/* The same action on all of them; the worst exit code. */
static int act_on_each(struct call *c, const char *verb, const json_t *body)
{
        int r = EXIT_OK;
        char action[16];

        (void)snprintf(action, sizeof action, "/%s", verb);
        for (int i = 0; i < c->n_args; i++) {
                int one = about_job(c, "POST", c->args[i], action, body, print_state);

                r = MAX(r, one);
        }
        return r;
}

/* Somebody says yes to it, now or on the command line. */
static int confirm(struct call *c, const char *fmt, ...) _printf_(2, 3);
static int confirm(struct call *c, const char *fmt, ...)
{
        char answer[8] = "";
        va_list ap;

        if (c->options[OPTION_YES])
                return EXIT_OK;
        if (!isatty(STDIN_FILENO))
                return usage_error("this asks, and there is no terminal: --yes says that you mean it");
        va_start(ap, fmt);
        (void)vfprintf(stderr, fmt, ap);
        va_end(ap);
        (void)fprintf(stderr, "? [y/N] ");
        if (!fgets(answer, sizeof answer, stdin) || (answer[0] != 'y' && answer[0] != 'Y'))
                return fail("nothing is done");
        return EXIT_OK;
}

/* All jobs that the options take. */
static int act_on_filter(struct call *c, const char *verb)
{
        _cleanup_json_ json_t *body = json_pack("{s:{}}", "filter");
        _cleanup_(reply_done) struct reply reply = {0};
        char path[32];
        int r = filter_body(c, json_object_get(body, "filter"));

        if (r)
                return r;
        r = confirm(c, "%c%s all jobs that these options take", verb[0] - 'a' + 'A', verb + 1);
        if (r)
                return r;
        (void)snprintf(path, sizeof path, "/v1/jobs/%s", verb);
        if (ask(c, "POST", path, body, &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON])
                print_json(reply.document);
        else
                (void)printf("%.0f of %.0f jobs: %s\n", real_of(reply.document, "changed"),
                             real_of(reply.document, "matched"), verb);
        return EXIT_OK;
}

/* The jobs that are named, by each(), or all that a filter takes. */
static int act_on_many(struct call *c, const char *verb, int (*each)(struct call *c, const char *verb))
{
        if (filter_is_given(c) == (c->n_args > 0))
                return usage_error("%s takes jobs, or " FILTER_OPTIONS "%s", verb, c->n_args ? ", not both" : "");
        if (!c->n_args &&
            (c->options[OPTION_STEPS] || c->options[OPTION_CHANGED_DATA] || c->options[OPTION_WAIT] || has_limits(c)))
                return usage_error("how %s is done is said of jobs that are named", verb);
        return c->n_args ? each(c, verb) : act_on_filter(c, verb);
}

static int halt_each(struct call *c, const char *verb)
{
        return act_on_each(c, verb, NULL);
}

int command_cancel(struct call *c)
{
        return act_on_many(c, "cancel", halt_each);
}

int command_pause(struct call *c)
{
        return act_on_many(c, "pause", halt_each);
}

int command_set(struct call *c)
{
        _cleanup_json_ json_t *body = json_object();
        int r = add_members(c, body);

        if (r)
                return r;
        if (!json_object_size(body))
                return usage_error("set changes --name, --tag, --notes, --priority and --limit-...");
        return about_job(c, "PATCH", c->args[0], "", body, print_job);
}

static int remove_each(struct call *c, const char *verb _unused_)
{
        int r = confirm(c, "Remove %d job%s with curves, checkpoints and logs", c->n_args, c->n_args == 1 ? "" : "s");

        for (int i = 0; !r && i < c->n_args; i++)
                if (!job_id(c->args[i]))
                        return EXIT_USAGE;
        if (r)
                return r;
        for (int i = 0; i < c->n_args; i++) {
                int one = about_job(c, "DELETE", c->args[i], "", NULL, NULL);

                if (!one && !c->options[OPTION_JSON])
                        (void)printf("job %s is removed\n", c->args[i]);
                r = MAX(r, one);
        }
        return r;
}

int command_remove(struct call *c)
{
        return act_on_many(c, "remove", remove_each);
}

static int resume_one(struct call *c, const char *verb)
{
        _cleanup_json_ json_t *body = json_object();
        int r;

        if (c->options[OPTION_STEPS]) {
                int64_t steps = strtoll(c->options[OPTION_STEPS], NULL, 10);

                if (strspn(c->options[OPTION_STEPS], "0123456789") != strlen(c->options[OPTION_STEPS]) || steps < 1)
                        return usage_error("--steps takes a number");
                (void)json_object_set_new(body, "steps", json_integer(steps));
        }
        if (c->options[OPTION_CHANGED_DATA])
                (void)json_object_set_new(body, "accept_changed_data", json_true());
        r = add_members(c, body);
        if (r)
                return r;
        r = act_on_each(c, verb, body);
        return !r && c->options[OPTION_WAIT] ? watch_job(c, job_id(c->args[0])) : r;
}

int command_resume(struct call *c)
{
        return act_on_many(c, "resume", resume_one);
}

static int retry_each(struct call *c, const char *verb)
{
        _cleanup_json_ json_t *body = json_object();

        if (c->options[OPTION_CHANGED_DATA])
                (void)json_object_set_new(body, "accept_changed_data", json_true());
        return act_on_each(c, verb, body);
}

int command_retry(struct call *c)
{
        return act_on_many(c, "retry", retry_each);
}

int command_stop(struct call *c)
{
        _cleanup_(reply_done) struct reply reply = {0};

        if (ask(c, "POST", "/v1/stop", NULL, &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON])
                print_json(reply.document);
        else
                (void)printf("mulund is stopping\n");
        return EXIT_OK;
}

/* ---- what the server has */

static int show_config(struct call *c)
{
        _cleanup_(reply_done) struct reply reply = {0};
        _cleanup_(freep) char *text = NULL;
        char path[128];

        if (!is_name(c->args[0], "a configuration"))
                return EXIT_USAGE;
        (void)snprintf(path, sizeof path, "/v1/configs/%s", c->args[0]);
        if (ask(c, "GET", path, NULL, &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON]) {
                print_json(reply.document);
                return EXIT_OK;
        }
        /* as a file for submit --file */
        text = json_dumps(json_object_get(reply.document, "config"), JSON_INDENT(2) | JSON_REAL_PRECISION(15));
        (void)printf("%s\n", text ? text : "null");
        return EXIT_OK;
}

int command_configs(struct call *c)
{
        _cleanup_(reply_done) struct reply reply = {0};
        const json_t *config;
        size_t i;

        if (c->n_args)
                return show_config(c);
        if (ask(c, "GET", "/v1/configs", NULL, &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON]) {
                print_json(reply.document);
                return EXIT_OK;
        }
        json_array_foreach(json_object_get(reply.document, "configs"), i, config)
        {
                (void)printf("%s\n", text_of(config, "name"));
        }
        return EXIT_OK;
}

int command_datasets(struct call *c)
{
        _cleanup_(reply_done) struct reply reply = {0};
        const json_t *d;
        size_t i;

        if (ask(c, "GET", "/v1/datasets", NULL, &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON]) {
                print_json(reply.document);
                return EXIT_OK;
        }
        (void)printf("NAME                  FORMAT      TRAIN     TEST      FROM\n");
        json_array_foreach(json_object_get(reply.document, "datasets"), i, d)
        {
                print_cell(text_of(d, "name"), 20);
                print_cell(text_of(d, "format"), 10);
                (void)printf("%-8.0f  %-8.0f  %s\n", real_of(d, "train"), real_of(d, "test"),
                             *text_of(d, "source_format") ? text_of(d, "source_format") : text_of(d, "origin"));
        }
        return EXIT_OK;
}

/* The server resolves paths against nothing: they are made absolute here, where they mean something. NULL: told. */
json_t *absolute_path(const char *path)
{
        char *real = realpath(path, NULL);
        json_t *v = json_string(real ? real : path);

        free(real);
        if (!v)
                (void)usage_error("a path is not UTF-8");
        return v;
}

static int import_body(struct call *c, json_t *body)
{
        const char *share = c->options[OPTION_TEST_SHARE], *test = c->options[OPTION_TEST];
        char *end = NULL;
        json_t *path = absolute_path(c->args[2]), *test_path = test ? absolute_path(test) : NULL;
        double part = share ? strtod(share, &end) : 0;

        if (!is_name(c->args[1], "a data set")) {
                json_decref(path);
                json_decref(test_path);
                return EXIT_USAGE;
        }
        (void)json_object_set_new(body, "name", json_string(c->args[1]));
        (void)json_object_set_new(body, "path", path);
        if (test)
                (void)json_object_set_new(body, "test_path", test_path);
        if (c->options[OPTION_FORMAT])
                (void)json_object_set_new(body, "format", json_string(c->options[OPTION_FORMAT]));
        if (share && (end == share || *end || !(part > 0 && part < 1)))
                return usage_error("--test-share takes a number above 0 and below 1");
        if (share)
                (void)json_object_set_new(body, "test_share", json_real(part));
        return path && (!test || test_path) ? EXIT_OK : EXIT_USAGE;
}

static int import_dataset(struct call *c)
{
        _cleanup_json_ json_t *body = json_object();
        _cleanup_(reply_done) struct reply reply = {0};
        int64_t id;
        int r = import_body(c, body);

        if (r)
                return r;
        if (ask(c, "POST", "/v1/datasets", body, &reply) < 0)
                return EXIT_NO;
        id = json_integer_value(json_object_get(reply.document, "id"));
        if (c->options[OPTION_DETACH] && c->options[OPTION_JSON])
                print_json(reply.document);
        else if (c->options[OPTION_DETACH])
                (void)printf("%lld\n", (long long)id);
        return c->options[OPTION_DETACH] ? EXIT_OK : watch_job(c, id);
}

static int delete_dataset(struct call *c)
{
        _cleanup_(reply_done) struct reply reply = {0};
        char path[128];

        if (!is_name(c->args[1], "a data set"))
                return EXIT_USAGE;
        (void)snprintf(path, sizeof path, "/v1/datasets/%s", c->args[1]);
        return ask(c, "DELETE", path, NULL, &reply) < 0 ? EXIT_NO : EXIT_OK;
}

int command_dataset(struct call *c)
{
        static const struct {
                const char *name;
                int n_args;
                command_run *run;
        } verbs[] = {{"list", 1, command_datasets}, {"import", 3, import_dataset}, {"delete", 2, delete_dataset}};

        for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
                if (!strcmp(verbs[i].name, c->args[0]) && verbs[i].n_args == c->n_args)
                        return verbs[i].run(c);
        return usage_error("dataset takes: list, import NAME PATH, or delete NAME");
}

/* ---- devices */

static void print_device(const json_t *d)
{
        const json_t *job = json_object_get(d, "job"), *other;
        char id[24] = "";
        size_t i;

        if (json_is_integer(job))
                (void)snprintf(id, sizeof id, "job %lld", (long long)json_integer_value(job));
        print_cell(text_of(d, "name"), 16);
        print_cell(text_of(d, "kind"), 4);
        print_cell(text_of(d, "state"), 9);
        print_cell(id, 12);
        (void)printf("%s%s%s%s%s", text_of(d, "model"), *text_of(d, "cores") ? ", cores " : "", text_of(d, "cores"),
                     *text_of(d, "why") ? "; " : "", text_of(d, "why"));
        json_array_foreach(json_object_get(d, "occupied_by"), i, other)
        {
                const char *user = text_of(other, "user");

                (void)printf("%s process %.0f%s%s", i ? "," : "; used by", real_of(other, "pid"), *user ? " of " : "",
                             user);
        }
        (void)printf("\n");
}

static int list_devices(struct call *c)
{
        _cleanup_(reply_done) struct reply reply = {0};
        const json_t *d;
        size_t i;

        if (ask(c, "GET", "/v1/devices", NULL, &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON])
                print_json(reply.document);
        else
                (void)printf("NAME              KIND  STATE      RUNS          WHAT\n");
        json_array_foreach(json_object_get(reply.document, "devices"), i, d)
        {
                if (!c->options[OPTION_JSON])
                        print_device(d);
        }
        return EXIT_OK;
}

static int service_device(struct call *c)
{
        _cleanup_json_ json_t *body = json_object();
        _cleanup_(reply_done) struct reply reply = {0};
        char path[128];

        if (!is_name(c->args[1], "a device"))
                return EXIT_USAGE;
        (void)snprintf(path, sizeof path, "/v1/devices/%s/%s", c->args[1], c->args[0]);
        if (c->options[OPTION_PREEMPT])
                (void)json_object_set_new(body, "preempt", json_true());
        if (ask(c, "POST", path, body, &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON])
                print_json(reply.document);
        else
                print_device(reply.document);
        return EXIT_OK;
}

int command_device(struct call *c)
{
        if (!strcmp(c->args[0], "list") && c->n_args == 1)
                return list_devices(c);
        if ((!strcmp(c->args[0], "drain") || !strcmp(c->args[0], "enable")) && c->n_args == 2)
                return service_device(c);
        return usage_error("device takes: list, drain NAME, or enable NAME");
}
