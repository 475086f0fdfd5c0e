/* What NVML tells of a GPU, by its library, which comes with the driver: it is looked for when a device is opened. And
 * ranges for profilers (NVTX), which cost nothing where none looks on. */
#include "kernels/cuda/cuda.h"

#include "base/nvml.h"

#include <nvtx3/nvToolsExt.h>

struct watch {
        struct nvml nvml;
        struct nvml_device *device;
};

struct watch *watch_open(const char *uuid)
{
        struct watch *w = calloc(1, sizeof(*w));

        if (w && nvml_open(&w->nvml, NULL) >= 0 && w->nvml.by_uuid(uuid, &w->device) == NVML_OK)
                return w;
        return watch_close(w);
}

struct watch *watch_close(struct watch *w)
{
        if (w)
                nvml_close(&w->nvml);
        free(w);
        return NULL;
}

void watch_use(const struct watch *w, struct device_use *ret)
{
        struct nvml_utilisation share;
        unsigned milliwatts, celsius;

        ret->watts = ret->celsius = ret->busy = NAN;
        if (!w)
                return;
        if (w->nvml.power && w->nvml.power(w->device, &milliwatts) == NVML_OK)
                ret->watts = milliwatts / 1e3;
        if (w->nvml.temperature && w->nvml.temperature(w->device, NVML_SENSOR_GPU, &celsius) == NVML_OK)
                ret->celsius = celsius;
        if (w->nvml.utilisation && w->nvml.utilisation(w->device, &share) == NVML_OK)
                ret->busy = share.gpu / 1e2;
}

void cuda_range_begin(const char *name)
{
        (void)nvtxRangePushA(name);
}

void cuda_range_end(void)
{
        (void)nvtxRangePop();
}
