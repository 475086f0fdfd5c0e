/* What plans ask before they are made: that no stream of the device records, and their shapes. */
#include "kernels/host.h"

#include "kernels/shape.h"

#include <errno.h>

#define CHECK(kind)                                                                                                    \
        int host_check_##kind(struct device *d, const struct kind##_shape *s, bool bf16, struct error *err)            \
        {                                                                                                              \
                if (host_refused(d, #kind))                                                                            \
                        return error_set(err, -EINVAL, #kind, "a plan is not made while a stream records");            \
                return shape_check_##kind(s, bf16, err);                                                               \
        }
CHECK(conv)
CHECK(dense)
CHECK(norm)
CHECK(attention)
