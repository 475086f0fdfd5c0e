/* What stands in for cuDNN's plans: loops over the same memory in the same layouts, sums in double. */
#include "kernels/cuda/convolver.h"

#include "kernels/bf16.h"
#include "kernels/cuda/emu/emu.h"

#include <errno.h>

enum { WORKSPACE_BYTES = 64 };

struct conv_plan {
        struct conv_plan_shape shape;
};

struct job {
        struct conv_plan_shape s;
        void *x, *w, *y, *workspace;
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

/* As cuDNN, which has no plan for some shapes: none for an odd number of input channels, so that both ways are used. */
int conv_plan_new(struct convolver *c, const struct conv_plan_shape *shape, struct conv_plan **ret, struct error *err)
{
        struct conv_plan *p;

        (void)c;
        *ret = NULL;
        if (shape->c_in % 2)
                return 0;
        p = calloc(1, sizeof(*p));
        if (!p)
                return error_set(err, -ENOMEM, "", "out of memory");
        p->shape = *shape;
        *ret = p;
        return 0;
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

static void set(const struct conv_plan_shape *s, void *p, int64_t i, double sum)
{
        value_set(s->type, p, i, s->accumulate ? value_at(s->type, p, i) + sum : sum);
}

/* The pixel `tap` away (backwards: sign -1), or -1 outside. */
static int64_t neighbour(const struct conv_plan_shape *s, int64_t p, int tap, int sign)
{
        int64_t row = p / s->width % s->height + sign * (tap / 3 - 1), col = p % s->width + sign * (tap % 3 - 1);

        return row < 0 || row >= s->height || col < 0 || col >= s->width
                       ? -1
                       : p + sign * ((tap / 3 - 1) * s->width + tap % 3 - 1);
}

static double product(const struct conv_plan_shape *s, const void *a, int64_t i, int64_t i_step, const void *b,
                      int64_t j, int64_t j_step, int64_t n)
{
        double sum = 0;

        for (int64_t k = 0; k < n; k++)
                sum += value_at(s->type, a, i + k * i_step) * value_at(s->type, b, j + k * j_step);
        return sum;
}

static void forward(const struct job *j, int64_t p, int64_t o)
{
        const struct conv_plan_shape *s = &j->s;
        double sum = 0;

        for (int tap = 0; tap < 9; tap++) {
                int64_t at = neighbour(s, p, tap, 1);

                if (at >= 0)
                        sum += product(s, j->x, at * s->c_in, 1, j->w, (o * 9 + tap) * s->c_in, 1, s->c_in);
        }
        set(s, j->y, p * s->c_out + o, sum);
}

static void backward_data(const struct job *j, int64_t p, int64_t i)
{
        const struct conv_plan_shape *s = &j->s;
        double sum = 0;

        for (int tap = 0; tap < 9; tap++) {
                int64_t at = neighbour(s, p, tap, -1);

                if (at >= 0)
                        sum += product(s, j->y, at * s->c_out, 1, j->w, tap * s->c_in + i, 9 * s->c_in, s->c_out);
        }
        set(s, j->x, p * s->c_in + i, sum);
}

static void backward_weights(const struct job *j, int64_t o, int tap, int64_t i)
{
        const struct conv_plan_shape *s = &j->s;
        double sum = 0;

        for (int64_t p = 0; p < s->n_images * s->height * s->width; p++) {
                int64_t at = neighbour(s, p, tap, 1);

                if (at >= 0)
                        sum += value_at(s->type, j->x, at * s->c_in + i) * value_at(s->type, j->y, p * s->c_out + o);
        }
        set(s, j->w, (o * 9 + tap) * s->c_in + i, sum);
}

static void run(const void *args)
{
        const struct job *j = args;
        const struct conv_plan_shape *s = &j->s;
        int64_t pixels = s->n_images * s->height * s->width;

        memset(j->workspace, 0xff, WORKSPACE_BYTES); /* it is the plan's to write */
        if (s->direction == CONV_FORWARD)
                for (int64_t t = 0; t < pixels * s->c_out; t++)
                        forward(j, t / s->c_out, t % s->c_out);
        else if (s->direction == CONV_BACKWARD_DATA)
                for (int64_t t = 0; t < pixels * s->c_in; t++)
                        backward_data(j, t / s->c_in, t % s->c_in);
        else
                for (int64_t t = 0; t < s->c_out * 9 * s->c_in; t++)
                        backward_weights(j, t / s->c_in / 9, (int)(t / s->c_in % 9), t % s->c_in);
}

cudaError_t conv_plan_run(struct conv_plan *p, cudaStream_t stream, void *x, void *w, void *y, void *workspace)
{
        struct job j = {p->shape, x, w, y, workspace};

        return emu_enqueue("convolution", run, &j, sizeof(j), stream);
}
