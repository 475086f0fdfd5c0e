/* One of several ranks of an attempt, as a process: how it learns what it is, and what it says to the launcher that
 * started it (launcher.h). Both are processes of one machine and user: what they share is reached by the launcher's
 * descriptors in /proc, since mpirun hands on none. */
#pragma once

#include "contract/event.h"

#include <sys/types.h>

/* The launcher's descriptors of these numbers. */
enum rank_fd {
        RANK_FD_ASSIGNMENT = 100, /* a file: the assignment, with its list of devices */
        RANK_FD_WORDS,            /* a pipe to the launcher: struct rank_word */
        RANK_FD_MEET,             /* a pipe from the first rank to the others: kernels/comm.h, meet */
        RANK_FD_END
};

enum rank_said { RANK_BEGAN, RANK_ENDED, RANK_FAILED };

/* Written at once (it is below PIPE_BUF), so that words of several ranks do not mix. */
struct rank_word {
        int32_t rank;
        int32_t said; /* enum rank_said */
        int64_t pid;
        int64_t step;
        int32_t error_class;
        int32_t told; /* failed: the reason is in the spool */
        char detail[900];
};

struct rank {
        int rank, size;
        int words, meet; /* descriptors */
};

/* As the arguments after --rank say: the launcher's process and the number. Says that it has begun. The kernel ends it
 * with the process that started it. */
int rank_begin(const char *launcher, const char *number, struct rank *ret, struct assignment *ret_a, struct error *err);
/* Keeps the process to its device's place. */
int rank_take_place(const struct rank *x, const struct assignment *a, bool cuda, struct error *err);
void rank_end(const struct rank *x);
/* Says why it cannot go on, and waits to be ended with the others; the first rank ends by itself. */
void rank_fail(const struct rank *x, enum error_class error_class, const char *detail, int64_t step, bool told)
        __attribute__((noreturn));
