/* Problem documents (RFC 9457), from the table problem.def. */
#pragma once

#include "base/json.h"

struct request;

enum problem {
#define P(name, type, status, title) PROBLEM_##name,
#include "api/problem.def"
#undef P
        PROBLEM_N
};

unsigned problem_status(enum problem p);

/* The document; errs may be NULL. New reference, NULL without memory. */
json_t *problem_to_json(enum problem p, const char *detail, const struct errors *errs);

/* Makes it the request's answer. */
void problem(struct request *r, enum problem p, const char *fmt, ...) _printf_(3, 4);
void problem_errors(struct request *r, enum problem p, const struct errors *errs);

/* Says so in the log; the answer: why. */
const char *problem_log(const struct request *r, const char *what, int code, const struct error *err);
/* The host could not do what was asked: the answer is a 500 that says what and why, and so does the log. code: negative
 * errno; err: what is known of it, or NULL. */
void problem_failed(struct request *r, const char *what, int code, const struct error *err);
