/* What is kept of the processor's choices: a key is "PROCESSOR; ISA; N threads; SHAPE", a choice the ways of forward,
 * backward data and backward weights, a word each. */
#include "kernels/host_plans.h"

#include "base/clock.h"
#include "kernels/plans_file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define FASTER 0.9 /* of the rule's time, for another way to be taken: less is noise */
#define ROUNDS_MAX 3
#define RUNS_MAX 5
#define RUNS_US 10000 /* after so long a way has been measured often enough */

const char *const plans_type_names[DTYPE_N] = {[DTYPE_FLOAT32] = "float32", [DTYPE_BF16] = "bf16"};

struct plans {
        struct plans_file *file;
        char processor[128]; /* its name, printable */
};

int plans_open(const char *folder, struct plans **ret, struct error *err)
{
        struct plans *p = calloc(1, sizeof *p);
        struct device_info info = {0};
        int r = p ? host_info_read("", &info, err) : error_set(err, -ENOMEM, "", "out of memory");

        if (r >= 0)
                r = plans_file_open(folder, &p->file, err);
        if (r < 0) {
                free(p);
                return r;
        }
        plans_printable(p->processor, sizeof p->processor, info.name);
        *ret = p;
        return 0;
}

struct plans *plans_close(struct plans *p)
{
        if (p)
                (void)plans_file_close(p->file);
        free(p);
        return NULL;
}

/* ---- choices */

struct choosing {
        const struct plans_ways *w;
        int *ways; /* [PLANS_DIRECTIONS] */
};

/* The ways that a line names: false where one is not known or not possible here. */
static bool take(void *user, const char *choice)
{
        const struct choosing *c = user;
        char text[PLANS_CHOICE_SIZE], *rest = text;
        int found[PLANS_DIRECTIONS];

        (void)snprintf(text, sizeof text, "%s", choice);
        for (int i = 0; i < PLANS_DIRECTIONS; i++) {
                const char *word = strsep(&rest, " ");
                int way = 0;

                while (word && way < c->w->n && strcmp(word, c->w->names[way]) != 0)
                        way++;
                if (!word || way == c->w->n || !c->w->possible[way])
                        return false;
                found[i] = way;
        }
        memcpy(c->ways, found, sizeof found);
        return true;
}

/* The best of the ways in each direction, by the times so far; whether one is not the rule's. */
static bool best_of(int n, double seconds[PLANS_WAYS][PLANS_DIRECTIONS], const int rule[PLANS_DIRECTIONS],
                    int ret_ways[PLANS_DIRECTIONS])
{
        bool other = false;

        for (int i = 0; i < PLANS_DIRECTIONS; i++) {
                ret_ways[i] = rule[i];
                for (int way = 0; way < n; way++)
                        if (seconds[way][i] <= FASTER * seconds[rule[i]][i] &&
                            seconds[way][i] < seconds[ret_ways[i]][i])
                                ret_ways[i] = way;
                other |= ret_ways[i] != rule[i];
        }
        return other;
}

/* Where another way seems faster all are timed again, in turn, and the best times count: what disturbed the rule's once
 * does not do so each time. */
static void measure(const struct plans_ways *w, int ways[PLANS_DIRECTIONS])
{
        double seconds[PLANS_WAYS][PLANS_DIRECTIONS];
        int rule[PLANS_DIRECTIONS];
        bool again = true;

        memcpy(rule, ways, sizeof rule);
        for (int way = 0; way < w->n; way++)
                for (int i = 0; i < PLANS_DIRECTIONS; i++)
                        seconds[way][i] = INFINITY;
        for (int round = 0; again && round < ROUNDS_MAX; round++) {
                for (int way = 0; way < w->n; way++) {
                        double once[PLANS_DIRECTIONS] = {INFINITY, INFINITY, INFINITY};

                        if (w->possible[way])
                                w->time(w->user, way, once);
                        for (int i = 0; i < PLANS_DIRECTIONS; i++)
                                seconds[way][i] = fmin(seconds[way][i], once[i]);
                }
                again = best_of(w->n, seconds, rule, ways);
        }
}

void plans_choose(const struct device *d, const struct plans_ways *w, int ways[PLANS_DIRECTIONS])
{
        char key[PLANS_KEY_SIZE], choice[PLANS_CHOICE_SIZE];
        int chosen[PLANS_DIRECTIONS], n_possible = 0;

        for (int way = 0; way < w->n; way++)
                n_possible += w->possible[way];
        if (!d->plans || n_possible < 2)
                return;
        (void)snprintf(key, sizeof key, "%s; %s; %d threads; %s", d->plans->processor, w->isa, d->threads, w->shape);
        if (plans_file_find(d->plans->file, key, take, &(struct choosing){w, ways}) || d->plan_only)
                return;
        memcpy(chosen, ways, sizeof chosen);
        measure(w, chosen);
        (void)snprintf(choice, sizeof choice, "%s %s %s", w->names[chosen[0]], w->names[chosen[1]],
                       w->names[chosen[2]]);
        if (plans_file_keep(d->plans->file, key, choice, take, &(struct choosing){w, chosen}) >= 0)
                memcpy(ways, chosen, sizeof chosen);
}

static double time_run(int (*run)(void *user), void *user)
{
        int64_t best = INT64_MAX, start = clock_monotonic_us();

        if (run(user) < 0) /* warms up */
                return INFINITY;
        for (int i = 0; i < RUNS_MAX && (i == 0 || clock_monotonic_us() - start < RUNS_US); i++) {
                int64_t begin = clock_monotonic_us();

                if (run(user) < 0)
                        return INFINITY;
                best = MIN(best, clock_monotonic_us() - begin);
        }
        return (double)best * 1e-6;
}

void plans_time(struct device *d, struct plans_operands *operands, const size_t bytes[4],
                int (*const run[PLANS_DIRECTIONS])(void *user), void *user, double ret_seconds[PLANS_DIRECTIONS])
{
        void **const places[] = {&operands->x, &operands->y, &operands->w, &operands->workspace};
        bool all = true;

        for (size_t i = 0; i < ARRAY_LEN(places); i++) {
                *places[i] = host_memory_new(d, bytes[i]);
                all = all && *places[i];
        }
        for (int i = 0; all && i < PLANS_DIRECTIONS; i++)
                ret_seconds[i] = time_run(run[i], user);
        for (size_t i = 0; i < ARRAY_LEN(places); i++)
                host_memory_free(d, *places[i]);
}
