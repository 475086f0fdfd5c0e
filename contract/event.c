/* Events, commands and assignments as JSON, by tables of fields: a row says a member's key, kind, place in the struct
 * and range, and both directions walk the same rows. Members that no row names are left out: what a newer worker or
 * daemon says more must not cost what both understand. */
#include "contract/event.h"

#include "contract/packed.h"
#include "contract/text.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

const char *const event_type_names[] = {"hello", "start",   "progress", "scalars", "artifact",
                                        "done",  "stopped", "error",    "unknown", NULL};
const char *const artifact_kind_names[] = {"checkpoint", "image", "table", NULL};
const char *const error_class_names[] = {"configuration", "numeric", "memory", "data", "device", "host", NULL};
const char *const job_kind_names[] = {"train", "evaluate", "sample", "import", NULL};
const char *const import_what_names[] = {"dataset", "checkpoint", "events", NULL};
static_assert(ARRAY_LEN(event_type_names) == EVENT_TYPE_N + 1, "a name for each");
static_assert(ARRAY_LEN(artifact_kind_names) == ARTIFACT_KIND_N + 1, "a name for each");
static_assert(ARRAY_LEN(error_class_names) == ERROR_CLASS_N + 1, "a name for each");
static_assert(ARRAY_LEN(job_kind_names) == JOB_KIND_N + 1, "a name for each");
static_assert(ARRAY_LEN(import_what_names) == IMPORT_WHAT_N + 1, "a name for each");

enum field_kind {
        FIELD_INT,    /* int64_t */
        FIELD_REAL,   /* double; NAN is null */
        FIELD_NAME,   /* char *, a plain file name of at most max bytes */
        FIELD_TEXT,   /* char *, min..max bytes without NUL */
        FIELD_DIGEST, /* char[33] */
        FIELD_BOOL,
        FIELD_CHOICE, /* an enum, stored as int */
        FIELD_OBJECT, /* json_t *; NULL is null */
};

struct field {
        const char *key;
        enum field_kind kind;
        size_t offset;
        int64_t min, max;
        const char *const *names; /* CHOICE */
        bool optional;            /* absent: as it was, empty; what is empty, or an INT that is 0, is not written */
};

#define INT_MAX_EXACT ((INT64_C(1) << 53) - 1) /* the largest that JavaScript reads exactly */
#define DETAIL_MAX 8192
#define F(s, k, m, lo, hi)                                                                                             \
        {                                                                                                              \
                .key = #m, .kind = FIELD_##k, .offset = offsetof(struct s, m), .min = lo, .max = hi                    \
        }
#define INT(m, lo, hi) F(event, INT, m, lo, hi)
#define IDENTITY(s)                                                                                                    \
        {                                                                                                              \
                .key = "identity", .kind = FIELD_DIGEST, .offset = offsetof(struct s, identity), .optional = true      \
        }
#define SEQ INT(seq, 1, INT_MAX_EXACT)
#define STEP INT(step, 0, INT_MAX_EXACT)
#define STEPS INT(steps, 0, INT_MAX_EXACT)
static_assert(sizeof(enum artifact_kind) == sizeof(int) && sizeof(enum error_class) == sizeof(int) &&
                      sizeof(enum job_kind) == sizeof(int),
              "choices are stored as int");

static const struct field hello_fields[] = {INT(protocol, 1, 1000000),
                                            {.key = "protocol_min",
                                             .kind = FIELD_INT,
                                             .offset = offsetof(struct event, protocol_min),
                                             .max = 1000000,
                                             .optional = true},
                                            INT(job, 1, INT_MAX_EXACT),
                                            INT(attempt, 1, INT_MAX_EXACT),
                                            INT(pid, 1, INT32_MAX),
                                            IDENTITY(event),
                                            {0}};
static const struct field start_fields[] = {SEQ,
                                            STEP,
                                            STEPS,
                                            INT(memory_bytes, 0, INT_MAX_EXACT),
                                            INT(parameters, 0, INT_MAX_EXACT),
                                            F(event, TEXT, backend, 1, 64),
                                            INT(threads, 0, 1 << 20),
                                            {0}};
