/* What the system says of the processor and of the memory that this process can have.
 *
 * A control group's limit counts, and so does each of its parents': the process stands at the path that
 * /proc/self/cgroup names, in version 2's one tree or in version 1's of the memory controller. In a container the files
 * of its own group often stand at the mount's root while the path is the host's: levels that are not there are passed
 * over, the root is always asked. Page cache is given back under pressure, so it counts as free. */
#include "kernels/host.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define KIB 1024

static FILE *open_below(const char *root, const char *path)
{
        char whole[PATH_MAX];
        int n = snprintf(whole, sizeof whole, "%s/%s", root, path);

        return n < 0 || (size_t)n >= sizeof whole ? NULL : fopen(whole, "re");
}

/* The rest of the first line that begins with key, after what separates it, to ret; false where there is none. */
static bool read_line(const char *root, const char *path, const char *key, char *ret, size_t size)
{
        FILE *f = open_below(root, path);
        char line[512];
        bool found = false;

        while (f && !found && fgets(line, sizeof line, f)) {
                size_t n = strlen(key);

                if (strncmp(line, key, n) != 0 || (n > 0 && !strchr(" \t:", line[n])))
                        continue;
                found = true;
                line[strcspn(line, "\n")] = 0;
                (void)snprintf(ret, size, "%s", line + n + strspn(line + n, " \t:"));
        }
        if (f)
                (void)fclose(f);
        return found;
}

/* A number of a file; where key is "", its first. -1: none, which version 2 calls "max". */
static int64_t read_number(const char *root, const char *path, const char *key)
{
        char text[512];
        int64_t n;

        return read_line(root, path, key, text, sizeof text) && sscanf(text, "%" SCNd64, &n) == 1 ? n : -1;
}

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

/* Is name one of a list's, which has commas between them and is cut up here? */
static bool lists(char *list, const char *name)
{
        for (char *one; (one = strsep(&list, ","));)
                if (strcmp(one, name) == 0)
                        return true;
        return false;
}

/* Where the process stands in the tree: after "0::" in version 2's line, else in that of the memory controller. */
static void group_path(const char *root, bool v2, char *ret, size_t size)
{
        FILE *f = open_below(root, "proc/self/cgroup");
        char line[PATH_MAX];

        ret[0] = 0;
        while (f && fgets(line, sizeof line, f)) {
                char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;

                if (!path)
                        continue;
                *path++ = 0;
                path[strcspn(path, "\n")] = 0;
                if (v2 ? strncmp(line, "0:", 2) == 0 && !controllers[1] : lists(controllers + 1, "memory"))
                        (void)snprintf(ret, size, "%s", path);
        }
        if (f)
                (void)fclose(f);
        /* "/.." stands for what is above the part of the tree that this process sees */
        if (ret[0] != '/' || strstr(ret, "/.."))
                ret[0] = 0;
}

static int64_t file_number(const char *root, const struct cgroup_files *v, const char *group, const char *file,
                           const char *key)
{
        char path[PATH_MAX + 512];

        (void)snprintf(path, sizeof path, "%s%s/%s", v->mount, group, file);
        return read_number(root, path, key);
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
        int64_t total = read_number(root, "proc/meminfo", "MemTotal");
        int64_t available = read_number(root, "proc/meminfo", "MemAvailable");
        char group[PATH_MAX];

        if (total < 0 || available < 0)
                return error_set(err, -EIO, "/proc/meminfo", "expected MemTotal and MemAvailable");
        ret->memory_total = total * KIB;
        ret->memory_free = available * KIB;
        for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
                group_path(root, strcmp(versions[i].limit, "memory.max") == 0, group, sizeof group);
                while (group[0]) {
                        apply_group(root, &versions[i], group, ret);
                        *strrchr(group, '/') = 0;
                }
                apply_group(root, &versions[i], "", ret);
        }
        if (!read_line(root, "proc/cpuinfo", "model name", ret->name, sizeof ret->name))
                (void)snprintf(ret->name, sizeof ret->name, "processor");
        return 0;
}
