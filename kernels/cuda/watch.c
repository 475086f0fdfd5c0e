/* What NVML tells of a GPU, by its library, which comes with the driver: it is looked for when a device is opened. And
 * ranges for profilers (NVTX), which cost nothing where none looks on. */
#include "kernels/cuda/cuda.h"

#include <dlfcn.h>
#include <nvtx3/nvToolsExt.h>

#define NVML_SENSOR_GPU 0 /* NVML_TEMPERATURE_GPU */

struct nvml_device; /* nvmlDevice_t points to it */

struct nvml_utilisation { /* nvmlUtilization_t: percent of the time in which it computed, and moved memory */
        unsigned gpu, memory;
};

/* NVML's functions, as its documentation declares them: 0 is success. */
struct watch {
        void *library;
        struct nvml_device *device;
        int (*power)(struct nvml_device *device, unsigned *ret_milliwatts);
        int (*temperature)(struct nvml_device *device, int sensor, unsigned *ret_celsius);
        int (*utilisation)(struct nvml_device *device, struct nvml_utilisation *ret);
        int (*shutdown)(void);
};

struct watch *watch_open(const char *uuid)
{
        struct watch *w = calloc(1, sizeof(*w));
        int (*init)(void);
        int (*by_uuid)(const char *uuid, struct nvml_device **ret);

        if (!w)
                return NULL;
        w->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
        if (w->library) {
                *(void **)&init = dlsym(w->library, "nvmlInit_v2");
                *(void **)&by_uuid = dlsym(w->library, "nvmlDeviceGetHandleByUUID");
                *(void **)&w->power = dlsym(w->library, "nvmlDeviceGetPowerUsage");
                *(void **)&w->temperature = dlsym(w->library, "nvmlDeviceGetTemperature");
                *(void **)&w->utilisation = dlsym(w->library, "nvmlDeviceGetUtilizationRates");
                *(void **)&w->shutdown = dlsym(w->library, "nvmlShutdown");
                if (init && by_uuid && w->shutdown && init() == 0 && by_uuid(uuid, &w->device) == 0)
                        return w;
                (void)dlclose(w->library);
        }
        free(w);
        return NULL;
}

struct watch *watch_close(struct watch *w)
{
        if (!w)
                return NULL;
        (void)w->shutdown();
        (void)dlclose(w->library);
        free(w);
        return NULL;
}

void watch_use(const struct watch *w, struct device_use *ret)
{
        struct nvml_utilisation share;
        unsigned milliwatts, celsius;

        ret->watts = w && w->power && w->power(w->device, &milliwatts) == 0 ? milliwatts / 1e3 : NAN;
        ret->celsius = w && w->temperature && w->temperature(w->device, NVML_SENSOR_GPU, &celsius) == 0 ? celsius : NAN;
        ret->busy = w && w->utilisation && w->utilisation(w->device, &share) == 0 ? share.gpu / 1e2 : NAN;
}

void cuda_range_begin(const char *name)
{
        (void)nvtxRangePushA(name);
}

void cuda_range_end(void)
{
        (void)nvtxRangePop();
}
