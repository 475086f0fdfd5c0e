#include "api/members.h"

#include "api/request.h"
#include "contract/text.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES_MAX 200
#define TAG_BYTES_MAX 64
#define TAGS_MAX 32
#define WALL_S_MAX INT64_C(315360000) /* ten years */
#define STEPS_MAX INT64_C(1000000000) /* config.def's */
#define FAILURES_MAX 1000000

bool members_is_printable(const json_t *v, size_t max)
{
        return json_is_string(v) && strlen(json_string_value(v)) == json_string_length(v) &&
               text_is_printable(json_string_value(v), max) && !text_is_blank(json_string_value(v));
}

void members_name(const json_t *body, char **ret, struct errors *errs)
{
        const json_t *v = json_object_get(body, "name");
        bool empty = json_is_string(v) && json_string_length(v) == 0;

        if (v && !empty && !members_is_printable(v, NAME_BYTES_MAX))
                (void)errors_add(errs, -EINVAL, "/name", "expected printable text of at most %d bytes, not blank",
                                 NAME_BYTES_MAX);
        else
                *ret = strdup(v ? json_string_value(v) : "");
}

static bool holds(const json_t *array, const json_t *v)
{
        for (size_t i = 0; i < json_array_size(array); i++)
                if (json_equal(json_array_get(array, i), v))
                        return true;
        return false;
}

void members_tags(const json_t *body, json_t **ret, struct errors *errs)
{
        const json_t *v = json_object_get(body, "tags");

        *ret = json_array();
        if (v && (!json_is_array(v) || json_array_size(v) > TAGS_MAX)) {
                (void)errors_add(errs, -EINVAL, "/tags", "expected an array of at most %d texts", TAGS_MAX);
                return;
        }
        for (size_t i = 0; i < json_array_size(v); i++) {
                json_t *tag = json_array_get(v, i);
                char pointer[32];

                (void)snprintf(pointer, sizeof pointer, "/tags/%zu", i);
                if (!members_is_printable(tag, TAG_BYTES_MAX))
                        (void)errors_add(errs, -EINVAL, pointer, "expected printable text of 1 to %d bytes",
                                         TAG_BYTES_MAX);
                else if (!holds(*ret, tag) && json_array_append_new(*ret, json_deep_copy(tag)) < 0)
                        (void)errors_add(errs, -ENOMEM, pointer, "no memory");
        }
}

/* Several lines, so newlines and tabs are text here. */
static bool is_note(const json_t *v)
{
        const char *s = json_string_value(v);

        return s && json_string_length(v) <= NOTES_BYTES_MAX && !text_has_control(s, json_string_length(v), "\n\t");
}

void members_notes(const json_t *body, char **ret, struct errors *errs)
{
        const json_t *v = json_object_get(body, "notes");

        if (v && !is_note(v))
                (void)errors_add(errs, -EINVAL, "/notes",
                                 "expected text of at most %d bytes, without control characters but newlines and tabs",
                                 NOTES_BYTES_MAX);
        else
                *ret = strdup(v ? json_string_value(v) : "");
}

void members_priority(const json_t *body, int64_t *ret, struct errors *errs)
{
        struct error err;

        if (json_get_int(body, "", "priority", -PRIORITY_MAX, PRIORITY_MAX, ret, &err) < 0)
                (void)errors_add(errs, -EINVAL, err.path, "%s", err.text);
}

static unsigned read_limit(const json_t *o, enum job_limit limit, struct limits_row *ret, struct errors *errs)
{
        static const int64_t most[] = {[LIMIT_WALL] = WALL_S_MAX,
                                       [LIMIT_DEVICE_SECONDS] = WALL_S_MAX * CONTROL_DEVICES_MAX,
                                       [LIMIT_STEPS] = STEPS_MAX,
                                       [LIMIT_FAILURES] = FAILURES_MAX};
        const char *key = limit_names[limit];
        const json_t *v = json_object_get(o, key);
        struct error err;

        static_assert(ARRAY_LEN(most) == LIMIT_N, "the most of each");
        if (v && !json_is_null(v) && json_get_int(o, "/limits", key, 1, most[limit], &ret->of[limit], &err) < 0)
                (void)errors_add(errs, -EINVAL, err.path, "%s, or null: no limit", err.text);
        return v ? (unsigned)(CHANGE_LIMIT << limit) : 0;
}

unsigned members_limits(const json_t *body, struct limits_row *ret, struct errors *errs)
{
        json_t *o = json_object_get(body, "limits");
        unsigned change = 0;
        struct error err;

        if (!o)
                return 0;
        if (!json_is_object(o)) {
                (void)errors_add(errs, -EINVAL, "/limits",
                                 "expected an object: {\"wall\": 3600, \"steps\": null}, wall in seconds");
                return 0;
        }
        if (json_only_keys(o, "/limits", limit_names, &err) < 0)
                (void)errors_add(errs, -EINVAL, err.path, "there is no such member");
        for (int i = 0; i < LIMIT_N; i++)
                change |= read_limit(o, (enum job_limit)i, ret, errs);
        return change;
}

void members_after(const json_t *body, int64_t ret[AFTER_MAX], size_t *ret_n, struct errors *errs)
{
        const json_t *v = json_object_get(body, "after");

        if (v && (!json_is_array(v) || json_array_size(v) > AFTER_MAX)) {
                (void)errors_add(errs, -EINVAL, "/after", "expected an array of at most %d jobs' ids", AFTER_MAX);
                return;
        }
        for (size_t i = 0; i < json_array_size(v); i++) {
                const json_t *id = json_array_get(v, i);
                char pointer[32];

                (void)snprintf(pointer, sizeof pointer, "/after/%zu", i);
                if (!json_is_integer(id) || json_integer_value(id) < 1) {
                        (void)errors_add(errs, -EINVAL, pointer, "expected the id of a job");
                        continue;
                }
                (void)ids_add(ret, ret_n, AFTER_MAX, json_integer_value(id));
        }
}
