/* The configuration, read and written by its table: config.def becomes an array of rows, and everything below walks it.
 * The enums' members are read and written as int, which the static_asserts allow. */
#include "contract/config.h"

#include "contract/text.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define NAMES(tag) const char *const tag##_names[]
NAMES(vdm_type) = {"mulan_velocity", "mulan_epsilon", "vdm", NULL};
NAMES(unet_type) = {"vdm", "ldm", NULL};
NAMES(encoder) = {"unet", "cnn", NULL};
NAMES(latent_type) = {"topk", "gumbel", "gaussian", NULL};
NAMES(topk_noise) = {"gamma", "gumbel", NULL};
NAMES(reparam) = {"true", "label", NULL};
NAMES(gamma_type) = {"poly_fixedend", "learnable_nnet", "linear", "learnable_scalar", "fixed", "ddpm_linear",
                     "cosine",        "straight",       NULL};
NAMES(loss_weight) = {"likelihood", "simple", "flow_matching", NULL};
NAMES(optimizer) = {"adamw", NULL};
NAMES(likelihood) = {"sparse", "dense", "ode", NULL};
NAMES(ode_noise) = {"truncated_normal", "uniform", NULL};
NAMES(ode_constants) = {"exact", "published", NULL};
NAMES(ode_probe) = {"rademacher", "gaussian", NULL};
NAMES(ode_solver) = {"dormand_prince", "tsitouras", "bogacki_shampine", NULL};
NAMES(ode_step) = {"image", "batch", NULL};
NAMES(ode_control) = {"last", "pi", NULL};
NAMES(ode_norm) = {"state", "image", NULL};
NAMES(split) = {"train", "test", NULL};
NAMES(weights) = {"ema", "params", NULL};
NAMES(sampling_latent) = {"fixed", "random", "images", NULL};
NAMES(sampling_method) = {"ancestral", "ode", NULL};
NAMES(backend) = {"auto", "cpu", "reference", "cuda", NULL};
NAMES(precision) = {"float32", "bf16", "tf32", NULL};
NAMES(plan_choice) = {"measured", "rule", NULL};
NAMES(recompute) = {"none", "norm", "block", NULL};
static_assert(ARRAY_LEN(vdm_type_names) == VDM_VDM + 2, "a name for each");
static_assert(ARRAY_LEN(unet_type_names) == UNET_LDM + 2, "a name for each");
static_assert(ARRAY_LEN(encoder_names) == ENCODER_CNN + 2, "a name for each");
static_assert(ARRAY_LEN(latent_type_names) == LATENT_GAUSSIAN + 2, "a name for each");
static_assert(ARRAY_LEN(topk_noise_names) == TOPK_NOISE_GUMBEL + 2, "a name for each");
static_assert(ARRAY_LEN(gamma_type_names) == GAMMA_STRAIGHT + 2, "a name for each");
static_assert(ARRAY_LEN(loss_weight_names) == LOSS_WEIGHT_FLOW_MATCHING + 2, "a name for each");
static_assert(ARRAY_LEN(likelihood_names) == LIKELIHOOD_ODE + 2, "a name for each");
static_assert(ARRAY_LEN(ode_noise_names) == ODE_NOISE_UNIFORM + 2, "a name for each");
static_assert(ARRAY_LEN(ode_constants_names) == ODE_CONSTANTS_PUBLISHED + 2, "a name for each");
static_assert(ARRAY_LEN(ode_probe_names) == ODE_PROBE_GAUSSIAN + 2, "a name for each");
static_assert(ARRAY_LEN(ode_solver_names) == ODE_SOLVER_BOGACKI_SHAMPINE + 2, "a name for each");
static_assert(ARRAY_LEN(ode_step_names) == ODE_STEP_BATCH + 2, "a name for each");
static_assert(ARRAY_LEN(ode_control_names) == ODE_CONTROL_PI + 2, "a name for each");
static_assert(ARRAY_LEN(ode_norm_names) == ODE_NORM_IMAGE + 2, "a name for each");
static_assert(ARRAY_LEN(split_names) == SPLIT_TEST + 2, "a name for each");
static_assert(ARRAY_LEN(weights_names) == WEIGHTS_PARAMS + 2, "a name for each");
static_assert(ARRAY_LEN(sampling_latent_names) == SAMPLING_LATENT_IMAGES + 2, "a name for each");
static_assert(ARRAY_LEN(sampling_method_names) == SAMPLING_METHOD_ODE + 2, "a name for each");
static_assert(ARRAY_LEN(precision_names) == PRECISION_TF32 + 2, "a name for each");
static_assert(ARRAY_LEN(plan_choice_names) == PLANS_RULE + 2, "a name for each");
static_assert(ARRAY_LEN(recompute_names) == RECOMPUTE_BLOCK + 2, "a name for each");
static_assert(ARRAY_LEN(backend_names) == BACKEND_CUDA + 2, "a name for each");

