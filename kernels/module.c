#include "kernels/module.h"

#include "kernels/cuda/module.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* The folder of the running binary, or "". */
static void own_folder(char *ret, size_t size)
{
        ssize_t n = readlink("/proc/self/exe", ret, size - 1);

        ret[n > 0 ? n : 0] = 0;
        if (strrchr(ret, '/'))
                *strrchr(ret, '/') = 0;
}

/* Where the module is: the first place that has a file of its name. */
static bool module_find(const char *name, char *ret, size_t size)
{
        const char *asked = getenv("MULUN_MODULES");
        char own[PATH_MAX];
        int n;

        if (asked) {
                n = snprintf(ret, size, "%s/libmulun-%s.so", asked, name);
                return n > 0 && (size_t)n < size && access(ret, R_OK) == 0;
        }
        own_folder(own, sizeof own);
        for (int i = 0; i < 2; i++) {
                n = snprintf(ret, size, "%s%s/libmulun-%s.so", own, i ? "/" MULUN_MODULES_FROM_HERE : "", name);
                if (n > 0 && (size_t)n < size && access(ret, R_OK) == 0)
                        return true;
        }
        return false;
}

int module_symbol(const char *name, const char *symbol, void **ret, struct error *err)
{
        char path[2 * PATH_MAX];
        void *module;

        if (!module_find(name, path, sizeof path))
                return error_set(err, -ENODEV, name, "this installation has no module for \"%s\"", name);
        module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!module)
                return error_set(err, -ENODEV, path, "the module cannot be loaded: %s", dlerror());
        *ret = dlsym(module, symbol);
        return *ret ? 0 : error_set(err, -ENODEV, path, "the module is of another version");
}

int module_load(const char *name, const struct kernels **ret, struct error *err)
{
        const struct kernels *k;
        void *table;
        int r = module_symbol(name, CUDA_TABLE_NAME, &table, err);

        if (r < 0)
                return r;
        k = table;
        if (k->abi != KERNELS_ABI)
                return error_set(err, -ENODEV, name, "the module is of another version");
        *ret = k;
        return 0;
}
