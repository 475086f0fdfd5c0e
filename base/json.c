#include "base/json.h"

#include "base/clock.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* jansson tells an allocation that failed from text that is wrong only sometimes: it is noted where it happens. */
static __thread bool out_of_memory;

static void *allocate(size_t size)
{
        void *p = malloc(size);

        if (!p)
                out_of_memory = true;
        return p;
}

/* Before main, since whatever was allocated must be freed by the function that belongs to it. */
static __attribute__((constructor)) void watch_memory(void)
{
        json_set_alloc_funcs(allocate, free);
}

bool json_ran_out(void)
{
        bool ran_out = out_of_memory;

        out_of_memory = false;
        return ran_out;
}

int json_parse_flags(const char *text, size_t size, size_t flags, json_t **ret, struct error *err)
{
        bool before = json_ran_out();
        json_error_t je;
        json_t *v;

        /* jansson 2.14 stops at a NUL after a number: n_multidigit_number_then_00 of JSONTestSuite */
        if (size && memchr(text, 0, size))
                return error_set(err, -EINVAL, NULL, "not JSON: it holds a NUL byte");
        v = json_loadb(text ? text : "", size, flags | JSON_DECODE_ANY, &je);
        if (!v && out_of_memory)
                return error_set(err, -ENOMEM, NULL, "no memory to read JSON");
        out_of_memory = before;
        if (!v && json_error_code(&je) == json_error_duplicate_key)
                return error_set(err, -EEXIST, NULL, "an object has the same key twice: line %d, column %d", je.line,
                                 je.column);
        if (!v)
                return error_set(err, -EINVAL, NULL, "not JSON: line %d, column %d: %s", je.line, je.column, je.text);
        *ret = v;
        return 0;
}

