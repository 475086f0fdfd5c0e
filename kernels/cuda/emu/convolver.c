/* What stands in for cuDNN's plans: it reads and writes the same memory in the same layouts. Factors are widened once,
 * to planes with a border of zeros; then each row of pixels and tap is a product of matrices, summed in double. */
#include "kernels/cuda/convolver.h"

#include "kernels/bf16.h"
#include "kernels/cuda/emu/emu.h"
#include "kernels/cuda/emu/product.h"

#include <errno.h>

/* Ways that compute the same: one that takes its time first, so that a measurement has something to find; one that
 * cannot be had. */
enum { WAY_SLOW, WAY_REFUSED, WAY_PLAIN, N_WAYS };
enum { WORKSPACE_BYTES = 64, SLOW_MS = 5, VERY_SLOW_MS = 50 };

struct conv_plan {
        struct conv_plan_shape shape;
        int way;
};

struct job {
        struct conv_plan_shape s;
        int way;
        struct conv_operands o;
};

int convolver_new(struct convolver **ret, struct error *err)
{
        (void)err;
        *ret = NULL; /* it has no state */
        return 0;
}

struct convolver *convolver_free(struct convolver *c)
{
        (void)c;
        return NULL;
}

/* Whether the environment's EMU_FLOAT32 asks for this of what computes in float32: "none" or "slow". */
static bool float32_is(const struct conv_plan_shape *s, const char *what)
{
        const char *asked = getenv("EMU_FLOAT32");

        return s->type == DTYPE_FLOAT32 && !s->tf32 && asked && strcmp(asked, what) == 0;
}

/* As cuDNN, which has no plan for some shapes: none for an odd number of input channels, so that both ways are used. */
int conv_plan_new(struct convolver *c, const struct conv_plan_shape *shape, struct conv_plan **ret, struct error *err)
{
        struct conv_plan *p;

        (void)c;
        *ret = NULL;
        if (shape->c_in % 2 || float32_is(shape, "none"))
                return 0;
        p = calloc(1, sizeof(*p));
        if (!p)
                return error_set(err, -ENOMEM, "", "out of memory");
        p->shape = *shape;
        *ret = p;
        return 0;
}

const char *convolver_name(void)
{
        return "loops 1";
}

int conv_plan_ways(const struct conv_plan *p)
{
        (void)p;
        return N_WAYS;
}

const char *conv_plan_name(const struct conv_plan *p, int way)
{
        static const char *const names[N_WAYS] = {"slow", "refused", "plain"};

        (void)p;
        return names[way];
}

bool conv_plan_take(struct conv_plan *p, int way)
{
        if (way == WAY_REFUSED)
                return false;
        p->way = way;
        return true;
}

int conv_plan_taken(const struct conv_plan *p)
{
        return p->way;
}

struct conv_plan *conv_plan_free(struct conv_plan *p)
{
        free(p);
        return NULL;
}

size_t conv_plan_workspace(const struct conv_plan *p)
{
        (void)p;
        return WORKSPACE_BYTES;
}

static int64_t n_pixels(const struct conv_plan_shape *s)
{
        return s->n_images * s->height * s->width;
}

static double *widened(const struct conv_plan_shape *s, const void *from, int64_t n)
{
        double *const to = emu_zeros(n);

        emu_factors(s->type, s->tf32, from, n, to);
        return to;
}

/* Where the pixels around row `row` of all images begin that tap is multiplied with, in a plane [n, h + 2, w + 2, c].
 */
static int64_t around(const struct conv_plan_shape *s, int64_t row, int tap, int64_t c)
{
        const int64_t above = row / s->height * (s->height + 2) + row % s->height;

        return ((above + tap / 3) * (s->width + 2) + tap % 3) * c;
}

/* [n, h, w, c] with a border of zeros. */
static double *bordered(const struct conv_plan_shape *s, const void *from, int64_t c)
{
        enum { MIDDLE = 4 }; /* the tap of the pixel itself */
        double *const to = emu_zeros(s->n_images * (s->height + 2) * (s->width + 2) * c);
        const int64_t n = s->width * c;

        for (int64_t row = 0; row < s->n_images * s->height; row++)
                emu_factors(s->type, s->tf32, (const char *)from + (size_t)(row * n) * dtype_bytes(s->type), n,
                            to + around(s, row, MIDDLE, c));
        return to;
}

/* [c_out, 9, c_in] to [9, c_in, c_out]. */
static double *turned(const struct conv_plan_shape *s, const void *from)
{
        const int64_t per_output = 9 * s->c_in;
        double *const w = widened(s, from, s->c_out * per_output), *const to = emu_zeros(s->c_out * per_output);

        for (int64_t o = 0; o < s->c_out; o++)
                for (int64_t i = 0; i < per_output; i++)
                        to[i * s->c_out + o] = w[o * per_output + i];
        free(w);
        return to;
}

static void forward(const struct job *j, double *sums)
{
        const struct conv_plan_shape *s = &j->s;
        double *const x = bordered(s, j->o.x, s->c_in), *const w = turned(s, j->o.w);

        for (int64_t row = 0; row < s->n_images * s->height; row++)
                for (int tap = 0; tap < 9; tap++)
                        emu_product_add(s->width, s->c_out, s->c_in,
                                        (struct emu_matrix){x + around(s, row, tap, s->c_in), s->c_in, 1},
                                        (struct emu_matrix){w + tap * s->c_in * s->c_out, s->c_out, 1},
                                        sums + row * s->width * s->c_out, s->c_out);
        free(x);
        free(w);
}

