/* What operations cost at the least. An operand counts once for each time that it must be read or written: what is
 * accumulated into counts twice. Small ones (stats, states, rows) count too where they grow with the batch. */
#include "kernels/cost.h"

#define F ((double)sizeof(float))

/* n values read or written */
static double floats(double n)
{
        return F * n;
}

static double present(const void *p, double bytes)
{
        return p ? bytes : 0;
}

/* An output, read too where it is added to. */
static double output(double bytes, bool accumulate)
{
        return accumulate ? 2 * bytes : bytes;
}

/* ---- plans: each begins with its shape (kernels.h) */

static double conv_flop(const struct conv_shape *s)
{
        double out = (double)s->n_images * (double)((s->height + s->stride - 1) / s->stride) *
                     (double)((s->width + s->stride - 1) / s->stride) * (double)s->c_out;

        return 2 * out * (double)(s->kernel_height * s->kernel_width * (s->c_in / s->groups));
}

struct conv_bytes {
        double x, y, w, b;
};

static struct conv_bytes conv_bytes(const struct conv_shape *s)
{
        double pixels = (double)(s->n_images * s->height * s->width);
        double out = (double)(s->n_images * ((s->height + s->stride - 1) / s->stride) *
                              ((s->width + s->stride - 1) / s->stride));

        return (struct conv_bytes){
                .x = pixels * (double)s->c_in * (double)dtype_bytes(s->x_type),
                .y = out * (double)s->c_out * (double)dtype_bytes(s->y_type),
                .w = floats((double)(s->kernel_height * s->kernel_width * (s->c_in / s->groups) * s->c_out)),
                .b = floats((double)s->c_out),
        };
}

struct cost cost_conv_forward(const struct conv_forward_args *a)
{
        const struct conv_shape *s = (const void *)a->conv;
        struct conv_bytes n = conv_bytes(s);

        return (struct cost){conv_flop(s), n.x + n.w + present(a->b, n.b) + present(a->residual, n.y) + n.y};
}

struct cost cost_conv_backward_data(const struct conv_backward_data_args *a)
{
        const struct conv_shape *s = (const void *)a->conv;
        struct conv_bytes n = conv_bytes(s);

        return (struct cost){conv_flop(s), n.y + n.w + output(n.x, a->accumulate)};
}

struct cost cost_conv_backward_weights(const struct conv_backward_weights_args *a)
{
        const struct conv_shape *s = (const void *)a->conv;
        struct conv_bytes n = conv_bytes(s);

        return (struct cost){conv_flop(s), n.x + n.y + output(n.w + present(a->db, n.b), a->accumulate)};
}

struct dense_bytes {
        double flop, x, w, y, b;
};

static struct dense_bytes dense_bytes(const void *plan)
{
        const struct dense_shape *s = plan;
        double m = (double)s->m, k = (double)s->k, n = (double)s->n, size = (double)dtype_bytes(s->type);

        return (struct dense_bytes){2 * m * k * n, m * k * size, floats(k * n), m * n * size, floats(n)};
}

struct cost cost_dense_forward(const struct dense_forward_args *a)
{
        struct dense_bytes n = dense_bytes(a->dense);

        return (struct cost){n.flop, n.x + n.w + present(a->b, n.b) + output(n.y, a->accumulate)};
}

struct cost cost_dense_backward_data(const struct dense_backward_data_args *a)
{
        struct dense_bytes n = dense_bytes(a->dense);

        return (struct cost){n.flop, n.y + n.w + output(n.x, a->accumulate)};
}

struct cost cost_dense_backward_weights(const struct dense_backward_weights_args *a)
{
        struct dense_bytes n = dense_bytes(a->dense);

        return (struct cost){n.flop, n.x + n.y + output(n.w + present(a->db, n.b), a->accumulate)};
}

struct cost cost_wide_dense_forward(const struct wide_dense_forward_args *a)
{
        double m = (double)a->m, k = (double)a->k, n = (double)a->n;

        return (struct cost){2 * m * k * n, floats(m * k) + present(a->x_low, floats(m * k)) + floats(k * n) +
                                                    present(a->b, floats(n)) + floats(m * n) +
                                                    present(a->y_low, floats(m * n))};
}

