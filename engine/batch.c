#include "engine/batch.h"

void batch_buffers(struct batch_memory *b, int64_t m, struct program *x)
{
        struct batch *in = &b->batch;
        size_t f = (size_t)m * sizeof(float);

        program_buffer(x, &in->x, (size_t)m * IMAGE_BYTES);
        program_buffer(x, &in->t, f);
        program_buffer(x, &in->s, f);
        program_buffer(x, &in->eps_0, f * DIMENSIONS);
        program_buffer(x, &in->eps, f * DIMENSIONS);
        program_buffer(x, &in->label, f);
        program_buffer(x, &in->latent, 10 * f * (size_t)x->rt->config->latent_size);
        program_buffer(x, &b->ret.terms, 3 * f);
        program_buffer(x, &b->ret.kl, f);
        program_buffer(x, &b->ret.vars, 2 * f);
}

void batch_make(struct pass *p, const struct batch_memory *b, const uint8_t *images, const struct row *rows,
                int64_t total, bool independent)
{
        const struct config *c = p->config;
        const struct batch *x = &b->batch;
        bool told = b->flip && c->flip_flag;
        int64_t n = c->latent_size;

        RUN(p, gather, .m = p->m, .bytes = IMAGE_BYTES, .images = images, .rows = rows, .x = x->x,
            .flip = b->flip ? p->state : NULL, .width = IMAGE_SIDE, .channels = IMAGE_CHANNELS,
            .mirrored = told ? x->label : NULL);
        if (!told)
                RUN(p, fill, .n = p->m, .value = 0, .y = x->label);
        RUN(p, random_times, .state = p->state, .rows = rows, .m = p->m, .total = total, .independent = independent,
            .n_timesteps = c->sm_n_timesteps, .t = x->t, .s = x->s);
        RUN(p, random_normal, .state = p->state, .rows = rows, .stream = STREAM_EPS_0, .m = p->m, .d = DIMENSIONS,
            .y = x->eps_0);
        RUN(p, random_normal, .state = p->state, .rows = rows, .stream = STREAM_EPS, .m = p->m, .d = DIMENSIONS,
            .y = x->eps);
        if (!networks_encoded(c))
                return;
        switch (bound_noise(c)) {
        case NOISE_SUM_OF_GAMMA:
                RUN(p, random_gamma, .state = p->state, .rows = rows, .m = p->m, .n = n, .k = c->latent_k,
                    .y = x->latent);
                break;
        case NOISE_GUMBEL:
                RUN(p, random_gumbel, .state = p->state, .rows = rows, .m = p->m, .n = n, .y = x->latent);
                break;
        case NOISE_NORMAL:
                RUN(p, random_normal, .state = p->state, .rows = rows, .stream = STREAM_LATENT, .m = p->m, .d = n,
                    .y = x->latent);
                break;
        }
}