static const struct field progress_fields[] = {
        SEQ, STEP, STEPS, F(event, REAL, images_per_second, 0, 0), F(event, REAL, seconds_left, 0, 0), {0}};
static const struct field scalars_fields[] = {SEQ, {0}}; /* the rest by hand */
static const struct field artifact_fields[] = {
        SEQ,
        {.key = "kind", .kind = FIELD_CHOICE, .offset = offsetof(struct event, kind), .names = artifact_kind_names},
        STEP,
        F(event, NAME, name, 1, EVENT_NAME_MAX),
        INT(bytes, 0, INT_MAX_EXACT),
        {.key = "xxh128", .kind = FIELD_DIGEST, .offset = offsetof(struct event, digest)},
        F(event, REAL, metric, 0, 0),
        {0}};
static const struct field done_fields[] = {SEQ, F(event, OBJECT, result, 0, 0), {0}};
static const struct field stopped_fields[] = {SEQ, STEP, {0}};
static const struct field error_fields[] = {SEQ,
                                            {.key = "class",
                                             .kind = FIELD_CHOICE,
                                             .offset = offsetof(struct event, error_class),
                                             .names = error_class_names},
                                            F(event, TEXT, detail, 0, DETAIL_MAX),
                                            STEP,
                                            {0}};

static const struct field unknown_fields[] = {SEQ, {0}};

static const struct field *const event_fields[] = {
        [EVENT_HELLO] = hello_fields,     [EVENT_START] = start_fields,       [EVENT_PROGRESS] = progress_fields,
        [EVENT_SCALARS] = scalars_fields, [EVENT_ARTIFACT] = artifact_fields, [EVENT_DONE] = done_fields,
        [EVENT_STOPPED] = stopped_fields, [EVENT_ERROR] = error_fields,       [EVENT_UNKNOWN] = unknown_fields,
};
static_assert(ARRAY_LEN(event_fields) == EVENT_TYPE_N, "fields for each");

/* ---- a field, read and written */

static int wrong(const char *pointer, const char *key, struct error *err, const char *expected)
{
        char where[sizeof err->path];

        json_pointer_append(where, sizeof where, pointer, key);
        return error_set(err, -EINVAL, where, "expected %s", expected);
}

static int find_name(const char *const *names, const char *s)
{
        for (int i = 0; names[i]; i++)
                if (!strcmp(names[i], s))
                        return i;
        return -1;
}

static int copy_string(const char *s, char **ret, struct error *err)
{
        char *copy = strdup(s);

        if (!copy)
                return error_set(err, -ENOMEM, NULL, "no memory for a string");
        free(*ret);
        *ret = copy;
        return 0;
}

/* A string without NUL inside, or NULL. */
static const char *plain_string(const json_t *v)
{
        const char *s = json_string_value(v);

        return s && strlen(s) == json_string_length(v) ? s : NULL;
}

static int read_string_field(const struct field *f, const char *pointer, const json_t *v, void *m, struct error *err)
{
        const char *s = plain_string(v);
        char expected[64];

        switch (f->kind) {
        case FIELD_NAME:
                if (!s || !text_is_plain_name(s, (size_t)f->max))
                        return wrong(pointer, f->key, err, "a plain file name: letters, digits, '.', '-', '_'");
                return copy_string(s, m, err);
        case FIELD_DIGEST:
                if (!s || !text_is_digest(s))
                        return wrong(pointer, f->key, err, "32 hexadecimal digits");
                memcpy(m, s, 33);
                return 0;
        default:
                if (!s || strlen(s) < (size_t)f->min || strlen(s) > (size_t)f->max) {
                        (void)snprintf(expected, sizeof expected, "a string of %lld to %lld bytes", (long long)f->min,
                                       (long long)f->max);
                        return wrong(pointer, f->key, err, expected);
                }
                return copy_string(s, m, err);
        }
}

