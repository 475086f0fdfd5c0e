/* Sums over ranks, whose values lie in rows. */
#include "kernels/cuda/sum.h"

namespace
{

template <class T> __global__ void __launch_bounds__(BLOCK) add_rows(const T *rows, int n_rows, int64_t n, T *y)
{
        FOR_EACH(i, n)
        {
                T value = rows[i];

                for (int j = 1; j < n_rows; j++)
                        value += rows[j * n + i];
                y[i] = value;
        }
}

} // namespace

void sum_rows(struct stream *s, const char *op, enum sum_type type, const void *rows, int n_rows, int64_t n, void *y)
{
        if (n == 0)
                return;
        if (type == SUM_TYPE_FLOAT)
                RUN(s, op, add_rows<float>, grid_of(n), BLOCK, 0, static_cast<const float *>(rows), n_rows, n,
                    static_cast<float *>(y));
        else
                RUN(s, op, add_rows<double>, grid_of(n), BLOCK, 0, static_cast<const double *>(rows), n_rows, n,
                    static_cast<double *>(y));
}
