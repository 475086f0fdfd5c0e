#include "daemon/memory.h"

#include "base/system.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum tree { TREE_V2, TREE_V2_UNIFIED, TREE_V1, TREE_N };

static const struct {
        bool v2;
        const char *mount;
        const char *kills_file, *limit_file;
} trees[TREE_N] = {
        [TREE_V2] = {true, "sys/fs/cgroup", "memory.events", "memory.max"},
        [TREE_V2_UNIFIED] = {true, "sys/fs/cgroup/unified", "memory.events", "memory.max"},
        [TREE_V1] = {false, "sys/fs/cgroup/memory", "memory.oom_control", "memory.limit_in_bytes"},
};

/* A number of the process's group; -1: none. A container often shows its own group's files at the mount's root, while
 * the path is the host's: levels that are not there are passed over. lowest: of all levels, else of the nearest. */
static int64_t group_number(const char *root, enum tree t, const char *file, const char *key, bool lowest)
{
        char group[PATH_MAX], path[PATH_MAX + 128];
        int64_t found = -1;

        system_cgroup(root, trees[t].v2, group, sizeof group);
        for (;;) {
                char *slash = strrchr(group, '/');
                int64_t n;

                (void)snprintf(path, sizeof path, "%s%s/%s", trees[t].mount, group, file);
                n = system_number(root, path, key);
                if (n >= 0)
                        found = found < 0 ? n : MIN(found, n);
                if (!slash || (found >= 0 && !lowest))
                        return found;
                *slash = 0;
        }
}

int64_t memory_oom_kills(const char *root)
{
        for (int t = 0; t < TREE_N; t++) {
                int64_t n = group_number(root, (enum tree)t, trees[t].kills_file, "oom_kill", false);

                if (n >= 0)
                        return n;
        }
        return system_number(root, "proc/vmstat", "oom_kill");
}

int64_t memory_total(const char *root)
{
        int64_t kib = system_number(root, "proc/meminfo", "MemTotal"), total = kib < 0 ? INT64_MAX : kib * 1024;

        for (int t = 0; t < TREE_N; t++) {
                int64_t n = group_number(root, (enum tree)t, trees[t].limit_file, "", true);

                if (n >= 0)
                        total = MIN(total, n);
        }
        return total;
}
