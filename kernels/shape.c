/* What plans ask of their shapes. */
#include "kernels/shape.h"

#include <errno.h>

static int check_sizes(const char *what, const int64_t *sizes, size_t n_sizes, struct error *err)
{
        size_t product = sizeof(double);

        for (size_t i = 0; i < n_sizes; i++)
                if (sizes[i] < 1 || __builtin_mul_overflow(product, (size_t)sizes[i], &product))
                        return error_set(err, -EINVAL, what, "size %zu of the shape is out of range: %lld", i,
                                         (long long)sizes[i]);
        return 0;
}

static int check_type(const char *what, const char *member, enum dtype type, bool bf16, struct error *err)
{
        if (type == DTYPE_FLOAT32 || (type == DTYPE_BF16 && bf16))
                return 0;
        return error_set(err, -ENOTSUP, what, "%s: %s %s is not computed by this back end", what, member,
                         type == DTYPE_BF16 ? "bf16" : "of that number");
}

/* A member that has one value here. */
static int check_only(const char *what, const char *member, int64_t value, int64_t only, struct error *err)
{
        if (value == only)
                return 0;
        return error_set(err, -ENOTSUP, what, "%s: %s %lld is not computed by this back end", what, member,
                         (long long)value);
}

int shape_check_conv(const struct conv_shape *s, bool bf16, struct error *err)
{
        int64_t sizes[] = {s->kernel_height, s->kernel_width, s->stride, s->groups, s->n_images,
                           s->height,        s->width,        s->c_in,   s->c_out};
        int r = check_sizes("conv", sizes, ARRAY_LEN(sizes), err);

        r = r < 0 ? r : check_only("conv", "kernel_height", s->kernel_height, 3, err);
        r = r < 0 ? r : check_only("conv", "kernel_width", s->kernel_width, 3, err);
        r = r < 0 ? r : check_only("conv", "stride", s->stride, 1, err);
        r = r < 0 ? r : check_only("conv", "groups", s->groups, 1, err);
        r = r < 0 ? r : check_type("conv", "x_type", s->x_type, bf16, err);
        return r < 0 ? r : check_type("conv", "y_type", s->y_type, bf16, err);
}

int shape_check_dense(const struct dense_shape *s, bool bf16, struct error *err)
{
        int64_t sizes[] = {s->m, s->k, s->n};
        int r = check_sizes("dense", sizes, ARRAY_LEN(sizes), err);

        return r < 0 ? r : check_type("dense", "type", s->type, bf16, err);
}

int shape_check_norm(const struct norm_shape *s, bool bf16, struct error *err)
{
        int64_t sizes[] = {s->n_images, s->pixels, s->groups, s->c_a, MAX(s->c_b, (int64_t)1)}, c;
        int r = check_sizes("norm", sizes, ARRAY_LEN(sizes), err);

        if (r < 0)
                return r;
        c = s->c_a + s->c_b;
        if (s->c_b < 0 || c % s->groups != 0 || s->c_a % (c / s->groups) != 0)
                return error_set(err, -EINVAL, "norm", "%lld + %lld channels do not make %lld groups, none of both",
                                 (long long)s->c_a, (long long)s->c_b, (long long)s->groups);
        return check_type("norm", "type", s->type, bf16, err);
}

int shape_check_attention(const struct attention_shape *s, bool bf16, struct error *err)
{
        int64_t sizes[] = {s->n_images, s->pixels, s->pixels, s->c, s->heads};
        int r = check_sizes("attention", sizes, ARRAY_LEN(sizes), err);

        r = r < 0 ? r : check_only("attention", "heads", s->heads, 1, err);
        return r < 0 ? r : check_type("attention", "type", s->type, bf16, err);
}
