/* The tape on a network of another shape than MuLAN's: 16 x 16 pixels, 24 and 40 channels, groups of 8, a block that is
 * used twice, a tensor with three consumers, values that are made again from values that are made again. Its gradients
 * against finite differences; what each pass does with memory; what it refuses. */
#include "engine/networks.h"

#include "tests/golden/hash.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define M 2
#define SIDE 16
#define OUT 5
#define ARENA ((size_t)1 << 28)

static const float times[M] = {0.0003f, 0.0007f};

struct fixture {
        const struct kernels *k;
        struct device *device;
        struct stream *stream;
        struct config config;
        struct params layout;
        struct tape tape;
        struct tensor *x, *v, *g, *y;
        int n_dropouts;
        struct pass pass;
        struct arena *arena;
        void *memory;                                                       /* the arena's */
        float *params, *grads, *x_value, *v_value, *y_value, *dy, *dx, *dv; /* "device" memory of the CPU */
        int64_t n_x, n_v, n_y;
};

/* x + conv(swish(norm(x))), its norm made again, and the convolution's result, too: again from what is made again. */
static struct tensor *shared_block(struct tape *t, struct tensor *x, bool again)
{
        struct tensor *h = net_norm(t, "norm", x, NULL, .groups = 8, .swish = true, .again = again);

        h = net_conv(t, "conv", h, x->c);
        h->again = again;
        h = net_norm(t, "norm_2", h, NULL, .groups = 8, .swish = true, .again = again);
        return net_add(t, net_conv(t, "conv_2", h, x->c), x);
}

static void describe(struct fixture *f, bool again)
{
        struct tape *t = &f->tape;
        struct tensor *h, *u, *w, *p, *q, *moment;

        f->x = net_input(t, SIDE, SIDE, 6);
        f->v = net_input(t, 1, 1, 7);
        f->g = net_input(t, 1, 1, 1);
        net_enter(t, "net");
        h = net_conv(t, "in", f->x, 24);
        for (int i = 0; i < 2; i++) { /* the same parameters both times */
                net_enter(t, "twice");
                h = shared_block(t, h, again);
                net_leave(t);
        }
        /* h has three consumers: a convolution, a norm beside another input, a dense layer */
        u = net_conv(t, "wide", h, 40);
        moment = net_dense(t, "moment", net_time(t, f->g, f->v, 8, 0, 1), NULL, 64); /* v has two consumers */
        w = net_norm(t, "side", u, h, .groups = 8, .swish = true, .again = again,
                     .addend = net_add(t, net_dense(t, "condition", net_swish(t, f->v), NULL, 64), moment));
        w = net_conv(t, "back", w, 24);
        q = net_dense(t, "q", h, NULL, 24);
        p = net_attention(t, q, q, net_dense(t, "v", w, NULL, 24)); /* a tensor twice in a node */
        p = net_add(t, net_dense(t, "both", p, u, 24), h);
        f->y = net_dense(t, "out", net_swish(t, net_conv(t, "one", p, 1)), NULL, OUT, .flatten = true);
        net_leave(t);
}

static float *hashed(const char *name, int64_t n)
{
        float *x = malloc((size_t)n * sizeof *x);
        double *u = malloc((size_t)n * sizeof *u);

        assert_true(x && u);
        hash_uniform(name, n, u);
        for (int64_t i = 0; i < n; i++)
                x[i] = (float)(1.5 * u[i]);
        free(u);
        return x;
}