static int read_choice_field(const struct field *f, const char *pointer, const json_t *v, int *m, struct error *err)
{
        const char *s = plain_string(v);
        int i = s ? find_name(f->names, s) : -1;
        char list[120] = "one of";
        size_t n = strlen(list);

        if (i >= 0) {
                *m = i;
                return 0;
        }
        for (const char *const *name = f->names; *name && n < sizeof list; name++)
                n += (size_t)snprintf(list + n, sizeof list - n, " %s", *name);
        return wrong(pointer, f->key, err, list);
}

static int read_field(const struct field *f, const char *pointer, const json_t *o, void *base, struct error *err)
{
        void *m = (char *)base + f->offset;
        const json_t *v = json_object_get(o, f->key);
        double d = NAN;

        if (!v)
                return f->optional ? 0 : wrong(pointer, f->key, err, "this member, which is absent");
        switch (f->kind) {
        case FIELD_INT: {
                int r = json_get_int(o, pointer, f->key, f->min, f->max, m, err);

                return MIN(r, 0);
        }
        case FIELD_REAL:
                if (!json_is_null(v) && (!json_to_real(v, &d) || isinf(d)))
                        return wrong(pointer, f->key, err, "a number or null");
                *(double *)m = d;
                return 0;
        case FIELD_CHOICE:
                return read_choice_field(f, pointer, v, m, err);
        case FIELD_BOOL:
                if (!json_is_boolean(v))
                        return wrong(pointer, f->key, err, "true or false");
                *(bool *)m = json_is_true(v);
                return 0;
        case FIELD_OBJECT:
                if (!json_is_object(v) && !json_is_null(v))
                        return wrong(pointer, f->key, err, "an object or null");
                *(json_t **)m = json_is_object(v) ? json_incref((json_t *)v) : NULL;
                return 0;
        default:
                return read_string_field(f, pointer, v, m, err);
        }
}

static int read_fields(const json_t *o, const char *pointer, const struct field *fields, void *base, struct error *err)
{
        int r = 0;

        for (const struct field *f = fields; r >= 0 && f->key; f++)
                r = read_field(f, pointer, o, base, err);
        return r;
}

static json_t *field_value(const struct field *f, const void *m)
{
        switch (f->kind) {
        case FIELD_INT:
                return json_integer(*(const int64_t *)m);
        case FIELD_REAL:
                return isfinite(*(const double *)m) ? json_real(*(const double *)m) : json_null();
        case FIELD_CHOICE:
                return json_string(f->names[*(const int *)m]);
        case FIELD_OBJECT:
                return *(json_t *const *)m ? json_incref(*(json_t *const *)m) : json_null();
        case FIELD_DIGEST:
                return json_string(m);
        case FIELD_BOOL:
                return json_boolean(*(const bool *)m);
        default:
                return json_string(*(char *const *)m ? *(char *const *)m : "");
        }
}

/* jansson refused it: the one is the host's trouble and passes, the other stays wrong. */
static int not_written(const char *key, struct error *err)
{
        return json_ran_out() ? error_set(err, -ENOMEM, key, "no memory for an event")
                              : error_set(err, -EINVAL, key, "it is not UTF-8");
}

static int write_fields(const struct field *fields, const void *base, json_t *o, struct error *err)
{
        for (const struct field *f = fields; f->key; f++) {
                const char *m = (const char *)base + f->offset;

                bool points = f->kind == FIELD_TEXT || f->kind == FIELD_NAME || f->kind == FIELD_OBJECT;

                if (f->optional && (f->kind == FIELD_DIGEST ? !*m
                                    : f->kind == FIELD_INT  ? !*(const int64_t *)m
                                                            : points && !*(const void *const *)m))
                        continue;
                if (json_object_set_new(o, f->key, field_value(f, m)) < 0)
                        return not_written(f->key, err);
        }
        return 0;
}

