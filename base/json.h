/* Reading and writing JSON through jansson: typed getters that fail with a JSON pointer, numbers that are not finite as
 * the strings "NaN", "Infinity", "-Infinity". */
#pragma once

#include "base/file.h"

#include <jansson.h>

/* Parses one whole text. Refuses what RFC 8259 refuses (a raw NUL and trailing text included) and nesting beyond
 * jansson's limit; -EINVAL with line and column in err->text, -ENOMEM. The caller owns *ret. */
int json_parse(const char *text, size_t size, json_t **ret, struct error *err);

/* The same with more of jansson's flags. -EEXIST by JSON_REJECT_DUPLICATES: an object has a key twice. */
int json_parse_flags(const char *text, size_t size, size_t flags, json_t **ret, struct error *err);

/* Whether jansson had no memory on this thread since this was asked last: what it made may then lack something, and
 * what it refused may be right. */
bool json_ran_out(void);

/* Parses a file of at most max_bytes. */
int json_parse_file(const char *path, size_t max_bytes, json_t **ret, struct error *err);

/* Getters for a member of an object. pointer is the object's own JSON pointer ("" for the document), for the error.
 * 1: found and stored; 0: absent (*ret untouched); negative: wrong type or out of range, err tells what was expected.
 */
int json_get_bool(const json_t *o, const char *pointer, const char *key, bool *ret, struct error *err);
int json_get_int(const json_t *o, const char *pointer, const char *key, int64_t min, int64_t max, int64_t *ret,
                 struct error *err);
/* also takes "NaN", "Infinity", "-Infinity" where allow_nonfinite */
int json_get_real(const json_t *o, const char *pointer, const char *key, bool allow_nonfinite, double *ret,
                  struct error *err);
/* *ret borrowed from o, at most max_bytes, no NUL inside */
int json_get_string(const json_t *o, const char *pointer, const char *key, size_t max_bytes, const char **ret,
                    struct error *err);
/* *ret borrowed; type is JSON_OBJECT or JSON_ARRAY */
int json_get_container(const json_t *o, const char *pointer, const char *key, json_type type, json_t **ret,
                       struct error *err);

/* Fails with the pointer of the first member that is not in keys (NULL-terminated). */
int json_only_keys(const json_t *o, const char *pointer, const char *const *keys, struct error *err);

/* Writes POINTER/KEY with RFC 6901 escapes, cut to size. */
void json_pointer_append(char *buf, size_t size, const char *pointer, const char *key);

/* A double as JSON: a real, or the string that stands for what is not finite. New reference, NULL without memory. */
json_t *json_from_real(double v);
/* The inverse: false when v is neither a number nor one of the three strings. */
bool json_to_real(const json_t *v, double *ret);

/* A finite number as JSON has it: 15 digits where they read back as the same number, else the 17 that always do, with a
 * point or exponent so that it stays a real: -13.3, never -13.300000000000001. Answers its length. */
#define JSON_REAL_SIZE 32
size_t json_real_text(double v, char *ret); /* [JSON_REAL_SIZE] */

/* RFC 3339, or null for 0. */
json_t *json_from_time(int64_t wall_us);
/* What an answer says of something that may not be there: null for NULL and ""; for 0. */
json_t *json_text_or_null(const char *s);
json_t *json_int_or_null(int64_t v);
json_t *json_real_or_null(double v); /* NAN: null */

/* A value that is one already in text, which is copied: json_to_text writes it as it stands, and nothing else can look
 * into it. text must be what json_to_text made. New reference, NULL without memory. */
json_t *json_verbatim(const char *text, size_t size);
bool json_is_verbatim(const json_t *v);

/* Appends compact text. Reals have as many digits as bring them back as they were. -ENOMEM, -E2BIG; what is there then
 * is a part of it. */
int json_write(const json_t *v, struct buf *b);
/* The same as a text of its own, which the caller frees; NULL for NULL and without memory. */
char *json_to_text(const json_t *v);

static inline void json_decref_cleanup(json_t **p)
{
        json_decref(*p);
}
#define _cleanup_json_ _cleanup_(json_decref_cleanup)
