#include "base/json.h"

#include "base/clock.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

int json_parse(const char *text, size_t size, json_t **ret, struct error *err)
{
        json_error_t je;
        json_t *v;

        /* jansson 2.14 stops at a NUL after a number: n_multidigit_number_then_00 of JSONTestSuite */
        if (size && memchr(text, 0, size))
                return error_set(err, -EINVAL, NULL, "not JSON: it holds a NUL byte");
        v = json_loadb(text ? text : "", size, JSON_DECODE_ANY, &je);
        if (!v)
                return error_set(err, -EINVAL, NULL, "not JSON: line %d, column %d: %s", je.line, je.column, je.text);
        *ret = v;
        return 0;
}

int json_parse_file(const char *path, size_t max_bytes, json_t **ret, struct error *err)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(max_bytes);
        struct error inner;
        int r = file_read(path, &b, err);

        if (r < 0)
                return r;
        r = json_parse(b.data, b.size, ret, &inner);
        return r < 0 ? error_set(err, r, path, "%s", inner.text) : 0;
}

void json_pointer_append(char *buf, size_t size, const char *pointer, const char *key)
{
        size_t n = (size_t)snprintf(buf, size, "%s/", pointer);

        for (const char *p = key; *p && n + 3 < size; p++) {
                if (*p == '~' || *p == '/') {
                        buf[n++] = '~';
                        buf[n++] = *p == '~' ? '0' : '1';
                } else {
                        buf[n++] = *p;
                }
        }
        if (n < size)
                buf[n] = 0;
}

static int wrong(const char *pointer, const char *key, struct error *err, const char *expected)
{
        char where[sizeof err->path];

        json_pointer_append(where, sizeof where, pointer, key);
        return error_set(err, -EINVAL, where, "expected %s", expected);
}

int json_get_bool(const json_t *o, const char *pointer, const char *key, bool *ret, struct error *err)
{
        const json_t *v = json_object_get(o, key);

        if (!v)
                return 0;
        if (!json_is_boolean(v))
                return wrong(pointer, key, err, "true or false");
        *ret = json_is_true(v);
        return 1;
}

int json_get_int(const json_t *o, const char *pointer, const char *key, int64_t min, int64_t max, int64_t *ret,
                 struct error *err)
{
        const json_t *v = json_object_get(o, key);
        char expected[96];

        if (!v)
                return 0;
        if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max) {
                (void)snprintf(expected, sizeof expected, "an integer in %lld..%lld", (long long)min, (long long)max);
                return wrong(pointer, key, err, expected);
        }
        *ret = json_integer_value(v);
        return 1;
}

bool json_to_real(const json_t *v, double *ret)
{
        const char *s = json_string_value(v);

        if (json_is_number(v)) {
                *ret = json_number_value(v);
                return true;
        }
        if (!s)
                return false;
        if (!strcmp(s, "NaN"))
                *ret = NAN;
        else if (!strcmp(s, "Infinity"))
                *ret = INFINITY;
        else if (!strcmp(s, "-Infinity"))
                *ret = -INFINITY;
        else
                return false;
        return true;
}

int json_get_real(const json_t *o, const char *pointer, const char *key, bool allow_nonfinite, double *ret,
                  struct error *err)
{
        const json_t *v = json_object_get(o, key);
        double d;

        if (!v)
                return 0;
        if (!json_to_real(v, &d) || (!allow_nonfinite && !isfinite(d)))
                return wrong(pointer, key, err,
                             allow_nonfinite ? "a number, \"NaN\", \"Infinity\" or \"-Infinity\"" : "a number");
        *ret = d;
        return 1;
}

int json_get_string(const json_t *o, const char *pointer, const char *key, size_t max_bytes, const char **ret,
                    struct error *err)
{
        const json_t *v = json_object_get(o, key);
        char expected[64];

        if (!v)
                return 0;
        if (!json_is_string(v) || json_string_length(v) > max_bytes ||
            strlen(json_string_value(v)) != json_string_length(v)) {
                (void)snprintf(expected, sizeof expected, "a string of at most %zu bytes without NUL", max_bytes);
                return wrong(pointer, key, err, expected);
        }
        *ret = json_string_value(v);
        return 1;
}

