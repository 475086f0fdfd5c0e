/* What trainer, evaluator and sampler are made of: a model, device buffers as a list, so that they are counted,
 * allocated and freed by the same lines, and operations that are recorded once and launched in windows, without the
 * host. */
#pragma once

#include "engine/runtime.h"

#define PROGRAM_BUFFERS 24

/* Between windows: progress of all. A negative answer, with err set, ends them. */
struct between {
        int (*f)(void *user, int64_t done, int64_t all, struct error *err); /* or NULL */
        void *user;
};

struct program {
        struct runtime *rt;
        struct model *model;
        struct step_state at; /* as the device has it after a window; or to be written there */
        bool together;        /* every rank runs its windows, and launches as often as the first */
        double launch_us;     /* of a launch, as last measured; 0: not yet */
        /* device memory */
        struct step_state *state;
        struct row *rows;
        struct {
                void **place;
                size_t bytes;
        } buffers[PROGRAM_BUFFERS];
        size_t n_buffers;
};

/* With a state and so many rows as its first buffers. rt is borrowed. Then its other buffers, by the pointer that will
 * hold their address, which must stay where it is. */
void program_init(struct program *x, struct runtime *rt, int64_t n_rows);
void program_buffer(struct program *x, void *place, size_t bytes);
/* A model for batches of m images, and what its passes and the buffers need: `body` is run once on user in a dry run,
 * with addresses that nobody reads. */
int program_plan(struct program *x, int64_t m, enum precision precision, bool keep,
                 void (*body)(struct model *, void *user), void *user, struct runtime_need *need, struct error *err);
/* Gives it its memory, after runtime_allocate. */
int program_bind(struct program *x, struct error *err);
/* Of zeros, too. */
void program_done(struct program *x);

int program_record(struct program *x, void (*body)(struct model *, void *user), void *user, struct graph **ret,
                   struct error *err);
/* A window of launches: as many as take about half a second, at most `most`. Its end is
 * waited for and the state read. What is computed does not depend on how launches are split into windows. */
int program_window(struct program *x, const struct graph *g, int64_t most, int64_t *ret_n, struct error *err);
/* n launches in windows. Progress after i of them is first + i each / per, at most all. */
struct progress {
        int64_t first, each, per, all;
};
int program_windows(struct program *x, const struct graph *g, int64_t n, struct progress progress,
                    const struct between *between, struct error *err);
