#include "kernels/cuda/library.h"

#include <dlfcn.h>
#include <errno.h>

#define NAME "libnccl.so.2"

int library_load(const struct library **ret, struct error *err)
{
        static struct library calls;
        void *module = dlopen(NAME, RTLD_NOW | RTLD_LOCAL);

        if (!module)
                return error_set(err, -ENODEV, NAME, "several GPUs need NCCL, which cannot be loaded: %s", dlerror());
#define X(name) calls.name = (__typeof__(name) *)dlsym(module, #name);
        NCCL_CALLS(X)
#undef X
#define X(name)                                                                                                        \
        if (!calls.name)                                                                                               \
                return error_set(err, -ENODEV, NAME, "has no %s", #name);
        NCCL_CALLS(X)
#undef X
        *ret = &calls;
        return 0;
}
