/* What went wrong, where, and what was expected: one line that a user can act on. */
#pragma once

#include "base/macros.h"

#include <stdarg.h>

struct error {
        int code;       /* negative errno */
        char path[160]; /* where: a file, a JSON pointer such as /model/sm_n_embd, or ""; too long: "..." and its end */
        char text[400]; /* what, and what was expected; no line break */
};

/* Fills *err (which may be NULL) and returns code, so that `return error_set(...)` reads well. code is negative. */
int error_set(struct error *err, int code, const char *path, const char *fmt, ...) _printf_(4, 5);

/* A list of them, for what is checked whole. Errors past the last slot are counted, not kept. */
struct errors {
        size_t n; /* how many occurred; items holds the first of them */
        struct error items[16];
};

int errors_add(struct errors *errs, int code, const char *path, const char *fmt, ...) _printf_(4, 5);
/* Whether the machine is to blame and not what was asked: no memory, no room, no descriptors, a disk that fails. */
bool error_is_hosts(int code);
static inline size_t errors_kept(const struct errors *errs)
{
        return MIN(errs->n, ARRAY_LEN(errs->items));
}
/* from NULL: none. */
void errors_copy(struct errors *to, const struct errors *from);