enum row_type { ROW_BOOL, ROW_INT, ROW_REAL, ROW_OPTIONAL_REAL, ROW_STRING, ROW_CHOICE };

struct row {
        const char *path;
        enum row_type type;
        size_t offset;
        int64_t min, max; /* INT; STRING: max is bytes */
        double real_min, real_max;
        const char *const *names; /* CHOICE */
        int64_t default_;         /* BOOL, INT, CHOICE */
        double real_default;
        const char *string_default;
        const char *unit, *text;
};

#define AT(m) .offset = offsetof(struct config, m)
#define BOOL(p, m, d, t) {.path = p, .type = ROW_BOOL, AT(m), .default_ = d, .text = t},
#define INT(p, m, d, lo, hi, u, t)                                                                                     \
        {.path = p, .type = ROW_INT, AT(m), .min = lo, .max = hi, .default_ = d, .unit = u, .text = t},
#define REAL(p, m, d, lo, hi, u, t)                                                                                    \
        {.path = p, .type = ROW_REAL, AT(m), .real_min = lo, .real_max = hi, .real_default = d, .unit = u, .text = t},
#define OPTIONAL_REAL(p, m, lo, hi, u, t)                                                                              \
        {.path = p,                                                                                                    \
         .type = ROW_OPTIONAL_REAL,                                                                                    \
         AT(m),                                                                                                        \
         .real_min = lo,                                                                                               \
         .real_max = hi,                                                                                               \
         .real_default = NAN,                                                                                          \
         .unit = u,                                                                                                    \
         .text = t},
#define STRING(p, m, d, n, t) {.path = p, .type = ROW_STRING, AT(m), .max = n, .string_default = d, .text = t},
#define CHOICE(p, m, tag, d, t) {.path = p, .type = ROW_CHOICE, AT(m), .names = tag##_names, .default_ = d, .text = t},
static const struct row rows[] = {
#include "contract/config.def"
};
#undef BOOL
#undef INT
#undef REAL
#undef OPTIONAL_REAL
#undef STRING
#undef CHOICE

/* A choice is stored through a pointer to int. */
#define BOOL(...)
#define INT(...)
#define REAL(...)
#define OPTIONAL_REAL(...)
#define STRING(...)
#define CHOICE(p, m, tag, d, t) static_assert(sizeof(enum tag) == sizeof(int), p);
#include "contract/config.def"
#undef BOOL
#undef INT
#undef REAL
#undef OPTIONAL_REAL
#undef STRING
#undef CHOICE

#define PATH_MAX_BYTES 64 /* longer than any path of the table */

static void *member(const struct row *row, struct config *c)
{
        return (char *)c + row->offset;
}

static const void *member_const(const struct row *row, const struct config *c)
{
        return (const char *)c + row->offset;
}

static void set_default(const struct row *row, struct config *c)
{
        void *m = member(row, c);

        switch (row->type) {
        case ROW_BOOL:
                *(bool *)m = row->default_;
                break;
        case ROW_INT:
                *(int64_t *)m = row->default_;
                break;
        case ROW_REAL:
        case ROW_OPTIONAL_REAL:
                *(double *)m = row->real_default;
                break;
        case ROW_STRING:
                memcpy(m, row->string_default, strlen(row->string_default) + 1);
                break;
        case ROW_CHOICE:
                *(int *)m = (int)row->default_;
                break;
        }
}

void config_defaults(struct config *ret)
{
        memset(ret, 0, sizeof *ret);
        for (size_t i = 0; i < ARRAY_LEN(rows); i++)
                set_default(&rows[i], ret);
}

/* Looked for from *at on, which is moved behind what was found: keys that come in the table's order, as in what
 * config_to_json wrote, are found at once. */
