#include "api/submit.h"

#include "api/configs.h"
#include "api/members.h"
#include "contract/config.h"
#include "contract/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PATH_BYTES_MAX 4095

const char *const submit_keys[] = {
        "kind",    "name", "tags",        "config",   "overrides", "checkpoint", "method",     "split",
        "weights", "seed", "n_timesteps", "n_images", "n_steps",   "latent",     "start_from", "accept_changed_data",
        "what",    "path", "notes",       "priority", "limits",    "after",      NULL};

/* Members of the body that stand for keys of the configuration, by kind. */
static const struct {
        enum job_kind kind;
        const char *key, *path;
} shorthands[] = {
        {JOB_EVALUATE, "method", "evaluation.method"},
        {JOB_EVALUATE, "split", "evaluation.split"},
        {JOB_EVALUATE, "weights", "evaluation.weights"},
        {JOB_EVALUATE, "n_timesteps", "evaluation.n_timesteps"},
        {JOB_EVALUATE, "n_images", "evaluation.n_images"},
        {JOB_EVALUATE, "seed", "evaluation.seed"},
        {JOB_SAMPLE, "n_images", "sampling.n_images"},
        {JOB_SAMPLE, "n_steps", "sampling.n_steps"},
        {JOB_SAMPLE, "seed", "sampling.seed"},
        {JOB_SAMPLE, "weights", "sampling.weights"},
        {JOB_SAMPLE, "latent", "sampling.latent"},
};

/* Members that are no shorthands, by kind. */
static const char *const common_keys[] = {"kind",     "name",   "tags",  "overrides", "notes",
                                          "priority", "limits", "after", NULL};
static const char *const kind_keys[][4] = {
        [JOB_TRAIN] = {"config", "start_from", "accept_changed_data", NULL},
        [JOB_EVALUATE] = {"checkpoint", NULL},
        [JOB_SAMPLE] = {"checkpoint", NULL},
        [JOB_IMPORT] = {"what", "path", "config", NULL},
};

struct submission *submission_free(struct submission *s)
{
        if (!s)
                return NULL;
        free(s->name);
        free(s->notes);
        free(s->config_name);
        json_decref(s->tags);
        json_decref(s->import);
        json_decref(s->config);
        free(s->checked);
        json_decref(s->overrides);
        free(s);
        return NULL;
}

static bool string_is(const json_t *v, const char *s)
{
        return json_is_string(v) && json_string_length(v) == strlen(s) && !strcmp(json_string_value(v), s);
}

static bool is_one_of(const char *const *list, const char *key)
{
        while (*list && strcmp(*list, key) != 0)
                list++;
        return *list != NULL;
}

static bool kind_takes(enum job_kind kind, const char *key)
{
        if (is_one_of(common_keys, key))
                return true;
        for (size_t i = 0; i < ARRAY_LEN(shorthands); i++)
                if (shorthands[i].kind == kind && !strcmp(shorthands[i].key, key))
                        return true;
        return is_one_of(kind_keys[kind], key);
}

static int read_kind(const json_t *body, struct submission *s, struct errors *errs)
{
        const json_t *v = json_object_get(body, "kind");
        const char *key;
        json_t *member;
        int kind = 0;

        while (kind < JOB_KIND_N && !string_is(v, job_kind_names[kind]))
                kind++;
        if (kind == JOB_KIND_N)
                return errors_add(errs, -EINVAL, "/kind", "expected one of train, evaluate, sample, import");
        s->kind = (enum job_kind)kind;
        json_object_foreach((json_t *)body, key, member)
        {
                char pointer[sizeof((struct error *)0)->path];

                json_pointer_append(pointer, sizeof pointer, "", key);
                if (!kind_takes(s->kind, key))
                        (void)errors_add(errs, -EINVAL, pointer, "a job of kind %s has no such member",
                                         job_kind_names[kind]);
        }
        return 0;
}

