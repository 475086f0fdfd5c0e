/* Normal variates, many at once. The values are philox.h's: same words, same formula in double, rounded once. */
#include "kernels/cpu/philox_lanes.h"

#define CHUNK 64 /* quads */

_inline_ void normals_of(const uint32_t *restrict words, int64_t n_pairs, float *restrict y)
{
#pragma omp simd
        for (int64_t i = 0; i < n_pairs; i++) {
                double r = __builtin_sqrt(-2.0 * fast_log(((double)words[2 * i] + 0.5) * 0x1p-32)), s, c;

                fast_sincos_word(words[2 * i + 1], &s, &c);
                y[2 * i] = (float)(r * c);
                y[2 * i + 1] = (float)(r * s);
        }
}

int V(random_normal)(const struct random_normal_args *a)
{
        int64_t quads = (a->d + 3) / 4, chunks = (quads + CHUNK - 1) / CHUNK;

#pragma omp parallel for schedule(static) if (a->m * a->d > 1024)
        for (int64_t t = 0; t < a->m * chunks; t++) {
                int64_t image = t / chunks, first = t % chunks * CHUNK, n = MIN(quads - first, (int64_t)CHUNK);
                const struct row *row = &a->rows[image];
                struct philox_lanes lanes = philox_lanes_of(a->state, a->stream, row->block, row->image);
                uint32_t counters[CHUNK] = {0}, words[4 * CHUNK];
                float y[4 * CHUNK];

                for (int64_t i = 0; i < CHUNK; i++)
                        counters[i] = (uint32_t)(first + i);
                philox_lanes_run(&lanes, counters, CHUNK, words);
                normals_of(words, 2 * CHUNK, y);
                memcpy(a->y + image * a->d + 4 * first, y, sizeof(float) * (size_t)MIN(4 * n, a->d - 4 * first));
        }
        return 0;
}
