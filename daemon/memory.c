#include "daemon/memory.h"

#include "base/system.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* A container often shows its own group's files at the mount's root, while the path is the host's: levels that are not
 * there are passed over. */
static int64_t group_kills(const char *root, bool v2, const char *mount, const char *file)
{
        char group[PATH_MAX], path[PATH_MAX + 128];
        int64_t n;

        system_cgroup(root, v2, group, sizeof group);
        for (;;) {
                char *slash = strrchr(group, '/');

                (void)snprintf(path, sizeof path, "%s%s/%s", mount, group, file);
                n = system_number(root, path, "oom_kill");
                if (n >= 0 || !slash)
                        return n;
                *slash = 0;
        }
}

int64_t memory_oom_kills(const char *root)
{
        static const struct {
                bool v2;
                const char *mount, *file;
        } trees[] = {{true, "sys/fs/cgroup", "memory.events"},
                     {true, "sys/fs/cgroup/unified", "memory.events"},
                     {false, "sys/fs/cgroup/memory", "memory.oom_control"}};

        for (size_t i = 0; i < ARRAY_LEN(trees); i++) {
                int64_t n = group_kills(root, trees[i].v2, trees[i].mount, trees[i].file);

                if (n >= 0)
                        return n;
        }
        return system_number(root, "proc/vmstat", "oom_kill");
}
