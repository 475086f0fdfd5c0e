#include "base/nvml.h"

#include "base/macros.h"

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>

#define LIBRARY "libnvidia-ml.so.1"

/* Where each function goes; of two names the first that is there. */
static const struct {
        size_t offset;
        const char *name, *older;
} functions[] = {
        {offsetof(struct nvml, shutdown), "nvmlShutdown", NULL},
        {offsetof(struct nvml, by_uuid), "nvmlDeviceGetHandleByUUID", NULL},
        {offsetof(struct nvml, parent), "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", NULL},
        {offsetof(struct nvml, count), "nvmlDeviceGetCount_v2", NULL},
        {offsetof(struct nvml, by_index), "nvmlDeviceGetHandleByIndex_v2", NULL},
        {offsetof(struct nvml, uuid), "nvmlDeviceGetUUID", NULL},
        {offsetof(struct nvml, instances_max), "nvmlDeviceGetMaxMigDeviceCount", NULL},
        {offsetof(struct nvml, instance), "nvmlDeviceGetMigDeviceHandleByIndex", NULL},
        {offsetof(struct nvml, power), "nvmlDeviceGetPowerUsage", NULL},
        {offsetof(struct nvml, temperature), "nvmlDeviceGetTemperature", NULL},
        {offsetof(struct nvml, utilisation), "nvmlDeviceGetUtilizationRates", NULL},
        {offsetof(struct nvml, energy), "nvmlDeviceGetTotalEnergyConsumption", NULL},
        {offsetof(struct nvml, ecc_errors), "nvmlDeviceGetTotalEccErrors", NULL},
        {offsetof(struct nvml, processes), "nvmlDeviceGetComputeRunningProcesses_v3",
         "nvmlDeviceGetComputeRunningProcesses_v2"},
        {offsetof(struct nvml, events_new), "nvmlEventSetCreate", NULL},
        {offsetof(struct nvml, events_add), "nvmlDeviceRegisterEvents", NULL},
        {offsetof(struct nvml, events_wait), "nvmlEventSetWait_v2", NULL},
        {offsetof(struct nvml, error_text), "nvmlErrorString", NULL},
};

int nvml_open(struct nvml *ret, struct error *err)
{
        struct nvml n = {.library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL)};
        int (*init)(void), r;

        if (!n.library)
                return error_set(err, -ENOENT, NULL, "%s", dlerror());
        for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
                void **at = (void **)((char *)&n + functions[i].offset);

                *at = dlsym(n.library, functions[i].name);
                if (!*at && functions[i].older)
                        *at = dlsym(n.library, functions[i].older);
        }
        *(void **)&init = dlsym(n.library, "nvmlInit_v2");
        r = init && n.shutdown && n.by_uuid ? init() : NVML_NOT_SUPPORTED;
        if (r != NVML_OK) {
                r = error_set(err, -EIO, LIBRARY, "cannot be used: %s (%d)",
                              n.error_text ? n.error_text(r) : "it says no more", r);
                (void)dlclose(n.library);
                return r;
        }
        *ret = n;
        return 0;
}

void nvml_close(struct nvml *n)
{
        if (!n->library)
                return;
        (void)n->shutdown();
        (void)dlclose(n->library);
        *n = (struct nvml){0};
}

/* Of one GPU. */
static size_t add_places(const struct nvml *n, struct nvml_device *gpu, char (*ret)[NVML_UUID_SIZE], size_t room)
{
        struct nvml_device *instance;
        unsigned most = 0;
        size_t found = 0;

        if (!n->instances_max || !n->instance || n->instances_max(gpu, &most) != NVML_OK)
                most = 0; /* it cannot be divided */
        for (unsigned i = 0; i < most && found < room; i++)
                if (n->instance(gpu, i, &instance) == NVML_OK &&
                    n->uuid(instance, ret[found], NVML_UUID_SIZE) == NVML_OK)
                        found++;
        return found;
}

size_t nvml_places(const struct nvml *n, char (*ret)[NVML_UUID_SIZE], size_t room, bool *ret_divided)
{
        struct nvml_device *gpu;
        unsigned gpus = 0;
        size_t found = 0;

        *ret_divided = false;
        if (!n->count || !n->by_index || !n->uuid || n->count(&gpus) != NVML_OK)
                return 0;
        for (unsigned i = 0; i < gpus && found < room; i++) {
                size_t instances;

                if (n->by_index(i, &gpu) != NVML_OK)
                        continue;
                instances = add_places(n, gpu, ret + found, room - found);
                found += instances;
                *ret_divided |= instances > 0;
                if (!instances && n->uuid(gpu, ret[found], NVML_UUID_SIZE) == NVML_OK)
                        found++;
        }
        return found;
}
