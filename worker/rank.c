#include "worker/rank.h"

#include "base/file.h"
#include "base/system.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define ASSIGNMENT_MAX ((size_t)4 << 20)

static int open_shared(const char *launcher, enum rank_fd fd, int flags, struct error *err)
{
        char path[64];
        int r;

        (void)snprintf(path, sizeof path, "/proc/%s/fd/%d", launcher, fd);
        r = open(path, flags | O_CLOEXEC);
        return r < 0 ? error_set(err, -errno, path, "cannot be opened: %s", strerror(errno)) : r;
}

static int read_assignment(const char *launcher, struct assignment *ret, struct error *err)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(ASSIGNMENT_MAX);
        _cleanup_json_ json_t *json = NULL;
        char path[64];
        int r;

        (void)snprintf(path, sizeof path, "/proc/%s/fd/%d", launcher, RANK_FD_ASSIGNMENT);
        r = file_read(path, &b, err);
        if (r >= 0)
                r = json_parse(b.data, b.size, &json, err);
        return r < 0 ? r : assignment_from_json(json, ret, err);
}

static void say(const struct rank *x, struct rank_word *w)
{
        w->rank = x->rank;
        w->pid = getpid();
        (void)!write(x->words, w, sizeof *w); /* a launcher that is gone takes this process with it */
}

int rank_begin(const char *launcher, const char *number, struct rank *ret, struct assignment *ret_a, struct error *err)
{
        struct rank x = {.rank = atoi(number), .words = -1, .meet = -1};
        struct assignment a;
        int r;

        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        /* opened after that: had the process that started this one been gone before, the launcher would end this one
         * when it sees nothing of it, or be gone, too */
        x.words = open_shared(launcher, RANK_FD_WORDS, O_WRONLY, err);
        if (x.words < 0)
                return x.words;
        r = read_assignment(launcher, &a, err);
        if (r < 0)
                return r;
        x.size = (int)a.n_devices;
        x.meet = open_shared(launcher, RANK_FD_MEET, x.rank ? O_RDONLY : O_WRONLY, err);
        if (x.meet < 0 || x.rank < 0 || x.rank >= x.size) {
                assignment_done(&a);
                return x.meet < 0 ? x.meet : error_set(err, -EINVAL, "--rank", "there are %d devices", x.size);
        }
        say(&x, &(struct rank_word){.said = RANK_BEGAN});
        *ret = x;
        *ret_a = a;
        return 0;
}

int rank_take_place(const struct rank *x, const struct assignment *a, bool cuda, struct error *err)
{
        const struct assignment_device *d = &a->devices[x->rank];
        cpu_set_t cores;

        if (cuda)
                return setenv("CUDA_VISIBLE_DEVICES", d->place, 1) < 0 ? error_set(err, -ENOMEM, NULL, "out of memory")
                                                                       : 0;
        if (!system_cores(d->place, &cores))
                return error_set(err, -EINVAL, "/devices", "expected cores as \"0-3,8\", not %s", d->place);
        if (sched_setaffinity(0, sizeof cores, &cores) < 0)
                return error_set(err, -ENODEV, "/devices", "the cores %s cannot be used: %s", d->place,
                                 strerror(errno));
        return 0;
}

void rank_end(const struct rank *x)
{
        say(x, &(struct rank_word){.said = RANK_ENDED});
}

void rank_fail(const struct rank *x, enum error_class error_class, const char *detail, int64_t step, bool told)
{
        struct rank_word w = {.said = RANK_FAILED, .error_class = error_class, .step = step, .told = told};

        (void)snprintf(w.detail, sizeof w.detail, "%s", detail);
        say(x, &w);
        while (x->rank > 0) /* mpirun would end the first rank, before it has said a reason of its own */
                (void)pause();
        _exit(1); /* not by exit: MPI's end waits for the others, who wait for this one */
}
