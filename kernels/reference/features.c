/* Embeddings of time and of pixels. Spec 1. */
#include "kernels/reference/reference.h"

#include <math.h>

#define TWO_PI 6.283185307179586476925

static const float zeros[3];

/* f_i of the time embedding: from 1 down to 1 / 10000 */
static double frequency(int64_t i, int64_t half)
{
        return half > 1 ? exp(-(double)i * (log(10000.0) / (double)(half - 1))) : 1;
}

int reference_time_embedding_forward(const struct time_embedding_forward_args *a)
{
        int64_t half = a->n / 2;

#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < a->m; i++) {
                double t = (pair(a->g, a->g_low, i) - a->offset) * a->scale;

                for (int64_t j = 0; j < half; j++) {
                        double angle = 1000 * t * frequency(j, half);

                        a->y[i * a->y_stride + j] = (float)sin(angle);
                        a->y[i * a->y_stride + half + j] = (float)cos(angle);
                }
        }
        return 0;
}

int reference_time_embedding_backward(const struct time_embedding_backward_args *a)
{
        int64_t half = a->n / 2;

#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < a->m; i++) {
                const float *dy = a->dy + i * a->dy_stride;
                double t = (pair(a->g, a->g_low, i) - a->offset) * a->scale, sum = 0;

                for (int64_t j = 0; j < half; j++) {
                        double f = 1000 * frequency(j, half);

                        sum += f * (dy[j] * cos(t * f) - dy[half + j] * sin(t * f));
                }
                a->dg[i] = (float)(sum * a->scale);
        }
        return 0;
}

/* 2 pi frac(2^k z), k = 6 and 7. The product and the fraction are exact in float. */
static double angle_of(float z, float z_low, int k)
{
        float turns = z * (float)(1 << k);

        return TWO_PI * ((double)(turns - rintf(turns)) + (double)z_low * (1 << k));
}

int reference_fourier_forward(const struct fourier_forward_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < a->n_pixels; i++) {
                const float *z = a->z + 3 * i;
                const float *low = a->z_low ? a->z_low + 3 * i : zeros;

                for (int c = 0; c < 3; c++) {
                        value_set(a->type, a->y, 15 * i + c, z[c]);
                        for (int k = 0; k < 2; k++) {
                                double angle = angle_of(z[c], low[c], 6 + k);

                                value_set(a->type, a->y, 15 * i + 3 + 2 * c + k, sin(angle));
                                value_set(a->type, a->y, 15 * i + 9 + 2 * c + k, cos(angle));
                        }
                }
        }
        return 0;
}

int reference_fourier_backward(const struct fourier_backward_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < a->n_pixels; i++)
                for (int c = 0; c < 3; c++) {
                        float *dz = a->dz + 3 * i + c;
                        double sum = value_at(a->type, a->dy, 15 * i + c);

                        for (int k = 0; k < 2; k++) {
                                double angle = angle_of(a->z[3 * i + c], a->z_low ? a->z_low[3 * i + c] : 0, 6 + k);

                                sum += TWO_PI * (64 << k) *
                                       (value_at(a->type, a->dy, 15 * i + 3 + 2 * c + k) * cos(angle) -
                                        value_at(a->type, a->dy, 15 * i + 9 + 2 * c + k) * sin(angle));
                        }
                        *dz = (float)(a->accumulate ? *dz + sum : sum);
                }
        return 0;
}
