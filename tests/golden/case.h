/* A golden case: its inputs by name, and the comparison with what the reference computed (tests/golden/README.md). */
#pragma once

#include "engine/model.h"
#include "engine/optimizer.h"
#include "tests/golden/hash.h"

struct golden {
        const char *folder;
        json_t *json;
        const struct kernels *k;
        struct device *device;
        struct stream *stream;
        struct config config;
        int64_t batch;
        double gain;
        int n_failed, n_compared;
        double rounding; /* golden_round's: of a tensor's norm, what is allowed beside float32's own error */
        bool verbose;    /* print every comparison's share of what is allowed */
};

int golden_open(const char *folder, const char *backend, int threads, struct golden *ret, struct error *err);
void golden_close(struct golden *g);

/* The networks' maps and weights, or their products' factors, are rounded to that. A rounding's error is 0.42 units
 * (tests/kernels/bf16.c), and independent of others; of a block the ways through it meet seven in a row: two norms, two
 * convolutions, their weights, the condition's projection. Forward and backward, through all of the encoder and the
 * score network, that is 0.42 units times the root of 14 a block, and twice that is allowed. */
void golden_round(struct golden *g, enum precision precision);

/* Inputs, host memory of the caller's caller: every function returns malloc'ed values. */
double *golden_uniform(const char *name, int64_t n); /* [0, 1) */
float *golden_normal(const char *name, int64_t n);
float *golden_zeros(int64_t n);

/* Device memory with a copy of host values (NULL: zeros), kept until golden_close. */
void *golden_upload(struct golden *g, const void *host, size_t bytes);
float *golden_device(struct golden *g, int64_t n);
/* Both wait, so that host may go or be read at once. */
void golden_write(struct golden *g, void *device, const void *host, size_t bytes);
void golden_download(struct golden *g, const void *device, void *host, size_t bytes);

/* Compares the stored tensor of that name (if the case has it) with n device or host values; prints a line when it
 * fails, counts. */
void golden_tensor(struct golden *g, const char *name, const float *host, int64_t n);
void golden_device_tensor(struct golden *g, const char *name, const float *device, int64_t n);
void golden_scalar(struct golden *g, const char *name, double value);
/* A whole parameter buffer (host) against the digests called what. */
void golden_digests(struct golden *g, const char *what, const struct params *layout, const float *host);
/* Rows that no comparison asked for, each printed. */
int golden_unasked(const struct golden *g);
bool golden_wants(const struct golden *g, const char *group, const char *name);
