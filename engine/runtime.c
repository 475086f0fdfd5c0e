#include "engine/runtime.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

int runtime_threads(const struct config *c)
{
        cpu_set_t set;

        if (c->threads > 0)
                return (int)c->threads;
        return sched_getaffinity(0, sizeof set, &set) < 0 ? 1 : CPU_COUNT(&set);
}

const char *runtime_backend(const struct config *c)
{
        return c->backend == BACKEND_REFERENCE ? "reference" : "cpu";
}

int runtime_new(const struct config *c, struct runtime **ret, struct error *err)
{
        _cleanup_(runtime_freep) struct runtime *rt = calloc(1, sizeof *rt);
        int r;

        if (!rt)
                return error_set(err, -ENOMEM, NULL, "no memory for the runtime");
        rt->config = c;
        r = params_new(c, &rt->layout, err);
        if (r >= 0)
                r = kernels_find(runtime_backend(c), &rt->k, err);
        if (r >= 0)
                r = rt->k->device_open(&(struct device_settings){.threads = runtime_threads(c)}, &rt->device, err);
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

size_t runtime_state_bytes(const struct runtime *rt, unsigned sections, bool gradients)
{
        return (size_t)(__builtin_popcount(sections) + gradients) * (size_t)rt->layout->n_values * sizeof(float);
}

/* A number of bytes in a file of one line, INT64_MAX when there is none. */
static int64_t read_limit(const char *path)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(64);
        int64_t value = INT64_MAX;

        if (file_read(path, &b, NULL) < 0 || sscanf(b.data ? b.data : "", "%" SCNd64, &value) != 1)
                return INT64_MAX;
        return value;
}

int64_t runtime_available_bytes(void)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(1 << 16);
        int64_t available = INT64_MAX, kib, limit = read_limit("/sys/fs/cgroup/memory.max");
        const char *line;

        if (file_read("/proc/meminfo", &b, NULL) >= 0 && (line = strstr(b.data, "MemAvailable:")) &&
            sscanf(line, "MemAvailable: %" SCNd64, &kib) == 1)
                available = kib * 1024;
        if (limit != INT64_MAX) {
                int64_t used = read_limit("/sys/fs/cgroup/memory.current");

                available = MIN(available, used == INT64_MAX ? limit : MAX(limit - used, 0));
        }
        return available;
}

void *runtime_memory(struct runtime *rt, size_t bytes, struct error *err)
{
        void *p = rt->k->memory_new(rt->device, bytes);

        if (!p)
                (void)error_set(err, -ENOMEM, NULL, "the device has no %zu MiB left", bytes >> 20);
        return p;
}

int runtime_allocate(struct runtime *rt, unsigned sections, bool gradients, size_t pass_bytes, struct error *err)
{
        size_t section_bytes = (size_t)rt->layout->n_values * sizeof(float);
        size_t need = runtime_state_bytes(rt, sections, gradients) + pass_bytes;
        int64_t available = runtime_available_bytes();

        if ((int64_t)need > available)
                return error_set(
                        err, -ENOMEM, NULL,
                        "too little memory: %zu MiB are needed, %" PRId64
                        " MiB are available; a smaller model.sm_n_embd or training.batch_size_train needs less",
                        need >> 20, available >> 20);
        for (int i = 0; i < SECTION_N; i++)
                if (sections >> i & 1 && !(rt->section[i] = runtime_memory(rt, section_bytes, err)))
                        return -ENOMEM;
        if (gradients && !(rt->grads = runtime_memory(rt, section_bytes, err)))
                return -ENOMEM;
        rt->memory = runtime_memory(rt, pass_bytes, err);
        rt->memory_bytes = pass_bytes;
        return rt->memory ? 0 : -ENOMEM;
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

                params_init(rt->layout, i, rt->config, seed, host);
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

int runtime_model(struct runtime *rt, int64_t m, bool keep, void (*f)(struct model *, void *), void *user,
                  struct model **ret, size_t *ret_bytes, struct error *err)
{
        _cleanup_(model_freep) struct model *model = NULL;
        size_t bytes;
        int r = model_new(rt->k, rt->device, rt->stream, rt->layout, rt->config, m, &model, err);

        if (r < 0)
                return r;
        model->pass.keep = keep;
        model->pass.grads = keep ? (float *)KERNELS_ALIGN : NULL; /* a dry run only asks whether there are any */
        r = model_dry_run(model, f, user, &bytes, err);
        if (r < 0)
                return r;
        *ret_bytes = MAX(*ret_bytes, bytes);
        *ret = TAKE_PTR(model);
        return 0;
}

int runtime_bind(struct runtime *rt, struct model *model, struct error *err)
{
        model->pass.grads = model->pass.keep ? rt->grads : NULL;
        return arena_new(rt->memory, rt->memory_bytes, &model->pass.arena, err);
}

struct model *runtime_model_free(struct model *model)
{
        if (model)
                model->pass.arena = arena_free(model->pass.arena);
        return model_free(model);
}
