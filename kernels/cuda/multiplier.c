/* cuBLASLt counts rows in columns: a matrix of ours, row behind row, is its turned one. So C^T [n, m] = B^T A^T is what
 * it is asked for, with our B first. */
#include "kernels/cuda/multiplier.h"

#include <cublasLt.h>
#include <errno.h>

#define MAX_WORKSPACE ((uint64_t)32 << 20)
#define ALIGNMENT 16U

struct multiplier {
        cublasLtHandle_t handle;
};

struct product_plan {
        struct multiplier *multiplier;
        cublasLtMatmulDesc_t operation;
        cublasLtMatrixLayout_t a, b, c;
        cublasLtMatmulAlgo_t algorithm;
        size_t workspace_bytes;
        bool accumulate, bias;
};

int multiplier_new(struct multiplier **ret, struct error *err)
{
        struct multiplier *x = calloc(1, sizeof(*x));

        if (!x)
                return error_set(err, -ENOMEM, "", "out of memory");
        if (cublasLtCreate(&x->handle) != CUBLAS_STATUS_SUCCESS) {
                free(x);
                return error_set(err, -ENODEV, "cublas", "cuBLASLt cannot be used");
        }
        *ret = x;
        return 0;
}

struct multiplier *multiplier_free(struct multiplier *x)
{
        if (x)
                (void)cublasLtDestroy(x->handle);
        free(x);
        return NULL;
}

static cudaDataType type_of(enum dtype type)
{
        return type == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* Of a matrix [rows, columns] of ours. */
static bool layout(cublasLtMatrixLayout_t *ret, enum dtype type, int64_t rows, int64_t columns)
{
        return cublasLtMatrixLayoutCreate(ret, type_of(type), (uint64_t)columns, (uint64_t)rows, columns) ==
               CUBLAS_STATUS_SUCCESS;
}

static bool set(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name, const void *value, size_t size)
{
        return cublasLtMatmulDescSetAttribute(d, name, value, size) == CUBLAS_STATUS_SUCCESS;
}

static bool describe(struct product_plan *p, const struct product_shape *s)
{
        const cublasComputeType_t compute =
                s->tf32 && s->type == DTYPE_FLOAT32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
        const cublasOperation_t of_a = s->a_turned ? CUBLAS_OP_T : CUBLAS_OP_N;
        const cublasOperation_t of_b = s->b_turned ? CUBLAS_OP_T : CUBLAS_OP_N;
        const cublasLtEpilogue_t epilogue = s->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;

        return cublasLtMatmulDescCreate(&p->operation, compute, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
               set(p->operation, CUBLASLT_MATMUL_DESC_TRANSA, &of_b, sizeof of_b) &&
               set(p->operation, CUBLASLT_MATMUL_DESC_TRANSB, &of_a, sizeof of_a) &&
               set(p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) &&
               layout(&p->a, s->type, s->a_turned ? s->k : s->m, s->a_turned ? s->m : s->k) &&
               layout(&p->b, s->type, s->b_turned ? s->n : s->k, s->b_turned ? s->k : s->n) &&
               layout(&p->c, s->c_type, s->m, s->n);
}

/* Bounded workspace, partial sums in float and in a fixed order, pointers as they are. */
static bool search(struct product_plan *p)
{
        static const cublasLtMatmulPreferenceAttributes_t aligned[] = {
                CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
        const uint64_t most = MAX_WORKSPACE;
        const uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, alignment = ALIGNMENT;
        cublasLtMatmulPreference_t preference = NULL;
        cublasLtMatmulHeuristicResult_t found;
        int n = 0;
        bool ok = cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS &&
                  cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most,
                                                       sizeof most) == CUBLAS_STATUS_SUCCESS &&
                  cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &scheme,
                                                       sizeof scheme) == CUBLAS_STATUS_SUCCESS;

        for (size_t i = 0; i < ARRAY_LEN(aligned); i++)
                ok = ok && cublasLtMatmulPreferenceSetAttribute(preference, aligned[i], &alignment, sizeof alignment) ==
                                   CUBLAS_STATUS_SUCCESS;
        ok = ok &&
             cublasLtMatmulAlgoGetHeuristic(p->multiplier->handle, p->operation, p->b, p->a, p->c, p->c, preference, 1,
                                            &found, &n) == CUBLAS_STATUS_SUCCESS &&
             n == 1 && found.state == CUBLAS_STATUS_SUCCESS;
        if (preference)
                (void)cublasLtMatmulPreferenceDestroy(preference);
        if (ok) {
                p->algorithm = found.algo;
                p->workspace_bytes = found.workspaceSize;
        }
        return ok;
}

int product_plan_new(struct multiplier *x, const struct product_shape *shape, struct product_plan **ret,
                     struct error *err)
{
        struct product_plan *p = calloc(1, sizeof(*p));

        if (!p)
                return error_set(err, -ENOMEM, "", "out of memory");
        p->multiplier = x;
        p->accumulate = shape->accumulate;
        p->bias = shape->bias;
        *ret = describe(p, shape) && search(p) ? p : product_plan_free(p);
        return 0;
}

struct product_plan *product_plan_free(struct product_plan *p)
{
        if (!p)
                return NULL;
        if (p->operation)
                (void)cublasLtMatmulDescDestroy(p->operation);
        if (p->a)
                (void)cublasLtMatrixLayoutDestroy(p->a);
        if (p->b)
                (void)cublasLtMatrixLayoutDestroy(p->b);
        if (p->c)
                (void)cublasLtMatrixLayoutDestroy(p->c);
        free(p);
        return NULL;
}

size_t product_plan_workspace(const struct product_plan *p)
{
        return p->workspace_bytes;
}

cudaError_t product_plan_run(struct product_plan *p, cudaStream_t stream, const struct product_operands *o)
{
        const float one = 1, old = p->accumulate ? 1 : 0;

        if (p->bias && !set(p->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &o->bias, sizeof o->bias))
                return cudaErrorInvalidValue;
        return cublasLtMatmul(p->multiplier->handle, p->operation, &one, o->b, p->b, o->a, p->a, &old, o->c, p->c, o->c,
                              p->c, &p->algorithm, o->workspace, p->workspace_bytes, stream) == CUBLAS_STATUS_SUCCESS
                       ? cudaSuccess
                       : cudaErrorLaunchFailure;
}
