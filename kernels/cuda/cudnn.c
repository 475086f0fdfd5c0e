/* Convolutions by cuDNN 9's graph API. A plan's ways are the configurations that its heuristics offer and that may be
 * used: deterministic, in single precision where the type is float32 (no tensor cores, which would be tf32 unless that
 * is allowed, no transform that loses digits), not compiled at run time, their workspaces bounded. A way's name is its
 * engine's number and its knobs', which mean the same to this version of cuDNN everywhere. */
#include "kernels/cuda/recorded.h"

#include <cudnn.h>
#include <errno.h>
#include <stdio.h>

typedef cudnnBackendDescriptor_t descriptor;

enum {
        MAX_PARTS = 2048,
        MAX_CONFIGS = 64,
        MAX_WAYS = 96,
        MAX_KNOBS = 32,
        NAME_SIZE = 160,
        ID_X = 1,
        ID_W,
        ID_Y,
        ID_RESIDUAL,
        ID_BIAS,
        ID_SUM
};
#define MAX_WORKSPACE ((int64_t)256 << 20)

struct convolver {
        cudnnHandle_t handle;  /* of a device that is there, or NULL */
        descriptor properties; /* of one that was recorded, or NULL */
};

struct way {
        descriptor config;
        char name[NAME_SIZE];
};

struct conv_plan {
        struct convolver *convolver;
        enum conv_finish finish;
        struct way ways[MAX_WAYS];
        int n_ways, taken;
        descriptor plan; /* of the way that is taken; one of parts */
        int64_t workspace_bytes;
        descriptor parts[MAX_PARTS]; /* everything that was made on the way, which the plan may need */
        size_t n_parts;
};

struct attribute {
        cudnnBackendAttributeName_t name;
        cudnnBackendAttributeType_t type;
        int64_t count;
        const void *value;
};

#define ONE(name, kind, ctype, value)                                                                                  \
        {                                                                                                              \
                CUDNN_ATTR_##name, CUDNN_TYPE_##kind, 1, &(const ctype)                                                \
                {                                                                                                      \
                        value                                                                                          \
                }                                                                                                      \
        }
#define MANY(name, ...)                                                                                                \
        {                                                                                                              \
                CUDNN_ATTR_##name, CUDNN_TYPE_INT64, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t),               \
                        (const int64_t[])                                                                              \
                {                                                                                                      \
                        __VA_ARGS__                                                                                    \
                }                                                                                                      \
        }
#define BUILD(p, kind, ...)                                                                                            \
        build(p, CUDNN_BACKEND_##kind##_DESCRIPTOR, (const struct attribute[]){__VA_ARGS__},                           \
              sizeof((const struct attribute[]){__VA_ARGS__}) / sizeof(struct attribute))

int convolver_new(struct convolver **ret, struct error *err)
{
        struct convolver *c = calloc(1, sizeof(*c));
        cudnnStatus_t status;

        if (!c)
                return error_set(err, -ENOMEM, "", "out of memory");
        status = cudnnCreate(&c->handle);
        if (status != CUDNN_STATUS_SUCCESS) {
                free(c);
                return error_set(err, -ENODEV, "cudnn", "cuDNN cannot be used: %s", cudnnGetErrorString(status));
        }
        *ret = c;
        return 0;
}

int convolver_recorded(const char *json, struct convolver **ret, struct error *err)
{
        struct convolver *c = calloc(1, sizeof(*c));
        cudnnStatus_t status;

        if (!c)
                return error_set(err, -ENOMEM, "", "out of memory");
        status = cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &c->properties);
        if (status == CUDNN_STATUS_SUCCESS)
                status = cudnnBackendSetAttribute(c->properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                                  CUDNN_TYPE_CHAR, (int64_t)strlen(json), json);
        if (status == CUDNN_STATUS_SUCCESS)
                status = cudnnBackendFinalize(c->properties);
        if (status != CUDNN_STATUS_SUCCESS) {
                (void)convolver_free(c);
                return error_set(err, -EBADMSG, "cudnn", "these are no properties of a device: %s",
                                 cudnnGetErrorString(status));
        }
        *ret = c;
        return 0;
}

