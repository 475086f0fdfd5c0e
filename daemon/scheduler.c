#include "daemon/scheduler.h"

size_t scheduler_free(const struct device *devices, size_t n_devices, bool gpu, int64_t now_us, size_t *ret)
{
        size_t n = 0;

        for (size_t i = 0; i < n_devices; i++)
                if (devices[i].gpu == gpu && !devices[i].out && !devices[i].users && devices[i].not_before_us <= now_us)
                        ret[n++] = i;
        return n;
}

bool scheduler_fits(const struct device *devices, size_t n_devices, int64_t bytes, int64_t total_bytes)
{
        int64_t used = 0;

        for (size_t i = 0; i < n_devices; i++)
                if (!devices[i].gpu && devices[i].users)
                        used += devices[i].job_bytes;
        return !used || bytes <= total_bytes - used;
}

bool scheduler_eligible(const struct job *j, int64_t now_us)
{
        return !j || (j->state == JOB_QUEUED && !j->pending && j->not_before_us <= now_us);
}