static const struct row *find_row(const char *path, size_t *at)
{
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                const struct row *row = &rows[(*at + i) % ARRAY_LEN(rows)];

                if (!strcmp(row->path, path)) {
                        *at = (size_t)(row - rows) + 1;
                        return row;
                }
        }
        return NULL;
}

/* Whether a key of the table lies below path: "model" of "model.sm_n_embd". */
static bool is_section(const char *path)
{
        size_t n = strlen(path);

        for (size_t i = 0; i < ARRAY_LEN(rows); i++)
                if (!strncmp(rows[i].path, path, n) && rows[i].path[n] == '.')
                        return true;
        return false;
}

/* ---- reading */

/* "model.sm_n_embd" -> "/model/sm_n_embd" */
static void dotted_to_pointer(const char *dotted, char *buf, size_t size)
{
        size_t n = 0;

        if (n + 1 < size)
                buf[n++] = '/';
        for (const char *p = dotted; *p && n + 3 < size; p++) {
                if (*p == '~' || *p == '/') {
                        buf[n++] = '~';
                        buf[n++] = *p == '~' ? '0' : '1';
                } else {
                        buf[n++] = *p == '.' ? '/' : *p;
                }
        }
        buf[n] = 0;
}

/* Where a row's value stands in a document: in pointer, which errors alone need. */
static const char *pointer_of(const struct row *row, char pointer[PATH_MAX_BYTES + 1])
{
        dotted_to_pointer(row->path, pointer, PATH_MAX_BYTES + 1);
        return pointer;
}

