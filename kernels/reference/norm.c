/* y = dropout(swish(GroupNorm([a | b] + addend; groups, eps 1e-6) scale + bias)) and its gradients, in double.
 * Spec 1; Wu & He 2018. With xhat = (x - mean) / std, u = xhat scale + bias, N values a group:
 *   du = dy mask swish'(u), dscale = sum du xhat, dbias = sum du, dxhat = du scale,
 *   dx = (dxhat - sum(dxhat) / N - xhat sum(dxhat xhat) / N) / std, the sums over the group. */
#include "kernels/reference/reference.h"

#include <errno.h>
#include <math.h>

#define EPS 1e-6

struct norm {
        struct norm_shape shape;
};

int reference_norm_new(struct device *d, const struct norm_shape *shape, struct norm **ret, struct error *err)
{
        struct norm *n;
        int r;

        r = host_check_norm(d, shape, true, err);
        if (r < 0)
                return r;
        n = calloc(1, sizeof(*n));
        if (!n)
                return error_set(err, -ENOMEM, "", "out of memory");
        n->shape = *shape;
        *ret = n;
        return 0;
}

struct norm *reference_norm_free(struct norm *n)
{
        free(n);
        return NULL;
}

/* dscale and dbias are summed over images in double. */
size_t reference_norm_workspace(const struct norm *n)
{
        return (size_t)(n->shape.c_a + n->shape.c_b) * 2 * sizeof(double);
}

/* x of one image: [a | b] + addend */
struct input {
        const struct norm_shape *s;
        const void *a, *b;
        int64_t first; /* pixel of all images */
        const float *addend;
};

static struct input input_of(const struct norm_shape *s, int64_t image, const void *a, const void *b,
                             const float *addend)
{
        return (struct input){
                .s = s,
                .a = a,
                .b = b,
                .first = image * s->pixels,
                .addend = addend ? addend + image * (s->c_a + s->c_b) : NULL,
        };
}

static double input_at(const struct input *in, int64_t pixel, int64_t channel)
{
        const struct norm_shape *s = in->s;
        int64_t p = in->first + pixel;
        double x = channel < s->c_a ? value_at(s->type, in->a, p * s->c_a + channel)
                                    : value_at(s->type, in->b, p * s->c_b + channel - s->c_a);

        return in->addend ? x + in->addend[channel] : x;
}

/* The multiplier of element i of an image: 0, or 1 / (1 - rate). */
static double dropout_at(const struct dropout *d, int64_t image, int64_t i, int64_t image_size)
{
        struct philox p;
        uint32_t half;

        if (d->mask)
                return d->mask[image * image_size + i];
        if (d->rate <= 0)
                return 1;
        p = philox_draw(d->state->seed, STREAM_DROPOUT, d->block, (uint32_t)(i / 8), d->rows[image].image,
                        (uint64_t)d->state->step, 0);
        half = p.v[i % 8 / 2] >> (i % 2 * 16) & 0xFFFFu;
        return half >= (uint32_t)lrint(d->rate * 65536.0) ? 1.0 / (1.0 - d->rate) : 0;
}

int reference_norm_forward(const struct norm_forward_args *a)
{
        const struct norm_shape *s = &a->norm->shape;
        int64_t c = s->c_a + s->c_b, width = c / s->groups;

#pragma omp parallel for schedule(static)
        for (int64_t t = 0; t < s->n_images * s->groups; t++) {
                int64_t image = t / s->groups, c0 = t % s->groups * width, n = s->pixels * width;
                struct input in = input_of(s, image, a->a, a->b, a->addend);
                double mean = 0, variance = 0, scale;

                for (int64_t i = 0; i < n; i++)
                        mean += input_at(&in, i / width, c0 + i % width);
                mean /= (double)n;
                for (int64_t i = 0; i < n; i++) {
                        double e = input_at(&in, i / width, c0 + i % width) - mean;

                        variance += e * e;
                }
                scale = 1 / sqrt(variance / (double)n + EPS);
                a->stats[2 * t] = (float)mean;
                a->stats[2 * t + 1] = (float)scale;
                for (int64_t i = 0; i < n; i++) {
                        int64_t channel = c0 + i % width, e = i / width * c + channel;
                        double u = (input_at(&in, i / width, channel) - mean) * scale * a->scale[channel] +
                                   a->bias[channel];

                        value_set(s->type, a->y, image * s->pixels * c + e,
                                  (a->swish ? u * sigmoid(u) : u) * dropout_at(&a->dropout, image, e, s->pixels * c));
                }
        }
        return 0;
}

