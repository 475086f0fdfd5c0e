/* Lists of jobs: the options by which list, and actions on many, take only some of them, and the table that list
 * prints. What it is sorted by is the server's answer (sorted_by), whose meaning its key says. */
#include "ctl/command.h"

#include "base/clock.h"
#include "contract/text.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define VALUE_WIDTH_MAX 24 /* characters: a time has so many */
#define VALUE_BYTES 128    /* more than a cell shows */
#define TIME_US_MAX 2.5e17 /* before the year 10000 */
#define WHOLE_MAX 1e15     /* numbers without a fraction are written out up to here */

/* ---- which jobs */

enum form { WORDS, TEXT, PAIRS, JOB };

static const struct part {
        enum option_id option;
        enum form form;
        const char *key; /* of a query, and of a body's filter */
} parts[] = {
        {OPTION_STATE, WORDS, "state"}, {OPTION_KIND, WORDS, "kind"},     {OPTION_TAG, TEXT, "tag"},
        {OPTION_TEXT, TEXT, "text"},    {OPTION_CONFIG, PAIRS, "config"}, {OPTION_FROM, JOB, "checkpoint_job"},
};

bool filter_is_given(const struct call *c)
{
        for (size_t i = 0; i < ARRAY_LEN(parts); i++)
                if (c->options[parts[i].option])
                        return true;
        return false;
}

/* KEY=VALUE of each --config. *ret is the caller's. */
static int list_pairs(const struct call *c, char **ret)
{
        for (size_t i = 0; i < c->n_configs; i++)
                if (!strchr(c->configs[i], '=') || *c->configs[i] == '=')
                        return usage_error("--config takes KEY=VALUE, such as learning_rate=2e-4");
        *ret = client_list(c->configs, c->n_configs);
        return *ret ? EXIT_OK : fail("the filter is too long");
}

/* What an option that is given says, as in a query before it is escaped. *ret is the caller's. */
static int read_part(const struct call *c, const struct part *p, char **ret)
{
        const char *value = c->options[p->option];

        if (p->form == PAIRS)
                return list_pairs(c, ret);
        if (p->form == JOB && !job_id(value))
                return EXIT_USAGE;
        *ret = strdup(value);
        return *ret ? EXIT_OK : fail("no memory");
}

/* "queued,running" as a list. */
static json_t *words_to_json(const char *words)
{
        json_t *list = json_array();

        for (const char *p = words; *p; p += strspn(p, ",")) {
                size_t n = strcspn(p, ",");

                (void)json_array_append_new(list, json_stringn(p, n));
                p += n;
        }
        return list;
}

int filter_body(const struct call *c, json_t *filter)
{
        for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
                const struct part *p = &parts[i];
                _cleanup_(freep) char *value = NULL;
                int r = c->options[p->option] ? read_part(c, p, &value) : EXIT_OK;

                if (r)
                        return r;
                if (value && json_object_set_new(filter, p->key,
                                                 p->form == WORDS ? words_to_json(value)
                                                 : p->form == JOB ? json_integer(job_id(value))
                                                                  : json_string(value)) < 0)
                        return usage_error("--%s: not UTF-8", p->key);
        }
        return EXIT_OK;
}

static int add_parameter(struct buf *path, const char *key, const char *value)
{
        _cleanup_(freep) char *escaped = client_escape(value);
        const char mark = strchr(path->data, '?') ? '&' : '?';

        if (!escaped || buf_printf(path, NULL, "%c%s=%s", mark, key, escaped) < 0)
                return fail("the filter is too long");
        return EXIT_OK;
}

static int add_filter(const struct call *c, struct buf *path)
{
        int r = EXIT_OK;

        for (size_t i = 0; !r && i < ARRAY_LEN(parts); i++) {
                _cleanup_(freep) char *value = NULL;

                if (!c->options[parts[i].option])
                        continue;
                r = read_part(c, &parts[i], &value);
                r = r ? r : add_parameter(path, parts[i].key, value);
        }
        return r;
}

/* ---- in which order */

static int add_order(const struct call *c, struct buf *path)
{
        static const struct {
                const char *name, *order;
        } orders[] = {{"newest", "-id"}, {"oldest", "id"}, {"next", "priority"}};
        const char *first = c->options[OPTION_FIRST], *sort = c->options[OPTION_SORT];

        if (first && sort)
                return usage_error("--sort and --first are both an order: only one of them");
        if (sort)
                return add_parameter(path, "sort", sort);
        for (size_t i = 0; i < ARRAY_LEN(orders); i++)
                if (!strcmp(orders[i].name, first ? first : "newest"))
                        return add_parameter(path, "order", orders[i].order);
        return usage_error("--first is newest, oldest or next");
}

/* ---- the table */

/* What the list is sorted by, where the table has no column of it. */
struct column {
        const char *key; /* or NULL: there is none */
        char title[VALUE_BYTES];
        int width;
};