struct convolver *convolver_free(struct convolver *c)
{
        if (c && c->handle)
                (void)cudnnDestroy(c->handle);
        if (c && c->properties)
                (void)cudnnBackendDestroyDescriptor(c->properties);
        free(c);
        return NULL;
}

const char *convolver_name(void)
{
        static char name[32];

        (void)snprintf(name, sizeof name, "cuDNN %zu", cudnnGetVersion());
        return name;
}

/* ---- descriptors; NULL where cuDNN refuses, which NULL among the parts passes on */

static descriptor part_new(struct conv_plan *p, cudnnBackendDescriptorType_t type)
{
        if (p->n_parts == MAX_PARTS ||
            cudnnBackendCreateDescriptor(type, &p->parts[p->n_parts]) != CUDNN_STATUS_SUCCESS)
                return NULL;
        return p->parts[p->n_parts++];
}

static descriptor build(struct conv_plan *p, cudnnBackendDescriptorType_t type, const struct attribute *a, size_t n)
{
        descriptor d = part_new(p, type);

        for (size_t i = 0; d && i < n; i++)
                if (cudnnBackendSetAttribute(d, a[i].name, a[i].type, a[i].count, a[i].value) != CUDNN_STATUS_SUCCESS)
                        return NULL;
        return d && cudnnBackendFinalize(d) == CUDNN_STATUS_SUCCESS ? d : NULL;
}

/* Dimensions in cuDNN's order; memory has the channels last. A virtual one is never in memory. */
static descriptor tensor(struct conv_plan *p, cudnnDataType_t type, int64_t id, bool is_virtual, int64_t n, int64_t c,
                         int64_t h, int64_t w)
{
        return BUILD(p, TENSOR, ONE(TENSOR_UNIQUE_ID, INT64, int64_t, id),
                     ONE(TENSOR_DATA_TYPE, DATA_TYPE, cudnnDataType_t, type), MANY(TENSOR_DIMENSIONS, n, c, h, w),
                     MANY(TENSOR_STRIDES, c * h * w, 1, c * w, c), ONE(TENSOR_BYTE_ALIGNMENT, INT64, int64_t, 16),
                     ONE(TENSOR_IS_VIRTUAL, BOOLEAN, bool, is_virtual));
}

