#include "worker/bench.h"

#include "base/clock.h"
#include "engine/exact.h"
#include "engine/trainer.h"
#include "kernels/cost.h"
#include "worker/reporter.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define STEPS_MAX 1000
#define ALL_SECTIONS ((1u << SECTION_N) - 1)

struct options {
        int64_t embd, layers, encoder_layers, batch, steps, warmup, threads, bf16, cuda, tf32, paper, recompute, ode;
        const char *plans; /* folder in which choices by measurement are kept, or NULL: by the rule */
};

static int parse(int argc, char **argv, struct options *o)
{
        const struct {
                const char *name;
                int64_t *value;
        } table[] = {{"--embd", &o->embd},       {"--layers", &o->layers}, {"--encoder-layers", &o->encoder_layers},
                     {"--batch", &o->batch},     {"--steps", &o->steps},   {"--warmup", &o->warmup},
                     {"--threads", &o->threads}, {"--bf16", &o->bf16},     {"--cuda", &o->cuda},
                     {"--tf32", &o->tf32},       {"--paper", &o->paper},   {"--recompute", &o->recompute},
                     {"--ode", &o->ode}};

        for (int i = 0; i < argc; i += 2) {
                size_t row = 0;
                char *end;

                if (!strcmp(argv[i], "--plans") && i + 1 < argc) {
                        o->plans = argv[i + 1];
                        continue;
                }
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

/* ---- a table by operation */

#define CEILING_SIDE 1024
#define CEILING_BYTES ((size_t)64 << 20)
#define CEILING_RUNS 5

/* What the device reaches at best in this run: a product of squares, a copy that no cache holds. */
struct ceilings {
        double flops, bytes; /* a second */
};

static double fastest(struct runtime *rt, void (*f)(struct runtime *, void *), void *user)
{
        double best = INFINITY;

        for (int i = 0; i < CEILING_RUNS; i++) {
                int64_t start = clock_monotonic_us();

                f(rt, user);
                (void)rt->k->stream_sync(rt->stream, NULL);
                best = fmin(best, (double)MAX(clock_monotonic_us() - start, (int64_t)1) / 1e6);
        }
        return best;
}

static void run_product(struct runtime *rt, void *args)
{
        rt->k->dense_forward(rt->stream, args);
}

static void run_copy(struct runtime *rt, void *args)
{
        rt->k->copy_2d(rt->stream, args);
}

static int measure_ceilings(struct runtime *rt, struct ceilings *ret, struct error *err)
{
        const struct kernels *k = rt->k;
        const double side = CEILING_SIDE;
        struct dense *dense = NULL;
        float *x = runtime_memory(rt, CEILING_BYTES, err), *y = runtime_memory(rt, CEILING_BYTES, err);
        void *workspace = NULL;
        int r = x && y ? k->dense_new(rt->device,
                                      &(struct dense_shape){CEILING_SIDE, CEILING_SIDE, CEILING_SIDE, DTYPE_FLOAT32},
                                      &dense, err)
                       : -ENOMEM;

        if (r >= 0 && !(workspace = runtime_memory(rt, k->dense_workspace(dense), err)))
                r = -ENOMEM;
        if (r >= 0) {
                struct dense_forward_args product = {.dense = dense, .x = x, .w = x, .y = y, .workspace = workspace};
                struct copy_2d_args copy = {
                        .rows = 1, .columns = CEILING_BYTES / sizeof *x, .x = x, .y = y, .scale = 1};

                ret->flops = 2 * side * side * side / fastest(rt, run_product, &product);
                ret->bytes = 2.0 * (double)CEILING_BYTES / fastest(rt, run_copy, &copy);
        }
        (void)k->dense_free(dense);
        k->memory_free(rt->device, workspace);
        k->memory_free(rt->device, x);
        k->memory_free(rt->device, y);
        return r;
}

/* Runs at once what would be recorded, so that operations can be told apart: a window of one step is one step. */
static int run_at_once(struct stream *s, struct error *err)
{
        (void)s;
        (void)err;
        return 0;
}

static int nothing_recorded(struct stream *s, struct graph **ret, struct error *err)
{
        (void)s;
        (void)err;
        *ret = NULL;
        return 0;
}

static void nothing_to_launch(struct stream *s, const struct graph *g)
{
        (void)s;
        (void)g;
}

static void print_table(const struct timing_row *rows, size_t n, const struct ceilings *top)
{
        double all = 0;

        for (size_t i = 0; i < n; i++)
                all += rows[i].seconds;
        (void)printf("ceilings: %.1f GFLOP/s (a product of %d x %d), %.1f GB/s (a copy of %zu MiB)\n", top->flops / 1e9,
                     CEILING_SIDE, CEILING_SIDE, top->bytes / 1e9, CEILING_BYTES >> 20);
        (void)printf("%-26s %7s %10s %7s %9s %8s %8s %8s\n", "operation", "calls", "ms", "share", "GFLOP/s", "of top",
                     "GB/s", "of top");
        for (size_t i = 0; i < n; i++) {
                const struct timing_row *x = &rows[i];

                if (!x->calls)
                        continue;
                (void)printf("%-26s %7lld %10.3f %6.1f%% %9.1f %7.0f%% %8.1f %7.0f%%\n", x->name, (long long)x->calls,
                             x->seconds * 1e3, 100 * x->seconds / all, x->flop / x->seconds / 1e9,
                             100 * x->flop / x->seconds / top->flops, x->bytes / x->seconds / 1e9,
                             100 * x->bytes / x->seconds / top->bytes);
        }
}

/* One step more, an operation at a time. *ret_flop: floating-point operations of a step, as kernels/cost.h counts. */
static int time_operations(struct runtime *rt, const struct dataset *d, double *ret_flop, struct error *err)
{
        const struct kernels *real = rt->k;
        _cleanup_(freep) struct timing_row *rows = NULL;
        struct kernels timed;
        struct ceilings top = {0};
        struct trainer *t = NULL;
        struct runtime_need need = {0};
        int64_t n;
        size_t n_rows = 0;
        int r = measure_ceilings(rt, &top, err), end;

        kernels_timed_begin(real, &timed);
        timed.graph_begin = run_at_once;
        timed.graph_end = nothing_recorded;
        timed.graph_launch = nothing_to_launch;
        rt->k = &timed;
        if (r >= 0)
                r = trainer_new(rt, ALL_SECTIONS, &t, &need, err);
        if (r >= 0)
                r = trainer_bind(t, d, err);
        if (r >= 0)
                r = trainer_window(t, 1, &n, err);
        (void)trainer_free(t);
        rt->k = real;
        end = kernels_timed_end(&rows, &n_rows, err);
        if (r >= 0 && end >= 0)
                print_table(rows, n_rows, &top);
        *ret_flop = 0;
        for (size_t i = 0; i < n_rows; i++)
                *ret_flop += rows[i].flop;
        return r < 0 ? r : end;
}

/* ---- on paper: what a step's operations are and move, counted from their arguments, on a device that only plans */

struct launch {
        const char *op;
        double flop, least, moved; /* of one call */
        int64_t calls;
};

struct paper {
        const struct kernels *real;
        struct launch rows[512];
        size_t n;
};

static void count(void *user, const char *op, const void *args, struct cost cost)
{
        struct paper *p = user;
        struct launch x = {.op = op, .calls = 1, .flop = cost.flop, .least = cost.bytes, .moved = cost.bytes};
        size_t i = 0;

        if (p->real->bytes_beyond)
                x.moved += p->real->bytes_beyond(op, args);
        while (i < p->n && (p->rows[i].op != op || p->rows[i].flop != x.flop || p->rows[i].least != x.least ||
                            p->rows[i].moved != x.moved))
                i++;
        if (i == p->n && p->n < ARRAY_LEN(p->rows))
                p->rows[p->n++] = x;
        else if (i < p->n)
                p->rows[i].calls++;
}

/* A line of JSON for each kind of call, then one with the memory that training needs. */
static int print_paper(const struct config *c, const struct dataset *d, struct error *err)
{
        struct kernels counted; /* of the runtime, to its end */
        _cleanup_(runtime_freep) struct runtime *rt = NULL;
        struct runtime_need need = {0};
        struct trainer *t = NULL;
        struct paper p = {0};
        int64_t n;
        int r = runtime_new(c, true, NULL, &rt, err);

        if (r < 0)
                return r;
        p.real = rt->k;
        kernels_counted(p.real, count, &p, &counted);
        rt->k = &counted;
        r = trainer_new(rt, ALL_SECTIONS, &t, &need, err);
        if (r >= 0)
                r = runtime_allocate(rt, ALL_SECTIONS, true, &need, err);
        if (r >= 0)
                r = trainer_bind(t, d, err);
        if (r >= 0)
                r = trainer_window(t, 1, &n, err);
        for (size_t i = 0; r >= 0 && i < p.n; i++)
                (void)printf("{\"op\": \"%s\", \"calls\": %lld, \"flop\": %.0f, \"least\": %.0f, \"moved\": %.0f}\n",
                             p.rows[i].op, (long long)p.rows[i].calls, p.rows[i].flop, p.rows[i].least,
                             p.rows[i].moved);
        if (r >= 0)
                (void)printf("{\"bytes\": %zu, \"pass_bytes\": %zu}\n",
                             runtime_total_bytes(rt, ALL_SECTIONS, true, &need), need.pass_bytes);
        (void)trainer_free(t);
        return r;
}

/* A trainer that is about to make its first step; both are the caller's, whatever is returned. */
static int begin(const struct config *c, const char *plans, const struct dataset *d, struct runtime_need *need,
                 struct runtime **ret_rt, struct trainer **ret_t, struct error *err)
{
        int r = runtime_new(c, false, plans, ret_rt, err);

        if (r >= 0)
                r = trainer_new(*ret_rt, ALL_SECTIONS, ret_t, need, err);
        if (r >= 0)
                r = runtime_allocate(*ret_rt, ALL_SECTIONS, true, need, err);
        if (r >= 0)
                r = trainer_bind(*ret_t, d, err);
        return r < 0 ? r : runtime_initialise(*ret_rt, (uint32_t)c->seed, err);
}

static int run(const struct options *o, const struct config *c, const struct dataset *d, struct error *err)
{
        _cleanup_(runtime_freep) struct runtime *rt = NULL;
        struct trainer *t = NULL;
        struct rusage usage;
        struct runtime_need need = {0};
        double seconds = 0, flop = 0;
        int r = begin(c, o->plans, d, &need, &rt, &t, err);

        if (r >= 0)
                r = time_steps(t, o, &seconds, err);
        (void)getrusage(RUSAGE_SELF, &usage);
        t = trainer_free(t);
        if (r >= 0)
                r = time_operations(rt, d, &flop, err);
        if (r >= 0) {
                double images = (double)o->batch / seconds;

                (void)printf("{\"embd\": %lld, \"layers\": %lld, \"encoder_layers\": %lld, \"batch\": %lld, "
                             "\"threads\": %d, \"seconds\": %.6f, \"images_per_second\": %.4f, \"peak_bytes\": %lld, "
                             "\"pass_bytes\": %zu, \"gflops\": %.2f}\n",
                             (long long)o->embd, (long long)o->layers, (long long)o->encoder_layers,
                             (long long)o->batch, rt->info.threads, seconds, images, (long long)usage.ru_maxrss * 1024,
                             need.pass_bytes, flop / seconds / 1e9);
        }
        return r;
}

/* What an evaluation of the score network with its input gradient takes, of a batch that goes along the flow in steps
 * of its own: the second time, when plans and recordings are there. */
static int run_ode(const struct options *o, const struct config *c, const struct dataset *d, struct error *err)
{
        const struct exact_evaluation e = {
                .split = SPLIT_TRAIN,
                .weights = WEIGHTS_PARAMS,
                .n_images = o->batch,
                .n_samples = 1,
                .solve = {.solver = FLOW_BOGACKI_SHAMPINE, .rtol = 0.1, .atol = 0.1, .shared = true}};
        const struct between nothing_between = {0};
        _cleanup_(freep) struct flow_result *results = calloc((size_t)o->batch, sizeof *results);
        _cleanup_(runtime_freep) struct runtime *rt = NULL;
        struct runtime_need need = {0};
        struct exact *v = NULL;
        int64_t start = 0;
        int r = results ? runtime_new(c, false, o->plans, &rt, err) : error_set(err, -ENOMEM, NULL, "no memory");

        if (r >= 0)
                r = exact_new(rt, o->batch, &v, &need, err);
        if (r >= 0)
                r = runtime_allocate(rt, ALL_SECTIONS, false, &need, err);
        if (r >= 0)
                r = exact_bind(v, err);
        if (r >= 0)
                r = runtime_initialise(rt, (uint32_t)c->seed, err);
        for (int i = 0; i < 2 && r >= 0; i++) {
                memset(results, 0, (size_t)o->batch * sizeof *results);
                start = clock_monotonic_us();
                r = exact_run(v, d, &e, results, &nothing_between, err);
        }
        if (r >= 0) {
                double seconds = (double)(clock_monotonic_us() - start) / 1e6 / (double)results->n_evaluations;

                (void)printf("{\"embd\": %lld, \"layers\": %lld, \"batch\": %lld, \"threads\": %d, \"evaluations\": "
                             "%lld, \"seconds_an_evaluation\": %.6f, \"pass_bytes\": %zu}\n",
                             (long long)o->embd, (long long)o->layers, (long long)o->batch, rt->info.threads,
                             (long long)results->n_evaluations, seconds, need.pass_bytes);
        }
        (void)exact_free(v);
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
                x[i] = i % (IMAGE_BYTES + 1) ? (uint8_t)philox_draw(1, STREAM_DATA, 0, (uint32_t)i, 0, 0, 0).v[0] : 0;
        for (size_t i = 0; i < ARRAY_LEN(names) && r >= 0; i++) {
                char path[256];

                (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
                r = file_write_atomic(path, x, bytes, NULL, err);
        }
        return r;
}

int bench(int argc, char **argv)
{
        struct options o = {.embd = 64,
                            .layers = 4,
                            .encoder_layers = 2,
                            .batch = 8,
                            .steps = 10,
                            .warmup = 2,
                            .recompute = RECOMPUTE_NORM};
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
        c.precision = o.bf16 ? PRECISION_BF16 : o.tf32 ? PRECISION_TF32 : PRECISION_FLOAT32;
        c.recompute = (enum recompute)MIN(o.recompute, (int64_t)RECOMPUTE_BLOCK);
        c.backend = o.cuda ? BACKEND_CUDA : BACKEND_AUTO;
        if (config_check(&c, &errs) < 0 || !o.steps || o.steps > STEPS_MAX || !o.batch) {
                (void)fprintf(stderr, "mulun-worker --bench: %s\n",
                              errs.n ? errs.items[0].text : "steps in 1..1000, batch from 1");
                return 2;
        }
        r = make_images(folder, MAX(2 * o.batch, 16), &err);
        if (r >= 0)
                r = dataset_open(folder, &d, &err);
        if (r >= 0)
                r = o.paper ? print_paper(&c, d, &err) : o.ode ? run_ode(&o, &c, d, &err) : run(&o, &c, d, &err);
        (void)file_remove_tree(folder, NULL);
        if (r < 0)
                (void)fprintf(stderr, "mulun-worker --bench: %s: %s\n", err.path, err.text);
        return r < 0 ? 1 : 0;
}

/* ---- whether a device computes */

#define CHECK_STEPS 2

static int run_check(const struct config *c, const struct dataset *d, struct training_scalars *ret, struct error *err)
{
        _cleanup_(runtime_freep) struct runtime *rt = NULL;
        struct runtime_need need = {0};
        struct trainer *t = NULL;
        int64_t n;
        int r = begin(c, NULL, d, &need, &rt, &t, err);

        for (int i = 0; i < CHECK_STEPS && r >= 0; i++)
                r = trainer_window(t, 1, &n, err);
        if (r >= 0)
                *ret = trainer_take_window(t);
        (void)trainer_free(t);
        return r;
}

int bench_check(bool cuda)
{
        struct config c;
        _cleanup_(dataset_freep) struct dataset *d = NULL;
        _cleanup_(freep) char *text = NULL;
        struct training_scalars first, second;
        char folder[] = "/tmp/mulun-check.XXXXXX";
        struct error err = {0};
        const struct kernels *k;
        json_t *answer;
        bool host;
        int r = kernels_find(cuda ? "cuda" : "cpu", &k, &err);

        host = r < 0; /* it is not there: that says nothing of a device */
        config_defaults(&c);
        c.sm_n_embd = 32;
        c.sm_n_layer = 1;
        c.forward_n_layer = 1;
        c.batch_size_train = 4;
        c.backend = cuda ? BACKEND_CUDA : BACKEND_CPU;
        if (r >= 0)
                r = make_images(folder, 2 * c.batch_size_train, &err);
        if (r >= 0)
                r = dataset_open(folder, &d, &err);
        if (r >= 0)
                r = run_check(&c, d, &first, &err);
        if (r >= 0)
                r = run_check(&c, d, &second, &err);
        (void)file_remove_tree(folder, NULL);
        if (r >= 0 && memcmp(&first, &second, sizeof first) != 0)
                r = error_set(&err, -EDOM, NULL,
                              "%d equal training steps came to %.17g and to %.17g bits per dimension", CHECK_STEPS,
                              first.bpd, second.bpd);
        /* these steps are good ones: numbers that are not are the device's */
        answer = r < 0 ? json_pack("{s:{s:s, s:s}}", "error", "class",
                                   error_class_names[host         ? ERROR_HOST
                                                     : r == -EDOM ? ERROR_DEVICE
                                                                  : reporter_class(r)],
                                   "detail", err.text)
                       : json_pack("{s:b}", "passed", true);
        text = answer ? json_to_text(answer) : NULL;
        json_decref(answer);
        return text && puts(text) >= 0 && r >= 0 ? 0 : 1;
}
