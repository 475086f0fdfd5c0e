/* A step's course in its state, and which images a batch is of; Spec 6. A state that has failed stays as it is, so that
 * it tells of the step that failed however many are launched behind it. What changes the state is one thread's. */
#include "kernels/cuda/cuda.h"

namespace
{

enum { ONE = 32 }; /* threads of a block of which the first works */

/* Of the update with `step` updates before it: the warm-up's step / n, then constant or falling to 0 at the last. */
__device__ inline double learning_rate(const struct step_begin_args &a, int64_t step)
{
        const int64_t w = a.n_warmup, n = a.n_steps;

        if (step < w)
                return a.peak_rate * (double)step / (double)w;
        if (!a.decay)
                return a.peak_rate;
        return n > w ? a.peak_rate * fmax(0.0, 1 - (double)(step - w) / (double)(n - w)) : a.peak_rate;
}

__global__ void __launch_bounds__(ONE) step_begin(struct step_begin_args a)
{
        struct step_state *s = a.state;

        if (threadIdx.x > 0 || s->failure != FAILURE_NONE)
                return;
        s->learning_rate = learning_rate(a, s->step);
        s->m_correction = (float)(1 / (1 - pow(a.b1, (double)s->step + 1)));
        s->v_correction = (float)(1 / (1 - pow(a.b2, (double)s->step + 1)));
        s->tau = (float)fmax(0.5, exp(-1e-5 * (double)s->step));
        for (int i = 0; i < SUM_N; i++)
                s->step_sums[i] = 0;
}

/* In order of rows: a sum a thread. */
__global__ void __launch_bounds__(ONE) step_add(struct step_add_args a)
{
        const double scale = 1 / ((double)a.batch * (double)a.d * 0.69314718055994530942);
        const int which = threadIdx.x;

        if (which >= SUM_N || a.state->failure != FAILURE_NONE)
                return;
        double sum = a.state->step_sums[which];

        for (int64_t i = 0; i < a.m; i++)
                sum += which == SUM_RECON    ? scale * (double)a.terms[3 * i]
                       : which == SUM_LATENT ? scale * ((double)a.terms[3 * i + 1] + (double)a.kl[i])
                       : which == SUM_DIFF   ? scale * (double)a.terms[3 * i + 2]
                                             : (double)a.vars[2 * i + (which - SUM_VAR_0)] / (double)a.batch;
        a.state->step_sums[which] = sum;
}

__global__ void __launch_bounds__(ONE) step_check(struct step_check_args a)
{
        struct step_state *s = a.state;

        if (threadIdx.x > 0 || s->failure != FAILURE_NONE)
                return;
        const double norm = sqrt(s->squared_norm);

        if (!isfinite(norm))
                s->failure = FAILURE_GRADIENT;
        for (int i = 0; i < SUM_N; i++)
                if (!isfinite(s->step_sums[i]))
                        s->failure = FAILURE_LOSS;
        s->clip = a.clip_norm > 0 && norm >= a.clip_norm ? (float)(a.clip_norm / norm) : 1;
}

__global__ void __launch_bounds__(ONE) step_end(struct step_end_args a)
{
        struct step_state *s = a.state;

        if (threadIdx.x > 0 || s->failure != FAILURE_NONE)
                return;
        for (int i = 0; i < SUM_N; i++)
                s->window_sums[i] += s->step_sums[i];
        s->n_window++;
        s->step++;
}

__global__ void __launch_bounds__(ONE) advance(struct advance_args a)
{
        if (threadIdx.x > 0)
                return;
        a.state->step += a.step_by;
        a.state->position += a.position_by;
}

__device__ inline struct row row_zero(void)
{
        struct row r = {};

        return r;
}

__global__ void __launch_bounds__(BLOCK) training_rows(struct training_rows_args a)
{
        FOR_EACH(i, a.batch)
        {
                struct row r = row_zero();

                r.index = philox_permutation(a.count, a.state->seed, a.state->step * a.batch + i);
                r.image = (uint64_t)i;
                r.time_place = i;
                a.rows[i] = r;
        }
}

__global__ void __launch_bounds__(BLOCK) list_rows(struct list_rows_args a)
{
        FOR_EACH(i, a.m)
        {
                const int64_t last = a.n_images * a.repeats - 1, wanted = a.state->position + i;
                const int64_t at = wanted < last ? wanted : last, image = at / a.repeats, repeat = at % a.repeats;
                const bool several = a.repeats > 1;
                struct row r = row_zero();

                r.index = image;
                r.image = (uint64_t)image;
                r.block = (uint32_t)repeat;
                r.time_block = several ? 1 : 0;
                r.time_image = several ? (uint64_t)image : 0;
                r.time_place = several ? repeat : image;
                a.rows[i] = r;
        }
}

__device__ inline bool is_mirrored(const struct gather_args &a, const struct row *row)
{
        if (!a.flip)
                return false;
        return philox_draw(a.flip->seed, STREAM_FLIP, row->block, 0, row->image, (uint64_t)a.flip->step, 0).v[0] & 1;
}

/* A block a row. */
__global__ void __launch_bounds__(BLOCK) gather(struct gather_args a)
{
        const struct row *row = &a.rows[blockIdx.x];
        const uint8_t *image = a.images + row->index * a.bytes;
        const bool mirrored = is_mirrored(a, row);

        if (a.mirrored && threadIdx.x == 0)
                a.mirrored[blockIdx.x] = mirrored;
        for (int64_t i = threadIdx.x; i < a.bytes; i += blockDim.x) {
                int64_t from = i;

                if (mirrored) {
                        const int64_t pixel = i / a.channels, x = pixel % a.width;

                        from = i + (a.width - 1 - 2 * x) * a.channels;
                }
                a.x[blockIdx.x * a.bytes + i] = image[from];
        }
}

/* An image's three sums a thread, over its rows in order: neighbouring rows are an image's. */
__global__ void __launch_bounds__(BLOCK) image_add(struct image_add_args a)
{
        const int64_t position = a.state->position, left = a.n_images * a.repeats - position;
        const int64_t m = a.m < left ? a.m : left;

        FOR_EACH(i, m)
        {
                const int64_t image = (position + i) / a.repeats;

                if (i > 0 && (position + i - 1) / a.repeats == image)
                        continue; /* its first row's thread does all */
                double *sums = a.sums + 3 * image;

                for (int64_t row = i; row < m && (position + row) / a.repeats == image; row++) {
                        const float *terms = a.terms + 3 * row;

                        sums[0] += a.scale * (double)terms[0];
                        sums[1] += a.scale * ((double)terms[1] + (double)a.kl[row]);
                        sums[2] += a.scale * (double)terms[2];
                }
        }
}

/* In order of rows: a bin a thread, since rows of any bin follow each other. */
__global__ void __launch_bounds__(BLOCK) time_add(struct time_add_args a)
{
        const int64_t left = a.n_images * a.repeats - a.state->position, m = a.m < left ? a.m : left;

        FOR_EACH(bin, a.n_bins)
        for (int64_t i = 0; i < m; i++) {
                const int64_t at = (int64_t)(a.t[i] * (double)a.n_bins);

                if ((at < a.n_bins - 1 ? at : a.n_bins - 1) != bin)
                        continue;
                a.sums[2 * bin] += a.scale * (double)a.terms[3 * i + 2];
                a.sums[2 * bin + 1] += 1;
        }
}
} // namespace

