/* Which images a batch is of, where their random numbers come from, and what each image has added up. */
#include "kernels/reference/reference.h"

#include <string.h>

int reference_training_rows(const struct training_rows_args *a)
{
        for (int64_t i = 0; i < a->batch; i++)
                a->rows[i] = (struct row){
                        .index = philox_permutation(a->count, a->state->seed, a->state->step * a->batch + i),
                        .image = (uint64_t)i,
                        .time_place = i,
                };
        return 0;
}

int reference_list_rows(const struct list_rows_args *a)
{
        for (int64_t i = 0; i < a->m; i++) {
                int64_t at = MIN(a->state->position + i, a->n_images * a->repeats - 1);
                int64_t image = at / a->repeats, repeat = at % a->repeats;
                bool several = a->repeats > 1;

                a->rows[i] = (struct row){
                        .index = image,
                        .image = (uint64_t)image,
                        .block = (uint32_t)repeat,
                        .time_block = several ? 1 : 0,
                        .time_image = several ? (uint64_t)image : 0,
                        .time_place = several ? repeat : image,
                };
        }
        return 0;
}

static bool is_mirrored(const struct gather_args *a, const struct row *row)
{
        struct philox p;

        if (!a->flip)
                return false;
        p = philox_draw(a->flip->seed, STREAM_FLIP, row->block, 0, row->image, (uint64_t)a->flip->step, 0);
        return p.v[0] & 1;
}

int reference_gather(const struct gather_args *a)
{
        for (int64_t i = 0; i < a->m; i++) {
                const uint8_t *image = a->images + a->rows[i].index * a->bytes;
                uint8_t *x = a->x + i * a->bytes;
                bool mirrored = is_mirrored(a, &a->rows[i]);

                if (a->mirrored)
                        a->mirrored[i] = mirrored;
                if (!mirrored) {
                        memcpy(x, image, (size_t)a->bytes);
                        continue;
                }
                for (int64_t p = 0; p < a->bytes / a->channels; p++)
                        memcpy(x + p * a->channels,
                               image + (p / a->width * a->width + a->width - 1 - p % a->width) * a->channels,
                               (size_t)a->channels);
        }
        return 0;
}

int reference_image_add(const struct image_add_args *a)
{
        int64_t left = a->n_images * a->repeats - a->state->position;

        for (int64_t i = 0; i < MIN(a->m, left); i++) {
                double *sums = a->sums + 3 * ((a->state->position + i) / a->repeats);
                const float *terms = a->terms + 3 * i;

                sums[0] += a->scale * (double)terms[0];
                sums[1] += a->scale * ((double)terms[1] + (double)a->kl[i]);
                sums[2] += a->scale * (double)terms[2];
        }
        return 0;
}

int reference_time_add(const struct time_add_args *a)
{
        for (int64_t i = 0; i < a->m && a->state->position + i < a->n_images * a->repeats; i++) {
                int64_t bin = MIN((int64_t)(a->t[i] * (double)a->n_bins), a->n_bins - 1);

                a->sums[2 * bin] += a->scale * a->terms[3 * i + 2];
                a->sums[2 * bin + 1] += 1;
        }
        return 0;
}