static int parse_line(const char *line, size_t size, json_t **ret, struct error *err)
{
        _cleanup_json_ json_t *o = NULL;
        int r;

        if (size > EVENT_LINE_MAX)
                return error_set(err, -EINVAL, NULL, "a line of more than %zu bytes", EVENT_LINE_MAX);
        r = json_parse(line, size, &o, err);
        if (r < 0)
                return r;
        if (!json_is_object(o))
                return error_set(err, -EINVAL, NULL, "expected an object");
        *ret = TAKE_PTR(o);
        return 0;
}

static int append_line(const json_t *o, struct buf *b, struct error *err)
{
        _cleanup_(freep) char *text = json_to_text(o);
        size_t n = text ? strlen(text) : 0;
        int r;

        if (!text)
                return error_set(err, -ENOMEM, NULL, "no memory for a line");
        if (n > EVENT_LINE_MAX)
                return error_set(err, -E2BIG, NULL, "a line of %zu bytes; at most %zu", n, EVENT_LINE_MAX);
        r = buf_reserve(b, n + 1, err);
        if (r < 0)
                return r;
        (void)buf_append(b, text, n, err);
        return buf_append(b, "\n", 1, err);
}

/* ---- scalars */

static int read_ints(const json_t *o, const char *key, size_t n, int64_t **ret, struct error *err)
{
        const json_t *a = json_object_get(o, key);
        _cleanup_(freep) int64_t *values = NULL;

        if (!json_is_array(a) || json_array_size(a) != n)
                return wrong("", key, err, "an array, as long as step");
        values = calloc(n, sizeof *values);
        if (!values)
                return error_set(err, -ENOMEM, NULL, "no memory for %zu rows", n);
        for (size_t i = 0; i < n; i++) {
                const json_t *v = json_array_get(a, i);

                if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT_MAX_EXACT)
                        return wrong("", key, err, "integers in 0..9007199254740991");
                values[i] = json_integer_value(v);
        }
        *ret = TAKE_PTR(values);
        return 0;
}

static int read_column(const char *name, const json_t *a, struct event *e, struct error *err)
{
        size_t c = e->n_columns;

        if (!text_is_printable(name, EVENT_NAME_MAX))
                return error_set(err, -EINVAL, "/columns", "a name is not 1..%d bytes of printable UTF-8",
                                 EVENT_NAME_MAX);
        if (!json_is_array(a) || json_array_size(a) != e->n_rows)
                return wrong("/columns", name, err, "an array, as long as step");
        e->column_name[c] = strdup(name);
        e->column[c] = calloc(e->n_rows, sizeof **e->column);
        e->n_columns++;
        if (!e->column_name[c] || !e->column[c])
                return error_set(err, -ENOMEM, NULL, "no memory for %zu rows", e->n_rows);
        for (size_t i = 0; i < e->n_rows; i++)
                if (!json_to_real(json_array_get(a, i), &e->column[c][i]))
                        return wrong("/columns", name, err, "numbers, \"NaN\", \"Infinity\" or \"-Infinity\"");
        return 0;
}

static int read_scalars(const json_t *o, struct event *e, struct error *err)
{
        json_t *columns = json_object_get(o, "columns"), *a;
        size_t n = json_array_size(json_object_get(o, "step"));
        const char *name;
        int r;

        if (!n || n > EVENT_ROWS_MAX)
                return error_set(err, -EINVAL, "/step", "expected an array of 1..%d steps", EVENT_ROWS_MAX);
        if (!json_is_object(columns) || !json_object_size(columns) || json_object_size(columns) > EVENT_COLUMNS_MAX)
                return error_set(err, -EINVAL, "/columns", "expected an object of 1..%d columns", EVENT_COLUMNS_MAX);
        e->n_rows = n;
        r = read_ints(o, "step", n, &e->row_step, err);
        if (r >= 0)
                r = read_ints(o, "time_ms", n, &e->row_time_ms, err);
        json_object_foreach(columns, name, a)
        {
                if (r >= 0)
                        r = read_column(name, a, e, err);
        }
        if (r >= 0)
                e->step = e->row_step[0];
        return r;
}

