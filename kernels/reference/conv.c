/* 3x3 convolution, stride 1, zero padding 1, as it is written down: sums in double, channels in blocks that fit the
 * stack. Each output is summed by one thread in one order, so the number of threads changes nothing. Spec 1. */
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

        r = host_check_conv(d, shape, false, err);
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

/* Pixel (row + dy, column + dx) of the image, NULL outside. */
static const float *pixel_at(const struct conv_shape *s, const float *image, int64_t channels, int64_t row, int64_t col)
{
        if (row < 0 || row >= s->height || col < 0 || col >= s->width)
                return NULL;
        return image + (row * s->width + col) * channels;
}

static void forward_pixel(const struct conv_shape *s, const struct conv_forward_args *a, int64_t row, int64_t col,
                          const float *image, float *y, const float *residual)
{
        for (int64_t o = 0; o < s->c_out; o += BLOCK) {
                int64_t n = MIN(s->c_out - o, (int64_t)BLOCK);
                double sum[BLOCK] = {0};

                for (int k = 0; k < 9; k++) {
                        const float *x = pixel_at(s, image, s->c_in, row + k / 3 - 1, col + k % 3 - 1);

                        for (int64_t i = 0; x && i < s->c_in; i++) {
                                const float *w = a->w + (k * s->c_in + i) * s->c_out + o;

                                for (int64_t j = 0; j < n; j++)
                                        sum[j] += (double)x[i] * w[j];
                        }
                }
                for (int64_t j = 0; j < n; j++)
                        y[o + j] = (float)(sum[j] + (a->b ? a->b[o + j] : 0) + (residual ? residual[o + j] : 0));
        }
}

int reference_conv_forward(const struct conv_forward_args *a)
{
        const struct conv_shape *s = &a->conv->shape;
        int64_t pixels = s->height * s->width;

#pragma omp parallel for schedule(static)
        for (int64_t p = 0; p < s->n_images * pixels; p++)
                forward_pixel(s, a, p % pixels / s->width, p % s->width,
                              (const float *)a->x + p / pixels * pixels * s->c_in, (float *)a->y + p * s->c_out,
                              a->residual ? (const float *)a->residual + p * s->c_out : NULL);
        return 0;
}

/* y[row, col] sees x[row + ky - 1, col + kx - 1], so x[row, col] is seen by y[row - ky + 1, col - kx + 1]. */
int reference_conv_backward_data(const struct conv_backward_data_args *a)
{
        const struct conv_shape *s = &a->conv->shape;
        int64_t pixels = s->height * s->width;

#pragma omp parallel for schedule(static)
        for (int64_t p = 0; p < s->n_images * pixels; p++) {
                const float *image = (const float *)a->dy + p / pixels * pixels * s->c_out;
                float *dx = (float *)a->dx + p * s->c_in;

                for (int64_t i = 0; i < s->c_in; i++) {
                        double sum = a->accumulate ? dx[i] : 0;

                        for (int k = 0; k < 9; k++) {
                                const float *w = a->w + (k * s->c_in + i) * s->c_out;
                                const float *dy = pixel_at(s, image, s->c_out, p % pixels / s->width - k / 3 + 1,
                                                           p % s->width - k % 3 + 1);

                                for (int64_t j = 0; dy && j < s->c_out; j++)
                                        sum += (double)dy[j] * w[j];
                        }
                        dx[i] = (float)sum;
                }
        }
        return 0;
}

/* Row (k, i) of dw: sums over all pixels of x[pixel + k, i] dy[pixel, :]. */
static void backward_weights_row(const struct conv_shape *s, const struct conv_backward_weights_args *a, int64_t k,
                                 int64_t i)
{
        int64_t pixels = s->height * s->width;

        for (int64_t o = 0; o < s->c_out; o += BLOCK) {
                int64_t n = MIN(s->c_out - o, (int64_t)BLOCK);
                double sum[BLOCK] = {0};
                float *dw = a->dw + (k * s->c_in + i) * s->c_out + o;

                for (int64_t p = 0; p < s->n_images * pixels; p++) {
                        const float *image = (const float *)a->x + p / pixels * pixels * s->c_in;
                        const float *x = pixel_at(s, image, s->c_in, p % pixels / s->width + k / 3 - 1,
                                                  p % s->width + k % 3 - 1);
                        const float *dy = (const float *)a->dy + p * s->c_out + o;

                        for (int64_t j = 0; x && j < n; j++)
                                sum[j] += (double)x[i] * dy[j];
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
                        sum += ((const float *)a->dy)[p * s->c_out + j];
                a->db[j] = (float)(a->accumulate ? a->db[j] + sum : sum);
        }
        return 0;
}