static double norm_values(const struct norm_shape *s, int64_t channels)
{
        return (double)(s->n_images * s->pixels * channels) * (double)dtype_bytes(s->type);
}

/* addend, scale and bias, stats; a mask that is given */
static double norm_small(const struct norm_shape *s, const void *addend, const struct dropout *d)
{
        double c = (double)(s->c_a + s->c_b), n = (double)s->n_images;

        return present(addend, floats(n * c)) + floats(2 * c) + floats(2 * n * (double)s->groups) +
               present(d->mask, floats(n * (double)s->pixels * c));
}

struct cost cost_norm_forward(const struct norm_forward_args *a)
{
        const struct norm_shape *s = (const void *)a->norm;

        return (struct cost){0, 2 * norm_values(s, s->c_a + s->c_b) + norm_small(s, a->addend, &a->dropout)};
}

struct cost cost_norm_backward(const struct norm_backward_args *a)
{
        const struct norm_shape *s = (const void *)a->norm;
        double c = (double)(s->c_a + s->c_b);
        double small = norm_small(s, a->addend, &a->dropout) +
                       present(a->dscale, output(floats(2 * c), a->accumulate_weights)) +
                       present(a->daddend, floats((double)s->n_images * c));

        return (struct cost){0, 2 * norm_values(s, s->c_a + s->c_b) + output(norm_values(s, s->c_a), a->accumulate_a) +
                                        output(norm_values(s, s->c_b), a->accumulate_b) + small};
}

/* One product of all images: every pixel with every other, over the channels of all heads. */
static double attention_flop(const struct attention_shape *s)
{
        return 2 * (double)s->n_images * (double)s->pixels * (double)s->pixels * (double)s->c;
}

static double attention_bytes(const struct attention_shape *s)
{
        return (double)(s->n_images * s->pixels * s->c) * (double)dtype_bytes(s->type);
}

/* What is kept is the back end's own matter and may be little: not counted. */
struct cost cost_attention_forward(const struct attention_forward_args *a)
{
        const struct attention_shape *s = (const void *)a->attention;

        return (struct cost){2 * attention_flop(s), 4 * attention_bytes(s)};
}

struct cost cost_attention_backward(const struct attention_backward_args *a)
{
        const struct attention_shape *s = (const void *)a->attention;

        return (struct cost){4 * attention_flop(s), 8 * attention_bytes(s)};
}

/* ---- embeddings and elementwise */

struct cost cost_time_embedding_forward(const struct time_embedding_forward_args *a)
{
        double m = (double)a->m;

        return (struct cost){0, floats(m) + present(a->g_low, floats(m)) + floats(m * (double)a->n)};
}

struct cost cost_time_embedding_backward(const struct time_embedding_backward_args *a)
{
        double m = (double)a->m;

        return (struct cost){0, floats(m) + present(a->g_low, floats(m)) + floats(m * (double)a->n) + floats(m)};
}

struct cost cost_fourier_forward(const struct fourier_forward_args *a)
{
        double n = (double)a->n_pixels;

        return (struct cost){0,
                             floats(3 * n) + present(a->z_low, floats(3 * n)) + 15 * n * (double)dtype_bytes(a->type)};
}

struct cost cost_fourier_backward(const struct fourier_backward_args *a)
{
        double n = (double)a->n_pixels;

        return (struct cost){0, floats(3 * n) + present(a->z_low, floats(3 * n)) +
                                        15 * n * (double)dtype_bytes(a->type) + output(floats(3 * n), a->accumulate)};
}

struct cost cost_swish_forward(const struct swish_forward_args *a)
{
        double n = (double)a->n, bytes = n * (double)dtype_bytes(a->type);

        return (struct cost){0, 2 * bytes + present(a->x_low, floats(n)) + present(a->y_low, floats(n))};
}

struct cost cost_swish_backward(const struct swish_backward_args *a)
{
        return (struct cost){0, 3 * (double)a->n * (double)dtype_bytes(a->type)};
}

