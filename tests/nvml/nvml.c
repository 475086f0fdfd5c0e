/* A libnvidia-ml.so.1 for tests of who looks at GPUs: what it says stands in the file that $SCRIPT_NVML names, which is
 * read at each call. Each line says one thing:
 *   hang                     no call comes back while it stands there
 *   UUID gpu                 there is such a GPU
 *   UUID parent UUID         there is such a MIG instance, of that GPU
 *   UUID lost
 *   UUID ecc N
 *   UUID energy MILLIJOULES
 *   UUID process PID BYTES
 *   UUID xid ID NUMBER       told once, where the ID is above all that were there before */
#include "base/nvml.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define DEVICES 16

struct nvml_device {
        char uuid[64];
};

struct nvml_events {
        long long told;
};

static struct nvml_device devices[DEVICES];

static FILE *open_state(void)
{
        const char *path = getenv("SCRIPT_NVML");

        return path ? fopen(path, "re") : NULL;
}

/* The n-th line of that word about that device (NULL: any): its device's UUID and up to two values. */
static bool find(const char *uuid, const char *word, int n, char *ret_uuid, char *ret_first, char *ret_second)
{
        FILE *f = open_state();
        char line[256], what[32];
        bool found = false;

        while (f && !found && fgets(line, sizeof line, f)) {
                ret_first[0] = ret_second[0] = 0;
                found = sscanf(line, "%63s %31s %63s %63s", ret_uuid, what, ret_first, ret_second) >= 2 &&
                        !strcmp(what, word) && (!uuid || !strcmp(uuid, ret_uuid)) && n-- == 0;
        }
        if (f)
                (void)fclose(f);
        return found;
}

static bool is_said(const char *uuid, const char *word, unsigned long long *ret)
{
        char of[64], first[64], second[64];
        bool found = find(uuid, word, 0, of, first, second);

        *ret = found ? strtoull(first, NULL, 10) : 0;
        return found;
}

static void hang(void)
{
        bool hangs;

        do {
                FILE *f = open_state();
                char line[256];

                hangs = false;
                while (f && fgets(line, sizeof line, f))
                        hangs |= !strcmp(line, "hang\n");
                if (f)
                        (void)fclose(f);
                if (hangs)
                        (void)usleep(20000);
        } while (hangs);
}

/* What every call about a device begins with. */
static int enter(const struct nvml_device *d)
{
        unsigned long long none;

        hang();
        return is_said(d->uuid, "lost", &none) ? NVML_GPU_IS_LOST : NVML_OK;
}

int nvmlInit_v2(void);
int nvmlInit_v2(void)
{
        hang();
        return NVML_OK;
}

int nvmlShutdown(void);
int nvmlShutdown(void)
{
        return NVML_OK;
}

const char *nvmlErrorString(int result);
const char *nvmlErrorString(int result)
{
        return result == NVML_GPU_IS_LOST ? "GPU is lost" : "another error";
}

int nvmlDeviceGetHandleByUUID(const char *uuid, struct nvml_device **ret);
int nvmlDeviceGetHandleByUUID(const char *uuid, struct nvml_device **ret)
{
        unsigned long long none;
        static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
        int i = 0;

        hang();
        if (!is_said(uuid, "gpu", &none) && !is_said(uuid, "parent", &none))
                return 6; /* NVML_ERROR_NOT_FOUND */
        (void)pthread_mutex_lock(&lock);
        while (devices[i].uuid[0] && strcmp(devices[i].uuid, uuid) != 0)
                i++;
        if (!devices[i].uuid[0])
                (void)snprintf(devices[i].uuid, sizeof devices[i].uuid, "%s", uuid);
        (void)pthread_mutex_unlock(&lock);
        *ret = &devices[i];
        return NVML_OK;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(struct nvml_device *d, struct nvml_device **ret);
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(struct nvml_device *d, struct nvml_device **ret)
{
        char of[64], first[64], second[64];

        return find(d->uuid, "parent", 0, of, first, second) ? nvmlDeviceGetHandleByUUID(first, ret)
                                                             : NVML_NOT_SUPPORTED;
}

int nvmlDeviceGetCount_v2(unsigned *ret);
int nvmlDeviceGetCount_v2(unsigned *ret)
{
        char of[64], first[64], second[64];

        hang();
        for (*ret = 0; find(NULL, "gpu", (int)*ret, of, first, second);)
                (*ret)++;
        return NVML_OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct nvml_device **ret);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct nvml_device **ret)
{
        char of[64], first[64], second[64];

        return find(NULL, "gpu", (int)index, of, first, second) ? nvmlDeviceGetHandleByUUID(of, ret) : 6;
}