int json_parse(const char *text, size_t size, json_t **ret, struct error *err)
{
        return json_parse_flags(text, size, 0, ret, err);
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

json_t *json_text_or_null(const char *s)
{
        return s && *s ? json_string(s) : json_null();
}

json_t *json_real_or_null(double v)
{
        return isnan(v) ? json_null() : json_from_real(v);
}

json_t *json_int_or_null(int64_t v)
{
        return v ? json_integer(v) : json_null();
}

/* ---- numbers as text */

#define POWERS 20
static const uint64_t powers[POWERS] = {1ULL,
                                        10ULL,
                                        100ULL,
                                        1000ULL,
                                        10000ULL,
                                        100000ULL,
                                        1000000ULL,
                                        10000000ULL,
                                        100000000ULL,
                                        1000000000ULL,
                                        10000000000ULL,
                                        100000000000ULL,
                                        1000000000000ULL,
                                        10000000000000ULL,
                                        100000000000000ULL,
                                        1000000000000000ULL,
                                        10000000000000000ULL,
                                        100000000000000000ULL,
                                        1000000000000000000ULL,
                                        10000000000000000000ULL};

/* v 10^k rounded to an integer, half to even, exactly: 53 bits and the 64 of a power, of which the lowest are cut. v in
 * [1e-4, 1e14), k in 0..20. */
static uint64_t scaled(double v, int k)
{
        int e;
        uint64_t mantissa = (uint64_t)ldexp(frexp(v, &e), 53);
        unsigned __int128 x = (unsigned __int128)mantissa * powers[MIN(k, POWERS - 1)] * (k < POWERS ? 1 : 10), rest,
                          half;

        e = 53 - e; /* v is mantissa / 2^e, e 3..67 */
        half = (unsigned __int128)1 << (e - 1);
        rest = x & (2 * half - 1);
        x >>= e;
        return (uint64_t)x + (rest > half || (rest == half && (x & 1)));
}

/* Significant digits, first one not 0, of a number whose first one stands for 10^first. */
static size_t put_digits(uint64_t digits, int n, int first, char *ret)
{
        char text[24], *at = ret;

        for (; n > 1 && digits % 10 == 0; n--)
                digits /= 10;
        for (int i = n; i-- > 0; digits /= 10)
                text[i] = (char)('0' + digits % 10);
        if (first < 0) {
                *at++ = '0';
                *at++ = '.';
                for (int i = -1; i > first; i--)
                        *at++ = '0';
        }
        for (int i = 0; i < n || i <= first + 1; i++) {
                if (first >= 0 && i == first + 1)
                        *at++ = '.';
                *at++ = i < n ? text[i] : '0';
        }
        *at = 0;
        return (size_t)(at - ret);
}

/* n digits, of which the first, not 0, stands for 10^*first. */
static uint64_t round_to(double v, int n, int *first)
{
        uint64_t digits;

        *first = (int)floor(log10(v)); /* which rounding may have made one too many */
        digits = scaled(v, n - 1 - *first);
        if (digits < powers[n - 1])
                digits = scaled(v, n - 1 - --*first);
        else if (digits >= powers[n]) /* it was rounded to a power of ten */
                digits = scaled(v, n - 1 - ++*first);
        return digits;
}

/* As printf's %g does it with 15 digits, or 17, but for a point where it has none. */
static size_t put_plain(double v, char *ret)
{
        int first, n = 15;
        uint64_t digits = round_to(v, 15, &first);

        /* both are exact, so that the quotient is what the text reads back as */
        if ((double)digits / (double)powers[14 - first] != v) {
                n = 17;
                digits = round_to(v, 17, &first);
        }
        return put_digits(digits, n, first, ret);
}

/* Any finite number, by printf. */
static size_t put_any(double v, char *ret)
{
        char text[JSON_REAL_SIZE];
        int n = snprintf(text, sizeof text - 2, "%.15g", v);

        if (strtod(text, NULL) != v)
                n = snprintf(text, sizeof text - 2, "%.17g", v);
        if (!strpbrk(text, ".e")) {
                text[n++] = '.';
                text[n++] = '0';
        }
        memcpy(ret, text, (size_t)n);
        ret[n] = 0;
        return (size_t)n;
}

size_t json_real_text(double v, char *ret)
{
        if (!(fabs(v) >= 1e-4 && fabs(v) < 1e14))
                return put_any(v, ret);
        *ret = '-';
        return (v < 0) + put_plain(fabs(v), ret + (v < 0));
}

static int write_real(double v, struct buf *b)
{
        char text[JSON_REAL_SIZE];

        return buf_append(b, text, json_real_text(v, text), NULL);
}

static int write_int(int64_t v, struct buf *b)
{
        char text[24], *at = text + sizeof text;
        uint64_t left = v < 0 ? -(uint64_t)v : (uint64_t)v;

        do
                *--at = (char)('0' + left % 10);
        while (left /= 10);
        if (v < 0)
                *--at = '-';
        return buf_append(b, at, (size_t)(text + sizeof text - at), NULL);
}

static int write_text(const char *text, struct buf *b)
{
        return buf_append(b, text, strlen(text), NULL);
}

/* Whether it stands between quotes as it is. */
static bool is_plain(const char *s, size_t size)
{
        for (size_t i = 0; i < size; i++)
                if (s[i] < ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\')
                        return false;
        return true;
}

/* A verbatim value is a string that begins with this: no text in UTF-8 does, and jansson parses nothing else. */
#define VERBATIM '\xff'

json_t *json_verbatim(const char *text, size_t size)
{
        _cleanup_(freep) char *marked = malloc(size + 1);

        if (!marked)
                return NULL;
        *marked = VERBATIM;
        memcpy(marked + 1, text, size);
        return json_stringn_nocheck(marked, size + 1);
}

bool json_is_verbatim(const json_t *v)
{
        return json_is_string(v) && *json_string_value(v) == VERBATIM;
}

static int write_string(const char *s, size_t size, struct buf *b)
{
        json_t *v;
        char *text;
        int r;

        if (*s == VERBATIM)
                return buf_append(b, s + 1, size - 1, NULL);
        if (is_plain(s, size)) {
                r = write_text("\"", b);
                r = r < 0 ? r : buf_append(b, s, size, NULL);
                return r < 0 ? r : write_text("\"", b);
        }
        v = json_stringn(s, size);
        text = v ? json_dumps(v, JSON_ENCODE_ANY) : NULL;
        r = text ? write_text(text, b) : -ENOMEM;
        free(text);
        json_decref(v);
        return r;
}

static int write_object(const json_t *v, struct buf *b)
{
        const char *key, *comma = "";
        json_t *member;
        int r = write_text("{", b);

        json_object_foreach((json_t *)v, key, member)
        {
                r = r < 0 ? r : write_text(comma, b);
                r = r < 0 ? r : write_string(key, strlen(key), b);
                r = r < 0 ? r : write_text(":", b);
                r = r < 0 ? r : json_write(member, b);
                comma = ",";
        }
        return r < 0 ? r : write_text("}", b);
}

static int write_array(const json_t *v, struct buf *b)
{
        json_t *member;
        size_t i;
        int r = write_text("[", b);

        json_array_foreach((json_t *)v, i, member)
        {
                r = r < 0 ? r : write_text(i ? "," : "", b);
                r = r < 0 ? r : json_write(member, b);
        }
        return r < 0 ? r : write_text("]", b);
}

int json_write(const json_t *v, struct buf *b)
{
        switch (json_typeof(v)) {
        case JSON_OBJECT:
                return write_object(v, b);
        case JSON_ARRAY:
                return write_array(v, b);
        case JSON_STRING:
                return write_string(json_string_value(v), json_string_length(v), b);
        case JSON_INTEGER:
                return write_int(json_integer_value(v), b);
        case JSON_REAL:
                return write_real(json_real_value(v), b);
        case JSON_TRUE:
                return write_text("true", b);
        case JSON_FALSE:
                return write_text("false", b);
        default:
                return write_text("null", b);
        }
}

char *json_to_text(const json_t *v)
{
        struct buf b = BUF_INIT(SIZE_MAX / 4);

        if (!v || json_write(v, &b) < 0) {
                buf_done(&b);
                return NULL;
        }
        return b.data; /* NUL-terminated, as every buf */
}
