/* The terms of float32's factors: split.h. */
#include "kernels/cuda/split.h"

#include "kernels/cuda/mma.h"

namespace
{

enum { TERMS = 3, V = 4 };

/* y [rows, 3, n] = (high, high, low) of x [rows, n], or (high, low, high). */
template <int N>
__global__ void __launch_bounds__(BLOCK) terms_write(const float *x, int64_t rows, int64_t n, bool low_second, float *y)
{
        FOR_EACH(i, rows * n / N)
        {
                const vector<float, N> v = load<float, N>(x + i * N);
                const int64_t row = i * N / n;
                float *const to = y + row * 2 * n + i * N;
                vector<float, N> high, low;

                for (int e = 0; e < N; e++) {
                        high.v[e] = __uint_as_float(tf32_of(v.v[e]));
                        low.v[e] = __uint_as_float(tf32_rest(v.v[e]));
                }
                store<float, N>(to, high);
                store<float, N>(to + (low_second ? 2 : 1) * n, high);
                store<float, N>(to + (low_second ? 1 : 2) * n, low);
        }
}

/* A factor: rows of n values that are summed over. */
struct factor {
        void *conv_operands::*at;
        int64_t rows, n;
};

/* The two factors of a direction. */
void factors_of(const conv_plan_shape *s, factor ret[2])
{
        const int64_t pixels = s->n_images * s->height * s->width;
        const factor x = {&conv_operands::x, pixels, s->c_in}, dy = {&conv_operands::y, pixels, s->c_out};

        switch (s->direction) {
        case CONV_FORWARD:
                ret[0] = x;
                ret[1] = {&conv_operands::w, 9 * s->c_out, s->c_in};
                break;
        case CONV_BACKWARD_DATA:
                ret[0] = dy;
                ret[1] = {&conv_operands::w, 1, 9 * s->c_out * s->c_in};
                break;
        default:
                ret[0] = {x.at, 1, x.rows * x.n};
                ret[1] = {dy.at, 1, dy.rows * dy.n};
        }
}

size_t bytes_of(const factor &f)
{
        return cuda_align((size_t)(TERMS * f.rows * f.n) * sizeof(float));
}
} // namespace

conv_plan_shape split_shape(const conv_plan_shape *s)
{
        conv_plan_shape ret = *s;

        ret.tf32 = true;
        if (s->direction == CONV_FORWARD)
                ret.c_in *= TERMS;
        else if (s->direction == CONV_BACKWARD_DATA)
                ret.c_out *= TERMS;
        else
                ret.n_images *= TERMS;
        return ret;
}

size_t split_bytes(const conv_plan_shape *s)
{
        factor f[2];

        factors_of(s, f);
        return bytes_of(f[0]) + bytes_of(f[1]);
}

void split_operands(struct stream *s, const char *op, const conv_plan_shape *shape, void *terms, conv_operands *o)
{
        factor f[2];

        factors_of(shape, f);
        for (int i = 0; i < 2; i++) {
                const float *const from = (const float *)(o->*f[i].at);
                const int64_t n = f[i].rows * f[i].n;
                float *const to = (float *)terms;

                if (f[i].n % V == 0)
                        RUN(s, op, terms_write<V>, grid_of(n / V), BLOCK, 0, from, f[i].rows, f[i].n, i == 1, to);
                else
                        RUN(s, op, terms_write<1>, grid_of(n), BLOCK, 0, from, f[i].rows, f[i].n, i == 1, to);
                o->*f[i].at = terms;
                terms = (char *)terms + bytes_of(f[i]);
        }
}