/* ---- events */

int event_decode(const char *line, size_t size, struct event *ret, struct error *err)
{
        _cleanup_(event_done) struct event e = {.images_per_second = NAN, .seconds_left = NAN, .metric = NAN};
        _cleanup_json_ json_t *o = NULL;
        const char *type;
        int64_t seq;
        int i, r;

        if (size && line[0] == PACKED_MARK)
                return packed_decode(line, size, ret, &seq, err);
        r = parse_line(line, size, &o, err);
        if (r < 0)
                return r;
        type = plain_string(json_object_get(o, "type"));
        i = type ? find_name(event_type_names, type) : -1;
        if (i < 0 || i == EVENT_UNKNOWN)
                return error_set(err, -EINVAL, "/type", "expected the name of an event type");
        e.type = (enum event_type)i;
        r = read_fields(o, "", event_fields[i], &e, err);
        if (r >= 0 && i == EVENT_SCALARS)
                r = read_scalars(o, &e, err);
        if (r < 0)
                return r;
        *ret = e;
        e = (struct event){0}; /* ret owns it now */
        return 0;
}

int event_decode_unknown(const char *line, size_t size, struct event *ret, struct error *err)
{
        struct event e = {.type = EVENT_UNKNOWN, .images_per_second = NAN, .seconds_left = NAN, .metric = NAN};
        _cleanup_json_ json_t *o = NULL;
        struct event packed;
        int r;

        if (size && line[0] == PACKED_MARK) {
                r = packed_decode(line, size, &packed, &e.seq, err);
                if (r >= 0)
                        event_done(&packed);
                if (!e.seq)
                        return r;
                *ret = e;
                return 0;
        }
        r = parse_line(line, size, &o, err);
        if (r >= 0 && !plain_string(json_object_get(o, "type")))
                r = error_set(err, -EINVAL, "/type", "expected the name of an event type");
        if (r >= 0)
                r = read_fields(o, "", unknown_fields, &e, err);
        if (r >= 0)
                *ret = e;
        return MIN(r, 0);
}

int event_encode(const struct event *e, struct buf *b, struct error *err)
{
        _cleanup_json_ json_t *o = NULL;
        int r;

        assert(e->type < EVENT_TYPE_N);
        if (e->type == EVENT_SCALARS)
                return packed_encode(e, b, err);
        (void)json_ran_out(); /* of what was before */
        o = json_object();
        if (json_object_set_new(o, "type", json_string(event_type_names[e->type])) < 0)
                return error_set(err, -ENOMEM, NULL, "no memory for an event");
        r = write_fields(event_fields[e->type], e, o, err);
        return r < 0 ? r : append_line(o, b, err);
}

int64_t event_last_step(const struct event *e)
{
        return e->type == EVENT_SCALARS ? e->row_step[e->n_rows - 1] : e->step;
}

void event_done(struct event *e)
{
        free(e->backend);
        free(e->packed);
        if (!e->packed) {
                free(e->row_step);
                free(e->row_time_ms);
        }
        for (size_t c = 0; !e->packed && c < e->n_columns; c++) {
                free(e->column_name[c]);
                free(e->column[c]);
        }
        free(e->name);
        free(e->detail);
        json_decref(e->result);
        *e = (struct event){0};
}

int event_choose_protocol(const struct event *hello, struct error *err)
{
        int64_t lowest = hello->protocol_min ? hello->protocol_min : hello->protocol;

        if (hello->protocol < EVENT_PROTOCOL_MIN || lowest > EVENT_PROTOCOL)
                return error_set(err, -EPROTO, NULL, "it speaks protocols %lld to %lld, this daemon %d to %d",
                                 (long long)lowest, (long long)hello->protocol, EVENT_PROTOCOL_MIN, EVENT_PROTOCOL);
        return (int)MIN(hello->protocol, (int64_t)EVENT_PROTOCOL);
}

/* ---- commands */

