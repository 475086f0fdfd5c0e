/* What stands in for cuBLASLt: descriptors that hold what is set and refuse what they do not know, and a product of
 * the same memory, column behind column as there, sums in double. */
#include "kernels/bf16.h"
#include "kernels/cuda/emu/emu.h"
#include "kernels/cuda/emu/product.h"

#include <cublasLt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WORKSPACE_BYTES = 128, ALGORITHM = 7 };

/* Kept in the opaque structures' room. */
struct operation {
        cublasComputeType_t compute;
        cublasOperation_t of_a, of_b;
        cublasLtEpilogue_t epilogue;
        const void *bias;
};

struct layout {
        cudaDataType type;
        uint64_t rows, columns;
        int64_t stride; /* from column to column */
};

struct preference {
        uint64_t workspace;
        uint32_t scheme, alignment;
};

_Static_assert(sizeof(struct operation) <= sizeof(cublasLtMatmulDescOpaque_t), "room");
_Static_assert(sizeof(struct layout) <= sizeof(cublasLtMatrixLayoutOpaque_t), "room");
_Static_assert(sizeof(struct preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t), "room");

/* nvcc's own prototypes say CUBLASWINAPI, which is nothing here. */
cublasStatus_t cublasLtCreate(cublasLtHandle_t *ret)
{
        *ret = calloc(1, 1);
        return *ret ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
        free(handle);
        return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *ret, cublasComputeType_t compute, cudaDataType_t scale)
{
        struct operation *o;

        *ret = calloc(1, sizeof(**ret));
        if (!*ret || scale != CUDA_R_32F)
                return CUBLAS_STATUS_INVALID_VALUE;
        o = (struct operation *)*ret;
        *o = (struct operation){compute, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, NULL};
        return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
        free(d);
        return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name,
                                              const void *value, size_t size)
{
        struct operation *o = (struct operation *)d;
        const struct {
                cublasLtMatmulDescAttributes_t name;
                void *place;
                size_t size;
        } known[] = {{CUBLASLT_MATMUL_DESC_TRANSA, &o->of_a, sizeof(int32_t)},
                     {CUBLASLT_MATMUL_DESC_TRANSB, &o->of_b, sizeof(int32_t)},
                     {CUBLASLT_MATMUL_DESC_EPILOGUE, &o->epilogue, sizeof(uint32_t)},
                     {CUBLASLT_MATMUL_DESC_BIAS_POINTER, &o->bias, sizeof(void *)}};

        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
                if (known[i].name == name && known[i].size == size) {
                        memcpy(known[i].place, value, size);
                        return CUBLAS_STATUS_SUCCESS;
                }
        return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *ret, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t stride)
{
        if (stride < (int64_t)rows || (type != CUDA_R_32F && type != CUDA_R_16BF))
                return CUBLAS_STATUS_INVALID_VALUE;
        *ret = calloc(1, sizeof(**ret));
        if (!*ret)
                return CUBLAS_STATUS_ALLOC_FAILED;
        *(struct layout *)*ret = (struct layout){type, rows, columns, stride};
        return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t x)
{
        free(x);
        return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *ret)
{
        *ret = calloc(1, sizeof(**ret));
        if (!*ret)
                return CUBLAS_STATUS_ALLOC_FAILED;
        *(struct preference *)*ret = (struct preference){0, CUBLASLT_REDUCTION_SCHEME_MASK, 256};
        return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
        free(p);
        return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t name, const void *value,
                                                    size_t size)
{
        struct preference *x = (struct preference *)p;

        if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && size == sizeof x->workspace)
                memcpy(&x->workspace, value, size);
        else if (name == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK && size == sizeof x->scheme)
                memcpy(&x->scheme, value, size);
        else if (name >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES &&
                 name <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES && size == sizeof x->alignment)
                memcpy(&x->alignment, value, size);
        else
                return CUBLAS_STATUS_INVALID_VALUE;
        return CUBLAS_STATUS_SUCCESS;
}

/* ---- the product */

struct product {
        struct operation o;
        struct layout a, b, c;
        const void *A, *B;
        void *C, *workspace;
        float old; /* what C had counts so much */
};

static enum dtype dtype_of(cudaDataType type)
{
        return type == CUDA_R_16BF ? DTYPE_BF16 : DTYPE_FLOAT32;
}

/* Whether the shapes fit each other, and what cuBLASLt asks for types. */
static bool fits(const struct operation *o, const struct layout *a, const struct layout *b, const struct layout *c)
{
        const uint64_t m = o->of_a == CUBLAS_OP_N ? a->rows : a->columns,
                       k = o->of_a == CUBLAS_OP_N ? a->columns : a->rows;
        const uint64_t n = o->of_b == CUBLAS_OP_N ? b->columns : b->rows,
                       l = o->of_b == CUBLAS_OP_N ? b->rows : b->columns;
        const bool tf32 = o->compute == CUBLAS_COMPUTE_32F_FAST_TF32;

        return k == l && c->rows == m && c->columns == n && a->type == b->type &&
               (a->type == CUDA_R_16BF || c->type == CUDA_R_32F) && (!tf32 || a->type == CUDA_R_32F);
}

/* Tensor cores read sixteen bytes at once: of bf16 a column's must be whole. Odd ones of float are refused so that what
 * stands in for a plan is used, too. */
