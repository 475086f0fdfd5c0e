/* Lists the parameters of a configuration in the published order and gives each its place in the one buffer. */
#include "engine/params.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define D 3072
#define ALIGN_VALUES ((int64_t)(KERNELS_ALIGN / sizeof(float)))

struct listing {
        struct params *p;
        size_t capacity;
        bool failed;
};

static void add(struct listing *l, const char *name, const char *leaf, int n_dims, int64_t a, int64_t b, int64_t c,
                int64_t d)
{
        struct param *q;

        if (l->failed)
                return;
        if (l->p->n == l->capacity) {
                size_t capacity = l->capacity ? 2 * l->capacity : 256;

                q = realloc(l->p->items, capacity * sizeof *q);
                if (!q) {
                        l->failed = true;
                        return;
                }
                l->p->items = q;
                l->capacity = capacity;
        }
        q = &l->p->items[l->p->n++];
        *q = (struct param){.n_dims = n_dims, .shape = {a, b, c, d}, .size = a * b * c * d};
        (void)snprintf(q->name, sizeof q->name, "%.72s/%.20s", name, leaf);
        q->decayed = strcmp(leaf, "bias") != 0;
}

static void add_dense(struct listing *l, const char *name, int64_t in, int64_t out, bool bias)
{
        add(l, name, "kernel", 2, in, out, 1, 1);
        if (bias)
                add(l, name, "bias", 1, out, 1, 1, 1);
}

static void add_conv(struct listing *l, const char *name, int64_t in, int64_t out)
{
        add(l, name, "kernel", 4, 3, 3, in, out);
        add(l, name, "bias", 1, out, 1, 1, 1);
}

static void add_norm(struct listing *l, const char *name, int64_t c)
{
        add(l, name, "scale", 1, c, 1, 1, 1);
        add(l, name, "bias", 1, c, 1, 1, 1);
}

/* "NAME/LEAF" */
static const char *child(char buf[PARAM_NAME_MAX], const char *name, const char *leaf)
{
        (void)snprintf(buf, PARAM_NAME_MAX, "%.60s/%.30s", name, leaf);
        return buf;
}

static void add_resnet_block(struct listing *l, const char *name, int64_t in, int64_t out, int64_t n_embd)
{
        char s[PARAM_NAME_MAX];

        add_norm(l, child(s, name, "GroupNorm_0"), in);
        add_conv(l, child(s, name, "conv1"), in, out);
        add_dense(l, child(s, name, "cond_proj"), 4 * n_embd, out, false);
        add_norm(l, child(s, name, "GroupNorm_1"), out);
        add_conv(l, child(s, name, "conv2"), out, out);
        if (in != out)
                add_dense(l, child(s, name, "nin_shortcut"), in, out, true);
}

static void add_attention_block(struct listing *l, const char *name, int64_t c)
{
        static const char *const leaves[] = {"q", "k", "v", "proj_out"};
        char s[PARAM_NAME_MAX];

        add_norm(l, child(s, name, "GroupNorm_0"), c);
        for (size_t i = 0; i < ARRAY_LEN(leaves); i++)
                add_dense(l, child(s, name, leaves[i]), c, c, true);
}

/* Blocks 0 .. n_layer - 1 of the way down or up, each with its attention where the configuration has one. */
static void add_way(struct listing *l, const char *net, const char *way, int64_t n_layer, int64_t in, int64_t out,
                    bool attention)
{
        char s[PARAM_NAME_MAX];

        for (int64_t i = 0; i < n_layer; i++) {
                (void)snprintf(s, sizeof s, "%.40s/%.10s.block_%lld", net, way, (long long)i);
                add_resnet_block(l, s, in, out, out);
                (void)snprintf(s, sizeof s, "%.40s/%.10s.attn_%lld", net, way, (long long)i);
                if (attention)
                        add_attention_block(l, s, out);
        }
}

static void add_unet(struct listing *l, const struct config *c, const char *net, int64_t n_layer, int64_t context,
                     bool up, int64_t out_channels)
{
        int64_t n = c->sm_n_embd;
        char s[PARAM_NAME_MAX];

        add_dense(l, child(s, net, "dense0"), n + context, 4 * n, true);
        add_dense(l, child(s, net, "dense1"), 4 * n, 4 * n, true);
        add_conv(l, child(s, net, "conv_in"), c->with_fourier_features ? 15 : 3, n);
        add_way(l, net, "down", n_layer, n, n, c->with_attention);
        add_resnet_block(l, child(s, net, "mid.block_1"), n, n, n);
        add_attention_block(l, child(s, net, "mid.attn_1"), n);
        add_resnet_block(l, child(s, net, "mid.block_2"), n, n, n);
        if (up)
                add_way(l, net, "up", n_layer + 1, 2 * n, n, c->with_attention);
        add_norm(l, child(s, net, "GroupNorm_0"), n);
        add_conv(l, child(s, net, "conv_out"), n, out_channels);
}