struct cost cost_relu_forward(const struct relu_forward_args *a)
{
        return (struct cost){0, 2 * (double)a->n * (double)dtype_bytes(a->type)};
}

struct cost cost_relu_backward(const struct relu_backward_args *a)
{
        return (struct cost){0, 3 * (double)a->n * (double)dtype_bytes(a->type)};
}

struct cost cost_repeat_forward(const struct repeat_forward_args *a)
{
        return (struct cost){0, floats((double)(a->m * a->c) * (1 + (double)a->pixels))};
}

struct cost cost_repeat_backward(const struct repeat_backward_args *a)
{
        double n = (double)(a->m * a->c);

        return (struct cost){0, floats(n * (double)a->pixels) + output(floats(n), a->accumulate)};
}

struct cost cost_add(const struct add_args *a)
{
        return (struct cost){0, 3 * (double)a->n * (double)dtype_bytes(a->type)};
}

struct cost cost_copy_2d(const struct copy_2d_args *a)
{
        double columns = (double)a->columns, rows = (double)a->rows;

        return (struct cost){0, (a->x_stride ? rows : 1) * columns * (double)dtype_bytes(a->x_type) +
                                        output(rows * columns * (double)dtype_bytes(a->y_type), a->accumulate)};
}

struct cost cost_fill(const struct fill_args *a)
{
        return (struct cost){0, floats((double)a->n)};
}

struct cost cost_abs_forward(const struct abs_forward_args *a)
{
        return (struct cost){0, floats(2 * (double)a->n)};
}

struct cost cost_abs_backward(const struct abs_backward_args *a)
{
        return (struct cost){0, floats(2 * (double)a->n) + output(floats((double)a->n), a->accumulate)};
}

struct cost cost_row_mean_forward(const struct row_mean_forward_args *a)
{
        double m = (double)a->m, n = (double)a->n;

        return (struct cost){0, floats(m * n) + present(a->x_low, floats(m * n)) + floats(m) +
                                        present(a->y_low, floats(m))};
}

struct cost cost_row_mean_backward(const struct row_mean_backward_args *a)
{
        return (struct cost){0, floats((double)a->m) + floats(2 * (double)a->m * (double)a->n)};
}

struct cost cost_encode_image(const struct encode_image_args *a)
{
        return (struct cost){0, (1 + F) * (double)a->n};
}

/* ---- schedules */

struct cost cost_poly_forward(const struct poly_forward_args *a)
{
        double n = floats((double)a->m * (double)a->d);

        return (struct cost){0, 3 * n + present(a->a_low, n) + present(a->b_low, n) + present(a->c_raw_low, n) +
                                        floats((double)a->m) + present(a->gamma, n) + present(a->gamma_low, n) +
                                        present(a->gamma_prime, n)};
}

struct cost cost_poly_backward(const struct poly_backward_args *a)
{
        double n = floats((double)a->m * (double)a->d);

        return (struct cost){0, 3 * n + floats((double)a->m) + present(a->d_gamma, n) + present(a->d_gamma_prime, n) +
                                        output(3 * n, a->accumulate)};
}

struct cost cost_dual_squash_forward(const struct dual_squash_forward_args *a)
{
        return (struct cost){0, floats(4 * (double)a->n)};
}

struct cost cost_dual_squash_backward(const struct dual_squash_backward_args *a)
{
        return (struct cost){0, floats(6 * (double)a->n)};
}

struct cost cost_monotone_out_forward(const struct monotone_out_forward_args *a)
{
        double n = floats((double)a->m * (double)a->d);

        return (struct cost){0, floats(2 + (double)a->m) + present(a->h, n) + present(a->h_prime, n) +
                                        present(a->gamma, n) + present(a->gamma_prime, n)};
}

struct cost cost_monotone_out_backward(const struct monotone_out_backward_args *a)
{
        double n = floats((double)a->m * (double)a->d);

        return (struct cost){0, floats(1 + (double)a->m) + present(a->d_gamma, n) + present(a->d_gamma_prime, n) +
                                        present(a->dh, n) + present(a->dh_prime, n) +
                                        output(present(a->dw, F) + present(a->db, F), a->accumulate)};
}

