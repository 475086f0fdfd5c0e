#include "daemon/scheduler.h"

#include "daemon/daemon.h"

#include <string.h>

/* Whether a job runs on a slot of the same GPU. */
static bool is_shared_now(const struct device *devices, size_t n_devices, size_t i)
{
        bool shared = false;

        for (size_t k = 0; k < n_devices; k++)
                shared |= k != i && devices[k].users && device_shares(&devices[i], &devices[k]);
        return shared;
}

size_t scheduler_free(const struct device *devices, size_t n_devices, bool gpu, int64_t now_us, size_t *ret)
{
        size_t n = 0;

        for (int shared = 0; shared <= 1; shared++)
                for (size_t i = 0; i < n_devices; i++)
                        if (devices[i].gpu == gpu && device_is_free(&devices[i], now_us) &&
                            is_shared_now(devices, n_devices, i) == shared)
                                ret[n++] = i;
        return n;
}

static bool alike(const struct device *a, const struct device *b)
{
        return a->gpu == b->gpu && (!a->gpu || !strcmp(a->model, b->model));
}

/* A job on several runs on no GPU twice. */
static bool is_taken(const struct device *devices, uint64_t set, size_t device)
{
        FOR_EACH_DEVICE(i, set)
        {
                if (i == device || device_shares(&devices[i], &devices[device]))
                        return true;
        }
        return false;
}

uint64_t scheduler_pick(const struct device *devices, size_t n_devices, bool gpu, int n, int64_t now_us)
{
        size_t free[DEVICES_MAX], n_free = scheduler_free(devices, n_devices, gpu, now_us, free);

        for (size_t i = 0; i < n_free; i++) {
                uint64_t set = 0;

                for (size_t k = i; k < n_free && __builtin_popcountll(set) < n; k++)
                        if (alike(&devices[free[i]], &devices[free[k]]) && !is_taken(devices, set, free[k]))
                                set |= (uint64_t)1 << free[k];
                if (__builtin_popcountll(set) == n)
                        return set;
        }
        return 0;
}

int64_t scheduler_when(const struct device *devices, size_t n_devices, bool gpu, int n, const int64_t *free_us)
{
        int64_t when_us = INT64_MAX;

        /* at each moment that one becomes free: those like it that are free by then */
        for (size_t i = 0; i < n_devices; i++) {
                uint64_t set = 0;

                for (size_t k = 0; k < n_devices && devices[i].gpu == gpu; k++)
                        if (alike(&devices[i], &devices[k]) && free_us[k] <= free_us[i] && !is_taken(devices, set, k))
                                set |= (uint64_t)1 << k;
                if (__builtin_popcountll(set) >= n)
                        when_us = MIN(when_us, free_us[i]);
        }
        return when_us;
}

int scheduler_most(const struct device *devices, size_t n_devices, bool gpu)
{
        int most = 0;

        for (size_t i = 0; i < n_devices; i++) {
                uint64_t set = 0;

                for (size_t k = 0; k < n_devices && devices[i].gpu == gpu; k++)
                        if (!devices[k].out && alike(&devices[i], &devices[k]) && !is_taken(devices, set, k))
                                set |= (uint64_t)1 << k;
                most = MAX(most, __builtin_popcountll(set));
        }
        return most;
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
