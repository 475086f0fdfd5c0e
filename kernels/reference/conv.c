/* 3x3 convolution, stride 1, zero padding 1, as it is written down: sums in double, channels in blocks that fit the
 * stack. Each output is summed by one thread in one order, so the number of threads changes nothing. Weights are
 * rounded where x is bf16. Spec 1. */
#include "kernels/reference/reference.h"

#include <errno.h>

#define BLOCK 64 /* channels summed side by side */

struct conv {
        struct conv_shape shape;
};

int reference_conv_new(struct device *d, const struct conv_shape *shape, struct conv **ret, struct error *err)
{
        struct conv *c;
        int r;

        r = host_check_conv(d, shape, true, err);
        if (r < 0)
                return r;
        c = calloc(1, sizeof(*c));
        if (!c)
                return error_set(err, -ENOMEM, "", "out of memory");
        c->shape = *shape;
        *ret = c;
        return 0;
}

struct conv *reference_conv_free(struct conv *c)
{
        free(c);
        return NULL;
}

size_t reference_conv_workspace(const struct conv *c)
{
        (void)c;
        return 0;
}

/* Number of the pixel `row` rows and `col` columns from pixel p of all images; -1 outside of its image. */
static int64_t pixel_at(const struct conv_shape *s, int64_t p, int64_t row, int64_t col)
{
        int64_t y = p / s->width % s->height + row, x = p % s->width + col;

        return y < 0 || y >= s->height || x < 0 || x >= s->width ? -1 : p + row * s->width + col;
}

static void forward_pixel(const struct conv_shape *s, const struct conv_forward_args *a, int64_t p)
{
        for (int64_t o = 0; o < s->c_out; o += BLOCK) {
                int64_t n = MIN(s->c_out - o, (int64_t)BLOCK);
                double sum[BLOCK] = {0};

                for (int k = 0; k < 9; k++) {
                        int64_t at = pixel_at(s, p, k / 3 - 1, k % 3 - 1);

                        for (int64_t i = 0; at >= 0 && i < s->c_in; i++) {
                                double x = value_at(s->x_type, a->x, at * s->c_in + i);
                                const float *w = a->w + (k * s->c_in + i) * s->c_out + o;

                                for (int64_t j = 0; j < n; j++)
                                        sum[j] += x * weight_at(s->x_type, w, j);
                        }
                }
                for (int64_t j = 0; j < n; j++) {
                        int64_t at = p * s->c_out + o + j;

                        value_set(s->y_type, a->y, at,
                                  sum[j] + (a->b ? a->b[o + j] : 0) +
                                          (a->residual ? value_at(s->y_type, a->residual, at) : 0));
                }
        }
}

int reference_conv_forward(const struct conv_forward_args *a)
{
        const struct conv_shape *s = &a->conv->shape;

#pragma omp parallel for schedule(static)
        for (int64_t p = 0; p < s->n_images * s->height * s->width; p++)
                forward_pixel(s, a, p);
        return 0;
}

/* y[row, col] sees x[row + ky - 1, col + kx - 1], so x[row, col] is seen by y[row - ky + 1, col - kx + 1]. */
int reference_conv_backward_data(const struct conv_backward_data_args *a)
{
        const struct conv_shape *s = &a->conv->shape;

#pragma omp parallel for schedule(static)
        for (int64_t p = 0; p < s->n_images * s->height * s->width; p++)
                for (int64_t i = 0; i < s->c_in; i++) {
                        double sum = a->accumulate ? value_at(s->x_type, a->dx, p * s->c_in + i) : 0;

                        for (int k = 0; k < 9; k++) {
                                const float *w = a->w + (k * s->c_in + i) * s->c_out;
                                int64_t at = pixel_at(s, p, 1 - k / 3, 1 - k % 3);

                                for (int64_t j = 0; at >= 0 && j < s->c_out; j++)
                                        sum += value_at(s->y_type, a->dy, at * s->c_out + j) *
                                               weight_at(s->x_type, w, j);
                        }
                        value_set(s->x_type, a->dx, p * s->c_in + i, sum);
                }
        return 0;
}

/* Row (k, i) of dw: sums over all pixels of x[pixel + k, i] dy[pixel, :]. */
static void backward_weights_row(const struct conv_shape *s, const struct conv_backward_weights_args *a, int64_t k,
                                 int64_t i)
{
        for (int64_t o = 0; o < s->c_out; o += BLOCK) {
                int64_t n = MIN(s->c_out - o, (int64_t)BLOCK);
                double sum[BLOCK] = {0};
                float *dw = a->dw + (k * s->c_in + i) * s->c_out + o;

                for (int64_t p = 0; p < s->n_images * s->height * s->width; p++) {
                        int64_t at = pixel_at(s, p, k / 3 - 1, k % 3 - 1);
                        double x = at >= 0 ? value_at(s->x_type, a->x, at * s->c_in + i) : 0;

                        for (int64_t j = 0; at >= 0 && j < n; j++)
                                sum[j] += x * value_at(s->y_type, a->dy, p * s->c_out + o + j);
                }
                for (int64_t j = 0; j < n; j++)
                        dw[j] = (float)(a->accumulate ? dw[j] + sum[j] : sum[j]);
        }
}

int reference_conv_backward_weights(const struct conv_backward_weights_args *a)
{
        const struct conv_shape *s = &a->conv->shape;

#pragma omp parallel for schedule(static)
        for (int64_t r = 0; r < 9 * s->c_in; r++)
                backward_weights_row(s, a, r / s->c_in, r % s->c_in);
        for (int64_t j = 0; a->db && j < s->c_out; j++) {
                double sum = 0;

                for (int64_t p = 0; p < s->n_images * s->height * s->width; p++)
                        sum += value_at(s->y_type, a->dy, p * s->c_out + j);
                a->db[j] = (float)(a->accumulate ? a->db[j] + sum : sum);
        }
        return 0;
}