static void read_checkpoint(const json_t *body, struct submission *s, struct errors *errs)
{
        static const char *const keys[] = {"job", "which", "step", NULL};
        json_t *c = json_object_get(body, "checkpoint"), *which = json_object_get(c, "which");
        struct error err;
        int r;

        if (!json_is_object(c)) {
                (void)errors_add(errs, -EINVAL, "/checkpoint",
                                 "expected an object: {\"job\": 1, \"which\": \"latest\"}");
                return;
        }
        if (json_only_keys(c, "/checkpoint", keys, &err) < 0)
                (void)errors_add(errs, -EINVAL, err.path, "there is no such member");
        r = json_get_int(c, "/checkpoint", "job", 1, INT64_MAX, &s->source_job, &err);
        if (r <= 0)
                (void)errors_add(errs, -EINVAL, "/checkpoint/job", "expected the id of a job");
        s->source_step = -1;
        if (which && json_object_get(c, "step"))
                (void)errors_add(errs, -EINVAL, "/checkpoint/step", "expected either which or step");
        else if (string_is(which, "best"))
                s->source_step = -2;
        else if (which && !string_is(which, "latest"))
                (void)errors_add(errs, -EINVAL, "/checkpoint/which", "expected one of latest, best");
        else if (json_get_int(c, "/checkpoint", "step", 0, INT64_MAX, &s->source_step, &err) < 0)
                (void)errors_add(errs, -EINVAL, "/checkpoint/step", "expected a step");
}

/* {"job": 1, "checkpoint": "latest" | "best" | a step}; latest where it is not said. */
static void read_start(const json_t *body, struct submission *s, struct errors *errs)
{
        static const char *const keys[] = {"job", "checkpoint", NULL};
        json_t *c = json_object_get(body, "start_from"), *which = json_object_get(c, "checkpoint");
        struct error err;

        if (!json_is_object(c)) {
                (void)errors_add(errs, -EINVAL, "/start_from",
                                 "expected an object: {\"job\": 1, \"checkpoint\": \"latest\"}");
                return;
        }
        if (json_object_get(body, "config"))
                (void)errors_add(
                        errs, -EINVAL, "/config",
                        "a job that starts from another's checkpoint has its configuration; overrides change it");
        if (json_only_keys(c, "/start_from", keys, &err) < 0)
                (void)errors_add(errs, -EINVAL, err.path, "there is no such member");
        if (json_get_int(c, "/start_from", "job", 1, INT64_MAX, &s->source_job, &err) <= 0)
                (void)errors_add(errs, -EINVAL, "/start_from/job", "expected the id of a job");
        s->source_step = string_is(which, "best") ? -2 : -1;
        if (which && !string_is(which, "best") && !string_is(which, "latest") &&
            json_get_int(c, "/start_from", "checkpoint", 0, INT64_MAX, &s->source_step, &err) < 0)
                (void)errors_add(errs, -EINVAL, "/start_from/checkpoint", "expected latest, best or a step");
}

/* The document that a training job starts from: a template or the request's own. New reference or NULL. */
static json_t *read_config(const json_t *body, const char *folder, struct submission *s, struct errors *errs)
{
        const json_t *v = json_object_get(body, "config");
        struct error err;
        json_t *document;

        if (json_is_object(v))
                return json_deep_copy(v);
        if (!members_is_printable(v, 64)) {
                (void)errors_add(errs, -EINVAL, "/config", "expected the name of a configuration, or a configuration");
                return NULL;
        }
        if (config_template(folder, json_string_value(v), &document, &err) < 0) {
                (void)errors_add(errs, -EINVAL, "/config", "%s", err.text);
                return NULL;
        }
        free(s->config_name);
        s->config_name = strdup(json_string_value(v));
        return document;
}

/* Overrides and shorthands onto a document; they are config errors, at the configuration's pointers. The record goes to
 * the daemon's thread, so it shares nothing with the body: jansson lets go of a value without a barrier. */
static void apply_overrides(const json_t *body, enum job_kind kind, json_t *document, json_t *record,
                            struct errors *errs)
{
        const json_t *overrides = json_object_get(body, "overrides");
        const char *path;
        json_t *v;

        for (size_t i = 0; i < ARRAY_LEN(shorthands); i++) {
                v = json_object_get(body, shorthands[i].key);
                if (!v || shorthands[i].kind != kind)
                        continue;
                (void)config_override(document, shorthands[i].path, v, errs);
                (void)json_object_set_new(record, shorthands[i].path, json_deep_copy(v));
        }
        json_object_foreach((json_t *)overrides, path, v)
        {
                (void)config_override(document, path, v, errs);
                (void)json_object_set_new(record, path, json_deep_copy(v));
        }
}

/* An evaluation or a sample may change how it is made, not the model; but a network that was trained to predict the
 * noise can be read as a velocity (vdm_type with velocity_from_epsilon), as published. */