/* ---- the probability flow */

struct cost cost_drift(const struct drift_args *a)
{
        double n = floats((double)a->m * (double)a->d), g = floats((double)a->m * (double)a->g);

        return (struct cost){0, 3 * n + present(a->x_low, n) + 2 * g + present(a->probe, 3 * n)};
}

struct cost cost_divergence(const struct divergence_args *a)
{
        return (struct cost){0, floats(2 * (double)a->m * (double)a->d) + (double)a->m * sizeof(double)};
}

struct cost cost_flow_slots(const struct flow_slots_args *a)
{
        double m = (double)a->m;

        return (struct cost){
                0, 2 * floats(m * (double)a->d) +
                           m * (double)(sizeof(struct trajectory) + sizeof(struct row) + sizeof(struct flow_result))};
}

struct cost cost_dequantise(const struct dequantise_args *a)
{
        return (struct cost){0, floats(3 * (double)a->m * (double)a->d)};
}

struct cost cost_flow_probe(const struct flow_probe_args *a)
{
        return (struct cost){0, floats((double)a->m * (double)a->d)};
}

struct cost cost_flow_start(const struct flow_start_args *a)
{
        return (struct cost){0, floats((1 + a->stage) * (double)a->m * (double)a->d)};
}

struct cost cost_flow_stage(const struct flow_stage_args *a)
{
        double n = floats((double)a->m * (double)a->d);

        return (struct cost){0, (4 + a->stage) * n + floats((double)a->m)};
}

struct cost cost_flow_step(const struct flow_step_args *a)
{
        return (struct cost){0, (flow_tableaus[a->solver].stages + 8) * floats((double)a->m * (double)a->d)};
}

struct cost cost_known_gamma(const struct known_gamma_args *a)
{
        return (struct cost){0, floats(4 * (double)a->m)};
}

struct cost cost_weigh_rows(const struct weigh_rows_args *a)
{
        return (struct cost){0, floats(2 * (double)a->m * ((double)a->d + 1))};
}

/* ---- latent, bound, sampling */

struct cost cost_topk_forward(const struct topk_forward_args *a)
{
        double m = (double)a->m, n = floats(m * (double)a->n);

        return (struct cost){0, n + present(a->noise, a->sum_of_gamma ? 10 * n : n) + 2 * n + floats(2 * m)};
}

struct cost cost_topk_backward(const struct topk_backward_args *a)
{
        return (struct cost){0, floats(4 * (double)a->m * (double)a->n + (double)a->m)};
}

struct cost cost_gumbel_forward(const struct gumbel_forward_args *a)
{
        return (struct cost){0, floats(4 * (double)a->m * (double)a->n + (double)a->m)};
}

struct cost cost_gumbel_backward(const struct gumbel_backward_args *a)
{
        return (struct cost){0, floats(4 * (double)a->m * (double)a->n)};
}

struct cost cost_gaussian_forward(const struct gaussian_forward_args *a)
{
        double n = floats((double)a->m * (double)a->n);

        return (struct cost){0, 3 * n + present(a->noise, n) + floats((double)a->m)};
}

struct cost cost_gaussian_backward(const struct gaussian_backward_args *a)
{
        double n = floats((double)a->m * (double)a->n);

        return (struct cost){0, 5 * n + present(a->noise, n)};
}

struct cost cost_diffuse_forward(const struct diffuse_forward_args *a)
{
        double n = floats((double)a->m * (double)a->d), g = floats((double)a->m * (double)a->g);

        return (struct cost){0, 3 * n + g + present(a->gamma_low, g) + present(a->z_low, n)};
}

struct cost cost_diffuse_backward(const struct diffuse_backward_args *a)
{
        double n = floats((double)a->m * (double)a->d), g = floats((double)a->m * (double)a->g);

        return (struct cost){0, 3 * n + 3 * g};
}

struct cost cost_bound(const struct bound_args *a)
{
        double values = (double)a->m * (double)a->d, n = floats(values), g = floats((double)a->m * (double)a->g);

        return (struct cost){0, values + 5 * n + 4 * g + floats(5 * (double)a->m) + present(a->d_net, 2 * n + 4 * g)};
}