static const char *const command_names[] = {
        [COMMAND_ACK] = "", [COMMAND_CHECKPOINT] = "checkpoint", [COMMAND_STOP] = "stop", [COMMAND_UNKNOWN] = "", NULL};
static_assert(ARRAY_LEN(command_names) == COMMAND_TYPE_N + 1, "a name for each");

int command_decode(const char *line, size_t size, struct command *ret, struct error *err)
{
        static const struct field ack_fields[] = {F(command, INT, ack, 0, INT_MAX_EXACT),
                                                  {.key = "protocol",
                                                   .kind = FIELD_INT,
                                                   .offset = offsetof(struct command, protocol),
                                                   .max = 1000000,
                                                   .optional = true},
                                                  {0}};
        struct command c = {.type = COMMAND_ACK};
        _cleanup_json_ json_t *o = NULL;
        const char *name;
        int r = parse_line(line, size, &o, err);

        if (r < 0)
                return r;
        if (json_object_get(o, "ack")) {
                r = read_fields(o, "", ack_fields, &c, err);
        } else {
                name = plain_string(json_object_get(o, "command"));
                if (!name || !*name)
                        return wrong("", "command", err, "the name of a command");
                r = find_name(command_names, name);
                c.type = r < 0 ? COMMAND_UNKNOWN : (enum command_type)r;
                r = 0;
        }
        if (r >= 0)
                *ret = c;
        return r;
}

int command_encode(const struct command *c, struct buf *b, struct error *err)
{
        _cleanup_json_ json_t *o = c->type == COMMAND_ACK ? json_pack("{s:I}", "ack", (json_int_t)c->ack)
                                                          : json_pack("{s:s}", "command", command_names[c->type]);

        if (o && c->protocol && json_object_set_new(o, "protocol", json_integer(c->protocol)) < 0)
                return error_set(err, -ENOMEM, NULL, "no memory for a command");
        return o ? append_line(o, b, err) : error_set(err, -ENOMEM, NULL, "no memory for a command");
}

/* ---- assignments */

#define ASSIGNMENT_CHECKPOINTS_MAX 4096
#define PATH_BYTES_MAX 4095

static const struct field assignment_fields[] = {
        F(assignment, INT, job, 1, INT_MAX_EXACT),
        F(assignment, INT, attempt, 1, INT_MAX_EXACT),
        {.key = "kind", .kind = FIELD_CHOICE, .offset = offsetof(struct assignment, kind), .names = job_kind_names},
        IDENTITY(assignment),
        {.key = "config", .kind = FIELD_OBJECT, .offset = offsetof(struct assignment, config), .optional = true},
        {.key = "accept_changed_data",
         .kind = FIELD_BOOL,
         .offset = offsetof(struct assignment, accept_changed_data),
         .optional = true},
        F(assignment, TEXT, folder, 1, PATH_BYTES_MAX),
        {.key = "socket",
         .kind = FIELD_TEXT,
         .offset = offsetof(struct assignment, socket),
         .max = PATH_BYTES_MAX,
         .optional = true},
        {.key = "plans",
         .kind = FIELD_TEXT,
         .offset = offsetof(struct assignment, plans),
         .max = PATH_BYTES_MAX,
         .optional = true},
        {0}};
static const struct field dataset_fields[] = {
        {.key = "name", .kind = FIELD_TEXT, .offset = offsetof(struct assignment, dataset_name), .min = 1, .max = 64},
        {.key = "path",
         .kind = FIELD_TEXT,
         .offset = offsetof(struct assignment, dataset_path),
         .min = 1,
         .max = PATH_BYTES_MAX},
        {.key = "digest",
         .kind = FIELD_TEXT,
         .offset = offsetof(struct assignment, dataset_digest),
         .min = 0,
         .max = 64},
        {0}};
#define IMPORT_TEXT(m, longest, may_lack)                                                                              \
        {                                                                                                              \
                .key = #m, .kind = FIELD_TEXT, .offset = offsetof(struct assignment_import, m), .min = 1,              \
                .max = longest, .optional = may_lack                                                                   \
        }
