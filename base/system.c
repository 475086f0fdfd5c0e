#include "base/system.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

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
