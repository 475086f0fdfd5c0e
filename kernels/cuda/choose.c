/* How a convolution is computed: by what the plans folder has for this GPU, this cuDNN and the shape, else by what is
 * measured to be fastest, which is kept there. A key is "GPU; cuDNN VERSION; SHAPE", a choice the way's name, behind
 * "split:" where factors are split into terms. */
#include "kernels/cuda/split.h"
#include "kernels/plans_file.h"

#include <math.h>
#include <stdio.h>

#define FASTER 0.97F /* of the first way's time, for another to be taken: less is noise */
#define WAYS_MAX 24  /* that are timed: the later ones were never the best */
#define RUNS 4       /* of a way; the first warms up */
#define SPLIT_PREFIX "split:"
#define AGREES 0x1p-17 /* of the results' root mean square: float32's own sums differ by 2^-20, tf32's by 2^-12 */
#define SAMPLE ((size_t)1 << 17)

static const char *const direction_names[CONV_N_DIRECTIONS] = {"forward", "backward_data", "backward_weights"};

static const char *const finish_names[CONV_N_FINISHES] = {"", " bias", " residual bias"};

enum { OWN, SPLIT, N_KINDS };

struct choice {
        struct conv_way ways[N_KINDS]; /* without a plan where there is none */
        int taken;
};

/* Values of an operand. */
static size_t x_count(const struct conv_plan_shape *s)
{
        return (size_t)(s->n_images * s->height * s->width * s->c_in);
}

static size_t w_count(const struct conv_plan_shape *s)
{
        return (size_t)(9 * s->c_in * s->c_out);
}

static size_t y_count(const struct conv_plan_shape *s)
{
        return (size_t)(s->n_images * s->height * s->width * s->c_out);
}

static size_t terms_bytes(const struct conv_way *w)
{
        return w->is_split ? split_bytes(&w->shape) : 0;
}

void conv_way_run(struct stream *s, const char *op, const struct conv_way *w, struct conv_operands o)
{
        if (w->is_split) {
                void *terms = o.workspace;

                o.workspace = (char *)terms + terms_bytes(w);
                split_operands(s, op, &w->shape, terms, &o);
        }
        if (stream_ready(s))
                stream_launched(s, op, conv_plan_run(w->plan, s->handle, &o));
}

/* Memory for the terms and for the plan as it is taken. */
static size_t way_bytes(const struct conv_way *w)
{
        return terms_bytes(w) + conv_plan_workspace(w->plan);
}

static bool take_named(struct conv_plan *p, const char *name)
{
        for (int i = 0; p && i < conv_plan_ways(p); i++)
                if (conv_plan_name(p, i)[0] && strcmp(conv_plan_name(p, i), name) == 0)
                        return conv_plan_take(p, i);
        return false;
}

static bool take(void *user, const char *text)
{
        struct choice *c = user;
        const size_t n = strlen(SPLIT_PREFIX);

        c->taken = strncmp(text, SPLIT_PREFIX, n) == 0 ? SPLIT : OWN;
        return take_named(c->ways[c->taken].plan, text + (c->taken == SPLIT ? n : 0));
}

/* ---- measuring */

struct trial {
        struct device *device;
        struct stream *stream;
        struct conv_operands operands;
        cudaEvent_t begin, end;
};

/* Whether everything went well so far; if not, the next operation is not to be blamed for it. */
static bool trial_went(struct trial *t)
{
        struct error err;
        const bool ok = cuda_stream_sync(t->stream, &err) == 0;

        t->stream->error = (struct error){0};
        (void)cudaGetLastError();
        return ok;
}

/* Runs the way once; milliseconds, INFINITY where it fails. */
static float run_once(struct trial *t, const struct conv_way *w)
{
        float ms = INFINITY;

        if (cudaEventRecord(t->begin, t->stream->handle) != cudaSuccess)
                return INFINITY;
        conv_way_run(t->stream, "conv", w, t->operands);
        if (cudaEventRecord(t->end, t->stream->handle) != cudaSuccess || !trial_went(t) ||
            cudaEventElapsedTime(&ms, t->begin, t->end) != cudaSuccess)
                return INFINITY;
        return ms;
}