static bool is_one_of(const char *const *names, const char *name)
{
        while (*names && strcmp(*names, name) != 0)
                names++;
        return *names;
}

static void write_value(const char *key, const json_t *v, char ret[VALUE_BYTES])
{
        static const char *const times[] = {"created", "started", "ended", NULL};
        double d = json_is_number(v) ? json_number_value(v) : NAN;
        char text[RFC3339_SIZE];

        if (json_is_string(v)) {
                (void)snprintf(ret, VALUE_BYTES, "%s", json_string_value(v));
                text_make_plain(ret, ""); /* notes have lines, a cell has one */
        } else if (isnan(d)) {
                (void)snprintf(ret, VALUE_BYTES, "-");
        } else if (is_one_of(times, key) && d >= 0 && d < TIME_US_MAX) {
                (void)snprintf(ret, VALUE_BYTES, "%s", clock_rfc3339((int64_t)d, text));
        } else if (!strcmp(key, "duration")) {
                (void)snprintf(ret, VALUE_BYTES, "%s", duration(d, text));
        } else {
                (void)snprintf(ret, VALUE_BYTES, fabs(d) < WHOLE_MAX && d == floor(d) ? "%.0f" : "%.6g", d);
        }
}

static int n_letters(const char *s)
{
        int n = 0;

        for (; *s; s++)
                n += (*s & 0xc0) != 0x80;
        return n;
}

static void make_column(const struct call *c, const json_t *jobs, struct column *ret)
{
        static const char *const shown[] = {"state", "kind", "progress", "step", "created", "name", NULL};
        const char *key = c->options[OPTION_SORT], *word;
        const json_t *job;
        size_t i;

        *ret = (struct column){0};
        if (!key || is_one_of(shown, key + (*key == '-')))
                return;
        ret->key = key + (*key == '-');
        word = strrchr(ret->key, '.');
        (void)snprintf(ret->title, sizeof ret->title, "%s", word ? word + 1 : ret->key);
        for (char *p = ret->title; *p; p++)
                *p = (char)toupper((unsigned char)*p);
        json_array_foreach(jobs, i, job)
        {
                char value[VALUE_BYTES];

                write_value(ret->key, json_object_get(job, "sorted_by"), value);
                ret->width = MAX(ret->width, MIN(n_letters(value), VALUE_WIDTH_MAX));
        }
        ret->width = MAX(ret->width, n_letters(ret->title));
}

static void print_row(const json_t *job, const struct column *sorted)
{
        const json_t *p = json_object_get(job, "progress");
        char id[24], progress[48], value[VALUE_BYTES];

        (void)snprintf(id, sizeof id, "%.0f", real_of(job, "id"));
        (void)snprintf(progress, sizeof progress, "%.0f/%.0f", real_of(p, "step"), real_of(p, "steps"));
        print_cell(id, 6);
        print_cell(text_of(job, "state"), 9);
        print_cell(text_of(job, "kind"), 8);
        print_cell(progress, 17);
        print_cell(text_of(job, "created"), 24);
        if (sorted->key) {
                write_value(sorted->key, json_object_get(job, "sorted_by"), value);
                print_cell(value, sorted->width);
        }
        (void)printf("%s\n", *text_of(job, "name") ? text_of(job, "name") : text_of(job, "config_name"));
}

static void print_more(const json_t *document)
{
        double total = real_of(document, "total");

        if (isnan(total))
                (void)printf("there are more than 1000: --limit, " FILTER_OPTIONS "\n");
        else
                (void)printf("there are more, %.0f in all: --limit, " FILTER_OPTIONS "\n", total);
}

static void print_jobs(const struct call *c, const json_t *document)
{
        const json_t *jobs = json_object_get(document, "jobs"), *job;
        struct column sorted;
        size_t i;

        make_column(c, jobs, &sorted);
        (void)printf("ID      STATE      KIND      PROGRESS           CREATED                   ");
        if (sorted.key)
                print_cell(sorted.title, sorted.width);
        (void)printf("NAME\n");
        json_array_foreach(jobs, i, job)
        {
                print_row(job, &sorted);
        }
        if (json_is_string(json_object_get(document, "next")))
                print_more(document);
}

int command_list(struct call *c)
{
        _cleanup_(buf_done) struct buf path = BUF_INIT(1 << 16);
        _cleanup_(reply_done) struct reply reply = {0};
        const char *limit = c->options[OPTION_LIMIT];
        int r = buf_printf(&path, NULL, "/v1/jobs") < 0 ? fail("no memory") : add_order(c, &path);

        if (!r && !c->options[OPTION_JSON])
                r = add_parameter(&path, "fields", "id,state,kind,progress,created,name,config_name");
        if (!r && limit)
                r = add_parameter(&path, "limit", limit);
        r = r ? r : add_filter(c, &path);
        if (r)
                return r;
        if (ask(c, "GET", path.data, NULL, &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON])
                print_json(reply.document);
        else
                print_jobs(c, reply.document);
        return EXIT_OK;
}
