/* Matrix products by cuBLASLt (multiplier.c); on the emulated device its calls are answered by emu/cublaslt.c. Private
 * to kernels/cuda/. */
#pragma once

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

struct multiplier; /* of one device */
struct product_plan;

/* C [m, n] = A [m, k] B [k, n], sums in float. All matrices lie row behind row. */
struct product_shape {
        int64_t m, n, k;
        bool a_turned, b_turned; /* A lies as [k, m], B as [n, k] */
        enum dtype type, c_type; /* of A and B; of C and the bias */
        bool bias;               /* [n], added to every row */
        bool accumulate;         /* C is added to */
        bool tf32;               /* factors of float may be rounded to tf32 */
};

int multiplier_new(struct multiplier **ret, struct error *err);
struct multiplier *multiplier_free(struct multiplier *x);

/* The first algorithm that the heuristics offer: the same bits in every run on a GPU. *ret is NULL where cuBLASLt has
 * none for matrices that begin at multiples of 16 bytes: that is no failure. */
int product_plan_new(struct multiplier *x, const struct product_shape *shape, struct product_plan **ret,
                     struct error *err);
struct product_plan *product_plan_free(struct product_plan *p);
size_t product_plan_workspace(const struct product_plan *p);

struct product_operands {
        const void *a, *b, *bias;
        void *c, *workspace; /* workspace at a multiple of 256 bytes */
};
/* Asynchronous on stream, recordable. */
cudaError_t product_plan_run(struct product_plan *p, cudaStream_t stream, const struct product_operands *o);

#ifdef __cplusplus
}
#endif