static bool is_aligned(const struct layout *x)
{
        return x->stride % (x->type == CUDA_R_16BF ? 8 : 2) == 0;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int n,
                                              cublasLtMatmulHeuristicResult_t ret[], int *ret_n)
{
        const struct preference *p = (const struct preference *)preference;
        const struct layout *x = (const struct layout *)a, *y = (const struct layout *)b, *z = (const struct layout *)c;

        *ret_n = 0;
        if (!handle || c != d || n < 1 || p->alignment > 64 || p->workspace < WORKSPACE_BYTES ||
            p->scheme & (CUBLASLT_REDUCTION_SCHEME_INPLACE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE) ||
            !fits((const struct operation *)operation, x, y, z))
                return CUBLAS_STATUS_INVALID_VALUE;
        if (!is_aligned(x) || !is_aligned(y) || !is_aligned(z))
                return CUBLAS_STATUS_NOT_SUPPORTED;
        memset(&ret[0], 0, sizeof ret[0]);
        ret[0].algo.data[0] = ALGORITHM;
        ret[0].workspaceSize = WORKSPACE_BYTES;
        ret[0].state = CUBLAS_STATUS_SUCCESS;
        *ret_n = 1;
        return CUBLAS_STATUS_SUCCESS;
}

/* All columns of a factor, one behind the other. */
static double *factor(const struct product *p, const struct layout *x, const void *from)
{
        const enum dtype type = dtype_of(x->type);
        double *const to = emu_zeros((int64_t)(x->rows * x->columns));

        for (uint64_t i = 0; i < x->columns; i++)
                emu_factors(type, p->o.compute == CUBLAS_COMPUTE_32F_FAST_TF32,
                            (const char *)from + i * (size_t)x->stride * dtype_bytes(type), (int64_t)x->rows,
                            to + i * x->rows);
        return to;
}

/* The same with rows and columns exchanged. */
static double *turned(double *x, uint64_t rows, uint64_t columns)
{
        double *const to = emu_zeros((int64_t)(rows * columns));

        for (uint64_t i = 0; i < columns; i++)
                for (uint64_t l = 0; l < rows; l++)
                        to[l * columns + i] = x[i * rows + l];
        free(x);
        return to;
}

static void touch(const struct layout *x, const void *p, bool write)
{
        const size_t size = dtype_bytes(dtype_of(x->type));

        for (uint64_t i = 0; i < x->columns; i++)
                emu_touch((const char *)p + i * (size_t)x->stride * size, x->rows * size, write);
}

static void touch_all(const struct product *p)
{
        touch(&p->a, p->A, false);
        touch(&p->b, p->B, false);
        if (p->old != 0)
                touch(&p->c, p->C, false);
        if (p->o.epilogue == CUBLASLT_EPILOGUE_BIAS)
                emu_touch(p->o.bias, p->c.rows * dtype_bytes(dtype_of(p->c.type)), false);
        touch(&p->c, p->C, true);
        emu_touch(p->workspace, WORKSPACE_BYTES, true);
}

/* The sum's column j is a row here: of C's sums, and of the right factor. */
static double *sums_of(const struct product *p, int64_t m, int64_t n)
{
        const int64_t k = (int64_t)(p->o.of_a == CUBLAS_OP_N ? p->a.columns : p->a.rows);
        double *left = factor(p, &p->a, p->A), *const right = factor(p, &p->b, p->B), *const sums = emu_zeros(m * n);

        if (p->o.of_a == CUBLAS_OP_T)
                left = turned(left, p->a.rows, p->a.columns);
        emu_product_add(n, m, k,
                        p->o.of_b == CUBLAS_OP_N ? (struct emu_matrix){right, k, 1} : (struct emu_matrix){right, 1, n},
                        (struct emu_matrix){left, m, 1}, sums, m);
        free(left);
        free(right);
        return sums;
}

static void run(const void *args)
{
        const struct product *p = args;
        const enum dtype type = dtype_of(p->c.type);
        const int64_t m = (int64_t)p->c.rows, n = (int64_t)p->c.columns;
        double *sums;

        touch_all(p);
        sums = sums_of(p, m, n);
        memset(p->workspace, 0xff, WORKSPACE_BYTES); /* it is the product's to write */
        for (int64_t at, j = 0; j < n; j++)
                for (int64_t i = 0; i < m; i++) {
                        double sum = sums[j * m + i];

                        at = j * p->c.stride + i;
                        if (p->old != 0)
                                sum += (double)p->old * value_at(type, p->C, at);
                        if (p->o.epilogue == CUBLASLT_EPILOGUE_BIAS)
                                sum += value_at(type, p->o.bias, i);
                        value_set(type, p->C, at, sum);
                }
        free(sums);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void *alpha, const void *A,
                              cublasLtMatrixLayout_t a, const void *B, cublasLtMatrixLayout_t b, const void *beta,
                              const void *C, cublasLtMatrixLayout_t c, void *D, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream)
{
        const struct product p = {*(const struct operation *)operation,
                                  *(const struct layout *)a,
                                  *(const struct layout *)b,
                                  *(const struct layout *)c,
                                  A,
                                  B,
                                  D,
                                  workspace,
                                  *(const float *)beta};
        const uintptr_t all = (uintptr_t)A | (uintptr_t)B | (uintptr_t)D | (uintptr_t)workspace;

        if (!handle || C != D || c != d || *(const float *)alpha != 1 || algorithm->data[0] != ALGORITHM ||
            workspace_bytes < WORKSPACE_BYTES || all % 16 || (uintptr_t)workspace % 256 ||
            !fits(&p.o, &p.a, &p.b, &p.c) ||
            (p.o.epilogue == CUBLASLT_EPILOGUE_BIAS && (!p.o.bias || (uintptr_t)p.o.bias % 16)))
                return CUBLAS_STATUS_INVALID_VALUE;
        return emu_enqueue("product", run, &p, sizeof p, stream) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                                : CUBLAS_STATUS_EXECUTION_FAILED;
}
