/* NVML, the driver's library that tells of GPUs, as its documentation declares it. It is looked for when it is asked
 * for, so that nothing needs it to be built or to start. */
#pragma once

#include "base/error.h"

struct nvml_device; /* nvmlDevice_t points to it */
struct nvml_events; /* nvmlEventSet_t */

enum nvml_result { /* nvmlReturn_t */
                   NVML_OK = 0,
                   NVML_NOT_SUPPORTED = 3,
                   NVML_INSUFFICIENT_SIZE = 7,
                   NVML_TIMEOUT = 10,
                   NVML_GPU_IS_LOST = 15,
                   NVML_RESET_REQUIRED = 16,
};

#define NVML_SENSOR_GPU 0          /* NVML_TEMPERATURE_GPU */
#define NVML_ECC_UNCORRECTED 1     /* NVML_MEMORY_ERROR_TYPE_UNCORRECTED */
#define NVML_ECC_VOLATILE 0        /* since the driver was loaded, or the GPU was reset */
#define NVML_EVENT_XID 0x8ULL      /* nvmlEventTypeXidCriticalError */
#define NVML_UNKNOWN_BYTES (~0ULL) /* NVML_VALUE_NOT_AVAILABLE */
#define NVML_UUID_SIZE 96          /* NVML_DEVICE_UUID_V2_BUFFER_SIZE */

struct nvml_utilisation { /* nvmlUtilization_t: percent of the time in which it computed, and moved memory */
        unsigned gpu, memory;
};

struct nvml_process { /* nvmlProcessInfo_v2_t */
        unsigned pid;
        unsigned long long bytes;
        unsigned gpu_instance, compute_instance;
};

struct nvml_event { /* nvmlEventData_t */
        struct nvml_device *device;
        unsigned long long type, data; /* data: the XID */
        unsigned gpu_instance, compute_instance;
};

/* Its functions; NULL where this driver's library has none of that name. They answer an nvml_result, and may hang with
 * the driver. From any thread. */
struct nvml {
        void *library;
        int (*shutdown)(void);
        int (*by_uuid)(const char *uuid, struct nvml_device **ret);
        int (*parent)(struct nvml_device *instance, struct nvml_device **ret); /* of a MIG instance: its GPU */
        int (*count)(unsigned *ret);                                           /* of GPUs */
        int (*by_index)(unsigned index, struct nvml_device **ret);
        int (*uuid)(struct nvml_device *device, char *ret, unsigned size);
        int (*instances_max)(struct nvml_device *gpu, unsigned *ret); /* MIG instances that it can have; some are not */
        int (*instance)(struct nvml_device *gpu, unsigned index, struct nvml_device **ret);
        int (*power)(struct nvml_device *device, unsigned *ret_milliwatts);
        int (*temperature)(struct nvml_device *device, int sensor, unsigned *ret_celsius);
        int (*utilisation)(struct nvml_device *device, struct nvml_utilisation *ret);
        int (*energy)(struct nvml_device *device, unsigned long long *ret_millijoules);
        int (*ecc_errors)(struct nvml_device *device, int type, int since, unsigned long long *ret);
        int (*processes)(struct nvml_device *device, unsigned *n, struct nvml_process *ret); /* that compute */
        int (*events_new)(struct nvml_events **ret);
        int (*events_add)(struct nvml_device *device, unsigned long long types, struct nvml_events *events);
        int (*events_wait)(struct nvml_events *events, struct nvml_event *ret, unsigned timeout_ms);
        const char *(*error_text)(int result);
};

/* -ENOENT: the library is not there; -EIO: it cannot be used. Both say why. */
int nvml_open(struct nvml *ret, struct error *err);
/* One that was opened, or is all zero. */
void nvml_close(struct nvml *n);

/* By UUID what one process can be given to compute on: each GPU that is whole, and of one that is divided (MIG) its
 * instances. How many of at most room; *ret_divided: whether any is. 0 where the library does not say. */
size_t nvml_places(const struct nvml *n, char (*ret)[NVML_UUID_SIZE], size_t room, bool *ret_divided);
