/* A configuration on a device: its back end, the parameter sections that a task needs, and one block of memory for the
 * passes of all its models. */
#pragma once

#include "engine/checkpoint.h"
#include "engine/dataset.h"
#include "engine/model.h"
#include "engine/optimizer.h"
#include "engine/ranks.h"

struct runtime {
        const struct kernels *k;
        struct device *device;
        struct device_info info;
        struct stream *stream;
        const struct config *config; /* borrowed */
        struct params *layout;
        float *section[SECTION_N]; /* device; NULL where the task has no need of it */
        float *grads;              /* device, when training; without the schedule's where those stay factors */
        struct ranks ranks;
        void *memory; /* the passes' block */
        size_t memory_bytes;
};

/* What a task needs beside its state: the passes share one block, each object has buffers of its own. */
struct runtime_need {
        size_t pass_bytes;   /* the largest of the passes */
        size_t buffer_bytes; /* the sum of the buffers */
};

/* Opens the configuration's back end. plan_only: for estimates, nothing will run. config is borrowed and must outlive
 * it. plans_folder: kernels.h, device_settings. Nothing large is allocated yet. */
int runtime_new(const struct config *c, bool plan_only, const char *plans_folder, struct runtime **ret,
                struct error *err);
struct runtime *runtime_free(struct runtime *rt);

/* Whether a step of training keeps the schedule's gradients as factors; and the values of the others. */
bool runtime_factors(const struct config *c);
int64_t runtime_gradients(const struct runtime *rt);
/* Of what the device had free when it was last asked, what is a rank's: those on one processor share its memory. */
size_t runtime_memory_share(const struct runtime *rt);
/* Bytes of the sections and, with gradients, of those; and the need. */
size_t runtime_total_bytes(const struct runtime *rt, unsigned sections, bool gradients,
                           const struct runtime_need *need);

/* Allocates the state and the passes' block. -ENOMEM with the figures when more is needed than the device has left. */
int runtime_allocate(struct runtime *rt, unsigned sections, bool gradients, const struct runtime_need *need,
                     struct error *err);

/* Fresh weights from the seed and their copy as EMA, of a runtime just allocated, whose moments are zero. */
int runtime_initialise(struct runtime *rt, uint32_t seed, struct error *err);

/* Between the state and a checkpoint file; load reads the sections that are allocated. */
int runtime_save(struct runtime *rt, const char *path, int64_t step, const char *state, char ret_digest[DIGEST_SIZE],
                 int64_t *ret_bytes, struct error *err);
int runtime_load(struct runtime *rt, const char *path, const char *digest, int64_t *ret_step, char **ret_state,
                 struct error *err);

/* Device memory for n bytes, zeroed; NULL with *err, which must be there: -ENOMEM, or the device's failure. */
void *runtime_memory(struct runtime *rt, size_t bytes, struct error *err);

/* The first n images of a split as bytes on the device, [n, 3072]; the caller's to free (memory_free). */
int runtime_images(struct runtime *rt, const struct dataset *d, enum split split, int64_t n, uint8_t **ret,
                   struct error *err);

DEFINE_CLEANUP(struct runtime *, runtime_free);