static void check_sections(const json_t *record, struct errors *errs)
{
        static const char *const sections[] = {"evaluation.", "sampling.", "machine.", "vdm_type",
                                               "model.velocity_from_epsilon"};
        const char *path;
        json_t *v;

        json_object_foreach((json_t *)record, path, v)
        {
                char pointer[sizeof((struct error *)0)->path];
                size_t i = 0;

                while (i < ARRAY_LEN(sections) && strncmp(path, sections[i], strlen(sections[i])) != 0)
                        i++;
                if (i < ARRAY_LEN(sections))
                        continue;
                (void)snprintf(pointer, sizeof pointer, "/%s", path);
                for (char *p = pointer; (p = strchr(p, '.'));)
                        *p = '/';
                (void)errors_add(errs, -EINVAL, pointer,
                                 "is the checkpoint's; evaluation.*, sampling.*, machine.* can be given");
        }
}

/* Written once, for the store and the answer. */
static void freeze(struct submission *s, const struct config *c, struct errors *errs)
{
        _cleanup_json_ json_t *whole = config_to_json(c);
        _cleanup_(freep) char *text = json_to_text(whole);

        s->checked = malloc(sizeof *s->checked);
        s->config = text ? json_verbatim(text, strlen(text)) : NULL;
        if (s->checked && s->config)
                *s->checked = *c;
        else
                (void)errors_add(errs, -ENOMEM, "", "no memory");
}

static void read_configuration(const json_t *body, struct submission *s, json_t *document, struct errors *errs)
{
        bool own = s->kind == JOB_TRAIN || s->kind == JOB_IMPORT;
        struct config c;

        s->overrides = json_object();
        apply_overrides(body, s->kind, document, s->overrides, errs);
        if (!errs->n && !own)
                check_sections(s->overrides, errs);
        if (own && s->source_job)
                return; /* what they make of the source's configuration is checked with it */
        if (!errs->n && config_from_json(document, &c, errs) >= 0 && own)
                freeze(s, &c, errs);
        if (own) {
                json_decref(s->overrides);
                s->overrides = NULL;
        }
}

/* A path that the server resolves; NULL where it is none, or absent, which is an error where it must be there. */
static json_t *read_path(const json_t *body, const char *key, bool must, struct errors *errs)
{
        json_t *v = json_object_get(body, key);
        char pointer[32];

        if (!v && !must)
                return NULL;
        if (members_is_printable(v, PATH_BYTES_MAX) && json_string_value(v)[0] == '/')
                return v;
        (void)snprintf(pointer, sizeof pointer, "/%s", key);
        (void)errors_add(errs, -EINVAL, pointer, "expected an absolute path of at most %d bytes", PATH_BYTES_MAX);
        return NULL;
}

static json_t *read_format(const json_t *body, struct errors *errs)
{
        static const char *const formats[] = {"cifar10", "tfrecord", "numpy", "folder"};
        json_t *v = json_object_get(body, "format");
        size_t i = 0;

        while (v && i < ARRAY_LEN(formats) && !string_is(v, formats[i]))
                i++;
        if (i == ARRAY_LEN(formats))
                (void)errors_add(errs, -EINVAL, "/format", "expected one of cifar10, tfrecord, numpy, folder");
        return v;
}

const char *const import_keys[] = {"name", "path", "test_path", "format", "test_share", NULL};

int import_submission_from_json(const json_t *body, struct submission **ret, struct errors *errs)
{
        _cleanup_(submission_freep) struct submission *s = calloc(1, sizeof *s);
        const json_t *name = json_object_get(body, "name"), *share = json_object_get(body, "test_share");
        json_t *path, *test_path, *format;

        if (!json_is_string(name) || strlen(json_string_value(name)) != json_string_length(name) ||
            !text_is_plain_name(json_string_value(name), 64))
                (void)errors_add(errs, -EINVAL, "/name",
                                 "expected 1 to 64 letters, digits, '.', '-', '_', not beginning with '.'");
        path = read_path(body, "path", true, errs);
        test_path = read_path(body, "test_path", false, errs);
        format = read_format(body, errs);
        if (share && (!json_is_number(share) || json_number_value(share) <= 0 || json_number_value(share) >= 1))
                (void)errors_add(errs, -EINVAL, "/test_share", "expected a number above 0 and below 1");
        if (share && json_object_get(body, "test_path"))
                (void)errors_add(errs, -EINVAL, "/test_share", "test_path names the test images already");
        if (errs->n)
                return -EINVAL;
        if (!s)
                return errors_add(errs, -ENOMEM, "", "no memory");
        s->kind = JOB_IMPORT;
        s->name = strdup(json_string_value(name));
        s->config_name = strdup("");
        s->tags = json_array();
        s->import =
                json_pack("{s:s, s:o, s:o, s:o*, s:o*, s:o*}", "what", import_what_names[IMPORT_DATASET], "name",
                          json_deep_copy(name), "path", json_deep_copy(path), "test_path", json_deep_copy(test_path),
                          "format", json_deep_copy(format), "test_share", json_deep_copy(share));
        if (!s->name || !s->config_name || !s->tags || !s->import || json_ran_out())
                return errors_add(errs, -ENOMEM, "", "no memory");
        *ret = TAKE_PTR(s);
        return 0;
}

