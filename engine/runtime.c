#include "engine/runtime.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define IMAGES_AT_ONCE 1024

/* The threads that the configuration asks for, or one for every processor that the process may use. */
static int threads_of(const struct config *c)
{
        cpu_set_t set;

        if (c->threads > 0)
                return (int)c->threads;
        return sched_getaffinity(0, sizeof set, &set) < 0 ? 1 : CPU_COUNT(&set);
}

/* auto is the processor: a GPU is taken where it is asked for. */
static const char *backend_of(const struct config *c)
{
        static const char *const names[] = {[BACKEND_AUTO] = "cpu",
                                            [BACKEND_CPU] = "cpu",
                                            [BACKEND_REFERENCE] = "reference",
                                            [BACKEND_CUDA] = "cuda"};

        return names[c->backend];
}

int runtime_new(const struct config *c, bool plan_only, const char *plans_folder, struct runtime **ret,
                struct error *err)
{
        _cleanup_(runtime_freep) struct runtime *rt = calloc(1, sizeof *rt);
        struct device_settings settings = {
                .threads = threads_of(c), .plan_only = plan_only, .plans_folder = plans_folder};
        int r;

        if (!rt)
                return error_set(err, -ENOMEM, NULL, "no memory for the runtime");
        rt->config = c;
        rt->ranks.size = (int)c->devices;
        r = params_new(c, &rt->layout, err);
        if (r >= 0)
                r = kernels_find(backend_of(c), &rt->k, err);
        if (r >= 0)
                r = rt->k->device_open(&settings, &rt->device, err);
        if (r >= 0)
                r = rt->k->device_info(rt->device, &rt->info, err);
        if (r >= 0)
                r = rt->k->stream_new(rt->device, &rt->stream, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(rt);
        return 0;
}

struct runtime *runtime_free(struct runtime *rt)
{
        if (!rt)
                return NULL;
        ranks_leave(&rt->ranks, rt->k, rt->device);
        if (rt->device) {
                for (int i = 0; i < SECTION_N; i++)
                        rt->k->memory_free(rt->device, rt->section[i]);
                rt->k->memory_free(rt->device, rt->grads);
                rt->k->memory_free(rt->device, rt->memory);
                if (rt->stream)
                        (void)rt->k->stream_free(rt->stream);
                (void)rt->k->device_close(rt->device);
        }
        (void)params_free(rt->layout);
        free(rt);
        return NULL;
}

bool runtime_factors(const struct config *c)
{
        return c->gamma_type == GAMMA_POLY_FIXEDEND && c->batch_size_train <= FACTORED_ROWS;
}

int64_t runtime_gradients(const struct runtime *rt)
{
        return runtime_factors(rt->config) ? rt->layout->n_networks : rt->layout->n_values;
}

static size_t gradient_bytes(const struct runtime *rt)
{
        return (size_t)runtime_gradients(rt) * sizeof(float);
}

static bool on_processor(const struct runtime *rt)
{
        return rt->info.compute_major == 0;
}

size_t runtime_memory_share(const struct runtime *rt)
{
        return (size_t)rt->info.memory_free / (on_processor(rt) ? (size_t)rt->ranks.size : 1);
}

/* On one processor the first rank's figure is everybody's: it was read before anybody took anything. */
static int ask_memory(struct runtime *rt, struct error *err)
{
        int r = rt->k->device_info(rt->device, &rt->info, err);

        return r < 0 || !on_processor(rt) ? r
                                          : ranks_agree(rt, &rt->info.memory_free, sizeof rt->info.memory_free, err);
}

size_t runtime_total_bytes(const struct runtime *rt, unsigned sections, bool gradients, const struct runtime_need *need)
{
        return (size_t)__builtin_popcount(sections) * (size_t)rt->layout->n_values * sizeof(float) +
               (gradients ? gradient_bytes(rt) : 0) + need->pass_bytes + need->buffer_bytes;
}

void *runtime_memory(struct runtime *rt, size_t bytes, struct error *err)
{
        void *p = rt->k->memory_new(rt->device, bytes);

        if (!p && rt->k->stream_sync(rt->stream, err) >= 0) /* else the device has failed */
                (void)error_set(err, -ENOMEM, NULL, "the device has no %zu MiB left", bytes >> 20);
        return p;
}

int runtime_allocate(struct runtime *rt, unsigned sections, bool gradients, const struct runtime_need *need,
                     struct error *err)
{
        size_t section_bytes = (size_t)rt->layout->n_values * sizeof(float);
        size_t bytes = runtime_total_bytes(rt, sections, gradients, need);
        int r = ask_memory(rt, err);