/* The value as an error's text shows it: numbers as written, of the rest only what it is (no echo of the caller). */
static const char *show(const json_t *v, char buf[40])
{
        static const char *const kinds[] = {
                [JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array", [JSON_STRING] = "a string",
                [JSON_TRUE] = "true",        [JSON_FALSE] = "false",    [JSON_NULL] = "null",
        };
        size_t n;

        if (!json_is_number(v))
                return kinds[json_typeof(v)];
        n = json_dumpb(v, buf, 39, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
        buf[MIN(n, (size_t)39)] = 0;
        return buf;
}

static int read_int(const struct row *row, const json_t *v, int64_t *m, struct errors *errs)
{
        char shown[40], pointer[PATH_MAX_BYTES + 1];

        if (!json_is_integer(v) || json_integer_value(v) < row->min || json_integer_value(v) > row->max)
                return errors_add(errs, -EINVAL, pointer_of(row, pointer), "%s is not an integer in %lld..%lld",
                                  show(v, shown), (long long)row->min, (long long)row->max);
        *m = json_integer_value(v);
        return 0;
}

static int read_real(const struct row *row, const json_t *v, double *m, struct errors *errs)
{
        double d = json_number_value(v);
        char shown[40], pointer[PATH_MAX_BYTES + 1];

        if (!json_is_number(v) || !(d >= row->real_min && d <= row->real_max))
                return errors_add(errs, -EINVAL, pointer_of(row, pointer), "%s is not %sa number in %g..%g",
                                  show(v, shown), row->type == ROW_OPTIONAL_REAL ? "null or " : "", row->real_min,
                                  row->real_max);
        *m = d;
        return 0;
}

static int read_string(const struct row *row, const json_t *v, char *m, struct errors *errs)
{
        const char *s = json_string_value(v);
        char shown[40], pointer[PATH_MAX_BYTES + 1];

        if (!s)
                return errors_add(errs, -EINVAL, pointer_of(row, pointer), "%s is not a string", show(v, shown));
        if (strlen(s) != json_string_length(v) || !text_is_printable(s, (size_t)row->max))
                return errors_add(errs, -EINVAL, pointer_of(row, pointer),
                                  "the string is not 1..%lld bytes of printable text", (long long)row->max);
        memcpy(m, s, strlen(s) + 1);
        return 0;
}

static int read_choice(const struct row *row, const json_t *v, int *m, struct errors *errs)
{
        const char *s = json_string_value(v);
        char shown[40], pointer[PATH_MAX_BYTES + 1], list[200] = "";
        size_t n = 0;
        int i;

        for (i = 0; s && row->names[i]; i++)
                if (strlen(s) == json_string_length(v) && !strcmp(row->names[i], s)) {
                        *m = i;
                        return 0;
                }
        for (i = 0; row->names[i]; i++) {
                n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", row->names[i]);
                assert(n < sizeof list);
        }
        return errors_add(errs, -EINVAL, pointer_of(row, pointer), i > 1 ? "%s is not one of %s" : "%s is not \"%s\"",
                          s ? "the string" : show(v, shown), list);
}

static void read_row(const struct row *row, const json_t *v, struct config *c, struct errors *errs)
{
        void *m = member(row, c);
        char shown[40], pointer[PATH_MAX_BYTES + 1];

        switch (row->type) {
        case ROW_BOOL:
                if (json_is_boolean(v))
                        *(bool *)m = json_is_true(v);
                else
                        (void)errors_add(errs, -EINVAL, pointer_of(row, pointer), "%s is not true or false",
                                         show(v, shown));
                break;
        case ROW_INT:
                (void)read_int(row, v, m, errs);
                break;
        case ROW_OPTIONAL_REAL:
                if (json_is_null(v)) {
                        *(double *)m = NAN;
                        break;
                }
                /* fall through */
        case ROW_REAL:
                (void)read_real(row, v, m, errs);
                break;
        case ROW_STRING:
                (void)read_string(row, v, m, errs);
                break;
        case ROW_CHOICE:
                (void)read_choice(row, v, m, errs);
                break;
        }
}

static int depth(const char *path)
{
        int n = 0;

        for (; (path = strchr(path, '.')); path++)
                n++;
        return n;
}

/* Names the key that may have been meant; one without its section is compared with keys without theirs. */
static int unknown_key(const char *path, const char *pointer, struct errors *errs)
{
        char nearest[PATH_MAX_BYTES] = "", section[PATH_MAX_BYTES];
        size_t best = SIZE_MAX;

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                const char *dot = strrchr(rows[i].path, '.');

                if (text_is_nearer(rows[i].path, path, &best) ||
                    (dot && !strchr(path, '.') && text_is_nearer(dot + 1, path, &best)))
                        (void)snprintf(nearest, sizeof nearest, "%s", rows[i].path);
                (void)snprintf(section, sizeof section, "%.*s", dot ? (int)(dot - rows[i].path) : 0, rows[i].path);
                if (depth(section) == depth(path) && text_is_nearer(section, path, &best))
                        memcpy(nearest, section, sizeof nearest);
        }
        return *nearest ? errors_add(errs, -EINVAL, pointer, "there is no such key; is it %s that is meant?", nearest)
                        : errors_add(errs, -EINVAL, pointer, "there is no such key");
}

/* path and key as one path; false: it is longer than any of the table, or the key has a dot and would be taken for a
 * path. */
static bool join_path(const char *path, const char *key, char ret[PATH_MAX_BYTES])
{
        size_t n = strlen(path), n_key = strlen(key);

        if (n + n_key + 2 > PATH_MAX_BYTES || memchr(key, '.', n_key))
                return false;
        memcpy(ret, path, n);
        if (n)
                ret[n++] = '.';
        memcpy(ret + n, key, n_key + 1);
        return true;
}

/* What is neither a row nor a section that is an object. */
static void refuse_member(const char *path, const char *key, const char *below, struct errors *errs)
{
        char pointer[PATH_MAX_BYTES + 1] = "", where[sizeof((struct error *)0)->path];

        if (*path)
                dotted_to_pointer(path, pointer, sizeof pointer);
        json_pointer_append(where, sizeof where, pointer, key);
        if (below && is_section(below))
                (void)errors_add(errs, -EINVAL, where, "expected an object");
        else
                (void)unknown_key(below ? below : key, where, errs);
}

/* The members of an object at path ("" for the document). Sections nest as deep as the table's paths do. */
static void read_object(const json_t *o, const char *path, struct config *c, size_t *at, struct errors *errs)
{
        const char *key;
        json_t *v;

        json_object_foreach((json_t *)o, key, v)
        {
                char below[PATH_MAX_BYTES];
                bool known = join_path(path, key, below);
                const struct row *row = known ? find_row(below, at) : NULL;

                if (row)
                        read_row(row, v, c, errs);
                else if (known && json_is_object(v) && is_section(below))
                        read_object(v, below, c, at, errs);
                else
                        refuse_member(path, key, known ? below : NULL, errs);
        }
}

int config_from_json(const json_t *document, struct config *ret, struct errors *errs)
{
        size_t before = errs->n, at = 0;
        struct config c;

        config_defaults(&c);
        if (!json_is_object(document))
                return errors_add(errs, -EINVAL, "", "expected an object");
        read_object(document, "", &c, &at, errs);
        /* a check of values that were refused would only repeat the complaint about their defaults */
        if (errs->n == before)
                (void)config_check(&c, errs);
        if (errs->n > before)
                return -EINVAL;
        *ret = c;
        return 0;
}

/* ---- checks across rows */

int config_check(const struct config *c, struct errors *errs)
{
        static const unsigned schedules_fixed =
                1U << GAMMA_FIXED | 1U << GAMMA_DDPM_LINEAR | 1U << GAMMA_COSINE | 1U << GAMMA_STRAIGHT;
        static const unsigned schedules_vdm =
                schedules_fixed | 1U << GAMMA_LEARNABLE_NNET | 1U << GAMMA_LEARNABLE_SCALAR;
        static const unsigned schedules_mulan =
                1U << GAMMA_POLY_FIXEDEND | 1U << GAMMA_LEARNABLE_NNET | 1U << GAMMA_LINEAR;
        bool vdm = c->vdm_type == VDM_VDM;
        const struct {
                bool wrong;
                int code;
                const char *pointer, *text;
        } checks[] = {
                {c->sm_n_embd % 32 != 0, -EINVAL, "/model/sm_n_embd",
                 "is not a multiple of 32 (the norms have 32 groups)"},
                {c->batch_size_train % c->devices != 0, -EINVAL, "/training/batch_size_train",
                 "expected a multiple of machine.devices: each device computes as many images"},
                {c->gamma_min >= c->gamma_max, -EINVAL, "/model/gamma_max", "is not above gamma_min"},
                {vdm && !(schedules_vdm >> c->gamma_type & 1), -EINVAL, "/model/gamma_type",
                 "vdm has the schedules learnable_nnet, learnable_scalar, fixed, ddpm_linear, cosine, straight"},
                {!vdm && !(schedules_mulan >> c->gamma_type & 1), -EINVAL, "/model/gamma_type",
                 "mulan has the schedules poly_fixedend, learnable_nnet, linear"},
                {vdm && c->unet_type == UNET_LDM, -EINVAL, "/model/unet_type",
                 "vdm has one time an image; ldm takes one a pixel"},
                {c->unet_type == UNET_LDM && c->precision == PRECISION_BF16, -EINVAL, "/machine/precision",
                 "ldm is computed in float32"},
                {c->unet_type == UNET_LDM && c->evaluation_precision == PRECISION_BF16, -EINVAL,
                 "/evaluation/precision", "ldm is computed in float32"},
                {!vdm && c->latent_type == LATENT_TOPK && c->latent_k > c->latent_size, -EINVAL, "/model/latent_k",
                 "is above latent_size"},
                {c->flip_flag && !c->flip, -EINVAL, "/data/flip_flag", "has nothing to tell without data.flip"},
                {c->vdm_type == VDM_MULAN_VELOCITY && c->sm_n_timesteps > 0, -EINVAL, "/model/sm_n_timesteps",
                 "mulan_velocity has continuous time only: 0"},
                {c->loss_weight != LOSS_WEIGHT_LIKELIHOOD && (!vdm || !(schedules_fixed >> c->gamma_type & 1)), -EINVAL,
                 "/training/loss_weight",
                 "a learned schedule has the likelihood's weight alone; expected vdm with a known one"},
                {c->loss_weight != LOSS_WEIGHT_LIKELIHOOD && c->sm_n_timesteps > 0, -EINVAL, "/training/loss_weight",
                 "discrete time has the likelihood's weight alone"},
                {c->lr_decay && c->num_steps_lr_warmup >= c->num_steps_train, -EINVAL, "/training/num_steps_lr_warmup",
                 "with lr_decay the warm-up ends before num_steps_train"},
        };
        int r = 0;

        for (size_t i = 0; i < ARRAY_LEN(checks); i++)
                if (checks[i].wrong)
                        r = errors_add(errs, checks[i].code, checks[i].pointer, "%s", checks[i].text);
        return r;
}

/* ---- writing */

static json_t *row_to_json(const struct row *row, const struct config *c)
{
        const void *m = member_const(row, c);

        switch (row->type) {
        case ROW_BOOL:
                return json_boolean(*(const bool *)m);
        case ROW_INT:
                return json_integer(*(const int64_t *)m);
        case ROW_REAL:
                return json_real(*(const double *)m);
        case ROW_OPTIONAL_REAL:
                return isnan(*(const double *)m) ? json_null() : json_real(*(const double *)m);
        case ROW_STRING:
                return json_string(m);
        case ROW_CHOICE:
                return json_string(row->names[*(const int *)m]);
        }
        return NULL;
}

/* Sets value (taken, may be NULL) at a dotted path of the table, making objects on the way; -ENOTDIR where something
 * else is in the way. */
static int set_path(json_t *document, const char *path, json_t *value)
{
        json_t *o = document;
        char key[PATH_MAX_BYTES];

        for (const char *dot; (dot = strchr(path, '.')); path = dot + 1) {
                json_t *next;

                *(char *)mempcpy(key, path, MIN((size_t)(dot - path), sizeof key - 1)) = 0;
                next = json_object_get(o, key);
                if (!next && json_object_set_new(o, key, next = json_object()) < 0)
                        next = NULL;
                if (!next || !json_is_object(next)) {
                        json_decref(value);
                        return next ? -ENOTDIR : -ENOMEM;
                }
                o = next;
        }
        return json_object_set_new(o, path, value) < 0 ? -ENOMEM : 0;
}

json_t *config_to_json(const struct config *c)
{
        _cleanup_json_ json_t *document = json_object();

        for (size_t i = 0; i < ARRAY_LEN(rows); i++)
                if (!document || set_path(document, rows[i].path, row_to_json(&rows[i], c)) < 0)
                        return NULL;
        return TAKE_PTR(document);
}

int config_override(json_t *document, const char *dotted, json_t *value, struct errors *errs)
{
        char pointer[sizeof((struct error *)0)->path];
        size_t at = 0;
        int r;

        dotted_to_pointer(dotted, pointer, sizeof pointer);
        if (!json_is_object(document))
                return errors_add(errs, -EINVAL, "", "expected an object");
        if (is_section(dotted))
                return errors_add(errs, -EINVAL, pointer, "is a section: its keys are overridden one by one");
        if (!find_row(dotted, &at))
                return unknown_key(dotted, pointer, errs);
        r = set_path(document, dotted, json_incref(value));
        if (r == -ENOTDIR)
                return errors_add(errs, -EINVAL, pointer, "what it lies in is not an object");
        return r < 0 ? errors_add(errs, r, pointer, "no memory") : 0;
}

/* ---- what keys are called */

static bool is_called(const struct row *row, const char *key)
{
        size_t n = strlen(row->path), k = strlen(key);

        return k > 0 && n >= k && !strcmp(row->path + n - k, key) && (n == k || row->path[n - k - 1] == '.');
}

const char *config_path(const char *key, const char *where, struct errors *errs)
{
        const char *path = NULL;
        size_t at = 0;

        const struct row *whole = find_row(key, &at);

        if (whole)
                return whole->path;
        if (is_section(key)) {
                (void)errors_add(errs, -EINVAL, where, "%s is a section: say which of its keys", key);
                return NULL;
        }
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                if (!is_called(&rows[i], key))
                        continue;
                if (path) {
                        (void)errors_add(errs, -EINVAL, where, "which of them: %s or %s?", path, rows[i].path);
                        return NULL;
                }
                path = rows[i].path;
        }
        if (!path)
                (void)unknown_key(key, where, errs);
        return path;
}