static void add_schedule(struct listing *l, const struct config *c)
{
        bool vdm = c->vdm_type == VDM_VDM;
        int64_t k = c->latent_size;

        if (vdm && c->gamma_type == GAMMA_LEARNABLE_SCALAR) {
                add(l, "gamma", "w", 1, 1, 1, 1, 1);
                add(l, "gamma", "b", 1, 1, 1, 1, 1);
        } else if (c->gamma_type == GAMMA_LEARNABLE_NNET) {
                add_dense(l, "gamma/l1", 1, 1, true);
                add_dense(l, "gamma/l2", vdm ? 1 : k + 1, vdm ? 1024 : D, true);
                if (!vdm)
                        add_dense(l, "gamma/l_int", D, D, true);
                add_dense(l, "gamma/l3", vdm ? 1024 : D, vdm ? 1 : D, false);
        } else if (c->gamma_type == GAMMA_POLY_FIXEDEND) {
                add_dense(l, "gamma/dense_1", k, D, true);
                add_dense(l, "gamma/dense_2", D, D, true);
                add_dense(l, "gamma/dense_out_a", D, D, true);
                add_dense(l, "gamma/dense_out_b", D, D, true);
                add_dense(l, "gamma/dense_out_c", D, D, true);
        }
}

static void lay_out(struct params *p)
{
        int64_t offset = 0;

        for (int decayed = 1; decayed >= 0; decayed--) {
                for (size_t i = 0; i < p->n; i++) {
                        struct param *q = &p->items[i];

                        if (q->decayed != decayed)
                                continue;
                        q->offset = offset;
                        offset += (q->size + ALIGN_VALUES - 1) / ALIGN_VALUES * ALIGN_VALUES;
                        p->n_parameters += q->size;
                }
                if (decayed)
                        p->n_decayed = offset;
        }
        p->n_values = offset;
}

int params_new(const struct config *c, struct params **ret, struct error *err)
{
        _cleanup_(params_freep) struct params *p = calloc(1, sizeof *p);
        struct listing l = {.p = p};
        bool vdm = c->vdm_type == VDM_VDM;

        if (!p)
                return error_set(err, -ENOMEM, NULL, "no memory for the list of parameters");
        if (c->unet_type != UNET_VDM)
                return error_set(err, -ENOTSUP, "/model/unet_type", "this release computes \"vdm\" only");
        if (!vdm && (c->encoder != ENCODER_UNET || c->latent_type != LATENT_TOPK))
                return error_set(err, -ENOTSUP, "/model/encoder",
                                 "this release computes the \"unet\" encoder with the \"topk\" latent only");
        add_unet(&l, c, "score_model", c->sm_n_layer, vdm || !c->z_conditioning ? 1 : c->latent_size, true, 3);
        if (!vdm) {
                add_unet(&l, c, "encoder_model", c->forward_n_layer, 1, false, 1);
                add_dense(&l, "encoder_model/dense_layer_final", 1024, c->latent_size, true);
        }
        add_schedule(&l, c);
        if (l.failed)
                return error_set(err, -ENOMEM, NULL, "no memory for the list of parameters");
        lay_out(p);
        *ret = TAKE_PTR(p);
        return 0;
}

struct params *params_free(struct params *p)
{
        if (!p)
                return NULL;
        free(p->items);
        free(p);
        return NULL;
}

const struct param *params_find(const struct params *p, const char *name)
{
        for (size_t i = 0; i < p->n; i++)
                if (!strcmp(p->items[i].name, name))
                        return &p->items[i];
        return NULL;
}

static bool ends_with(const char *s, const char *end)
{
        size_t n = strlen(s), m = strlen(end);

        return n >= m && !strcmp(s + n - m, end);
}

/* A standard normal cut to [-2, 2] (as flax's truncated initialisers), by rejection. */
static double truncated_normal(uint32_t seed, uint32_t block, uint64_t image, uint32_t quad)
{
        for (uint32_t attempt = 0;; attempt++) {
                struct philox r = philox_draw(seed, STREAM_INIT, block, quad, image, 0, attempt);
                float a, b;

                philox_normal_pair(r.v[0], r.v[1], &a, &b);
                if (fabsf(a) <= 2)
                        return a;
                if (fabsf(b) <= 2)
                        return b;
        }
}

