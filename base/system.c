#include "base/system.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/syscall.h>

static FILE *open_below(const char *root, const char *path)
{
        char whole[PATH_MAX];
        int n = snprintf(whole, sizeof whole, "%s/%s", root, path);

        return n < 0 || (size_t)n >= sizeof whole ? NULL : fopen(whole, "re");
}

bool system_line(const char *root, const char *path, const char *key, char *ret, size_t size)
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

int64_t system_number(const char *root, const char *path, const char *key)
{
        char text[512];
        int64_t n;

        return system_line(root, path, key, text, sizeof text) && sscanf(text, "%" SCNd64, &n) == 1 ? n : -1;
}

/* Is name one of a list's, which has commas between them and is cut up here? */
static bool lists(char *list, const char *name)
{
        for (char *one; (one = strsep(&list, ","));)
                if (strcmp(one, name) == 0)
                        return true;
        return false;
}

void system_cgroup(const char *root, bool v2, char *ret, size_t size)
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

bool system_cores(const char *s, cpu_set_t *ret)
{
        cpu_set_t set;

        CPU_ZERO(&set);
        do {
                char *end;
                unsigned long first, last;

                if (*s < '0' || *s > '9')
                        return false;
                first = last = strtoul(s, &end, 10);
                if (*end == '-' && end[1] >= '0' && end[1] <= '9')
                        last = strtoul(end + 1, &end, 10);
                if (last < first || last >= CPU_SETSIZE || (*end && *end != ','))
                        return false;
                for (unsigned long i = first; i <= last; i++)
                        CPU_SET(i, &set);
                s = end + 1;
                if (!*end)
                        break;
        } while (true);
        *ret = set;
        return true;
}

void system_cores_text(const cpu_set_t *cores, char *ret, size_t size)
{
        size_t n = 0;

        ret[0] = 0;
        for (size_t i = 0; i < CPU_SETSIZE && n + 16 < size; i++) {
                size_t last = i;

                if (!CPU_ISSET(i, cores))
                        continue;
                while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, cores))
                        last++;
                n += (size_t)snprintf(ret + n, size - n, last > i ? "%s%zu-%zu" : "%s%zu", n ? "," : "", i, last);
                i = last;
        }
}

int system_landlock(void)
{
        long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

        return abi > 0 ? (int)abi : 0;
}