int nvmlDeviceGetUUID(struct nvml_device *d, char *ret, unsigned size);
int nvmlDeviceGetUUID(struct nvml_device *d, char *ret, unsigned size)
{
        return snprintf(ret, size, "%s", d->uuid) < (int)size ? enter(d) : NVML_INSUFFICIENT_SIZE;
}

int nvmlDeviceGetMaxMigDeviceCount(struct nvml_device *d, unsigned *ret);
int nvmlDeviceGetMaxMigDeviceCount(struct nvml_device *d, unsigned *ret)
{
        *ret = 7;
        return enter(d);
}

/* Their indices have gaps. */
int nvmlDeviceGetMigDeviceHandleByIndex(struct nvml_device *d, unsigned index, struct nvml_device **ret);
int nvmlDeviceGetMigDeviceHandleByIndex(struct nvml_device *d, unsigned index, struct nvml_device **ret)
{
        char of[64], gpu[64], second[64];
        unsigned at = 1;

        for (int i = 0; find(NULL, "parent", i, of, gpu, second); i++)
                if (!strcmp(gpu, d->uuid) && (at += 2) == index + 2)
                        return nvmlDeviceGetHandleByUUID(of, ret);
        return 6; /* NVML_ERROR_NOT_FOUND */
}

int nvmlDeviceGetTotalEnergyConsumption(struct nvml_device *d, unsigned long long *ret);
int nvmlDeviceGetTotalEnergyConsumption(struct nvml_device *d, unsigned long long *ret)
{
        int r = enter(d);

        return r != NVML_OK ? r : is_said(d->uuid, "energy", ret) ? NVML_OK : NVML_NOT_SUPPORTED;
}

int nvmlDeviceGetTotalEccErrors(struct nvml_device *d, int type, int since, unsigned long long *ret);
int nvmlDeviceGetTotalEccErrors(struct nvml_device *d, int type, int since, unsigned long long *ret)
{
        int r = enter(d);

        if (r != NVML_OK || type != NVML_ECC_UNCORRECTED || since != NVML_ECC_VOLATILE)
                return r != NVML_OK ? r : NVML_NOT_SUPPORTED;
        (void)is_said(d->uuid, "ecc", ret);
        return NVML_OK;
}

/* Under its name of older drivers alone, which is to be found, too. */
int nvmlDeviceGetComputeRunningProcesses_v2(struct nvml_device *d, unsigned *n, struct nvml_process *ret);
int nvmlDeviceGetComputeRunningProcesses_v2(struct nvml_device *d, unsigned *n, struct nvml_process *ret)
{
        char of[64], pid[64], bytes[64];
        unsigned room = *n, found = 0;
        int r = enter(d);

        if (r != NVML_OK)
                return r;
        for (; found < room && find(d->uuid, "process", (int)found, of, pid, bytes); found++)
                ret[found] = (struct nvml_process){.pid = (unsigned)strtoul(pid, NULL, 10),
                                                   .bytes = bytes[0] ? strtoull(bytes, NULL, 10) : NVML_UNKNOWN_BYTES};
        *n = found;
        return NVML_OK;
}

static bool next_xid(long long above, char *ret_uuid, long long *ret_id, unsigned long long *ret_number)
{
        char first[64], second[64];

        for (int i = 0; find(NULL, "xid", i, ret_uuid, first, second); i++)
                if (strtoll(first, NULL, 10) > above) {
                        *ret_id = strtoll(first, NULL, 10);
                        *ret_number = strtoull(second, NULL, 10);
                        return true;
                }
        return false;
}

int nvmlEventSetCreate(struct nvml_events **ret);
int nvmlEventSetCreate(struct nvml_events **ret)
{
        static struct nvml_events events;
        unsigned long long number;
        char uuid[64];

        while (next_xid(events.told, uuid, &events.told, &number))
                ;
        *ret = &events;
        return NVML_OK;
}

int nvmlDeviceRegisterEvents(struct nvml_device *d, unsigned long long types, struct nvml_events *events);
int nvmlDeviceRegisterEvents(struct nvml_device *d, unsigned long long types, struct nvml_events *events _unused_)
{
        return types == NVML_EVENT_XID ? enter(d) : NVML_NOT_SUPPORTED;
}

int nvmlEventSetWait_v2(struct nvml_events *events, struct nvml_event *ret, unsigned timeout_ms);
int nvmlEventSetWait_v2(struct nvml_events *events, struct nvml_event *ret, unsigned timeout_ms)
{
        char uuid[64];

        for (unsigned ms = 0; ms < timeout_ms; ms += 20) {
                *ret = (struct nvml_event){.type = NVML_EVENT_XID};
                if (next_xid(events->told, uuid, &events->told, &ret->data))
                        return nvmlDeviceGetHandleByUUID(uuid, &ret->device);
                (void)usleep(20000);
        }
        return NVML_TIMEOUT;
}
