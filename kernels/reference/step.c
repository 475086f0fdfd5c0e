/* A step's course in its state: what it depends on, what it sums up, whether it fails. Spec 6. A state that has failed
 * stays as it is, so that it tells of the step that failed however many are launched behind it. */
#include "kernels/reference/reference.h"

#include <math.h>

/* Of the update with `step` updates before it: the warm-up's step / n, then constant or falling to 0 at the last. */
static double learning_rate(const struct step_begin_args *a, int64_t step)
{
        int64_t w = a->n_warmup, n = a->n_steps;

        if (step < w)
                return a->peak_rate * (double)step / (double)w;
        if (!a->decay)
                return a->peak_rate;
        return n > w ? a->peak_rate * fmax(0, 1 - (double)(step - w) / (double)(n - w)) : a->peak_rate;
}

int reference_step_begin(const struct step_begin_args *a)
{
        struct step_state *s = a->state;

        if (s->failure != FAILURE_NONE)
                return 0;
        s->learning_rate = learning_rate(a, s->step);
        s->m_correction = (float)(1 / (1 - pow(a->b1, (double)s->step + 1)));
        s->v_correction = (float)(1 / (1 - pow(a->b2, (double)s->step + 1)));
        s->tau = (float)fmax(0.5, exp(-1e-5 * (double)s->step));
        for (int i = 0; i < SUM_N; i++)
                s->step_sums[i] = 0;
        return 0;
}

int reference_step_add(const struct step_add_args *a)
{
        double scale = 1 / ((double)a->batch * (double)a->d * M_LN2), *sums = a->state->step_sums;

        if (a->state->failure != FAILURE_NONE)
                return 0;
        for (int64_t i = 0; i < a->m; i++) {
                sums[SUM_RECON] += scale * (double)a->terms[3 * i];
                sums[SUM_LATENT] += scale * ((double)a->terms[3 * i + 1] + (double)a->kl[i]);
                sums[SUM_DIFF] += scale * (double)a->terms[3 * i + 2];
                sums[SUM_VAR_0] += (double)a->vars[2 * i] / (double)a->batch;
                sums[SUM_VAR_1] += (double)a->vars[2 * i + 1] / (double)a->batch;
        }
        return 0;
}

int reference_step_check(const struct step_check_args *a)
{
        struct step_state *s = a->state;
        double norm = sqrt(s->squared_norm);

        if (s->failure != FAILURE_NONE)
                return 0;
        if (!isfinite(norm))
                s->failure = FAILURE_GRADIENT;
        for (int i = 0; i < SUM_N; i++)
                if (!isfinite(s->step_sums[i]))
                        s->failure = FAILURE_LOSS;
        s->clip = a->clip_norm > 0 && norm >= a->clip_norm ? (float)(a->clip_norm / norm) : 1;
        return 0;
}

int reference_step_end(const struct step_end_args *a)
{
        struct step_state *s = a->state;

        if (s->failure != FAILURE_NONE)
                return 0;
        for (int i = 0; i < SUM_N; i++)
                s->window_sums[i] += s->step_sums[i];
        s->n_window++;
        s->step++;
        return 0;
}

int reference_advance(const struct advance_args *a)
{
        a->state->step += a->step_by;
        a->state->position += a->position_by;
        return 0;
}