static void set_up(struct fixture *f, bool again)
{
        struct error err;

        memset(f, 0, sizeof *f);
        config_defaults(&f->config);
        assert_int_equal(kernels_find("cpu", &f->k, &err), 0);
        assert_int_equal(f->k->device_open(&(struct device_settings){.threads = 2}, &f->device, &err), 0);
        assert_int_equal(f->k->stream_new(f->device, &f->stream, &err), 0);
        tape_init(&f->tape, &f->layout, DTYPE_FLOAT32, &f->n_dropouts);
        describe(f, again);
        assert_int_equal(f->tape.error.code, 0);
        params_lay_out(&f->layout);
        f->pass = (struct pass){.k = f->k,
                                .device = f->device,
                                .stream = f->stream,
                                .layout = &f->layout,
                                .config = &f->config,
                                .m = M,
                                .keep = true};
        assert_int_equal(plans_new(&f->pass.plans, &err), 0);
        assert_int_equal(arena_new(f->memory = f->k->memory_new(f->device, ARENA), ARENA, &f->arena, &err), 0);
        f->pass.arena = f->arena;
        f->n_x = (int64_t)M * SIDE * SIDE * 6;
        f->n_v = M * 7;
        f->n_y = M * OUT;
        f->params = f->k->memory_new(f->device, (size_t)f->layout.n_values * sizeof(float));
        f->grads = f->k->memory_new(f->device, (size_t)f->layout.n_values * sizeof(float));
        params_hash(&f->layout, 0.8f, f->params);
        f->x_value = hashed("x", f->n_x);
        f->v_value = hashed("v", f->n_v);
        f->dy = hashed("dy", f->n_y);
        f->y_value = hashed("y", f->n_y);
        f->dx = hashed("dx", f->n_x);
        f->dv = hashed("dv", f->n_v);
        f->pass.params = f->params;
        f->pass.grads = f->grads;
}

static void tear_down(struct fixture *f)
{
        float *const host[] = {f->x_value, f->v_value, f->dy, f->y_value, f->dx, f->dv};

        tape_done(&f->tape);
        free(f->layout.items);
        (void)plans_free(f->pass.plans, f->k);
        (void)arena_free(f->arena);
        f->k->memory_free(f->device, f->memory);
        f->k->memory_free(f->device, f->params);
        f->k->memory_free(f->device, f->grads);
        for (size_t i = 0; i < ARRAY_LEN(host); i++)
                free(host[i]);
        (void)f->k->stream_free(f->stream);
        (void)f->k->device_close(f->device);
}

/* The value that is differentiated: sum of y dy. */
static double forward(struct fixture *f)
{
        double sum = 0;

        f->pass.keep = false;
        tape_bind(f->x, f->x_value, NULL, NULL, false);
        tape_bind(f->v, f->v_value, NULL, NULL, false);
        tape_bind(f->g, times, NULL, NULL, false);
        tape_bind(f->y, f->y_value, NULL, NULL, false);
        tape_forward(&f->pass, &f->tape);
        assert_int_equal(f->k->stream_sync(f->stream, NULL), 0);
        assert_int_equal(arena_used(f->arena), 0);
        for (int64_t i = 0; i < f->n_y; i++)
                sum += (double)f->y_value[i] * (double)f->dy[i];
        return sum;
}

static void both_ways(struct fixture *f, bool accumulate_x)
{
        f->pass.keep = true;
        tape_bind(f->x, f->x_value, NULL, f->dx, accumulate_x);
        tape_bind(f->v, f->v_value, NULL, f->dv, false);
        tape_bind(f->g, times, NULL, NULL, false);
        tape_bind(f->y, f->y_value, NULL, f->dy, true);
        tape_forward(&f->pass, &f->tape);
        tape_backward(&f->pass, &f->tape);
        assert_int_equal(f->k->stream_sync(f->stream, NULL), 0);
        assert_int_equal(f->pass.failed, 0);
        assert_int_equal(arena_used(f->arena), 0);
}

