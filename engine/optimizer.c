#include "engine/optimizer.h"

#include <math.h>

double optimizer_learning_rate(const struct config *c, int64_t step)
{
        int64_t w = c->num_steps_lr_warmup, n = c->num_steps_train;

        if (step < w)
                return c->learning_rate * (double)step / (double)w;
        if (!c->lr_decay)
                return c->learning_rate;
        return n > w ? c->learning_rate * fmax(0, 1 - (double)(step - w) / (double)(n - w)) : c->learning_rate;
}

struct step_state optimizer_step_state(const struct config *c, uint32_t seed, int64_t step)
{
        return (struct step_state){.seed = seed,
                                   .step = step,
                                   .learning_rate = (float)optimizer_learning_rate(c, step),
                                   .m_correction = (float)(1 / (1 - pow(c->b1, (double)step + 1))),
                                   .v_correction = (float)(1 / (1 - pow(c->b2, (double)step + 1)))};
}

/* What one call updates: values [first, first + n) of the buffers, from grads or from a gradient's factors. */
struct range {
        int64_t first, n;
        bool decayed;
        const struct outer_gradient *outer; /* or NULL */
};

/* The decayed values and the others, each up to what is factored (the schedule's stand last in both), then those. */
static size_t ranges_of(const struct pass *p, struct range *ret)
{
        const struct factored_gradients *f = p->factored;
        int64_t first = 0;
        size_t n = 0;

        for (int decayed = 1; decayed >= 0; decayed--) {
                int64_t end = decayed ? p->layout->n_decayed : p->layout->n_values, next = end;

                for (size_t i = 0; f && i < f->n; i++)
                        if (f->param[i]->decayed == decayed)
                                end = MIN(end, f->param[i]->offset);
                ret[n++] = (struct range){first, end - first, decayed, NULL};
                first = next;
        }
        for (size_t i = 0; f && i < f->n; i++)
                ret[n++] =
                        (struct range){f->param[i]->offset, f->param[i]->size, f->param[i]->decayed, &f->gradient[i]};
        return n;
}

void optimizer_step(struct pass *p, const struct optimizer_buffers *b)
{
        const struct config *c = p->config;
        struct range ranges[2 + FACTORED_MAX];
        size_t n = ranges_of(p, ranges);
        bool clip = isfinite(c->gradient_clip_norm);

        for (size_t i = 0; clip && i < n; i++)
                RUN(p, squared_norm, .n = ranges[i].n, .x = ranges[i].outer ? NULL : b->grads + ranges[i].first,
                    .outer = ranges[i].outer ? *ranges[i].outer : (struct outer_gradient){0}, .ret = b->squared_norm,
                    .accumulate = i > 0);
        for (size_t i = 0; i < n; i++) {
                const struct range *r = &ranges[i];

                RUN(p, adamw, .n = r->n, .w = b->params + r->first, .m = b->m + r->first, .v = b->v + r->first,
                    .ema = b->ema + r->first, .g = r->outer ? NULL : b->grads + r->first,
                    .outer = r->outer ? *r->outer : (struct outer_gradient){0}, .b1 = c->b1, .b2 = c->b2,
                    .eps = (float)c->eps, .weight_decay = r->decayed ? (float)c->weight_decay : 0,
                    .ema_rate = c->ema_rate, .clip_norm = clip ? (float)c->gradient_clip_norm : 0,
                    .squared_norm = b->squared_norm, .state = b->state);
        }
}
