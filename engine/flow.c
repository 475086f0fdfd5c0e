#include "engine/flow.h"

void flow_buffers(struct flow_memory *b, int64_t m, struct program *x)
{
        size_t f = (size_t)m * sizeof(float), n = f * DIMENSIONS;

        program_buffer(x, &b->x, n);
        program_buffer(x, &b->x_low, n);
        program_buffer(x, &b->y, n);
        program_buffer(x, &b->y_low, n);
        program_buffer(x, &b->k, FLOW_STAGES * n);
        program_buffer(x, &b->dx, n);
        program_buffer(x, &b->probe, n);
        program_buffer(x, &b->t, f);
        program_buffer(x, &b->trajectories, (size_t)m * sizeof *b->trajectories);
}

static void stage(struct model *model, const struct flow_memory *b, const float *e, const struct flow_solve *how, int i)
{
        struct pass *p = &model->pass;
        int64_t m = p->m, d = DIMENSIONS;
        float *probe = how->divergence ? b->probe : NULL;

        RUN(p, flow_stage, .m = m, .d = d, .solver = how->solver, .stage = i, .reverse = how->reverse, .x = b->x,
            .x_low = b->x_low, .k = b->k, .trajectories = b->trajectories, .y = b->y, .y_low = b->y_low, .t = b->t);
        if (probe && how->probe_each)
                RUN(p, flow_probe, .m = m, .d = d, .kind = how->probe, .each = true, .stage = i, .state = p->state,
                    .rows = p->rows, .trajectories = b->trajectories, .y = probe);
        model_flow(model, b->y, b->y_low, b->t, e, how->reverse, probe, b->k + i * m * d, b->dx);
        if (probe)
                RUN(p, divergence, .m = m, .d = d, .stage = i, .dx = b->dx, .probe = probe,
                    .trajectories = b->trajectories);
        if (i == 1 || i == 2)
                RUN(p, flow_start, .m = m, .d = d, .solver = how->solver, .stage = i, .rtol = how->rtol,
                    .atol = how->atol, .shared = how->shared, .apart = how->apart, .x = b->x, .k = b->k,
                    .trajectories = b->trajectories);
}

void flow_step(struct model *model, const struct flow_memory *b, const float *e, const struct flow_solve *how)
{
        struct pass *p = &model->pass;

        for (int i = 1; i < flow_tableaus[how->solver].stages; i++)
                stage(model, b, e, how, i);
        RUN(p, flow_step, .m = p->m, .d = DIMENSIONS, .solver = how->solver, .rtol = how->rtol, .atol = how->atol,
            .beta = how->beta, .shared = how->shared, .apart = how->apart, .x = b->x, .x_low = b->x_low, .y = b->y,
            .y_low = b->y_low, .k = b->k, .trajectories = b->trajectories);
}
