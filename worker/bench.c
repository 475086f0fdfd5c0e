#include "worker/bench.h"

#include "base/clock.h"
#include "engine/trainer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define STEPS_MAX 1000
#define ALL_SECTIONS ((1u << SECTION_N) - 1)

struct options {
        int64_t embd, layers, encoder_layers, batch, steps, warmup, threads;
};

static int parse(int argc, char **argv, struct options *o)
{
        const struct {
                const char *name;
                int64_t *value;
        } table[] = {{"--embd", &o->embd},      {"--layers", &o->layers}, {"--encoder-layers", &o->encoder_layers},
                     {"--batch", &o->batch},    {"--steps", &o->steps},   {"--warmup", &o->warmup},
                     {"--threads", &o->threads}};

        for (int i = 0; i < argc; i += 2) {
                size_t row = 0;
                char *end;

                while (row < ARRAY_LEN(table) && strcmp(argv[i], table[row].name))
                        row++;
                if (row == ARRAY_LEN(table) || i + 1 == argc) {
                        (void)fprintf(stderr, "mulun-worker --bench: %s: expected an option and its value\n", argv[i]);
                        return -EINVAL;
                }
                *table[row].value = strtoll(argv[i + 1], &end, 10);
                if (*end || end == argv[i + 1] || *table[row].value < 0 || *table[row].value > 65536) {
                        (void)fprintf(stderr, "mulun-worker --bench: %s: expected a whole number\n", argv[i]);
                        return -EINVAL;
                }
        }
        return 0;
}

/* Multiply-adds of one image's forward pass (shared research, engine.md): the networks' tapes, the schedule's kernels.
 */
static double multiply_adds(const struct runtime *rt, struct error *err)
{
        struct networks n;
        double sum = 0;

        if (networks_init(&n, rt->config, rt->layout, DTYPE_FLOAT32, err) >= 0)
                sum = tape_multiply_adds(&n.score.tape) + tape_multiply_adds(&n.encoder.tape);
        networks_done(&n);
        for (size_t i = 0; i < rt->layout->n; i++)
                if (rt->layout->items[i].of_schedule && rt->layout->items[i].n_dims == 2)
                        sum += (double)rt->layout->items[i].size;
        return sum;
}

static int compare(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

        return (x > y) - (x < y);
}

static int time_steps(struct trainer *t, const struct options *o, double *ret_seconds, struct error *err)
{
        int64_t us[STEPS_MAX];
        int r = 0;

        for (int64_t i = 0; i < o->warmup + o->steps && r >= 0; i++) {
                int64_t start = clock_monotonic_us(), n;

                r = trainer_window(t, 1, &n, err);
                if (i >= o->warmup)
                        us[i - o->warmup] = clock_monotonic_us() - start;
        }
        qsort(us, (size_t)o->steps, sizeof *us, compare);
        *ret_seconds = (double)us[o->steps / 2] / 1e6;
        return r;
}

static int run(const struct options *o, const struct config *c, const struct dataset *d, struct error *err)
{
        _cleanup_(runtime_freep) struct runtime *rt = NULL;
        struct trainer *t = NULL;
        struct rusage usage;
        struct runtime_need need = {0};
        double seconds = 0;
        int r = runtime_new(c, false, &rt, err);

        if (r >= 0)
                r = trainer_new(rt, ALL_SECTIONS, &t, &need, err);
        if (r >= 0)
                r = runtime_allocate(rt, ALL_SECTIONS, true, &need, err);
        if (r >= 0)
                r = trainer_bind(t, d, err);
        if (r >= 0)
                r = runtime_initialise(rt, (uint32_t)c->seed, err);
        if (r >= 0)
                r = time_steps(t, o, &seconds, err);
        if (r >= 0) {
                double images = (double)o->batch / seconds;

                (void)getrusage(RUSAGE_SELF, &usage);
                (void)printf("{\"embd\": %lld, \"layers\": %lld, \"encoder_layers\": %lld, \"batch\": %lld, "
                             "\"threads\": %d, \"seconds\": %.6f, \"images_per_second\": %.4f, \"peak_bytes\": %lld, "
                             "\"pass_bytes\": %zu, \"gflops\": %.2f}\n",
                             (long long)o->embd, (long long)o->layers, (long long)o->encoder_layers,
                             (long long)o->batch, rt->info.threads, seconds, images, (long long)usage.ru_maxrss * 1024,
                             need.pass_bytes, 3 * 2 * multiply_adds(rt, err) * images / 1e9);
        }
        (void)trainer_free(t);
        return r;
}

/* Images of noise in CIFAR-10's format, in a folder that is gone again afterwards. */
static int make_images(char *folder, int64_t n, struct error *err)
{
        static const char *const names[] = {"data_batch_1.bin", "test_batch.bin"};
        size_t bytes = (size_t)n * (IMAGE_BYTES + 1);
        _cleanup_(freep) uint8_t *x = malloc(bytes);
        int r = 0;

        if (!x || !mkdtemp(folder))
                return error_set(err, -errno, folder, "no folder for synthetic images");
        for (size_t i = 0; i < bytes; i++)
                x[i] = (uint8_t)philox_draw(1, STREAM_DATA, 0, (uint32_t)i, 0, 0, 0).v[0];
        for (size_t i = 0; i < ARRAY_LEN(names) && r >= 0; i++) {
                char path[256];

                (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
                r = file_write_atomic(path, x, bytes, NULL, err);
        }
        return r;
}

int bench(int argc, char **argv)
{
        struct options o = {.embd = 64, .layers = 4, .encoder_layers = 2, .batch = 8, .steps = 10, .warmup = 2};
        _cleanup_(dataset_freep) struct dataset *d = NULL;
        char folder[] = "/tmp/mulun-bench.XXXXXX";
        struct config c;
        struct errors errs = {0};
        struct error err = {0};
        int r;

        if (parse(argc, argv, &o) < 0)
                return 2;
        config_defaults(&c);
        c.sm_n_embd = o.embd;
        c.sm_n_layer = o.layers;
        c.forward_n_layer = o.encoder_layers;
        c.batch_size_train = o.batch;
        c.threads = o.threads;
        if (config_check(&c, &errs) < 0 || !o.steps || o.steps > STEPS_MAX || !o.batch) {
                (void)fprintf(stderr, "mulun-worker --bench: %s\n",
                              errs.n ? errs.items[0].text : "steps in 1..1000, batch from 1");
                return 2;
        }
        r = make_images(folder, MAX(2 * o.batch, 16), &err);
        if (r >= 0)
                r = dataset_open(folder, &d, &err);
        if (r >= 0)
                r = run(&o, &c, d, &err);
        (void)file_remove_tree(folder, NULL);
        if (r < 0)
                (void)fprintf(stderr, "mulun-worker --bench: %s: %s\n", err.path, err.text);
        return r < 0 ? 1 : 0;
}
