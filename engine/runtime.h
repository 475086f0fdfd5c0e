/* A configuration on a device: its back end, the parameter sections that a task needs, and one block of memory for the
 * passes of all its models. */
#pragma once

#include "engine/checkpoint.h"
#include "engine/model.h"
#include "engine/optimizer.h"

struct runtime {
        const struct kernels *k;
        struct device *device;
        struct stream *stream;
        const struct config *config; /* borrowed */
        struct params *layout;
        float *section[SECTION_N]; /* device; NULL where the task has no need of it */
        float *grads;              /* device, when training */
        void *memory;              /* the passes' block */
        size_t memory_bytes;
};

/* What the configuration asks for, resolved: the threads that the process may use, the back end's name. */
int runtime_threads(const struct config *c);
const char *runtime_backend(const struct config *c);

/* sections: bits of enum section. config is borrowed and must outlive it. Nothing large is allocated yet. */
int runtime_new(const struct config *c, struct runtime **ret, struct error *err);
struct runtime *runtime_free(struct runtime *rt);

/* Bytes of the sections and, with gradients, of those. */
size_t runtime_state_bytes(const struct runtime *rt, unsigned sections, bool gradients);
/* Memory that this machine has left for a new process, from /proc/meminfo and the cgroup; INT64_MAX when unknown. */
int64_t runtime_available_bytes(void);

/* Allocates the state and pass_bytes for the passes. -ENOMEM with the figures when more is needed than is left. */
int runtime_allocate(struct runtime *rt, unsigned sections, bool gradients, size_t pass_bytes, struct error *err);

/* Fresh weights from the seed and their copy as EMA, of a runtime just allocated, whose moments are zero. */
int runtime_initialise(struct runtime *rt, uint32_t seed, struct error *err);

/* Between the state and a checkpoint file; load reads the sections that are allocated. */
int runtime_save(struct runtime *rt, const char *path, int64_t step, const char *state, char ret_digest[DIGEST_SIZE],
                 int64_t *ret_bytes, struct error *err);
int runtime_load(struct runtime *rt, const char *path, const char *digest, int64_t *ret_step, char **ret_state,
                 struct error *err);

/* A model for batches of m images whose passes run in rt's memory: made, dry-run (f on user) and told its bytes, then
 * bound to the memory once that is allocated. */
int runtime_model(struct runtime *rt, int64_t m, bool keep, void (*f)(struct model *, void *), void *user,
                  struct model **ret, size_t *ret_bytes, struct error *err);
int runtime_bind(struct runtime *rt, struct model *model, struct error *err);
struct model *runtime_model_free(struct model *model); /* and its arena */

/* Device memory for n bytes, zeroed. */
void *runtime_memory(struct runtime *rt, size_t bytes, struct error *err);

DEFINE_CLEANUP(struct runtime *, runtime_free);
