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

static void stage(struct model *model, const struct flow_memory *b, const float *e, int i)
{
        struct pass *p = &model->pass;
        int64_t m = p->m, d = DIMENSIONS;

        RUN(p, flow_stage, .m = m, .d = d, .stage = i, .x = b->x, .x_low = b->x_low, .k = b->k,
            .trajectories = b->trajectories, .y = b->y, .y_low = b->y_low, .t = b->t);
        model_flow(model, b->y, b->y_low, b->t, e, b->probe, b->k + i * m * d, b->dx);
        RUN(p, divergence, .m = m, .d = d, .stage = i, .dx = b->dx, .probe = b->probe, .trajectories = b->trajectories);
}

void flow_start(struct model *model, const struct flow_memory *b, const float *e, const struct flow_solver *solver)
{
        struct pass *p = &model->pass;

        for (int i = 0; i < 2; i++) {
                stage(model, b, e, i);
                RUN(p, flow_start, .m = p->m, .d = DIMENSIONS, .phase = i, .rtol = solver->rtol, .atol = solver->atol,
                    .shared = solver->shared, .x = b->x, .k = b->k, .trajectories = b->trajectories);
        }
}

void flow_step(struct model *model, const struct flow_memory *b, const float *e, const struct flow_solver *solver)
{
        struct pass *p = &model->pass;

        for (int i = 1; i < FLOW_STAGES; i++)
                stage(model, b, e, i);
        RUN(p, flow_step, .m = p->m, .d = DIMENSIONS, .rtol = solver->rtol, .atol = solver->atol,
            .shared = solver->shared, .x = b->x, .x_low = b->x_low, .y = b->y, .y_low = b->y_low, .k = b->k,
            .trajectories = b->trajectories);
}