/* du and xhat of one value. */
static double backward_at(const struct norm_backward_args *a, const struct input *in, int64_t image, int64_t pixel,
                          int64_t channel, double *ret_xhat)
{
        const struct norm_shape *s = &a->norm->shape;
        int64_t c = s->c_a + s->c_b, e = pixel * c + channel;
        const float *stats = a->stats + 2 * (image * s->groups + channel / (c / s->groups));
        double xhat = (input_at(in, pixel, channel) - stats[0]) * stats[1];
        double u = xhat * a->scale[channel] + a->bias[channel], sig = sigmoid(u);
        double dy = value_at(s->type, a->dy, image * s->pixels * c + e);

        *ret_xhat = xhat;
        return dy * dropout_at(&a->dropout, image, e, s->pixels * c) * (a->swish ? sig + u * sig * (1 - sig) : 1);
}

static void backward_store(const struct norm_backward_args *a, int64_t image, int64_t pixel, int64_t channel, double dx)
{
        const struct norm_shape *s = &a->norm->shape;
        bool of_a = channel < s->c_a, accumulate = of_a ? a->accumulate_a : a->accumulate_b;
        int64_t p = image * s->pixels + pixel, at = of_a ? p * s->c_a + channel : p * s->c_b + channel - s->c_a;
        void *to = of_a ? a->da : a->db;

        value_set(s->type, to, at, accumulate ? value_at(s->type, to, at) + dx : dx);
}

/* One group of one image; adds to the channels' sums of du xhat and du. */
static void backward_group(const struct norm_backward_args *a, int64_t image, int64_t group, double *sums)
{
        const struct norm_shape *s = &a->norm->shape;
        int64_t c = s->c_a + s->c_b, width = c / s->groups;
        struct input in = input_of(s, image, a->a, a->b, a->addend);
        double rstd = a->stats[2 * (image * s->groups + group) + 1], n = (double)(s->pixels * width);
        double sum = 0, sum_xhat = 0, xhat;

        for (int64_t channel = group * width; channel < (group + 1) * width; channel++)
                for (int64_t p = 0; p < s->pixels; p++) {
                        double du = backward_at(a, &in, image, p, channel, &xhat);

                        sums[2 * channel] += du * xhat;
                        sums[2 * channel + 1] += du;
                        sum += du * a->scale[channel];
                        sum_xhat += du * a->scale[channel] * xhat;
                }
        for (int64_t channel = group * width; channel < (group + 1) * width; channel++) {
                double total = 0;

                for (int64_t p = 0; p < s->pixels; p++) {
                        double du = backward_at(a, &in, image, p, channel, &xhat);
                        double dx = (du * a->scale[channel] - sum / n - xhat * sum_xhat / n) * rstd;

                        total += dx;
                        backward_store(a, image, p, channel, dx);
                }
                if (a->daddend)
                        a->daddend[image * c + channel] = (float)total;
        }
}

int reference_norm_backward(const struct norm_backward_args *a)
{
        const struct norm_shape *s = &a->norm->shape;
        int64_t c = s->c_a + s->c_b;
        double *sums = a->workspace;

        for (int64_t i = 0; i < 2 * c; i++)
                sums[i] = 0;
#pragma omp parallel for schedule(static)
        for (int64_t group = 0; group < s->groups; group++)
                for (int64_t image = 0; image < s->n_images; image++)
                        backward_group(a, image, group, sums);
        for (int64_t i = 0; i < c && a->dscale; i++) {
                a->dscale[i] = (float)(a->accumulate_weights ? a->dscale[i] + sums[2 * i] : sums[2 * i]);
                a->dbias[i] = (float)(a->accumulate_weights ? a->dbias[i] + sums[2 * i + 1] : sums[2 * i + 1]);
        }
        return 0;
}