static const struct field import_fields[] = {{.key = "what",
                                              .kind = FIELD_CHOICE,
                                              .offset = offsetof(struct assignment_import, what),
                                              .names = import_what_names},
                                             {.key = "name",
                                              .kind = FIELD_NAME,
                                              .offset = offsetof(struct assignment_import, name),
                                              .min = 1,
                                              .max = 64,
                                              .optional = true},
                                             IMPORT_TEXT(path, PATH_BYTES_MAX, false),
                                             IMPORT_TEXT(test_path, PATH_BYTES_MAX, true),
                                             IMPORT_TEXT(format, 32, true),
                                             {.key = "test_share",
                                              .kind = FIELD_REAL,
                                              .offset = offsetof(struct assignment_import, test_share),
                                              .optional = true},
                                             IMPORT_TEXT(target, PATH_BYTES_MAX, true),
                                             {0}};
static const struct field checkpoint_fields[] = {
        F(assignment_checkpoint, TEXT, path, 1, PATH_BYTES_MAX),
        {.key = "xxh128", .kind = FIELD_DIGEST, .offset = offsetof(struct assignment_checkpoint, digest)},
        F(assignment_checkpoint, INT, step, 0, INT_MAX_EXACT),
        IDENTITY(assignment_checkpoint),
        {0}};

int job_devices(enum job_kind kind, int64_t asked)
{
        return (kind == JOB_TRAIN || kind == JOB_EVALUATE) && asked > 1 ? (int)MIN(asked, ASSIGNMENT_DEVICES_MAX) : 1;
}

static const struct field device_fields[] = {
        F(assignment_device, TEXT, name, 1, 128), F(assignment_device, TEXT, place, 1, PATH_BYTES_MAX), {0}};

/* A list of the document: n members of `size` bytes, which fields describe. A negative answer leaves in *ret what
 * assignment_done frees. */
static int read_list(const json_t *list, const char *pointer, size_t most, const struct field *fields, size_t size,
                     void *ret, size_t *ret_n, struct error *err)
{
        size_t n = json_array_size(list);
        char *items = NULL;
        int r = 0;

        if (!json_is_array(list) || n > most)
                return error_set(err, -EINVAL, pointer, "expected an array of at most %zu", most);
        items = n ? calloc(n, size) : NULL;
        if (n && !items)
                return error_set(err, -ENOMEM, NULL, "no memory for %zu members", n);
        *(void **)ret = items;
        *ret_n = n;
        for (size_t i = 0; r >= 0 && i < n; i++) {
                const json_t *c = json_array_get(list, i);
                char at[64];

                (void)snprintf(at, sizeof at, "%s/%zu", pointer, i);
                r = json_is_object(c) ? read_fields(c, at, fields, items + i * size, err)
                                      : error_set(err, -EINVAL, at, "expected an object");
        }
        return r;
}

static int read_checkpoints(const json_t *o, struct assignment *a, struct error *err)
{
        return read_list(json_object_get(o, "checkpoints"), "/checkpoints", ASSIGNMENT_CHECKPOINTS_MAX,
                         checkpoint_fields, sizeof *a->checkpoints, &a->checkpoints, &a->n_checkpoints, err);
}

static int read_devices(const json_t *o, struct assignment *a, struct error *err)
{
        const json_t *list = json_object_get(o, "devices");

        return list ? read_list(list, "/devices", ASSIGNMENT_DEVICES_MAX, device_fields, sizeof *a->devices,
                                &a->devices, &a->n_devices, err)
                    : 0;
}

int import_from_json(const json_t *o, const char *pointer, struct assignment_import *ret, struct error *err)
{
        _cleanup_(import_done) struct assignment_import i = {0};
        int r = json_is_object(o) ? read_fields(o, pointer, import_fields, &i, err)
                                  : error_set(err, -EINVAL, pointer, "expected an object");

        if (r >= 0 && (i.what == IMPORT_DATASET) != (i.name != NULL)) {
                char where[160];

                json_pointer_append(where, sizeof where, pointer, "name");
                r = error_set(err, -EINVAL, where, "expected one of a data set, and of nothing else");
        }
        if (r < 0)
                return r;
        *ret = i;
        i = (struct assignment_import){0}; /* ret owns it now */
        return 0;
}