int json_get_container(const json_t *o, const char *pointer, const char *key, json_type type, json_t **ret,
                       struct error *err)
{
        json_t *v = json_object_get(o, key);

        if (!v)
                return 0;
        if (json_typeof(v) != type)
                return wrong(pointer, key, err, type == JSON_OBJECT ? "an object" : "an array");
        *ret = v;
        return 1;
}

int json_only_keys(const json_t *o, const char *pointer, const char *const *keys, struct error *err)
{
        const char *key;
        json_t *v;

        json_object_foreach((json_t *)o, key, v)
        {
                const char *const *k = keys;

                while (*k && strcmp(*k, key))
                        k++;
                if (!*k)
                        return wrong(pointer, key, err, "no such key");
        }
        return 0;
}

json_t *json_from_real(double v)
{
        if (isnan(v))
                return json_string("NaN");
        if (isinf(v))
                return json_string(v > 0 ? "Infinity" : "-Infinity");
        return json_real(v);
}

json_t *json_from_time(int64_t wall_us)
{
        char buf[RFC3339_SIZE];

        return wall_us ? json_string(clock_rfc3339(wall_us, buf)) : json_null();
}

/* The shortest of 15, 16, 17 digits that reads back as the same number, with a point or exponent so that it stays a
 * real: -13.3, never -13.300000000000001. */
static int write_real(double v, struct buf *b)
{
        char text[32];

        for (int digits = 15; digits <= 17; digits++) {
                (void)snprintf(text, sizeof text, "%.*g", digits, v);
                if (strtod(text, NULL) == v)
                        break;
        }
        return buf_printf(b, NULL, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

static int write_string(const char *s, size_t size, struct buf *b)
{
        json_t *v = json_stringn(s, size);
        char *text = v ? json_dumps(v, JSON_ENCODE_ANY) : NULL;
        int r = text ? buf_append(b, text, strlen(text), NULL) : -1;

        free(text);
        json_decref(v);
        return r;
}

static int write_value(const json_t *v, struct buf *b);

static int write_object(const json_t *v, struct buf *b)
{
        const char *key, *comma = "";
        json_t *member;
        int r = buf_printf(b, NULL, "{");

        json_object_foreach((json_t *)v, key, member)
        {
                r = r < 0 ? r : buf_printf(b, NULL, "%s", comma);
                r = r < 0 ? r : write_string(key, strlen(key), b);
                r = r < 0 ? r : buf_printf(b, NULL, ":");
                r = r < 0 ? r : write_value(member, b);
                comma = ",";
        }
        return r < 0 ? r : buf_printf(b, NULL, "}");
}

static int write_array(const json_t *v, struct buf *b)
{
        json_t *member;
        size_t i;
        int r = buf_printf(b, NULL, "[");

        json_array_foreach((json_t *)v, i, member)
        {
                r = r < 0 ? r : buf_printf(b, NULL, "%s", i ? "," : "");
                r = r < 0 ? r : write_value(member, b);
        }
        return r < 0 ? r : buf_printf(b, NULL, "]");
}

static int write_value(const json_t *v, struct buf *b)
{
        switch (json_typeof(v)) {
        case JSON_OBJECT:
                return write_object(v, b);
        case JSON_ARRAY:
                return write_array(v, b);
        case JSON_STRING:
                return write_string(json_string_value(v), json_string_length(v), b);
        case JSON_INTEGER:
                return buf_printf(b, NULL, "%lld", (long long)json_integer_value(v));
        case JSON_REAL:
                return write_real(json_real_value(v), b);
        case JSON_TRUE:
                return buf_printf(b, NULL, "true");
        case JSON_FALSE:
                return buf_printf(b, NULL, "false");
        default:
                return buf_printf(b, NULL, "null");
        }
}

char *json_to_text(const json_t *v)
{
        struct buf b = BUF_INIT(SIZE_MAX / 4);

        if (!v || write_value(v, &b) < 0) {
                buf_done(&b);
                return NULL;
        }
        return b.data; /* NUL-terminated, as every buf */
}
