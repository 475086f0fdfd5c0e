/* Which way to compute a shape, chosen by measurement and kept in a folder, so that every later device there computes
 * the same bits (plans_file.h). Private to the back ends on the processor. */
#pragma once

#include "kernels/host.h"

struct plans;

#define PLANS_DIRECTIONS 3 /* forward, backward data, backward weights */
#define PLANS_WAYS 4       /* at most */

/* Opens the choices of a folder that is there. A file that is damaged or foreign is set aside (plans.damaged). An error
 * where the folder cannot be written: what cannot be kept is not to be measured. */
int plans_open(const char *folder, struct plans **ret, struct error *err);
struct plans *plans_close(struct plans *p);

extern const char *const plans_type_names[DTYPE_N];

/* What can compute a shape, all directions alike. */
struct plans_ways {
        const char *isa;          /* of the loops that are measured */
        char shape[128];          /* with its kind and types, printable */
        const char *const *names; /* [n], one word each */
        const bool *possible;     /* [n] */
        int n;
        /* Seconds of each direction, INFINITY where it cannot be done. */
        void (*time)(void *user, int way, double ret_seconds[PLANS_DIRECTIONS]);
        void *user;
};

/* ways: in, the fixed rule's; out, what the folder has for this processor, number of threads and shape. Where it has
 * nothing the ways are measured and the choice is kept: another way than the rule's where it is at least a tenth
 * faster. What another process kept meanwhile wins. Without a folder, in a device that only plans, or where keeping
 * fails, the rule stays. */
void plans_choose(const struct device *d, const struct plans_ways *w, int ways[PLANS_DIRECTIONS]);

/* What a shape's directions compute on while they are timed: zeros, which take as long as other values. */
struct plans_operands {
        void *x, *y, *w, *workspace;
};

/* Seconds of each direction: warmed up once, the best of several; INFINITY where it fails. operands get memory of those
 * bytes (x, y, w, workspace) for as long; where there is none ret_seconds stays. */
void plans_time(struct device *d, struct plans_operands *operands, const size_t bytes[4],
                int (*const run[PLANS_DIRECTIONS])(void *user), void *user, double ret_seconds[PLANS_DIRECTIONS]);
