/* Checkpoints: one safetensors file that holds all that exact resumption needs: {params, ema, m, v, step} and the
 * configuration. Layout: u64 header size (little endian), JSON header padded with spaces to 64 bytes, float32 data.
 * Tensors are called "params/NAME", "ema/NAME", "m/NAME", "v/NAME"; "__metadata__" holds strings: format "mulund-1",
 * step, config (JSON text) and, where there is one, state (JSON text: what the trainer has in hand between two log
 * lines). Written to a temporary name, synced, renamed; the digest is of the whole file. */
#pragma once

#include "engine/params.h"

enum section { SECTION_PARAMS, SECTION_EMA, SECTION_M, SECTION_V, SECTION_N };
extern const char *const section_names[]; /* params ema m v */

/* How values get out of or into device memory: n values of a section from offset (as in struct params). Called in
 * pieces of at most 1 Mi values. Negative ends the operation. */
struct checkpoint_io {
        void *user;
        int (*read)(void *user, enum section s, int64_t offset, int64_t n, float *ret, struct error *err);
        int (*write)(void *user, enum section s, int64_t offset, int64_t n, const float *values, struct error *err);
};

/* state: text for the metadata, or NULL. */
int checkpoint_write(const char *path, const struct params *p, const struct config *c, int64_t step, const char *state,
                     const struct checkpoint_io *io, char ret_digest[DIGEST_SIZE], int64_t *ret_bytes,
                     struct error *err);

/* What its writer said of it: step and state (the caller's, or NULL), of a file whose header is JSON as above. It reads
 * the header alone, so that a file can be refused before any of its values is met; checkpoint_read checks the rest. */
int checkpoint_peek(const char *path, const struct params *p, int64_t *ret_step, char **ret_state, struct error *err);

/* Reads into io->write the sections whose bit is set in sections. Before the first value is handed over: the digest (""
 * skips it) is verified over the whole file, the header is checked (size, JSON, dtype F32, shapes, offsets without gaps
 * or overlaps, file length), and every parameter of p is there with its shape. -EBADMSG for what is torn or altered,
 * with the file, what was found and what was expected. *ret_state (ret_state may be NULL) is the caller's, or NULL. */
int checkpoint_read(const char *path, const char *digest, const struct params *p, unsigned sections,
                    const struct checkpoint_io *io, int64_t *ret_step, char **ret_state, struct error *err);

/* What a checkpoint's header lists, without a model: for who copies values from file to file. */
struct checkpoint_tensor {
        char name[PARAM_NAME_MAX + 8]; /* "params/NAME" */
        int n_dims;
        int64_t shape[4], size; /* values */
        int64_t at;             /* its first byte in the file; float32, little endian, one behind the other */
};

struct checkpoint_list {
        size_t n;
        struct checkpoint_tensor *items; /* [n] in no order */
        int64_t step;
        json_t *config;
};

/* Of an open file (borrowed; path is for errors), checked as checkpoint_read does but for the model's shapes. */
int checkpoint_list(int fd, const char *path, struct checkpoint_list *ret, struct error *err);
void checkpoint_list_done(struct checkpoint_list *l);