json_t *config_value(const char *path, const char *text, const char *where, struct errors *errs)
{
        size_t at = 0;
        const struct row *row = find_row(path, &at);
        _cleanup_json_ json_t *v = NULL;
        struct errors own = {0};
        struct config c;

        if (!row || row->type == ROW_STRING || row->type == ROW_CHOICE || json_parse(text, strlen(text), &v, NULL) < 0)
                v = json_string(text);
        if (row)
                read_row(row, v, &c, &own);
        if (row && !own.n)
                return row_to_json(row, &c);
        (void)errors_add(errs, -EINVAL, where, "%s: %s", path, row ? own.items[0].text : "there is no such key");
        return NULL;
}

/* ---- digest */

static bool is_at(const char *path, const char *section)
{
        while (*section && *path == *section)
                path++, section++;
        return !*section && (!*path || *path == '.');
}

static size_t row_bytes(const struct row *row, const void *m)
{
        switch (row->type) {
        case ROW_BOOL:
                return sizeof(bool);
        case ROW_INT:
                return sizeof(int64_t);
        case ROW_REAL:
        case ROW_OPTIONAL_REAL:
                return sizeof(double);
        case ROW_STRING:
                return strlen(m) + 1;
        case ROW_CHOICE:
                return sizeof(int);
        }
        return 0;
}