/* Along d = g (1 + u / 2): the slope is g . d. */
static void check_slope(struct fixture *f, const char *name, float *x, const float *g, int64_t n)
{
        float *d = hashed(name, n), *before = malloc((size_t)n * sizeof *before);
        double slope = 0, best = INFINITY;

        assert_non_null(before);
        memcpy(before, x, (size_t)n * sizeof *before);
        for (int64_t i = 0; i < n; i++) {
                d[i] = g[i] * (1 + d[i] / 3);
                slope += (double)g[i] * (double)d[i];
        }
        if (slope < 1e-9) { /* a bias before a softmax over what it is added to everywhere: nothing depends on it */
                free(d);
                free(before);
                return;
        }
        for (double length = 3e-4; length < 1e-2; length *= 4) {
                double h = length / slope, value[2];

                for (int side = 0; side < 2; side++) {
                        for (int64_t i = 0; i < n; i++)
                                x[i] = (float)((double)before[i] + (side ? h : -h) * (double)d[i]);
                        value[side] = forward(f);
                }
                best = fmin(best, fabs((value[1] - value[0]) / (2 * h * slope) - 1));
        }
        memcpy(x, before, (size_t)n * sizeof *before);
        if (best > 5e-3)
                fail_msg("%s: slope %.3g, relative error %.3g", name, slope, best);
        free(d);
        free(before);
}

static void gradients_are_those_of_differences(void **state)
{
        struct fixture f;
        float *grads, *dx, *dv;

        (void)state;
        set_up(&f, false);
        both_ways(&f, false);
        grads = malloc((size_t)f.layout.n_values * sizeof *grads);
        dx = malloc((size_t)f.n_x * sizeof *dx);
        dv = malloc((size_t)f.n_v * sizeof *dv);
        assert_true(grads && dx && dv);
        memcpy(grads, f.grads, (size_t)f.layout.n_values * sizeof *grads);
        memcpy(dx, f.dx, (size_t)f.n_x * sizeof *dx);
        memcpy(dv, f.dv, (size_t)f.n_v * sizeof *dv);
        check_slope(&f, "x", f.x_value, dx, f.n_x);
        check_slope(&f, "v", f.v_value, dv, f.n_v);
        assert_int_equal(f.layout.n, 30); /* the block that is used twice has its parameters once */
        for (size_t i = 0; i < f.layout.n; i++) {
                const struct param *q = &f.layout.items[i];

                check_slope(&f, q->name, f.params + q->offset, grads + q->offset, q->size);
        }
        free(grads);
        free(dx);
        free(dv);
        tear_down(&f);
}

/* The same bits, with less kept. */
static void what_is_made_again_is_the_same(void **state)
{
        struct fixture kept, again;

        (void)state;
        set_up(&kept, false);
        set_up(&again, true);
        both_ways(&kept, false);
        both_ways(&again, false);
        assert_memory_equal(kept.grads, again.grads, (size_t)kept.layout.n_values * sizeof(float));
        assert_memory_equal(kept.dx, again.dx, (size_t)kept.n_x * sizeof(float));
        assert_true(arena_peak(again.arena) < arena_peak(kept.arena));
        tear_down(&kept);
        tear_down(&again);
}

static void gradients_of_inputs_need_no_others(void **state)
{
        struct fixture f;
        float *dx, *dv;
        size_t peak;

        (void)state;
        set_up(&f, true);
        both_ways(&f, false);
        peak = arena_peak(f.arena);
        dx = f.dx;
        dv = f.dv;
        f.dx = hashed("other", f.n_x);
        f.dv = hashed("another", f.n_v);
        memset(f.grads, 0, (size_t)f.layout.n_values * sizeof(float));
        f.pass.grads = NULL;
        both_ways(&f, false);
        assert_memory_equal(f.dx, dx, (size_t)f.n_x * sizeof(float));
        assert_memory_equal(f.dv, dv, (size_t)f.n_v * sizeof(float));
        for (int64_t i = 0; i < f.layout.n_values; i++)
                assert_true(f.grads[i] == 0);
        assert_true(arena_peak(f.arena) <= peak);
        free(dx);
        free(dv);
        tear_down(&f);
}

