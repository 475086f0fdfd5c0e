#include "tests/ranks/group.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static bool cuda;
static char folder[] = "/tmp/mulun-ranks.XXXXXX", module[sizeof folder + 32]; /* where "cuda" is the emulated device */

static int from_environment(const char *name)
{
        const char *s = getenv(name);

        return s ? atoi(s) : 0;
}

/* Ends with the worst exit code of the children, once one of them has ended badly or all have ended. */
static void wait_for(const pid_t *children, int n)
{
        int bad = 0;

        for (int left = n, status; left > 0 && !bad; left--) {
                (void)wait(&status);
                bad = !WIFEXITED(status) || WEXITSTATUS(status);
        }
        for (int i = 0; i < n; i++)
                (void)kill(children[i], SIGKILL);
        (void)unlink(module);
        (void)rmdir(folder);
        exit(bad);
}

/* Returns in each of n children, with the end of a pipe to meet at. */
static struct group fork_ranks(int n)
{
        pid_t children[64];
        int meet[2];

        if (pipe(meet) < 0)
                exit(1);
        for (int i = 0; i < n; i++) {
                children[i] = fork();
                if (children[i] == 0) {
                        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                        (void)close(meet[i == 0 ? 0 : 1]);
                        return (struct group){i, n, meet[i == 0 ? 1 : 0]};
                }
        }
        (void)close(meet[0]);
        (void)close(meet[1]);
        wait_for(children, n);
        return (struct group){0};
}

static void name_emulated(void)
{
        const char *emulated = getenv("TEST_EMULATED");

        if (!emulated || !mkdtemp(folder))
                exit(77);
        (void)snprintf(module, sizeof module, "%s/libmulun-cuda.so", folder);
        if (symlink(emulated, module) < 0 || setenv("MULUN_MODULES", folder, 1) < 0)
                exit(1);
}

struct group group_of(const char *backend)
{
        cuda = !strncmp(backend, "cuda=", 5);
        if (cuda)
                name_emulated();
        if (cuda)
                return fork_ranks(atoi(backend + 5));
        return (struct group){from_environment("OMPI_COMM_WORLD_RANK"), from_environment("OMPI_COMM_WORLD_SIZE"), -1};
}

const char *group_backend(void)
{
        return cuda ? "cuda" : "cpu";
}

bool group_slow(void)
{
        return cuda;
}

void group_configure(struct config *c)
{
        c->backend = cuda ? BACKEND_CUDA : BACKEND_CPU;
}