void config_digest(const struct config *c, const char *const *without, char ret[DIGEST_SIZE])
{
        char bytes[sizeof *c]; /* what the rows have, without what lies between them */
        size_t n = 0;

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                const void *m = member_const(&rows[i], c);
                size_t k = 0;

                while (without[k] && !is_at(rows[i].path, without[k]))
                        k++;
                if (!without[k])
                        n = (size_t)((char *)mempcpy(bytes + n, m, row_bytes(&rows[i], m)) - bytes);
        }
        memory_digest(bytes, n, ret);
}

/* ---- schema */

static json_t *row_schema(const struct row *row)
{
        static const char *const types[] = {
                [ROW_BOOL] = "boolean",  [ROW_INT] = "integer",   [ROW_REAL] = "number",
                [ROW_STRING] = "string", [ROW_CHOICE] = "string",
        };
        struct config defaults;
        _cleanup_json_ json_t *s = json_object();
        int r = s ? 0 : -1;

        config_defaults(&defaults);
        if (row->type == ROW_OPTIONAL_REAL)
                r |= json_object_set_new(s, "type", json_pack("[ss]", "number", "null"));
        else
                r |= json_object_set_new(s, "type", json_string(types[row->type]));
        r |= json_object_set_new(s, "description", json_string(row->text));
        r |= json_object_set_new(s, "default", row_to_json(row, &defaults));
        if (row->unit && *row->unit)
                r |= json_object_set_new(s, "x-unit", json_string(row->unit));
        if (row->type == ROW_INT) {
                r |= json_object_set_new(s, "minimum", json_integer(row->min));
                r |= json_object_set_new(s, "maximum", json_integer(row->max));
        } else if (row->type == ROW_REAL || row->type == ROW_OPTIONAL_REAL) {
                r |= json_object_set_new(s, "minimum", json_real(row->real_min));
                r |= json_object_set_new(s, "maximum", json_real(row->real_max));
        } else if (row->type == ROW_STRING) {
                r |= json_object_set_new(s, "minLength", json_integer(1));
                r |= json_object_set_new(s, "maxLength", json_integer(row->max));
        } else if (row->type == ROW_CHOICE) {
                json_t *names = json_array();

                for (size_t i = 0; row->names[i]; i++)
                        r |= json_array_append_new(names, json_string(row->names[i]));
                r |= json_object_set_new(s, "enum", names);
        }
        return r ? NULL : TAKE_PTR(s);
}

static json_t *object_schema(void)
{
        return json_pack("{s:s, s:b, s:{}}", "type", "object", "additionalProperties", 0, "properties");
}

json_t *config_schema(void)
{
        _cleanup_json_ json_t *schema = object_schema();

        if (!schema ||
            json_object_set_new(schema, "$schema", json_string("https://json-schema.org/draft/2020-12/schema")) < 0 ||
            json_object_set_new(schema, "title", json_string("mulund job configuration")) < 0)
                return NULL;
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                const char *key = rows[i].path;
                json_t *o = json_object_get(schema, "properties");

                for (const char *dot; (dot = strchr(key, '.')); key = dot + 1) {
                        char section[PATH_MAX_BYTES];

                        (void)snprintf(section, sizeof section, "%.*s", (int)(dot - key), key);
                        if (!json_object_get(o, section) && json_object_set_new(o, section, object_schema()) < 0)
                                return NULL;
                        o = json_object_get(json_object_get(o, section), "properties");
                }
                if (json_object_set_new(o, key, row_schema(&rows[i])) < 0)
                        return NULL;
        }
        return TAKE_PTR(schema);
}