/* The fastest of some runs of the way that is taken. */
static float time_way(struct trial *t, const struct conv_way *w)
{
        float best = INFINITY;

        t->operands.workspace = cuda_memory_new(t->device, way_bytes(w));
        for (int i = 0; i < RUNS && t->operands.workspace; i++) {
                float ms = run_once(t, w);

                if (ms == INFINITY) {
                        best = INFINITY;
                        break;
                }
                if (i > 0 && ms < best)
                        best = ms;
        }
        cuda_memory_free(t->device, t->operands.workspace);
        return best;
}

/* Takes the plan's fastest way, the first unless another is faster; its time. */
static float take_fastest(struct trial *t, const struct conv_way *w)
{
        const int n = MIN(conv_plan_ways(w->plan), WAYS_MAX);
        float first = INFINITY, best = INFINITY;
        int taken = 0;

        for (int i = 0; i < n; i++) {
                float ms = conv_plan_take(w->plan, i) ? time_way(t, w) : INFINITY;

                first = i == 0 ? ms : first;
                if (i == 0 || (ms < FASTER * first && ms < best)) {
                        best = ms;
                        taken = i;
                }
        }
        (void)conv_plan_take(w->plan, taken);
        return best;
}

/* Random values between -1 and 1 in n values of device memory. */
static void fill(struct trial *t, void *p, size_t n, float *values)
{
        uint32_t state = 1;

        for (size_t i = 0; i < SAMPLE; i++) {
                state = state * 1664525U + 1013904223U;
                values[i] = (float)((double)state * 0x1p-31 - 1);
        }
        for (size_t at = 0; at < n; at += SAMPLE)
                cuda_copy_in(t->stream, (float *)p + at, values, MIN(n - at, SAMPLE) * sizeof(*values));
        (void)trial_went(t);
}

/* A result, or its first values, of a way on values that are the same every time. */
static bool sample_result(struct trial *t, const struct conv_way *w, float *ret, size_t *ret_n)
{
        const struct conv_plan_shape *s = &w->shape;
        struct conv_operands *o = &t->operands;
        void *result = s->direction == CONV_FORWARD ? o->y : s->direction == CONV_BACKWARD_DATA ? o->x : o->w;
        const size_t n = s->direction == CONV_FORWARD         ? y_count(s)
                         : s->direction == CONV_BACKWARD_DATA ? x_count(s)
                                                              : w_count(s);
        bool ok;

        fill(t, o->x, x_count(s), ret);
        fill(t, o->w, w_count(s), ret);
        fill(t, o->y, y_count(s), ret);
        fill(t, (void *)o->residual, y_count(s), ret);
        o->workspace = cuda_memory_new(t->device, way_bytes(w));
        ok = o->workspace && run_once(t, w) < INFINITY;
        *ret_n = MIN(n, SAMPLE);
        cuda_copy_out(t->stream, ret, result, *ret_n * sizeof(*ret));
        ok = trial_went(t) && ok;
        cuda_memory_free(t->device, o->workspace);
        return ok;
}

/* Whether the split way computes what the shape's own does. */
static bool agree(struct trial *t, const struct choice *c)
{
        float *own = malloc(SAMPLE * sizeof(*own)), *split = malloc(SAMPLE * sizeof(*split));
        double difference = 0, square = 0;
        size_t n = 0;
        bool ok = own && split && sample_result(t, &c->ways[OWN], own, &n) &&
                  sample_result(t, &c->ways[SPLIT], split, &n);

        for (size_t i = 0; ok && i < n; i++) {
                difference += pow((double)split[i] - (double)own[i], 2);
                square += pow((double)own[i], 2);
        }
        free(own);
        free(split);
        return ok && difference <= AGREES * AGREES * square;
}

static void measure(struct trial *t, struct choice *c)
{
        float own = take_fastest(t, &c->ways[OWN]);

        c->taken = c->ways[SPLIT].plan && take_fastest(t, &c->ways[SPLIT]) < FASTER * own && agree(t, c) ? SPLIT : OWN;
}