static void what_accumulates_adds(void **state)
{
        struct fixture f;
        float *grads, *dx;
        double error = 0, norm = 0;

        (void)state;
        set_up(&f, true);
        both_ways(&f, false);
        grads = malloc((size_t)f.layout.n_values * sizeof *grads);
        dx = malloc((size_t)f.n_x * sizeof *dx);
        assert_true(grads && dx);
        memcpy(grads, f.grads, (size_t)f.layout.n_values * sizeof *grads);
        memcpy(dx, f.dx, (size_t)f.n_x * sizeof *dx);
        f.pass.accumulate = true;
        both_ways(&f, true);
        for (int64_t i = 0; i < f.layout.n_values; i++) {
                error += pow((double)f.grads[i] - 2 * (double)grads[i], 2);
                norm += pow((double)grads[i], 2);
        }
        assert_true(norm > 0 && error < 1e-10 * norm);
        for (int64_t i = 0; i < f.n_x; i++)
                assert_true(fabsf(f.dx[i] - 2 * dx[i]) <= 1e-4f * (fabsf(dx[i]) + 1e-2f));
        free(grads);
        free(dx);
        tear_down(&f);
}

/* What no back end computes is refused by name when a pass is planned; what makes no sense when it is described. */
static void what_is_not_computed_is_refused_by_name(void **state)
{
        static const struct {
                struct net_options o;
                const char *what;
        } cases[] = {{{.kernel = 5}, "kernel_height 5"}, {{.stride = 2}, "stride 2"}};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct fixture f;
                struct tensor *y;
                struct kernels dry;

                set_up(&f, false);
                f.layout.laid_out = false;
                y = net_conv_(&f.tape, "other", f.y->in[0], 3, cases[i].o);
                assert_non_null(y);
                params_lay_out(&f.layout);
                kernels_dry(f.k, &dry);
                f.pass.k = &dry;
                f.pass.params = (float *)KERNELS_ALIGN;
                tape_bind(f.x, f.x_value, NULL, NULL, false);
                tape_bind(f.v, f.v_value, NULL, NULL, false);
                tape_bind(f.g, times, NULL, NULL, false);
                tape_bind(f.y, f.y_value, NULL, NULL, false);
                f.pass.keep = false;
                tape_forward(&f.pass, &f.tape);
                assert_int_equal(f.pass.failed, -ENOTSUP);
                assert_non_null(strstr(f.pass.error.text, cases[i].what));
                tear_down(&f);
        }
}

static void a_description_that_makes_no_sense_names_its_layer(void **state)
{
        struct params layout = {0};
        int n_dropouts = 0;

        (void)state;
        for (int i = 0; i < 6; i++) {
                struct tape t;
                struct tensor *x, *y;

                tape_init(&t, &layout, DTYPE_FLOAT32, &n_dropouts);
                x = net_input(&t, 8, 8, 8);
                net_enter(&t, "part_%d", i);
                y = net_conv(&t, "conv", x, 8);
                if (i == 0)
                        y = net_add(&t, net_swish(&t, y), x); /* a swish adds nothing */
                else if (i == 1)
                        y = net_add(&t, y, net_input(&t, 8, 8, 4));
                else if (i == 2)
                        y = net_norm(&t, "norm", x, x);
                else if (i == 3)
                        y = net_dense(&t, "dense", x, net_input(&t, 4, 4, 8), 3);
                else if (i == 4)
                        y = net_conv(&t, "conv", x, 9); /* that name, another shape */
                else
                        y = net_fourier(&t, x);
                assert_ptr_equal(net_swish(&t, net_dense(&t, "later", y, NULL, 3)),
                                 &t.nothing); /* and later calls do nothing */
                assert_true(t.error.code < 0);
                assert_non_null(strstr(t.error.path, "part_"));
                tape_done(&t);
        }
        free(layout.items);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(gradients_are_those_of_differences),
                cmocka_unit_test(what_is_made_again_is_the_same),
                cmocka_unit_test(gradients_of_inputs_need_no_others),
                cmocka_unit_test(what_accumulates_adds),
                cmocka_unit_test(what_is_not_computed_is_refused_by_name),
                cmocka_unit_test(a_description_that_makes_no_sense_names_its_layer),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
