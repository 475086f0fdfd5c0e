/* What the system says of the processor and of the memory that this process can have.
 *
 * A control group's limit counts, and so does each of its parents': the process stands at the path that
 * /proc/self/cgroup names, in version 2's one tree or in version 1's of the memory controller. In a container the files
 * of its own group often stand at the mount's root while the path is the host's: levels that are not there are passed
 * over, the root is always asked. Page cache is given back under pressure, so it counts as free. */
#include "kernels/host.h"

#include "base/system.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define KIB 1024

/* What a version of control groups calls its files. */
struct cgroup_files {
        const char *mount, *limit, *usage, *inactive, *active;
};

static const struct cgroup_files versions[] = {
        {"sys/fs/cgroup", "memory.max", "memory.current", "inactive_file", "active_file"},
        {"sys/fs/cgroup/unified", "memory.max", "memory.current", "inactive_file", "active_file"},
        {"sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file",
         "total_active_file"},
};

static int64_t file_number(const char *root, const struct cgroup_files *v, const char *group, const char *file,
                           const char *key)
{
        char path[PATH_MAX + 512];

        (void)snprintf(path, sizeof path, "%s%s/%s", v->mount, group, file);
        return system_number(root, path, key);
}

/* One level's limit, and what is left of it. */
static void apply_group(const char *root, const struct cgroup_files *v, const char *group, struct device_info *info)
{
        int64_t limit = file_number(root, v, group, v->limit, ""), usage = file_number(root, v, group, v->usage, "");
        int64_t inactive = file_number(root, v, group, "memory.stat", v->inactive);
        int64_t active = file_number(root, v, group, "memory.stat", v->active), used;

        if (limit < 0)
                return;
        used = MAX(usage, (int64_t)0) - MAX(inactive, (int64_t)0) - MAX(active, (int64_t)0);
        info->memory_total = MIN(info->memory_total, limit);
        info->memory_free = MIN(info->memory_free, MAX(limit - MAX(used, (int64_t)0), (int64_t)0));
}

int host_info_read(const char *root, struct device_info *ret, struct error *err)
{
        int64_t total = system_number(root, "proc/meminfo", "MemTotal");
        int64_t available = system_number(root, "proc/meminfo", "MemAvailable");
        char group[PATH_MAX];

        if (total < 0 || available < 0)
                return error_set(err, -EIO, "/proc/meminfo", "expected MemTotal and MemAvailable");
        ret->memory_total = total * KIB;
        ret->memory_free = available * KIB;
        for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
                system_cgroup(root, strcmp(versions[i].limit, "memory.max") == 0, group, sizeof group);
                while (group[0]) {
                        apply_group(root, &versions[i], group, ret);
                        *strrchr(group, '/') = 0;
                }
                apply_group(root, &versions[i], "", ret);
        }
        if (!system_line(root, "proc/cpuinfo", "model name", ret->name, sizeof ret->name))
                (void)snprintf(ret->name, sizeof ret->name, "processor");
        return 0;
}

#define SENSORS 64 /* of a machine, at most */

double host_celsius(const char *root)
{
        /* drivers of processors; the first input of each is the whole chip's */
        static const char *const drivers[] = {"coretemp", "k10temp", "zenpower"};
        char path[64], name[32];

        for (int i = 0; i < SENSORS; i++) {
                (void)snprintf(path, sizeof path, "sys/class/hwmon/hwmon%d/name", i);
                if (!system_line(root, path, "", name, sizeof name))
                        continue;
                for (size_t k = 0; k < ARRAY_LEN(drivers); k++) {
                        int64_t millidegrees;

                        if (strcmp(name, drivers[k]) != 0)
                                continue;
                        (void)snprintf(path, sizeof path, "sys/class/hwmon/hwmon%d/temp1_input", i);
                        millidegrees = system_number(root, path, "");
                        if (millidegrees >= 0)
                                return (double)millidegrees / 1e3;
                }
        }
        return NAN;
}