void cuda_step_begin(struct stream *s, const struct step_begin_args *a)
{
        RUN(s, "step_begin", step_begin, 1, ONE, 0, *a);
}

void cuda_step_add(struct stream *s, const struct step_add_args *a)
{
        RUN(s, "step_add", step_add, 1, ONE, 0, *a);
}

void cuda_step_check(struct stream *s, const struct step_check_args *a)
{
        RUN(s, "step_check", step_check, 1, ONE, 0, *a);
}

void cuda_step_end(struct stream *s, const struct step_end_args *a)
{
        RUN(s, "step_end", step_end, 1, ONE, 0, *a);
}

void cuda_advance(struct stream *s, const struct advance_args *a)
{
        RUN(s, "advance", advance, 1, ONE, 0, *a);
}

void cuda_training_rows(struct stream *s, const struct training_rows_args *a)
{
        RUN(s, "training_rows", training_rows, grid_of(a->batch), BLOCK, 0, *a);
}

void cuda_list_rows(struct stream *s, const struct list_rows_args *a)
{
        RUN(s, "list_rows", list_rows, grid_of(a->m), BLOCK, 0, *a);
}

void cuda_gather(struct stream *s, const struct gather_args *a)
{
        RUN(s, "gather", gather, (unsigned)a->m, BLOCK, 0, *a);
}

void cuda_image_add(struct stream *s, const struct image_add_args *a)
{
        RUN(s, "image_add", image_add, grid_of(a->m), BLOCK, 0, *a);
}

void cuda_time_add(struct stream *s, const struct time_add_args *a)
{
        RUN(s, "time_add", time_add, grid_of(a->n_bins), BLOCK, 0, *a);
}
