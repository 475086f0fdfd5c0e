/* What a request line and its headers name, parsed once and strictly, by pure functions: the URL, the Host, the Origin,
 * a Range. The fuzzer's door (tests/fuzz/fuzz_request.c). */
#pragma once

#include "base/error.h"

#define TARGET_BYTES_MAX 16384
#define TARGET_SEGMENTS_MAX 12
#define TARGET_PARAMS_MAX 16

/* A URL in origin form, decoded once. Segments and parameters point into memory, which the target owns. */
struct target {
        char *memory;
        size_t n_segments; /* of "/": 0; "/v1/jobs": 2; a trailing slash is an empty last segment */
        const char *segments[TARGET_SEGMENTS_MAX];
        size_t n_params;
        struct {
                const char *name, *value;
        } params[TARGET_PARAMS_MAX];
};

/* -ENAMETOOLONG; -EINVAL for what is not origin form, has a bad or double percent-encoding, an encoded slash, a control
 * character or NUL, a backslash, '#', "." or ".." or an empty segment inside, text that is not UTF-8, a parameter that
 * is given twice, or too many of anything. Nothing of it is in *ret then. */
int target_parse(const char *raw, struct target *ret, struct error *err);
void target_done(struct target *t);
const char *target_param(const struct target *t, const char *name); /* NULL: absent */

/* Whether a Host header names this machine's loopback (127.0.0.1, localhost, [::1]), or one of the names in allowed,
 * which are separated by blanks (or NULL); with any port or none. */
bool host_is_allowed(const char *host, const char *allowed);

/* Whether an Origin header is the page of that Host: http://HOST, or https://HOST, port included. */
bool origin_is_host(const char *origin, const char *host);
/* Whether it is a page of one of the names in allowed, on any port. */
bool origin_is_allowed(const char *origin, const char *allowed);

/* Drops the prefix ("/mulund") from the path's beginning, where it stands there. */
void target_drop_prefix(struct target *t, const char *prefix);

/* Digits only, no sign, no leading zero, within min..max. */
bool int_parse(const char *s, int64_t min, int64_t max, int64_t *ret);

/* One `bytes=` range of a body of size bytes. What this server does not do (other units, several ranges) and what is
 * malformed is RANGE_NONE: the whole is sent, as RFC 9110 has it. */
enum range { RANGE_NONE, RANGE_OK, RANGE_UNSATISFIABLE };
enum range range_parse(const char *header, int64_t size, int64_t *ret_first, int64_t *ret_last);

/* Whether an If-None-Match (or If-Match) list holds the tag (quotes included) or is "*". Weak tags match. */
bool etag_listed(const char *header, const char *etag);

/* Whether an Accept-Encoding names the coding, and not with the weight 0. */
bool coding_accepted(const char *header, const char *coding);

/* Whether a Content-Type is application/json, in UTF-8. */
bool media_type_is_json(const char *content_type);
