/* The published code's checkpoints (spec 10) as ours: the tree {step, params, ema_params, opt_state} of a flax file
 * matched, by name, to the parameters of a configuration, and written as a checkpoint of this release, from which
 * everything else evaluates, samples or trains further.
 *
 * The moments stand wherever opt_state has "mu" beside "nu" (the published optimizer is a chain of two, each masked to
 * a part of the parameters; clipping puts it a level deeper). A section is whole or absent: where params or ema_params
 * is absent it is the other's copy, absent moments are zero. Arrays may be of any real dtype. What the configuration
 * has no place for is left over. */
#pragma once

#include "engine/checkpoint.h"
#include "engine/formats/flax.h"

enum published_status { PUBLISHED_MATCHED, PUBLISHED_MISSING, PUBLISHED_LEFT_OVER, PUBLISHED_N };
extern const char *const published_status_names[]; /* matched missing left-over */

struct published_row {
        enum published_status status;
        enum section section;         /* but of what is left over */
        const struct param *param;    /* NULL: left over */
        const struct flax_node *node; /* NULL: missing */
};

struct published {
        struct flax *tree;
        const struct params *params;
        struct published_row *rows; /* [n_rows]: section by section in the order of params, then what is left over */
        size_t n_rows, n[PUBLISHED_N];
        int64_t step;
        int64_t updates; /* the optimizer's own count, or -1; bias corrections follow the step */
};

/* Reads and matches, without a value. -EBADMSG: no such file, or one that does not fit: the shape, dtype or name is
 * said, with the number of those that do not. params is borrowed. */
int published_open(const char *path, const struct params *params, struct published **ret, struct error *err);
struct published *published_close(struct published *x);

/* Writes the checkpoint, in pieces. -EBADMSG, and nothing written, at a value that is not finite, or a second moment
 * below zero: the tensor and the place are named. */
int published_write(struct published *x, const char *to, const struct config *c, const char *state,
                    char ret_digest[DIGEST_SIZE], int64_t *ret_bytes, struct error *err);

/* A line of CSV without its end: status, our name, path in the file, dtype, shape; and the line of headings. */
extern const char published_headings[];
void published_describe(const struct published *x, const struct published_row *row, char *ret, size_t size);

DEFINE_CLEANUP(struct published *, published_close);