struct cost cost_ancestral_step(const struct ancestral_step_args *a)
{
        return (struct cost){0, floats(4 * (double)a->m * (double)a->d + 2 * (double)a->m * (double)a->g)};
}

struct cost cost_decode(const struct decode_args *a)
{
        double n = (double)a->m * (double)a->d;

        return (struct cost){0, floats(n) + floats((double)a->m * (double)a->g) + present(a->uniform, floats(n)) + n};
}

/* ---- optimizer; a gradient by its factors costs its product */

static struct cost gradient_cost(const void *whole, double n, const struct outer_gradient *o)
{
        double rows = (double)o->rows;

        if (whole)
                return (struct cost){0, floats(n)};
        return (struct cost){2 * rows * (double)o->k * (double)o->n, floats(rows * (double)(o->k + o->n))};
}

struct cost cost_squared_norm(const struct squared_norm_args *a)
{
        struct cost c = gradient_cost(a->x, (double)a->n, &a->outer);

        return (struct cost){c.flop, c.bytes + output(sizeof(double), a->accumulate)};
}

struct cost cost_adamw(const struct adamw_args *a)
{
        struct cost c = gradient_cost(a->g, (double)a->n, &a->outer);

        return (struct cost){c.flop, c.bytes + floats(8 * (double)a->n)};
}

/* ---- a step's course: the state, which is a line or two of memory, is not counted */

struct cost cost_step_begin(const struct step_begin_args *a)
{
        (void)a;
        return (struct cost){0};
}

struct cost cost_step_add(const struct step_add_args *a)
{
        return (struct cost){0, floats(6 * (double)a->m)};
}

struct cost cost_step_check(const struct step_check_args *a)
{
        (void)a;
        return (struct cost){0};
}

struct cost cost_step_end(const struct step_end_args *a)
{
        (void)a;
        return (struct cost){0};
}

struct cost cost_advance(const struct advance_args *a)
{
        (void)a;
        return (struct cost){0};
}

static double rows_bytes(int64_t m)
{
        return (double)m * (double)sizeof(struct row);
}

struct cost cost_training_rows(const struct training_rows_args *a)
{
        return (struct cost){0, rows_bytes(a->batch)};
}

struct cost cost_list_rows(const struct list_rows_args *a)
{
        return (struct cost){0, rows_bytes(a->m)};
}

struct cost cost_gather(const struct gather_args *a)
{
        return (struct cost){0, rows_bytes(a->m) + 2 * (double)a->m * (double)a->bytes +
                                        (a->mirrored ? floats((double)a->m) : 0)};
}

struct cost cost_image_add(const struct image_add_args *a)
{
        return (struct cost){0, floats(4 * (double)a->m) + 6 * (double)sizeof(double) * (double)a->m};
}

struct cost cost_time_add(const struct time_add_args *a)
{
        return (struct cost){0, floats(2 * (double)a->m) + 4 * (double)sizeof(double) * (double)a->n_bins};
}

/* ---- random numbers */

struct cost cost_random_normal(const struct random_normal_args *a)
{
        return (struct cost){0, rows_bytes(a->m) + floats((double)a->m * (double)a->d)};
}

struct cost cost_random_uniform(const struct random_uniform_args *a)
{
        return (struct cost){0, rows_bytes(a->m) + floats((double)a->m * (double)a->d)};
}

struct cost cost_random_gamma(const struct random_gamma_args *a)
{
        return (struct cost){0, rows_bytes(a->m) + floats(10 * (double)a->m * (double)a->n)};
}

struct cost cost_random_gumbel(const struct random_gumbel_args *a)
{
        return (struct cost){0, rows_bytes(a->m) + floats((double)a->m * (double)a->n)};
}

struct cost cost_random_times(const struct random_times_args *a)
{
        return (struct cost){0, rows_bytes(a->m) + floats((double)a->m) + present(a->s, floats((double)a->m))};
}

struct cost cost_sampling_times(const struct sampling_times_args *a)
{
        return (struct cost){0, floats(2 * (double)a->m)};
}