        if (r < 0)
                return r;
        if (bytes > runtime_memory_share(rt))
                return error_set(err, -ENOMEM, NULL, "too little memory: %zu MiB are needed, %zu MiB are free",
                                 bytes >> 20, runtime_memory_share(rt) >> 20);
        for (int i = 0; i < SECTION_N; i++)
                if (sections >> i & 1 && !(rt->section[i] = runtime_memory(rt, section_bytes, err)))
                        return err->code;
        if (gradients && !(rt->grads = runtime_memory(rt, gradient_bytes(rt), err)))
                return err->code;
        rt->memory = runtime_memory(rt, need->pass_bytes, err);
        rt->memory_bytes = need->pass_bytes;
        return rt->memory ? 0 : err->code;
}

int runtime_images(struct runtime *rt, const struct dataset *d, enum split split, int64_t n, uint8_t **ret,
                   struct error *err)
{
        _cleanup_(freep) uint8_t *host = malloc((size_t)IMAGES_AT_ONCE * IMAGE_BYTES);
        uint8_t *images = runtime_memory(rt, (size_t)n * IMAGE_BYTES, err);
        int r = images ? 0 : err->code;

        if (images && !host)
                r = error_set(err, -ENOMEM, NULL, "no memory to read the images");
        for (int64_t first = 0; r >= 0 && first < n; first += IMAGES_AT_ONCE) {
                int64_t count = MIN(n - first, (int64_t)IMAGES_AT_ONCE);

                for (int64_t i = 0; i < count; i++)
                        dataset_image(d, split, first + i, host + i * IMAGE_BYTES);
                rt->k->copy_in(rt->stream, images + first * IMAGE_BYTES, host, (size_t)count * IMAGE_BYTES);
                r = rt->k->stream_sync(rt->stream, err);
        }
        if (r < 0) {
                rt->k->memory_free(rt->device, images);
                return r;
        }
        *ret = images;
        return 0;
}

int runtime_initialise(struct runtime *rt, uint32_t seed, struct error *err)
{
        _cleanup_(freep) float *host = NULL;
        int64_t largest = 0;

        for (size_t i = 0; i < rt->layout->n; i++)
                largest = MAX(largest, rt->layout->items[i].size);
        host = malloc((size_t)largest * sizeof *host);
        if (!host)
                return error_set(err, -ENOMEM, NULL, "no memory for the initial weights");
        for (size_t i = 0; i < rt->layout->n; i++) {
                const struct param *q = &rt->layout->items[i];
                size_t bytes = (size_t)q->size * sizeof *host;

                params_init(rt->layout, i, seed, host);
                rt->k->copy_in(rt->stream, rt->section[SECTION_PARAMS] + q->offset, host, bytes);
                rt->k->copy_in(rt->stream, rt->section[SECTION_EMA] + q->offset, host, bytes);
                if (rt->k->stream_sync(rt->stream, err) < 0)
                        return err->code;
        }
        return 0;
}

static int read_values(void *user, enum section s, int64_t offset, int64_t n, float *ret, struct error *err)
{
        struct runtime *rt = user;

        rt->k->copy_out(rt->stream, ret, rt->section[s] + offset, (size_t)n * sizeof *ret);
        return rt->k->stream_sync(rt->stream, err);
}

static int write_values(void *user, enum section s, int64_t offset, int64_t n, const float *values, struct error *err)
{
        struct runtime *rt = user;

        rt->k->copy_in(rt->stream, rt->section[s] + offset, values, (size_t)n * sizeof *values);
        return rt->k->stream_sync(rt->stream, err);
}

int runtime_save(struct runtime *rt, const char *path, int64_t step, const char *state, char ret_digest[DIGEST_SIZE],
                 int64_t *ret_bytes, struct error *err)
{
        struct checkpoint_io io = {.user = rt, .read = read_values};

        return checkpoint_write(path, rt->layout, rt->config, step, state, &io, ret_digest, ret_bytes, err);
}

int runtime_load(struct runtime *rt, const char *path, const char *digest, int64_t *ret_step, char **ret_state,
                 struct error *err)
{
        struct checkpoint_io io = {.user = rt, .write = write_values};
        unsigned sections = 0;

        for (unsigned i = 0; i < SECTION_N; i++)
                sections |= (unsigned)!!rt->section[i] << i;
        return checkpoint_read(path, digest, rt->layout, sections, &io, ret_step, ret_state, err);
}