json_t *import_to_json(const struct assignment_import *i)
{
        _cleanup_json_ json_t *o = json_object();

        return write_fields(import_fields, i, o, NULL) < 0 ? NULL : TAKE_PTR(o);
}

void import_done(struct assignment_import *i)
{
        free(i->name);
        free(i->path);
        free(i->test_path);
        free(i->format);
        free(i->target);
        *i = (struct assignment_import){0};
}

/* What the kind is about: a configuration and its data, or what is to be imported. */
static int read_subject(const json_t *document, struct assignment *a, struct error *err)
{
        const json_t *dataset = json_object_get(document, "dataset");

        if (a->kind == JOB_IMPORT)
                return import_from_json(json_object_get(document, "import"), "/import", &a->import, err);
        if (!a->config)
                return error_set(err, -EINVAL, "/config", "expected an object");
        return json_is_object(dataset) ? read_fields(dataset, "/dataset", dataset_fields, a, err)
                                       : error_set(err, -EINVAL, "/dataset", "expected an object");
}

int assignment_from_json(const json_t *document, struct assignment *ret, struct error *err)
{
        _cleanup_(assignment_done) struct assignment a = {0};
        int r;

        if (!json_is_object(document))
                return error_set(err, -EINVAL, NULL, "expected an object");
        r = read_fields(document, "", assignment_fields, &a, err);
        if (r >= 0)
                r = read_subject(document, &a, err);
        if (r >= 0)
                r = read_checkpoints(document, &a, err);
        if (r >= 0)
                r = read_devices(document, &a, err);
        if (r < 0)
                return r;
        *ret = a;
        a = (struct assignment){0}; /* ret owns it now */
        return 0;
}

static int write_subject(const struct assignment *a, json_t *o)
{
        json_t *dataset;

        if (a->kind == JOB_IMPORT)
                return json_object_set_new(o, "import", import_to_json(&a->import));
        if (json_object_set_new(o, "dataset", dataset = json_object()) < 0)
                return -ENOMEM;
        return write_fields(dataset_fields, a, dataset, NULL);
}

static int write_list(json_t *o, const char *key, const struct field *fields, size_t size, const void *items, size_t n)
{
        json_t *list = json_array();

        if (json_object_set_new(o, key, list) < 0)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                json_t *c = json_object();

                if (json_array_append_new(list, c) < 0 ||
                    write_fields(fields, (const char *)items + i * size, c, NULL) < 0)
                        return -ENOMEM;
        }
        return 0;
}

json_t *assignment_to_json(const struct assignment *a)
{
        _cleanup_json_ json_t *o = json_object();

        if (write_list(o, "checkpoints", checkpoint_fields, sizeof *a->checkpoints, a->checkpoints, a->n_checkpoints) <
                    0 ||
            (a->n_devices &&
             write_list(o, "devices", device_fields, sizeof *a->devices, a->devices, a->n_devices) < 0) ||
            write_fields(assignment_fields, a, o, NULL) < 0 || write_subject(a, o) < 0)
                return NULL;
        return TAKE_PTR(o);
}

void assignment_done(struct assignment *a)
{
        json_decref(a->config);
        import_done(&a->import);
        free(a->dataset_name);
        free(a->dataset_path);
        free(a->dataset_digest);
        free(a->folder);
        free(a->socket);
        free(a->plans);
        for (size_t i = 0; i < a->n_devices; i++) {
                free(a->devices[i].name);
                free(a->devices[i].place);
        }
        free(a->devices);
        for (size_t i = 0; i < a->n_checkpoints; i++)
                free(a->checkpoints[i].path);
        free(a->checkpoints);
        *a = (struct assignment){0};
}
