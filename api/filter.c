#include "api/filter.h"

#include "api/names.h"
#include "base/clock.h"
#include "contract/config.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void filter_done(struct filter *f)
{
        free(f->ids);
        free(f->config);
        *f = (struct filter){0};
}

/* ---- parts that a query and a body have */

static void add_no_memory(const char *where, struct errors *errs)
{
        (void)errors_add(errs, -ENOMEM, where, "no memory"); /* nothing is asked for: it would be of more jobs */
}

static void keep(json_t *v, char **own, const char **ret, const char *where, struct errors *errs)
{
        *ret = *own = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
        if (!*own)
                add_no_memory(where, errs);
}

static void keep_ids(const int64_t *ids, size_t n, struct filter *f, const char *where, struct errors *errs)
{
        _cleanup_json_ json_t *list = json_array();
        int r = 0;

        for (size_t i = 0; i < n; i++)
                r |= json_array_append_new(list, json_integer(ids[i]));
        if (r)
                add_no_memory(where, errs);
        keep(list, &f->ids, &f->of.ids, where, errs);
}

/* KEY=VALUE */
static void add_condition(json_t *conditions, char *item, const char *where, struct errors *errs)
{
        char *value = item ? strchr(item, '=') : NULL, at[130];
        const char *path;
        json_t *v;

        if (!value || value == item) {
                (void)errors_add(errs, -EINVAL, where,
                                 "expected KEY=VALUE, several separated by commas; one with a comma in quotes");
                return;
        }
        *value++ = 0;
        path = config_path(item, where, errs);
        if (!path)
                return;
        (void)snprintf(at, sizeof at, "$.%s", path);
        if (json_object_get(conditions, at))
                (void)errors_add(errs, -EINVAL, where, "%s: it is there twice", path);
        v = config_value(path, value, where, errs);
        if (v && json_object_set_new(conditions, at, v) < 0)
                add_no_memory(where, errs);
}

static void read_config(const char *text, struct filter *f, const char *where, struct errors *errs)
{
        _cleanup_json_ json_t *conditions = json_object();
        _cleanup_(freep) char *items = strdup(text);
        size_t n = errs->n;
        char *list = items;

        if (!items)
                add_no_memory(where, errs);
        while (list && errs->n == n)
                add_condition(conditions, names_take(&list), where, errs);
        keep(conditions, &f->config, &f->of.config, where, errs);
}

/* ---- a query */

static void read_ids(struct request *r, struct filter *f)
{
        int64_t ids[FILTER_IDS_MAX];
        size_t n = 0;

        if (request_query_ids(r, "id", FILTER_IDS_MAX, ids, &n) > 0)
                keep_ids(ids, n, f, "id", &r->errs);
}

static void read_sort(struct request *r, struct filter *f)
{
        static const char prefix[] = "config.";
        const char *s = NULL, *path;
        int by = SORT_NONE;

        if (request_query_text(r, "sort", sizeof f->path, &s) <= 0)
                return;
        if (target_param(&r->target, "order"))
                (void)errors_add(&r->errs, -EINVAL, "sort", "expected without order: it is one");
        f->sorting.descending = *s == '-';
        s += *s == '-';
        if (!strncmp(s, prefix, sizeof prefix - 1)) {
                path = config_path(s + sizeof prefix - 1, "sort", &r->errs);
                (void)snprintf(f->path, sizeof f->path, "$.%s", path ? path : "");
                by = SORT_CONFIG;
        } else {
                by = request_choice(r, "sort", job_sort_names + 1, s, strlen(s)) + 1;
        }
        f->sorting.by = (enum job_sort)by;
        f->sorting.path = f->path;
        f->sorting.now_us = clock_wall_us();
}

/* "-5.17": priority and id. */
static bool read_place(const char *s, struct job_filter *f)
{
        const char *dot = strchr(s, '.');
        bool negative = *s == '-';
        char priority[16];

        (void)snprintf(priority, sizeof priority, "%.*s", dot ? (int)(dot - s) - negative : 0, s + negative);
        if (!dot || !int_parse(priority, 0, PRIORITY_MAX, &f->bound_priority) ||
            !int_parse(dot + 1, 1, INT64_MAX, &f->bound))
                return false;
        if (negative)
                f->bound_priority = -f->bound_priority;
        return true;
}