static void backward_data(const struct job *j, double *sums)
{
        const struct conv_plan_shape *s = &j->s;
        double *const y = bordered(s, j->o.y, s->c_out), *const w = widened(s, j->o.w, s->c_out * 9 * s->c_in);

        for (int64_t row = 0; row < s->n_images * s->height; row++)
                for (int tap = 0; tap < 9; tap++)
                        emu_product_add(s->width, s->c_in, s->c_out,
                                        (struct emu_matrix){y + around(s, row, 8 - tap, s->c_out), s->c_out, 1},
                                        (struct emu_matrix){w + tap * s->c_in, 9 * s->c_in, 1},
                                        sums + row * s->width * s->c_in, s->c_in);
        free(y);
        free(w);
}

static void backward_weights(const struct job *j, double *sums)
{
        const struct conv_plan_shape *s = &j->s;
        double *const x = bordered(s, j->o.x, s->c_in), *const y = widened(s, j->o.y, n_pixels(s) * s->c_out);

        for (int64_t row = 0; row < s->n_images * s->height; row++)
                for (int tap = 0; tap < 9; tap++)
                        emu_product_add(s->c_out, s->c_in, s->width,
                                        (struct emu_matrix){y + row * s->width * s->c_out, 1, s->c_out},
                                        (struct emu_matrix){x + around(s, row, tap, s->c_in), s->c_in, 1},
                                        sums + tap * s->c_in, 9 * s->c_in);
        free(x);
        free(y);
}

/* n sums: what is added to them, and one rounding. */
static void finish(const struct job *j, const double *sums, int64_t n, void *to)
{
        const struct conv_plan_shape *s = &j->s;

        for (int64_t i = 0; i < n; i++) {
                double sum = sums[i];

                if (s->finish == FINISH_RESIDUAL_BIAS)
                        sum += value_at(s->type, j->o.residual, i);
                if (s->finish != FINISH_NONE)
                        sum += value_at(s->type, j->o.bias, i % s->c_out);
                value_set(s->type, to, i, s->accumulate ? value_at(s->type, to, i) + sum : sum);
        }
}

static void touch(const struct job *j, void *p, int64_t n, enum conv_direction written_by)
{
        const bool written = j->s.direction == written_by;

        if (!written || j->s.accumulate)
                emu_touch(p, (size_t)n * dtype_bytes(j->s.type), false);
        if (written)
                emu_touch(p, (size_t)n * dtype_bytes(j->s.type), true);
}

static void touch_all(const struct job *j)
{
        const struct conv_plan_shape *s = &j->s;
        const int64_t pixels = n_pixels(s);

        touch(j, j->o.x, pixels * s->c_in, CONV_BACKWARD_DATA);
        touch(j, j->o.w, s->c_out * 9 * s->c_in, CONV_BACKWARD_WEIGHTS);
        touch(j, j->o.y, pixels * s->c_out, CONV_FORWARD);
        if (s->finish == FINISH_RESIDUAL_BIAS)
                emu_touch(j->o.residual, (size_t)(pixels * s->c_out) * dtype_bytes(s->type), false);
        if (s->finish != FINISH_NONE)
                emu_touch(j->o.bias, (size_t)s->c_out * dtype_bytes(s->type), false);
        emu_touch(j->o.workspace, WORKSPACE_BYTES, true);
}

static void run(const void *args)
{
        static void (*const of_direction[CONV_N_DIRECTIONS])(const struct job *, double *) = {
                [CONV_FORWARD] = forward,
                [CONV_BACKWARD_DATA] = backward_data,
                [CONV_BACKWARD_WEIGHTS] = backward_weights,
        };
        const struct job *j = args;
        const struct conv_plan_shape *s = &j->s;
        const int64_t n[CONV_N_DIRECTIONS] = {[CONV_FORWARD] = n_pixels(s) * s->c_out,
                                              [CONV_BACKWARD_DATA] = n_pixels(s) * s->c_in,
                                              [CONV_BACKWARD_WEIGHTS] = s->c_out * 9 * s->c_in};
        void *const to[CONV_N_DIRECTIONS] = {
                [CONV_FORWARD] = j->o.y, [CONV_BACKWARD_DATA] = j->o.x, [CONV_BACKWARD_WEIGHTS] = j->o.w};
        double *sums;

        touch_all(j);
        memset(j->o.workspace, 0xff, WORKSPACE_BYTES); /* it is the plan's to write */
        if (j->way == WAY_SLOW)
                emu_take_time(SLOW_MS);
        if (float32_is(s, "slow"))
                emu_take_time(VERY_SLOW_MS);
        sums = emu_zeros(n[s->direction]);
        of_direction[s->direction](j, sums);
        finish(j, sums, n[s->direction], to[s->direction]);
        free(sums);
}

cudaError_t conv_plan_run(struct conv_plan *p, cudaStream_t stream, const struct conv_operands *o)
{
        struct job j = {p->shape, p->way, *o};

        return emu_enqueue("convolution", run, &j, sizeof(j), stream);
}