/* The standard deviation of a standard normal cut to [-2, 2] */
#define TRUNCATED_STD 0.87962566103423978

static bool starts_at_zero(const struct param *q)
{
        static const char *const zero[] = {"/conv2/kernel", "/cond_proj/kernel", "/proj_out/kernel", "/conv_out/kernel",
                                           "/dense_out_a/kernel"};

        for (size_t i = 0; i < ARRAY_LEN(zero); i++)
                if (ends_with(q->name, zero[i]))
                        return true;
        return false;
}

static int64_t fan_in(const struct param *q)
{
        return q->n_dims == 4 ? q->shape[0] * q->shape[1] * q->shape[2] : q->shape[0];
}

/* Kernels of the monotone schedules whose entries the published code starts or scales in its own way. */
static bool is_monotone(const struct param *q)
{
        return !strcmp(q->name, "gamma/l2/kernel") || !strcmp(q->name, "gamma/l_int/kernel") ||
               !strcmp(q->name, "gamma/l3/kernel");
}

/* The ends of the schedule: true when the parameter has a value of its own (spec 6), the same for init and hash. */
static bool schedule_constant(const struct param *q, const struct config *c, float *ret)
{
        if (!strcmp(q->name, "gamma/l1/kernel") || !strcmp(q->name, "gamma/w"))
                *ret = (float)(c->gamma_max - c->gamma_min);
        else if (!strcmp(q->name, "gamma/l1/bias") || !strcmp(q->name, "gamma/b"))
                *ret = (float)c->gamma_min;
        else
                return false;
        return true;
}

void params_init(const struct params *p, size_t index, const struct config *c, uint32_t seed, float *values)
{
        const struct param *q = &p->items[index];
        double std = is_monotone(q) ? 0.01 : sqrt(1.0 / (double)fan_in(q)) / TRUNCATED_STD;
        bool random = ends_with(q->name, "/kernel") && !starts_at_zero(q);
        float constant = ends_with(q->name, "/scale");

        if (schedule_constant(q, c, &constant))
                random = false;
#pragma omp parallel for schedule(static)
        for (int64_t j = 0; j < q->size; j++) {
                struct philox r;
                float pair[2];

                if (!random) {
                        values[j] = constant;
                } else if (!is_monotone(q)) {
                        values[j] = (float)(std * truncated_normal(seed, 0, index, (uint32_t)j));
                } else {
                        r = philox_draw(seed, STREAM_INIT, 0, (uint32_t)j, index, 0, 0);
                        philox_normal_pair(r.v[0], r.v[1], &pair[0], &pair[1]);
                        values[j] = (float)(std * pair[0]);
                }
        }
}

static uint64_t fnv1a64(const char *s)
{
        uint64_t h = 14695981039346656037ULL;

        for (; *s; s++)
                h = (h ^ (unsigned char)*s) * 1099511628211ULL;
        return h;
}

/* Spec 9: value i of the stream, in [-1, 1). */
static double hash_value(uint64_t h, int64_t i)
{
        uint64_t z = h + ((uint64_t)i + 1) * 0x9E3779B97F4A7C15ULL;

        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
        z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
        z ^= z >> 31;
        return (double)(z >> 40) * 0x1p-23 - 1.0;
}

void hash_uniform(const char *name, int64_t n, double *ret)
{
        uint64_t h = fnv1a64(name);

        for (int64_t i = 0; i < n; i++)
                ret[i] = hash_value(h, i);
}

void params_hash_one(const struct param *q, const struct config *c, float gain, float *values)
{
        uint64_t h = fnv1a64(q->name);
        float scale = 0.1f, base = 0, constant;

        if (c && schedule_constant(q, c, &constant)) {
                values[0] = constant;
                return;
        }
        if (ends_with(q->name, "/kernel")) {
                /* sums of absolute values would saturate the squashing */
                scale = (float)((is_monotone(q) ? 0.05 : (double)gain) * sqrt(3.0 / (double)fan_in(q)));
        } else if (ends_with(q->name, "/scale")) {
                base = 1;
        }
        for (int64_t j = 0; j < q->size; j++) {
                volatile float product = (float)hash_value(h, j) * scale; /* two float32 roundings, as the reference */

                values[j] = base + product;
        }
}

void params_hash(const struct params *p, const struct config *c, float gain, float *values)
{
        memset(values, 0, (size_t)p->n_values * sizeof *values);
        for (size_t i = 0; i < p->n; i++)
                params_hash_one(&p->items[i], c, gain, values + p->items[i].offset);
}
