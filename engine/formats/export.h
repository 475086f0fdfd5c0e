/* Our checkpoints for other programs, as a file that nobody has to write: its bytes are made of a few of ours (headers)
 * and of those of the checkpoint, in another order, so that any part of it can be read with no more memory than the
 * tree of names takes, and its size is known at once.
 *
 *   flax    what flax.training.checkpoints and clu.checkpoint read into the published code's TrainState, byte for byte
 *           as it writes it: {step, params, ema_params, opt_state}, maps in the order of their keys
 *   ema, params   one section alone under the published names, as safetensors */
#pragma once

#include "engine/checkpoint.h"
#include "engine/formats/flax.h"

enum export_format { EXPORT_FLAX, EXPORT_EMA, EXPORT_PARAMS, EXPORT_N };
extern const char *const export_format_names[]; /* flax ema params, NULL */

struct export;

/* Of an open checkpoint; fd is borrowed until the export is closed, path is for errors. chunk_bytes: arrays of more are
 * written in chunks (FLAX_CHUNK_BYTES). -EBADMSG for what is no whole checkpoint. */
int export_open(int fd, const char *path, enum export_format format, int64_t chunk_bytes, struct export **ret,
                struct error *err);
struct export *export_close(struct export *e);

int64_t export_bytes(const struct export *e);
/* Bytes [at, at + n), all within it. */
int export_read(const struct export *e, int64_t at, void *ret, size_t n, struct error *err);

DEFINE_CLEANUP(struct export *, export_close);
