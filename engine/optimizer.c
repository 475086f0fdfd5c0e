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

void optimizer_step(struct pass *p, const struct optimizer_buffers *b)
{
        const struct config *c = p->config;
        bool clip = isfinite(c->gradient_clip_norm);
        int64_t first = 0;

        if (clip)
                RUN(p, squared_norm, .n = p->layout->n_values, .x = b->grads, .ret = b->squared_norm);
        for (int decayed = 1; decayed >= 0; decayed--) {
                int64_t n = decayed ? p->layout->n_decayed : p->layout->n_values - p->layout->n_decayed;

                RUN(p, adamw, .n = n, .w = b->params + first, .m = b->m + first, .v = b->v + first,
                    .ema = b->ema + first, .g = b->grads + first, .b1 = c->b1, .b2 = c->b2, .eps = (float)c->eps,
                    .weight_decay = decayed ? (float)c->weight_decay : 0, .ema_rate = c->ema_rate,
                    .clip_norm = clip ? (float)c->gradient_clip_norm : 0, .squared_norm = b->squared_norm,
                    .state = b->state);
                first += n;
        }
}
