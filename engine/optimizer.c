#include "engine/optimizer.h"

#include <math.h>

void optimizer_begin(struct pass *p, const struct optimizer_buffers *b)
{
        const struct config *c = p->config;

        RUN(p, step_begin, .peak_rate = c->learning_rate, .b1 = c->b1, .b2 = c->b2, .n_warmup = c->num_steps_lr_warmup,
            .n_steps = c->num_steps_train, .decay = c->lr_decay, .state = b->state);
}

/* Values [first, first + n) of the buffers, whose gradient is g or, where that is NULL, the product of factors. */
static struct adamw_args update(const struct pass *p, const struct optimizer_buffers *b, int64_t first, int64_t n,
                                bool decayed, const float *g)
{
        const struct config *c = p->config;

        return (struct adamw_args){.n = n,
                                   .w = b->params + first,
                                   .m = b->m + first,
                                   .v = b->v + first,
                                   .ema = b->ema + first,
                                   .g = g,
                                   .b1 = c->b1,
                                   .b2 = c->b2,
                                   .eps = (float)c->eps,
                                   .weight_decay = decayed ? (float)c->weight_decay : 0,
                                   .ema_rate = c->ema_rate,
                                   .state = b->state};
}

void optimizer_step(struct pass *p, const struct optimizer_buffers *b)
{
        const struct config *c = p->config;
        const struct factored_gradients *f = p->factored;
        struct adamw_args updates[PARAMS_PARTS + FACTORED_MAX];
        size_t n = 0;

        for (int i = 0; i < PARAMS_PARTS; i++) {
                const struct params_part *part = &p->layout->parts[i];

                if (part->n && !(part->of_schedule && f && f->n))
                        updates[n++] = update(p, b, part->first, part->n, part->decayed, b->grads + part->first);
        }
        for (size_t i = 0; f && i < f->n; i++) {
                updates[n] = update(p, b, f->param[i]->offset, f->param[i]->size, f->param[i]->decayed, NULL);
                updates[n++].outer = f->gradient[i];
        }
        for (size_t i = 0; i < n; i++)
                RUN(p, squared_norm, .n = updates[i].n, .x = updates[i].g, .outer = updates[i].outer,
                    .ret = &b->state->squared_norm, .accumulate = i > 0);
        RUN(p, step_check, .clip_norm = isfinite(c->gradient_clip_norm) ? c->gradient_clip_norm : 0, .state = b->state);
        for (size_t i = 0; i < n; i++)
                p->k->adamw(p->stream, &updates[i]);
        RUN(p, step_end, .state = b->state);
}