/* Two hexadecimal digits a byte. */
static bool read_hex(const char *s, char *ret, size_t size)
{
        size_t n = strlen(s);

        if (n % 2 || n / 2 >= size || strspn(s, "0123456789abcdef") != n)
                return false;
        for (size_t i = 0; i < n / 2; i++) {
                char pair[] = {s[2 * i], s[2 * i + 1], 0};

                ret[i] = (char)strtol(pair, NULL, 16);
                if (!ret[i])
                        return false;
        }
        ret[n / 2] = 0;
        return true;
}

/* "17.n2.5", "17.t61ff", "17.": id and key. */
static bool read_key(const char *s, struct sort_key *k)
{
        const char *dot = strchr(s, '.');
        char id[24], *end;

        *k = (struct sort_key){.type = SORT_NOTHING};
        (void)snprintf(id, sizeof id, "%.*s", dot ? (int)MIN((size_t)(dot - s), sizeof id - 1) : 0, s);
        if (!int_parse(id, 1, INT64_MAX, &k->id))
                return false;
        if (dot[1] == 't') {
                k->type = SORT_TEXT;
                return read_hex(dot + 2, k->text, sizeof k->text);
        }
        if (dot[1] != 'n')
                return !dot[1];
        k->type = SORT_NUMBER;
        k->number = strtod(dot + 2, &end);
        return end != dot + 2 && !*end && strspn(dot + 2, "0123456789.e+-inf") == strlen(dot + 2) && !isnan(k->number);
}

static void read_cursor(struct request *r, struct filter *f)
{
        const char *s = target_param(&r->target, "cursor");
        bool good = true;

        if (s && f->sorting.by) {
                good = read_key(s, &f->behind);
                f->sorting.behind = &f->behind;
        } else if (s && f->of.order == ORDER_QUEUE) {
                good = read_place(s, &f->of);
        } else {
                (void)request_query_int(r, "cursor", 1, INT64_MAX, &f->of.bound);
        }
        if (!good)
                (void)errors_add(&r->errs, -EINVAL, "cursor", "expected an answer's next, of the same order");
}

void filter_from_query(struct request *r, struct filter *ret)
{
        static const char *const orders[] = {"-id", "id", "priority", NULL};
        struct job_filter *f = &ret->of;
        const char *config = NULL;
        int order = ORDER_NEWEST;

        *ret = (struct filter){.of = {.states = JOB_ANY, .kinds = JOB_ANY}};
        (void)request_query_choices(r, "state", job_state_names, &f->states);
        (void)request_query_choices(r, "kind", job_kind_names, &f->kinds);
        (void)request_query_text(r, "tag", 64, &f->tag);
        (void)request_query_text(r, "text", 200, &f->text);
        (void)request_query_int(r, "checkpoint_job", 1, INT64_MAX, &f->source_job);
        read_ids(r, ret);
        if (request_query_text(r, "config", TARGET_BYTES_MAX, &config) > 0)
                read_config(config, ret, "config", &r->errs);
        (void)request_query_choice(r, "order", orders, &order);
        read_sort(r, ret);
        f->order = (enum job_order)order;
        if (f->order == ORDER_QUEUE && f->states != JOB_ANY && f->states != 1U << JOB_QUEUED)
                (void)errors_add(&r->errs, -EINVAL, "order", "only what is queued has an order by priority");
        if (f->order == ORDER_QUEUE)
                f->states = 1U << JOB_QUEUED;
        read_cursor(r, ret);
}

bool filter_may_walk(const struct request *r)
{
        const struct target *t = &r->target;
        bool narrows = target_param(t, "state") || target_param(t, "kind");
        bool chosen = target_param(t, "tag") || target_param(t, "checkpoint_job");

        return target_param(t, "text") || target_param(t, "config") || target_param(t, "sort") ||
               (chosen && (narrows || target_param(t, "order"))) ||
               (target_param(t, "tag") && target_param(t, "checkpoint_job")) ||
               (target_param(t, "order") && target_param(t, "kind"));
}

