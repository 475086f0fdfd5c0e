/* What a person says of a job: the options that submit, import, set and resume share. */
#include "ctl/command.h"

#include "base/clock.h"
#include "base/units.h"

#include <stdio.h>
#include <string.h>

/* A whole number with a sign, all of the text; false: it is none. */
static bool read_number(const char *s, int64_t *ret)
{
        size_t sign = *s == '-', n = strspn(s + sign, "0123456789");

        if (!n || n > 12 || s[sign + n])
                return false;
        *ret = strtoll(s, NULL, 10);
        return true;
}

/* 3600, 90m, 12h, 2d: whole seconds. */
static bool read_time(const char *s, int64_t *ret)
{
        int64_t us;

        if (!units_time(s, &us) || us < US_PER_S || us % US_PER_S)
                return false;
        *ret = us / US_PER_S;
        return true;
}

static int add_text(struct call *c, enum option_id option, const char *key, json_t *body)
{
        const char *s = c->options[option];

        return s && json_object_set_new(body, key, json_string(s)) < 0 ? usage_error("--%s: not UTF-8", key) : EXIT_OK;
}

static int add_tags(struct call *c, json_t *body)
{
        json_t *tags = json_array();

        if (c->n_tags)
                (void)json_object_set(body, "tags", tags);
        for (size_t i = 0; i < c->n_tags; i++)
                if (*c->tags[i] && json_array_append_new(tags, json_string(c->tags[i])) < 0) {
                        json_decref(tags);
                        return usage_error("a tag is not UTF-8");
                }
        json_decref(tags);
        return EXIT_OK;
}

static const struct limit_option {
        enum option_id option;
        const char *name, *key;
        bool time;
} limits[] = {
        {OPTION_LIMIT_WALL, "wall", "wall", true},
        {OPTION_LIMIT_DEVICE_SECONDS, "device-seconds", "device_seconds", true},
        {OPTION_LIMIT_STEPS, "steps", "steps", false},
        {OPTION_LIMIT_FAILURES, "failures", "failures", false},
};

bool has_limits(const struct call *c)
{
        for (size_t i = 0; i < ARRAY_LEN(limits); i++)
                if (c->options[limits[i].option])
                        return true;
        return false;
}

static int add_limit(struct call *c, const struct limit_option *o, json_t *body)
{
        const char *s = c->options[o->option];
        json_t *asked = json_object_get(body, "limits");
        bool none = s && !strcmp(s, "none");
        int64_t n = 0;

        if (!s)
                return EXIT_OK;
        if (!none && !(o->time ? read_time(s, &n) : read_number(s, &n) && n > 0))
                return usage_error("--limit-%s takes %s, or none", o->name,
                                   o->time ? "a time (3600, 90m, 12h, 2d)" : "a number");
        if (!asked) {
                asked = json_object();
                (void)json_object_set_new(body, "limits", asked);
        }
        (void)json_object_set_new(asked, o->key, none ? json_null() : json_integer(n));
        return EXIT_OK;
}

static int add_after(struct call *c, json_t *body)
{
        json_t *after = json_array();

        if (c->n_afters)
                (void)json_object_set(body, "after", after);
        for (size_t i = 0; i < c->n_afters; i++) {
                int64_t id = job_id(c->afters[i]);

                if (!id) {
                        json_decref(after);
                        return EXIT_USAGE;
                }
                (void)json_array_append_new(after, json_integer(id));
        }
        json_decref(after);
        return EXIT_OK;
}

int add_members(struct call *c, json_t *body)
{
        const char *priority = c->options[OPTION_PRIORITY];
        int64_t n = 0;
        int r = add_text(c, OPTION_NAME, "name", body);

        if (!r)
                r = add_text(c, OPTION_NOTES, "notes", body);
        if (!r)
                r = add_tags(c, body);
        if (!r && priority && !read_number(priority, &n))
                r = usage_error("--priority takes a number");
        if (!r && priority)
                (void)json_object_set_new(body, "priority", json_integer(n));
        if (!r)
                r = add_after(c, body);
        for (size_t i = 0; !r && i < ARRAY_LEN(limits); i++)
                r = add_limit(c, &limits[i], body);
        return r;
}
