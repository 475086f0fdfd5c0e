/* Convolutions by cuDNN 9's graph API. A plan is the first that its heuristics offer and that may be used:
 * deterministic, in single precision where the type is float32 (no tensor cores, which would be tf32, no transform that
 * loses digits), not compiled at run time, its workspace bounded. */
#include "kernels/cuda/convolver.h"

#include <cudnn.h>
#include <errno.h>

typedef cudnnBackendDescriptor_t descriptor;

enum { MAX_PARTS = 512, MAX_CONFIGS = 64, ID_X = 1, ID_W, ID_Y };
#define MAX_WORKSPACE ((int64_t)256 << 20)

struct convolver {
        cudnnHandle_t handle;
};

struct conv_plan {
        struct convolver *convolver;
        descriptor plan; /* one of parts */
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

struct convolver *convolver_free(struct convolver *c)
{
        if (c)
                (void)cudnnDestroy(c->handle);
        free(c);
        return NULL;
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

/* Dimensions in cuDNN's order; memory has the channels last. */
static descriptor tensor(struct conv_plan *p, cudnnDataType_t type, int64_t id, int64_t n, int64_t c, int64_t h,
                         int64_t w)
{
        return BUILD(p, TENSOR, ONE(TENSOR_UNIQUE_ID, INT64, int64_t, id),
                     ONE(TENSOR_DATA_TYPE, DATA_TYPE, cudnnDataType_t, type), MANY(TENSOR_DIMENSIONS, n, c, h, w),
                     MANY(TENSOR_STRIDES, c * h * w, 1, c * w, c), ONE(TENSOR_BYTE_ALIGNMENT, INT64, int64_t, 16));
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

static descriptor operation(struct conv_plan *p, const struct conv_plan_shape *s)
{
        const cudnnDataType_t type = s->type == DTYPE_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
        descriptor x = tensor(p, type, ID_X, s->n_images, s->c_in, s->height, s->width);
        descriptor w = tensor(p, type, ID_W, s->c_out, s->c_in, 3, 3);
        descriptor y = tensor(p, type, ID_Y, s->n_images, s->c_out, s->height, s->width);
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

/* ---- which configuration */

static bool may_be_used(struct conv_plan *p, descriptor config, enum dtype type)
{
        cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
        cudnnBackendBehaviorNote_t behaviour[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
        descriptor engine = part_new(p, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
        int64_t n = 0, n_behaviour = 0;
        bool ok = engine &&
                  cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n,
                                           &engine) == CUDNN_STATUS_SUCCESS &&
                  cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                           CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &n, notes) == CUDNN_STATUS_SUCCESS &&
                  cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                           CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, &n_behaviour,
                                           behaviour) == CUDNN_STATUS_SUCCESS;

        for (int64_t i = 0; ok && i < n; i++)
                ok = notes[i] != CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC &&
                     notes[i] != CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION &&
                     (type == DTYPE_BF16 ||
                      (notes[i] != CUDNN_NUMERICAL_NOTE_TENSOR_CORE &&
                       notes[i] != CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS && notes[i] != CUDNN_NUMERICAL_NOTE_FFT &&
                       notes[i] != CUDNN_NUMERICAL_NOTE_WINOGRAD &&
                       notes[i] != CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4 &&
                       notes[i] != CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6 &&
                       notes[i] != CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13));
        for (int64_t i = 0; ok && i < n_behaviour; i++)
                ok = behaviour[i] != CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
        return ok;
}

/* Makes the configuration's plan; false where that cannot be or needs too much space. */
static bool plan_try(struct conv_plan *p, descriptor config)
{
        int64_t n = 0;
        descriptor plan =
                BUILD(p, EXECUTION_PLAN, ONE(EXECUTION_PLAN_HANDLE, HANDLE, cudnnHandle_t, p->convolver->handle),
                      ONE(EXECUTION_PLAN_ENGINE_CONFIG, BACKEND_DESCRIPTOR, descriptor, config));

        if (!plan || cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n,
                                              &p->workspace_bytes) != CUDNN_STATUS_SUCCESS)
                return false;
        if (p->workspace_bytes > MAX_WORKSPACE)
                return false;
        p->plan = plan;
        return true;
}

/* The first of a mode's configurations that may be used. */
static bool plan_search(struct conv_plan *p, descriptor graph, cudnnBackendHeurMode_t mode, enum dtype type)
{
        descriptor configs[MAX_CONFIGS], heuristics;
        int64_t n = 0;
        bool found = false;

        heuristics = BUILD(p, ENGINEHEUR, ONE(ENGINEHEUR_OPERATION_GRAPH, BACKEND_DESCRIPTOR, descriptor, graph),
                           ONE(ENGINEHEUR_MODE, HEUR_MODE, cudnnBackendHeurMode_t, mode));
        for (int i = 0; i < MAX_CONFIGS; i++)
                configs[i] = part_new(p, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
        if (!heuristics || !configs[MAX_CONFIGS - 1] ||
            cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                     MAX_CONFIGS, &n, configs) != CUDNN_STATUS_SUCCESS)
                return false;
        for (int64_t i = 0; i < n && !found; i++)
                found = may_be_used(p, configs[i], type) && plan_try(p, configs[i]);
        return found;
}

int conv_plan_new(struct convolver *c, const struct conv_plan_shape *shape, struct conv_plan **ret, struct error *err)
{
        static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B, CUDNN_HEUR_MODE_FALLBACK};
        struct conv_plan *p = calloc(1, sizeof(*p));
        descriptor op, graph = NULL;
        bool found = false;

        if (!p)
                return error_set(err, -ENOMEM, "", "out of memory");
        p->convolver = c;
        op = operation(p, shape);
        if (op)
                graph = BUILD(p, OPERATIONGRAPH, ONE(OPERATIONGRAPH_HANDLE, HANDLE, cudnnHandle_t, c->handle),
                              ONE(OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, descriptor, op));
        for (size_t i = 0; i < ARRAY_LEN(modes) && graph && !found; i++)
                found = plan_search(p, graph, modes[i], shape->type);
        *ret = found ? p : conv_plan_free(p);
        return 0;
}

struct conv_plan *conv_plan_free(struct conv_plan *p)
{
        while (p && p->n_parts > 0)
                (void)cudnnBackendDestroyDescriptor(p->parts[--p->n_parts]);
        free(p);
        return NULL;
}

size_t conv_plan_workspace(const struct conv_plan *p)
{
        return (size_t)p->workspace_bytes;
}

cudaError_t conv_plan_run(struct conv_plan *p, cudaStream_t stream, void *x, void *w, void *y, void *workspace)
{
        const size_t n_kept = p->n_parts;
        void *const pointers[] = {x, w, y};
        descriptor pack;
        bool ok;

        pack = BUILD(p, VARIANT_PACK, MANY(VARIANT_PACK_UNIQUE_IDS, ID_X, ID_W, ID_Y),
                     {CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, pointers},
                     ONE(VARIANT_PACK_WORKSPACE, VOID_PTR, void *, workspace));
        ok = pack && cudnnSetStream(p->convolver->handle, stream) == CUDNN_STATUS_SUCCESS &&
             cudnnBackendExecute(p->convolver->handle, p->plan, pack) == CUDNN_STATUS_SUCCESS;
        while (p->n_parts > n_kept)
                (void)cudnnBackendDestroyDescriptor(p->parts[--p->n_parts]);
        return ok ? cudaSuccess : cudaErrorLaunchFailure;
}
