#include "engine/optimizer.h"

#include <math.h>

void optimizer_begin(struct pass *p, const struct optimizer_buffers *b)
{
        const struct config *c = p->config;

        RUN(p, step_begin, .peak_rate = c->learning_rate, .b1 = c->b1, .b2 = c->b2, .n_warmup = c->num_steps_lr_warmup,
            .n_steps = c->num_steps_train, .decay = c->lr_decay, .state = b->state);
}

/* What one call updates: values [first, first + n) of the buffers, from grads or from a gradient's factors. */
struct range {
        int64_t first, n;
        bool decayed;
        const float *g;              /* or NULL: */
        struct outer_gradient outer; /* its factors */
};

static size_t ranges_of(const struct pass *p, const struct optimizer_buffers *b, struct range *ret)
{
        const struct factored_gradients *f = p->factored;
        size_t n = 0;

        for (int i = 0; i < PARAMS_PARTS; i++) {
                const struct params_part *part = &p->layout->parts[i];

                if (part->n && !(part->of_schedule && f && f->n))
                        ret[n++] = (struct range){part->first, part->n, part->decayed, b->grads + part->first, {0}};
        }
        for (size_t i = 0; f && i < f->n; i++)
                ret[n++] = (struct range){f->param[i]->offset, f->param[i]->size, f->param[i]->decayed, NULL,
                                          f->gradient[i]};
        return n;
}

void optimizer_step(struct pass *p, const struct optimizer_buffers *b)
{
        const struct config *c = p->config;
        struct range ranges[PARAMS_PARTS + FACTORED_MAX];
        size_t n = ranges_of(p, b, ranges);

        for (size_t i = 0; i < n; i++)
                RUN(p, squared_norm, .n = ranges[i].n, .x = ranges[i].g, .outer = ranges[i].outer,
                    .ret = &b->state->squared_norm, .accumulate = i > 0);
        RUN(p, step_check, .clip_norm = isfinite(c->gradient_clip_norm) ? c->gradient_clip_norm : 0, .state = b->state);
        for (size_t i = 0; i < n; i++) {
                const struct range *r = &ranges[i];

                RUN(p, adamw, .n = r->n, .w = b->params + r->first, .m = b->m + r->first, .v = b->v + r->first,
                    .ema = b->ema + r->first, .g = r->g, .outer = r->outer, .b1 = c->b1, .b2 = c->b2,
                    .eps = (float)c->eps, .weight_decay = r->decayed ? (float)c->weight_decay : 0,
                    .ema_rate = c->ema_rate, .state = b->state);
        }
        RUN(p, step_end, .state = b->state);
}