/* On what memory holds, which takes as long as other values. */
static bool measured(struct device *d, struct choice *c)
{
        const struct conv_plan_shape *s = &c->ways[OWN].shape;
        const size_t size = dtype_bytes(s->type);
        void *x = cuda_memory_new(d, x_count(s) * size), *y = cuda_memory_new(d, y_count(s) * size);
        void *w = cuda_memory_new(d, w_count(s) * size), *residual = cuda_memory_new(d, y_count(s) * size);
        struct trial t = {d, .operands = {x, w, y, residual, w}}; /* a bias is shorter than the weights */
        struct error err;
        bool ok = x && w && y && residual;

        ok = ok && cuda_stream_new(d, &t.stream, &err) == 0;
        ok = ok && cudaEventCreateWithFlags(&t.begin, cudaEventDefault) == cudaSuccess;
        ok = ok && cudaEventCreateWithFlags(&t.end, cudaEventDefault) == cudaSuccess;
        if (ok)
                measure(&t, c);
        if (t.begin)
                (void)cudaEventDestroy(t.begin);
        if (t.end)
                (void)cudaEventDestroy(t.end);
        (void)cuda_stream_free(t.stream);
        cuda_memory_free(d, x);
        cuda_memory_free(d, w);
        cuda_memory_free(d, y);
        cuda_memory_free(d, residual);
        (void)cudaGetLastError();
        return ok;
}

/* ---- choosing */

static void key_of(const struct device *d, const struct conv_plan_shape *s, char key[PLANS_KEY_SIZE])
{
        (void)snprintf(key, PLANS_KEY_SIZE, "%s; %s; conv %s%s%s %s %lldx%lldx%lld, %lld to %lld", d->name,
                       convolver_name(), direction_names[s->direction], s->accumulate ? " added" : "",
                       finish_names[s->finish],
                       s->type == DTYPE_BF16 ? "bf16"
                       : s->tf32             ? "tf32"
                                             : "float32 or split",
                       (long long)s->n_images, (long long)s->height, (long long)s->width, (long long)s->c_in,
                       (long long)s->c_out);
}

/* Whether it is decided what computes. */
static bool choose(struct device *d, struct choice *c)
{
        struct conv_way *own = &c->ways[OWN], *split = &c->ways[SPLIT];
        char key[PLANS_KEY_SIZE], text[PLANS_CHOICE_SIZE];
        const char *name;

        c->taken = own->plan ? OWN : SPLIT;
        if (!own->plan || !d->plans || (conv_plan_ways(own->plan) < 2 && !split->plan))
                return true;
        key_of(d, &own->shape, key);
        if (plans_file_find(d->plans, key, take, c))
                return true;
        c->taken = OWN;
        if (d->plan_only || !measured(d, c))
                return false;
        name = conv_plan_name(c->ways[c->taken].plan, conv_plan_taken(c->ways[c->taken].plan));
        (void)snprintf(text, sizeof text, "%s%s", c->taken == SPLIT ? SPLIT_PREFIX : "", name);
        if (name[0])
                (void)plans_file_keep(d->plans, key, text, take, c);
        return true;
}

int conv_way_new(struct device *d, const struct conv_plan_shape *shape, struct conv_way *ret, struct error *err)
{
        struct choice c = {.ways = {{.shape = *shape}, {.shape = *shape, .is_split = true}}};
        const struct conv_plan_shape wide = split_shape(shape);
        size_t bytes[N_KINDS] = {0};
        bool decided;
        int r = conv_plan_new(d->convolver, shape, &c.ways[OWN].plan, err);

        if (r == 0 && shape->type == DTYPE_FLOAT32 && !shape->tf32)
                r = conv_plan_new(d->convolver, &wide, &c.ways[SPLIT].plan, err);
        if (r < 0) {
                (void)conv_plan_free(c.ways[OWN].plan);
                return r;
        }
        decided = choose(d, &c);
        for (int i = 0; i < N_KINDS; i++)
                if (c.ways[i].plan)
                        bytes[i] = way_bytes(&c.ways[i]);
        *ret = c.ways[c.taken];
        ret->workspace_bytes = decided || !d->plan_only ? bytes[c.taken] : MAX(bytes[OWN], bytes[SPLIT]);
        (void)conv_plan_free(c.ways[!c.taken].plan);
        return 0;
}

void conv_way_done(struct conv_way *w)
{
        w->plan = conv_plan_free(w->plan);
}