/* A checkpoint, which has a configuration, or event files. A data set is asked for where its outcome will be: POST
 * /v1/datasets. */
static json_t *read_import(const json_t *body, const char *configs_folder, struct submission *s, struct errors *errs)
{
        const json_t *what = json_object_get(body, "what");
        json_t *path = read_path(body, "path", true, errs);
        bool events = string_is(what, import_what_names[IMPORT_EVENTS]);

        if (!events && !string_is(what, import_what_names[IMPORT_CHECKPOINT])) {
                (void)errors_add(errs, -EINVAL, "/what",
                                 "expected checkpoint or events; a data set is imported by POST /v1/datasets");
                return NULL;
        }
        for (int i = 0; events && i < 2; i++)
                if (json_object_get(body, i ? "overrides" : "config"))
                        (void)errors_add(errs, -EINVAL, i ? "/overrides" : "/config", "events have no configuration");
        s->import = json_pack("{s:o, s:o*}", "what", json_deep_copy(what), "path", json_deep_copy(path));
        if (!s->import)
                (void)errors_add(errs, -ENOMEM, "", "no memory");
        return events ? NULL : read_config(body, configs_folder, s, errs);
}

static int read_submission(const json_t *body, const char *configs_folder, struct submission **ret,
                           enum problem *ret_problem, struct errors *errs)
{
        _cleanup_(submission_freep) struct submission *s = calloc(1, sizeof *s);
        const json_t *overrides = json_object_get(body, "overrides");
        _cleanup_json_ json_t *document = NULL;
        struct error err;

        *ret_problem = PROBLEM_REQUEST_INVALID;
        if (!s)
                return errors_add(errs, -ENOMEM, "", "no memory");
        s->config_name = strdup("");
        if (read_kind(body, s, errs) < 0)
                return -EINVAL;
        members_name(body, &s->name, errs);
        members_tags(body, &s->tags, errs);
        members_notes(body, &s->notes, errs);
        members_priority(body, &s->priority, errs);
        (void)members_limits(body, &s->limits, errs);
        members_after(body, s->after, &s->n_after, errs);
        if (overrides && !json_is_object(overrides))
                (void)errors_add(errs, -EINVAL, "/overrides", "expected an object of dotted paths and values");
        if (json_get_bool(body, "", "accept_changed_data", &s->accept_changed_data, &err) < 0)
                (void)errors_add(errs, -EINVAL, err.path, "%s", err.text);
        if (s->kind == JOB_TRAIN && json_object_get(body, "start_from")) {
                read_start(body, s, errs);
                document = json_object();
        } else if (s->kind == JOB_TRAIN) {
                document = read_config(body, configs_folder, s, errs);
        } else if (s->kind == JOB_IMPORT) {
                document = read_import(body, configs_folder, s, errs);
        } else {
                read_checkpoint(body, s, errs);
                document = json_object();
        }
        if (errs->n)
                return -EINVAL;
        *ret_problem = PROBLEM_CONFIG_INVALID;
        if (document)
                read_configuration(body, s, document, errs);
        if (errs->n)
                return -EINVAL;
        if (!s->name || !s->notes || !s->config_name || !s->tags)
                return errors_add(errs, -ENOMEM, "", "no memory");
        *ret = TAKE_PTR(s);
        return 0;
}

int submission_from_json(const json_t *body, const char *configs_folder, struct submission **ret,
                         enum problem *ret_problem, struct errors *errs)
{
        struct submission *s = NULL;
        int r = read_submission(body, configs_folder, &s, ret_problem, errs);

        if (json_ran_out()) { /* what was refused may be right, and what was taken lack something */
                (void)submission_free(s);
                return errors_add(errs, -ENOMEM, "", "no memory for a job");
        }
        if (r >= 0)
                *ret = s;
        return r;
}
