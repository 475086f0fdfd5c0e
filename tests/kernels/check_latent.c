/* The latents beside topk: gumbel and gaussian. */
#include "tests/kernels/check.h"

#include <math.h>
#include <stdlib.h>

static const int64_t shapes[][2] = {{8, 50}, {1, 2}, {3, 130}};

struct latent_case {
        int64_t m, n;
        float d_kl;
        struct tensor *logits, *raw, *noise, *de, *state; /* logits: of gaussian, mu */
        struct tensor *e, *soft, *kl;
};

static void inputs(struct test *t, const int64_t *s, bool noise, struct latent_case *c)
{
        size_t n = (size_t)(s[0] * s[1]);

        *c = (struct latent_case){.m = s[0], .n = s[1], .d_kl = 0.3f};
        test_case(t, "%d x %d, noise %d", (int)s[0], (int)s[1], noise);
        c->logits = test_input(t, "logits", n, 2, 0);
        c->raw = test_input(t, "raw", n, 2, 0.5f);
        c->noise = noise ? test_input(t, "noise", n, 1, 0) : NULL;
        c->de = test_input(t, "de", n, 1, 0);
        c->state = test_state(t);
        tensor_state(c->state)->tau = 0.7f;
        test_upload(t, c->state);
}

static void outputs(struct test *t, struct latent_case *c, double limit)
{
        c->e = test_output(t, "e", c->logits->n, limit);
        c->soft = test_output(t, "soft", c->logits->n, limit);
        c->kl = test_output(t, "kl", (size_t)c->m, limit);
}

/* sum of q ln(q n), q = softmax of the row */
static double kl_of(const float *x, int64_t n)
{
        double sum = 0, kl = 0;

        for (int64_t i = 0; i < n; i++)
                sum += exp(x[i]);
        for (int64_t i = 0; i < n; i++)
                kl += exp(x[i]) / sum * log(exp(x[i]) / sum * (double)n);
        return kl;
}

static double gumbel_loss(struct test *t, void *context)
{
        struct latent_case *c = context;

        RUN_REFERENCE(t, gumbel_forward, .m = c->m, .n = c->n, .logits = AT(c->logits), .noise = AT(c->noise),
                      .state = AT(c->state), .e = AT(c->e), .soft = AT(c->soft), .kl = AT(c->kl));
        return test_dot(t, c->soft, c->de) + c->d_kl * test_dot(t, c->kl, NULL); /* straight through: e moves as soft */
}

void check_gumbel_forward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
                int64_t n = shapes[i][1];
                double *soft, *e, kl[8];
                struct latent_case c;

                inputs(t, shapes[i], true, &c);
                outputs(t, &c, 4);
                RUN(t, gumbel_forward, .m = c.m, .n = c.n, .logits = AT(c.logits), .noise = AT(c.noise),
                    .state = AT(c.state), .e = AT(c.e), .soft = AT(c.soft), .kl = AT(c.kl));
                test_compare(t);
                soft = malloc(c.logits->n * sizeof *soft);
                e = calloc(c.logits->n, sizeof *e);
                for (int64_t row = 0; row < c.m; row++) {
                        const float *x = tensor_values(c.logits) + row * n, *noise = tensor_values(c.noise) + row * n;
                        double sum = 0;
                        int64_t first = 0;

                        for (int64_t j = 0; j < n; j++) {
                                sum += exp(((double)x[j] + noise[j]) / 0.7f);
                                if ((double)x[j] + noise[j] > (double)x[first] + noise[first])
                                        first = j;
                        }
                        for (int64_t j = 0; j < n; j++)
                                soft[row * n + j] = exp(((double)x[j] + noise[j]) / 0.7f) / sum;
                        e[row * n + first] = 1;
                        kl[row] = kl_of(x, n);
                }
                test_expect(t, c.soft, soft, 4);
                test_expect(t, c.e, e, 4);
                test_expect(t, c.kl, kl, 4);
                free(soft);
                free(e);
                test_end(t);
        }
}

void check_gumbel_backward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
                struct tensor *d_logits;
                struct latent_case c;

                inputs(t, shapes[i], true, &c);
                outputs(t, &c, -1);
                (void)gumbel_loss(t, &c);
                test_share(t, c.soft);
                d_logits = test_output(t, "d_logits", c.logits->n, 8);
                RUN(t, gumbel_backward, .m = c.m, .n = c.n, .logits = AT(c.logits), .soft = AT(c.soft),
                    .state = AT(c.state), .de = AT(c.de), .d_kl = c.d_kl, .d_logits = AT(d_logits));
                test_compare(t);
                test_slope(t, c.logits, d_logits, 0.01, gumbel_loss, &c);
                test_end(t);
        }
}

static double gaussian_loss(struct test *t, void *context)
{
        struct latent_case *c = context;

        RUN_REFERENCE(t, gaussian_forward, .m = c->m, .n = c->n, .mu = AT(c->logits), .raw = AT(c->raw),
                      .noise = AT(c->noise), .e = AT(c->e), .kl = AT(c->kl));
        return test_dot(t, c->e, c->de) + c->d_kl * test_dot(t, c->kl, NULL);
}

void check_gaussian_forward(struct test *t)
{
        for (size_t i = 0; i < 2 * ARRAY_LEN(shapes); i++) {
                struct latent_case c;
                double *e, kl[8] = {0};

                inputs(t, shapes[i / 2], i % 2, &c);
                outputs(t, &c, 4);
                c.soft->limit = -1;
                RUN(t, gaussian_forward, .m = c.m, .n = c.n, .mu = AT(c.logits), .raw = AT(c.raw), .noise = AT(c.noise),
                    .e = AT(c.e), .kl = AT(c.kl));
                test_compare(t);
                e = malloc(c.logits->n * sizeof *e);
                for (size_t j = 0; j < c.logits->n; j++) {
                        double mu = tensor_values(c.logits)[j], sd = sqrt(log(1 + exp(tensor_values(c.raw)[j])));

                        e[j] = mu + (c.noise ? sd * tensor_values(c.noise)[j] : 0);
                        kl[j / (size_t)c.n] += (mu * mu + sd * sd - 1) / 2 - log(sd);
                }
                test_expect(t, c.e, e, 4);
                test_expect(t, c.kl, kl, 4);
                free(e);
                test_end(t);
        }
}

void check_gaussian_backward(struct test *t)
{
        for (size_t i = 0; i < 2 * ARRAY_LEN(shapes); i++) {
                struct tensor *d_mu, *d_raw;
                struct latent_case c;

                inputs(t, shapes[i / 2], i % 2, &c);
                outputs(t, &c, -1);
                d_mu = test_output(t, "d_mu", c.logits->n, 8);
                d_raw = test_output(t, "d_raw", c.logits->n, 8);
                RUN(t, gaussian_backward, .m = c.m, .n = c.n, .mu = AT(c.logits), .raw = AT(c.raw),
                    .noise = AT(c.noise), .de = AT(c.de), .d_kl = c.d_kl, .d_mu = AT(d_mu), .d_raw = AT(d_raw));
                test_compare(t);
                test_slope(t, c.logits, d_mu, 0.01, gaussian_loss, &c);
                test_slope(t, c.raw, d_raw, 0.01, gaussian_loss, &c);
                test_end(t);
        }
}