/* Factors are floats where sums are: a double is taken too, but its first half is what is read. */
#define OPERATION(kind, attr, x_name, w_name, y_name)                                                                  \
        BUILD(p, OPERATION_CONVOLUTION_##kind,                                                                         \
              ONE(OPERATION_CONVOLUTION_##attr##_CONV_DESC, BACKEND_DESCRIPTOR, descriptor, conv),                     \
              ONE(OPERATION_CONVOLUTION_##attr##_##x_name, BACKEND_DESCRIPTOR, descriptor, x),                         \
              ONE(OPERATION_CONVOLUTION_##attr##_##w_name, BACKEND_DESCRIPTOR, descriptor, w),                         \
              ONE(OPERATION_CONVOLUTION_##attr##_##y_name, BACKEND_DESCRIPTOR, descriptor, y),                         \
              ONE(OPERATION_CONVOLUTION_##attr##_ALPHA, FLOAT, float, 1),                                              \
              ONE(OPERATION_CONVOLUTION_##attr##_BETA, FLOAT, float, s->accumulate ? 1 : 0))

/* y: of the convolution itself, which is virtual where something is added. */
static descriptor convolution(struct conv_plan *p, const struct conv_plan_shape *s, cudnnDataType_t type, descriptor y)
{
        descriptor x = tensor(p, type, ID_X, false, s->n_images, s->c_in, s->height, s->width);
        descriptor w = tensor(p, type, ID_W, false, s->c_out, s->c_in, 3, 3);
        descriptor conv =
                BUILD(p, CONVOLUTION, ONE(CONVOLUTION_SPATIAL_DIMS, INT64, int64_t, 2),
                      ONE(CONVOLUTION_COMP_TYPE, DATA_TYPE, cudnnDataType_t, CUDNN_DATA_FLOAT),
                      ONE(CONVOLUTION_CONV_MODE, CONVOLUTION_MODE, cudnnConvolutionMode_t, CUDNN_CROSS_CORRELATION),
                      MANY(CONVOLUTION_PRE_PADDINGS, 1, 1), MANY(CONVOLUTION_POST_PADDINGS, 1, 1),
                      MANY(CONVOLUTION_DILATIONS, 1, 1), MANY(CONVOLUTION_FILTER_STRIDES, 1, 1));

        if (!x || !w || !y || !conv)
                return NULL;
        if (s->direction == CONV_FORWARD)
                return OPERATION(FORWARD, FORWARD, X, W, Y);
        if (s->direction == CONV_BACKWARD_DATA)
                return OPERATION(BACKWARD_DATA, BWD_DATA, DX, W, DY);
        return OPERATION(BACKWARD_FILTER, BWD_FILTER, X, DW, DY);
}

/* y = x + b. */
static descriptor addition(struct conv_plan *p, descriptor x, descriptor b, descriptor y)
{
        descriptor add =
                BUILD(p, POINTWISE, ONE(POINTWISE_MODE, POINTWISE_MODE, cudnnPointwiseMode_t, CUDNN_POINTWISE_ADD),
                      ONE(POINTWISE_MATH_PREC, DATA_TYPE, cudnnDataType_t, CUDNN_DATA_FLOAT));

        if (!add || !x || !b || !y)
                return NULL;
        return BUILD(p, OPERATION_POINTWISE,
                     ONE(OPERATION_POINTWISE_PW_DESCRIPTOR, BACKEND_DESCRIPTOR, descriptor, add),
                     ONE(OPERATION_POINTWISE_XDESC, BACKEND_DESCRIPTOR, descriptor, x),
                     ONE(OPERATION_POINTWISE_BDESC, BACKEND_DESCRIPTOR, descriptor, b),
                     ONE(OPERATION_POINTWISE_YDESC, BACKEND_DESCRIPTOR, descriptor, y));
}

/* Convolution, then residual, then bias: the order that cuDNN has compiled kernels for. */
static descriptor graph_of(struct conv_plan *p, const struct conv_plan_shape *s)
{
        const cudnnDataType_t type = s->type == DTYPE_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
        descriptor ops[3], y = tensor(p, type, ID_Y, false, s->n_images, s->c_out, s->height, s->width);
        descriptor sums[2] = {y, y};
        int n = 0;

        for (int i = 0; i < (int)s->finish; i++)
                sums[i] = tensor(p, CUDNN_DATA_FLOAT, ID_SUM + i, true, s->n_images, s->c_out, s->height, s->width);
        ops[n++] = convolution(p, s, type, sums[0]);
        if (s->finish == FINISH_RESIDUAL_BIAS)
                ops[n++] = addition(p, sums[0],
                                    tensor(p, type, ID_RESIDUAL, false, s->n_images, s->c_out, s->height, s->width),
                                    sums[1]);
        if (s->finish != FINISH_NONE)
                ops[n++] = addition(p, sums[s->finish - 1], tensor(p, type, ID_BIAS, false, 1, s->c_out, 1, 1), y);
        for (int i = 0; i < n; i++)
                if (!ops[i])
                        return NULL;
        const struct attribute attributes[] = {
                {CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, n, ops},
                {CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &p->convolver->handle}};

        return build(p, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, attributes, p->convolver->handle ? 2 : 1);
}

/* ---- which configurations */

/* What a float32 result may not come from; TENSOR_CORE means tf32 there. */
static bool is_exact(cudnnBackendNumericalNote_t note, bool tf32)
{
        return (tf32 || note != CUDNN_NUMERICAL_NOTE_TENSOR_CORE) && note != CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS &&
               note != CUDNN_NUMERICAL_NOTE_FFT && note != CUDNN_NUMERICAL_NOTE_WINOGRAD &&
               note != CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4 && note != CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6 &&
               note != CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13;
}

static bool may_be_used(descriptor engine, const struct conv_plan_shape *s)
{
        cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
        cudnnBackendBehaviorNote_t behaviour[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
        int64_t n = 0, n_behaviour = 0;
        bool ok = cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                           CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &n, notes) == CUDNN_STATUS_SUCCESS &&
                  cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                           CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, &n_behaviour,
                                           behaviour) == CUDNN_STATUS_SUCCESS;

        for (int64_t i = 0; ok && i < n; i++)
                ok = notes[i] != CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC &&
                     notes[i] != CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION &&
                     (s->type == DTYPE_BF16 || is_exact(notes[i], s->tf32));
        for (int64_t i = 0; ok && i < n_behaviour; i++)
                ok = behaviour[i] != CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
        return ok;
}

/* The engine's number and the knobs that are set; false where cuDNN does not tell. */
static bool name_of(struct conv_plan *p, descriptor config, descriptor engine, char name[NAME_SIZE])
{
        descriptor knobs[MAX_KNOBS];
        int64_t n = 0, index = 0, got = 0;
        int at;

        for (int i = 0; i < MAX_KNOBS; i++)
                if (!(knobs[i] = part_new(p, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR)))
                        return false;
        if (cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &got, &index) !=
                    CUDNN_STATUS_SUCCESS ||
            cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                     MAX_KNOBS, &n, knobs) != CUDNN_STATUS_SUCCESS)
                return false;
        at = snprintf(name, NAME_SIZE, "engine%lld", (long long)index);
        for (int64_t i = 0; i < n && i < MAX_KNOBS && at < NAME_SIZE; i++) {
                cudnnBackendKnobType_t kind = CUDNN_KNOB_TYPE_COUNTS;
                int64_t value = 0;

                if (cudnnBackendGetAttribute(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &got,
                                             &kind) != CUDNN_STATUS_SUCCESS ||
                    cudnnBackendGetAttribute(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &got,
                                             &value) != CUDNN_STATUS_SUCCESS)
                        return false;
                at += snprintf(name + at, NAME_SIZE - (size_t)at, ",%d=%lld", (int)kind, (long long)value);
        }
        return at < NAME_SIZE;
}

static void parts_drop(struct conv_plan *p, size_t keep)
{
        while (p->n_parts > keep)
                (void)cudnnBackendDestroyDescriptor(p->parts[--p->n_parts]);
}

/* Adds the configuration as a way, unless it may not be used or is there already. */
static void way_add(struct conv_plan *p, descriptor config, const struct conv_plan_shape *s)
{
        const size_t before = p->n_parts;
        struct way *w = &p->ways[p->n_ways];
        descriptor engine = part_new(p, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
        int64_t n = 0;
        bool ok = p->n_ways < MAX_WAYS && engine &&
                  cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n,
                                           &engine) == CUDNN_STATUS_SUCCESS &&
                  may_be_used(engine, s);

        if (ok) {
                if (!name_of(p, config, engine, w->name))
                        w->name[0] = 0;
                for (int i = 0; i < p->n_ways && ok; i++)
                        ok = !w->name[0] || strcmp(p->ways[i].name, w->name) != 0;
        }
        parts_drop(p, before);
        if (ok) {
                w->config = config;
                p->n_ways++;
        }
}

/* What says of a configuration or of heuristics which device is meant. */
#define FOR_DEVICE(p, kind)                                                                                            \
        {                                                                                                              \
                (p)->convolver->handle ? CUDNN_ATTR_##kind##_HANDLE : CUDNN_ATTR_##kind##_DEVICEPROP,                  \
                        (p)->convolver->handle ? CUDNN_TYPE_HANDLE : CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,                 \
                        (p)->convolver->handle ? (const void *)&(p)->convolver->handle                                 \
                                               : (const void *)&(p)->convolver->properties                             \
        }

bool conv_plan_take(struct conv_plan *p, int way)
{
        int64_t n = 0, bytes = 0;
        descriptor plan = BUILD(p, EXECUTION_PLAN, FOR_DEVICE(p, EXECUTION_PLAN),
                                ONE(EXECUTION_PLAN_ENGINE_CONFIG, BACKEND_DESCRIPTOR, descriptor, p->ways[way].config));

        if (!plan ||
            cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n, &bytes) !=
                    CUDNN_STATUS_SUCCESS ||
            bytes > MAX_WORKSPACE)
                return false;
        p->plan = plan;
        p->workspace_bytes = bytes;
        p->taken = way;
        return true;
}

int conv_plan_taken(const struct conv_plan *p)
{
        return p->taken;
}

int conv_plan_ways(const struct conv_plan *p)
{
        return p->n_ways;
}

const char *conv_plan_name(const struct conv_plan *p, int way)
{
        return p->ways[way].name;
}

/* What a mode of the heuristics offers, in its order. */
static void ways_add(struct conv_plan *p, descriptor graph, cudnnBackendHeurMode_t mode,
                     const struct conv_plan_shape *s)
{
        const struct attribute graph_of = ONE(ENGINEHEUR_OPERATION_GRAPH, BACKEND_DESCRIPTOR, descriptor, graph);
        const struct attribute mode_of = ONE(ENGINEHEUR_MODE, HEUR_MODE, cudnnBackendHeurMode_t, mode);
        const struct attribute device_of = {CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                            &p->convolver->properties};
        const struct attribute attributes[] = {graph_of, mode_of, device_of};
        descriptor configs[MAX_CONFIGS];
        descriptor heuristics =
                build(p, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, attributes, p->convolver->properties ? 3 : 2);
        int64_t n = 0;

        for (int i = 0; i < MAX_CONFIGS; i++)
                configs[i] = part_new(p, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
        if (!heuristics || !configs[MAX_CONFIGS - 1] ||
            cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                     MAX_CONFIGS, &n, configs) != CUDNN_STATUS_SUCCESS)
                return;
        for (int64_t i = 0; i < n; i++)
                way_add(p, configs[i], s);
}

int conv_plan_new(struct convolver *c, const struct conv_plan_shape *shape, struct conv_plan **ret, struct error *err)
{
        static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B, CUDNN_HEUR_MODE_FALLBACK};
        struct conv_plan *p = calloc(1, sizeof(*p));
        descriptor graph;
        bool found = false;

        if (!p)
                return error_set(err, -ENOMEM, "", "out of memory");
        p->convolver = c;
        p->finish = shape->finish;
        graph = graph_of(p, shape);
        for (size_t i = 0; i < ARRAY_LEN(modes) && graph; i++)
                ways_add(p, graph, modes[i], shape);
        for (int i = 0; i < p->n_ways && !found; i++)
                found = conv_plan_take(p, i);
        *ret = found ? p : conv_plan_free(p);
        return 0;
}

struct conv_plan *conv_plan_free(struct conv_plan *p)
{
        if (p)
                parts_drop(p, 0);
        free(p);
        return NULL;
}

size_t conv_plan_workspace(const struct conv_plan *p)
{
        return (size_t)p->workspace_bytes;
}

cudaError_t conv_plan_run(struct conv_plan *p, cudaStream_t stream, const struct conv_operands *o)
{
        static const int64_t n_of[CONV_N_FINISHES] = {3, 4, 5};
        const size_t n_kept = p->n_parts;
        const int64_t ids[] = {ID_X, ID_W, ID_Y, ID_BIAS, ID_RESIDUAL};
        const void *const pointers[] = {o->x, o->w, o->y, o->bias, o->residual};
        descriptor pack;
        bool ok;

        pack = BUILD(p, VARIANT_PACK, {CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n_of[p->finish], ids},
                     {CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n_of[p->finish], pointers},
                     ONE(VARIANT_PACK_WORKSPACE, VOID_PTR, void *, o->workspace));
        ok = pack && cudnnSetStream(p->convolver->handle, stream) == CUDNN_STATUS_SUCCESS &&
             cudnnBackendExecute(p->convolver->handle, p->plan, pack) == CUDNN_STATUS_SUCCESS;
        parts_drop(p, n_kept);
        return ok ? cudaSuccess : cudaErrorLaunchFailure;
}
