/* doctor: the daemon's own program says what it would meet; it knows its libraries and settings. */
#include "ctl/command.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define SETTINGS "/etc/mulund/mulund.conf"

/* As it was installed with this program, or in a build tree; else it is looked for on PATH. */
static void find_mulund(char *ret, size_t size)
{
        static const char *const places[] = {MULUND_FROM_HERE, "../daemon/mulund"};
        char own[PATH_MAX];
        ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
        const char *folder;

        own[MAX(n, 0)] = 0;
        folder = dirname(own);
        for (size_t i = 0; i < ARRAY_LEN(places); i++)
                if (snprintf(ret, size, "%s/%s", folder, places[i]) < (int)size && access(ret, X_OK) == 0)
                        return;
        (void)snprintf(ret, size, "mulund");
}

int command_doctor(struct call *c)
{
        char mulund[2 * PATH_MAX];
        char *argv[] = {mulund, (char[]){"--doctor"}, (char[]){"--config"}, c->n_args ? c->args[0] : (char[]){SETTINGS},
                        NULL};

        if (!c->n_args && access(SETTINGS, F_OK) < 0)
                argv[2] = NULL;
        find_mulund(mulund, sizeof mulund);
        (void)execvp(mulund, argv);
        return fail("%s: cannot be run: %s", mulund, strerror(errno));
}