json_t *filter_next(const struct filter *f, int64_t id, int64_t priority, const struct sort_key *last)
{
        char next[48 + 2 * sizeof last->text];
        size_t n;

        if (!f->sorting.by) {
                if (f->of.order == ORDER_QUEUE)
                        (void)snprintf(next, sizeof next, "%lld.%lld", (long long)priority, (long long)id);
                else
                        (void)snprintf(next, sizeof next, "%lld", (long long)id);
                return json_string(next);
        }
        n = (size_t)snprintf(next, sizeof next, "%lld.", (long long)last->id);
        if (last->type == SORT_NUMBER)
                (void)snprintf(next + n, sizeof next - n, "n%.17g", last->number);
        if (last->type == SORT_TEXT) {
                next[n++] = 't';
                next[n] = 0;
                for (const char *p = last->text; *p; p++)
                        n += (size_t)snprintf(next + n, sizeof next - n, "%02x", (unsigned char)*p);
        }
        return json_string(next);
}

/* ---- a body */

static bool bit_of(const json_t *v, const char *const *names, unsigned *bits)
{
        const char *s = json_string_value(v);

        for (int i = 0; s && names[i]; i++)
                if (!strcmp(names[i], s)) {
                        *bits |= 1U << i;
                        return true;
                }
        return false;
}

static void read_choices(const json_t *filter, const char *key, const char *pointer, const char *const *names,
                         unsigned *ret, struct errors *errs)
{
        const json_t *list = json_object_get(filter, key);
        unsigned bits = 0;
        bool good = json_is_array(list) && json_array_size(list) > 0;

        for (size_t i = 0; good && i < json_array_size(list); i++)
                good = bit_of(json_array_get(list, i), names, &bits);
        if (list && !good)
                (void)errors_add(errs, -EINVAL, pointer, "expected an array of names, as in a job's %s", key);
        else if (list)
                *ret = bits;
}

static void read_text(const json_t *filter, const char *key, const char *pointer, size_t max, const char **ret,
                      struct errors *errs)
{
        const json_t *v = json_object_get(filter, key);

        if (v && (!json_is_string(v) || !json_string_length(v) || json_string_length(v) > max ||
                  strlen(json_string_value(v)) != json_string_length(v)))
                (void)errors_add(errs, -EINVAL, pointer, "expected a text of 1 to %zu bytes", max);
        else
                *ret = json_string_value(v);
}

static void read_id_array(const json_t *filter, struct filter *f, struct errors *errs)
{
        const json_t *list = json_object_get(filter, "id");
        int64_t ids[FILTER_IDS_MAX];
        size_t n = 0;
        bool good = json_is_array(list) && json_array_size(list) > 0;

        for (size_t i = 0; good && i < json_array_size(list); i++) {
                int64_t id = json_integer_value(json_array_get(list, i));

                good = id > 0 && ids_add(ids, &n, FILTER_IDS_MAX, id);
        }
        if (list && !good)
                (void)errors_add(errs, -EINVAL, "/filter/id", "expected an array of 1 to %d jobs' ids", FILTER_IDS_MAX);
        else if (list)
                keep_ids(ids, n, f, "/filter/id", errs);
}

void filter_from_json(const json_t *filter, struct filter *ret, struct errors *errs)
{
        static const char *const keys[] = {"state", "kind", "tag", "text", "id", "config", "checkpoint_job", NULL};
        struct job_filter *f = &ret->of;
        const char *config = NULL;
        struct error err;

        *ret = (struct filter){.of = {.states = JOB_ANY, .kinds = JOB_ANY}};
        if (!json_is_object(filter) || !json_object_size(filter)) {
                (void)errors_add(errs, -EINVAL, "/filter",
                                 "expected an object with state, kind, tag, text, id, config or checkpoint_job");
                return;
        }
        if (json_only_keys(filter, "/filter", keys, &err) < 0)
                (void)errors_add(errs, -EINVAL, err.path, "there is no such member");
        read_choices(filter, "state", "/filter/state", job_state_names, &f->states, errs);
        read_choices(filter, "kind", "/filter/kind", job_kind_names, &f->kinds, errs);
        read_text(filter, "tag", "/filter/tag", 64, &f->tag, errs);
        read_text(filter, "text", "/filter/text", 200, &f->text, errs);
        read_text(filter, "config", "/filter/config", TARGET_BYTES_MAX, &config, errs);
        if (json_object_get(filter, "checkpoint_job") &&
            json_get_int(filter, "/filter", "checkpoint_job", 1, INT64_MAX, &f->source_job, &err) < 0)
                (void)errors_add(errs, -EINVAL, err.path, "%s", err.text);
        if (config)
                read_config(config, ret, "/filter/config", errs);
        read_id_array(filter, ret, errs);
}
