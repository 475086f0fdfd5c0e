/* What streams promise: recordings equal running, what may not be recorded is told, teams of any size (and fewer
 * threads than were asked for), what device_info reads from a tree of files. */
#include "check.h"

#include "base/file.h"
#include "kernels/host.h"

#include <errno.h>
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

static int n_bad;

static void expect(bool ok, const char *table, const char *what)
{
        if (!ok)
                printf("FAIL %s: %s\n", table, what);
        n_bad += !ok;
}

/* ---- a small step: convolution, norm with dropout, product, attention, backward, optimizer */

enum { N = 2, SIDE = 8, C = 64, VALUES = N * SIDE * SIDE * C, WEIGHTS = 9 * C * C };

struct small {
        const struct kernels *k;
        struct device *d;
        struct stream *s;
        struct conv *conv;
        struct norm *norm;
        struct attention *attention;
        float *x, *w, *m, *v, *ema, *dw, *h, *y, *dy, *dx, *stats, *small; /* small: scale, bias, their gradients */
        void *workspace, *saved;
        struct step_state *state;
        struct row *rows;
};

static void *memory(struct small *p, size_t bytes)
{
        void *x = p->k->memory_new(p->d, bytes);

        if (!x)
                abort();
        return x;
}

/* What lies in the back end's memory, which the host may be unable to read itself. */
static void fetch(const struct kernels *k, struct stream *s, void *to, const void *from, size_t bytes)
{
        k->copy_out(s, to, from, bytes);
        expect(k->stream_sync(s, NULL) == 0, k->name, "values are fetched");
}

/* The inputs that are not zero. */
static void small_fill(struct small *p)
{
        static float w[WEIGHTS], ones[C];
        const struct step_state state = {.seed = 5};

        for (int i = 0; i < WEIGHTS; i++)
                w[i] = 0.001f * (float)(i * 37 % 101 - 50);
        for (int i = 0; i < C; i++)
                ones[i] = 1;
        p->k->copy_in(p->s, p->state, &state, sizeof state);
        p->k->copy_in(p->s, p->w, w, sizeof w);
        p->k->copy_in(p->s, p->ema, w, sizeof w);
        p->k->copy_in(p->s, p->small, ones, sizeof ones);
        if (p->k->stream_sync(p->s, NULL) < 0)
                abort();
}

static void small_plans(struct small *p)
{
        struct conv_shape conv = {N, SIDE, SIDE, C, C, 3, 3, 1, 1, DTYPE_FLOAT32, DTYPE_FLOAT32};
        struct norm_shape norm = {N, SIDE * SIDE, C, 0, 32, DTYPE_FLOAT32};
        struct attention_shape attention = {N, SIDE * SIDE, C, 1, DTYPE_FLOAT32};
        const struct kernels *k = p->k;

        if (k->conv_new(p->d, &conv, &p->conv, NULL) < 0 || k->norm_new(p->d, &norm, &p->norm, NULL) < 0 ||
            k->attention_new(p->d, &attention, &p->attention, NULL) < 0)
                abort();
        p->workspace = memory(p, MAX(k->conv_workspace(p->conv),
                                     MAX(k->norm_workspace(p->norm), k->attention_workspace(p->attention))));
        p->saved = memory(p, k->attention_saved(p->attention));
}

static void small_open(struct small *p, const struct kernels *k, int threads)
{
        float **weights[] = {&p->w, &p->m, &p->v, &p->ema, &p->dw}, **values[] = {&p->x, &p->h, &p->y, &p->dy, &p->dx};

        *p = (struct small){.k = k};
        if (k->device_open(&(struct device_settings){.threads = threads}, &p->d, NULL) < 0 ||
            k->stream_new(p->d, &p->s, NULL) < 0)
                abort();
        small_plans(p);
        for (size_t i = 0; i < ARRAY_LEN(weights); i++)
                *weights[i] = memory(p, WEIGHTS * sizeof(float));
        for (size_t i = 0; i < ARRAY_LEN(values); i++)
                *values[i] = memory(p, VALUES * sizeof(float));
        p->stats = memory(p, N * 64 * sizeof(float));
        p->small = memory(p, 4 * C * sizeof(float));
        p->state = memory(p, sizeof(struct step_state));
        p->rows = memory(p, N * sizeof(struct row));
        small_fill(p);
}

static void small_close(struct small *p)
{
        void *all[] = {p->x,  p->w,  p->m,     p->v,     p->ema,       p->dw,    p->h,     p->y,
                       p->dy, p->dx, p->stats, p->small, p->workspace, p->saved, p->state, p->rows};

        for (size_t i = 0; i < ARRAY_LEN(all); i++)
                p->k->memory_free(p->d, all[i]);
        (void)p->k->conv_free(p->conv);
        (void)p->k->norm_free(p->norm);
        (void)p->k->attention_free(p->attention);
        (void)p->k->stream_free(p->s);
        (void)p->k->device_close(p->d);
}

static void small_step(struct small *p)
{
        const struct kernels *k = p->k;
        struct stream *s = p->s;
        struct dropout drop = {.rate = 0.1f, .block = 1, .state = p->state, .rows = p->rows};

        k->step_begin(s, &(struct step_begin_args){1e-3, 0.9, 0.99, 2, 100, false, p->state});
        k->training_rows(s, &(struct training_rows_args){p->state, N, 50, p->rows});
        k->random_normal(s, &(struct random_normal_args){p->state, p->rows, STREAM_EPS, N, SIDE * SIDE * C, p->x});
        k->conv_forward(s, &(struct conv_forward_args){p->conv, p->x, p->w, NULL, NULL, p->h, p->workspace});
        k->norm_forward(s, &(struct norm_forward_args){p->norm, p->h, NULL, NULL, p->small, p->small + C, true, drop,
                                                       p->y, p->stats, p->workspace});
        k->attention_forward(
                s, &(struct attention_forward_args){p->attention, p->y, p->y, p->y, p->dy, p->saved, p->workspace});
        k->norm_backward(s, &(struct norm_backward_args){.norm = p->norm,
                                                         .dy = p->dy,
                                                         .a = p->h,
                                                         .scale = p->small,
                                                         .bias = p->small + C,
                                                         .stats = p->stats,
                                                         .swish = true,
                                                         .dropout = drop,
                                                         .da = p->dx,
                                                         .dscale = p->small + 2 * C,
                                                         .dbias = p->small + 3 * C,
                                                         .workspace = p->workspace});
        k->conv_backward_weights(
                s, &(struct conv_backward_weights_args){
                           .conv = p->conv, .x = p->x, .dy = p->dx, .dw = p->dw, .workspace = p->workspace});
        k->squared_norm(s, &(struct squared_norm_args){.n = WEIGHTS, .x = p->dw, .ret = &p->state->squared_norm});
        k->step_check(s, &(struct step_check_args){1, p->state});
        k->adamw(s, &(struct adamw_args){.n = WEIGHTS,
                                         .w = p->w,
                                         .m = p->m,
                                         .v = p->v,
                                         .ema = p->ema,
                                         .g = p->dw,
                                         .b1 = 0.9,
                                         .b2 = 0.99,
                                         .ema_rate = 0.99,
                                         .eps = 1e-8f,
                                         .state = p->state});
        k->step_end(s, &(struct step_end_args){p->state});
}

struct left {
        struct step_state state;
        float w[WEIGHTS], ema[WEIGHTS], x[VALUES], y[VALUES];
};

static void fetch_left(const struct small *p, struct left *ret)
{
        fetch(p->k, p->s, &ret->state, p->state, sizeof ret->state);
        fetch(p->k, p->s, ret->w, p->w, sizeof ret->w);
        fetch(p->k, p->s, ret->ema, p->ema, sizeof ret->ema);
        fetch(p->k, p->s, ret->x, p->x, sizeof ret->x);
        fetch(p->k, p->s, ret->y, p->y, sizeof ret->y);
}

/* Three steps run, and three launches of one recording of it. */
static void replay_equals_running(const struct kernels *k)
{
        static struct left of_run, of_recorded;
        struct small run, recorded;
        struct graph *g = NULL;

        small_open(&run, k, 2);
        small_open(&recorded, k, 2);
        expect(k->graph_begin(recorded.s, NULL) == 0, k->name, "a recording begins");
        small_step(&recorded);
        expect(k->graph_end(recorded.s, &g, NULL) == 0 && g, k->name, "a recording ends");
        fetch_left(&recorded, &of_recorded);
        expect(of_recorded.state.step == 0 && of_recorded.x[0] == 0, k->name, "what is recorded does not run");
        for (int i = 0; i < 3; i++) {
                small_step(&run);
                k->graph_launch(recorded.s, g);
        }
        expect(k->stream_sync(run.s, NULL) == 0 && k->stream_sync(recorded.s, NULL) == 0, k->name, "steps run");
        fetch_left(&run, &of_run);
        fetch_left(&recorded, &of_recorded);
        expect(of_run.state.step == 3 && of_run.w[5] != 0.001f * (5 * 37 % 101 - 50), k->name,
               "steps change the weights");
        expect(memcmp(&of_run, &of_recorded, sizeof of_run) == 0, k->name, "replaying equals running, bit for bit");
        (void)k->graph_free(g);
        small_close(&run);
        small_close(&recorded);
}

enum refused { COPY_IN, COPY_OUT, SYNC, WAIT, LAUNCH, EVENT, CONV, DENSE, NORM, ATTENTION, N_REFUSED };

static void do_refused(const struct kernels *k, struct device *d, struct stream *s, struct event *e,
                       const struct graph *g, enum refused what)
{
        struct conv *conv;
        struct dense *dense;
        struct norm *norm;
        struct attention *attention;
        struct event *event;
        char a = 1, b = 2;
        int r = -EINVAL;

        if (what == COPY_IN)
                k->copy_in(s, &a, &b, 1);
        else if (what == COPY_OUT)
                k->copy_out(s, &a, &b, 1);
        else if (what == SYNC)
                (void)k->stream_sync(s, NULL);
        else if (what == WAIT)
                k->stream_wait(s, e);
        else if (what == LAUNCH)
                k->graph_launch(s, g);
        else if (what == EVENT)
                r = k->event_new(d, &event, NULL);
        else if (what == CONV)
                r = k->conv_new(d, &(struct conv_shape){1, 4, 4, 32, 32, 3, 3, 1, 1}, &conv, NULL);
        else if (what == DENSE)
                r = k->dense_new(d, &(struct dense_shape){4, 4, 4}, &dense, NULL);
        else if (what == NORM)
                r = k->norm_new(d, &(struct norm_shape){1, 4, 32, 0, 32}, &norm, NULL);
        else
                r = k->attention_new(d, &(struct attention_shape){1, 4, 32, 1}, &attention, NULL);
        expect(r == -EINVAL && a == 1, k->name, "what may not be recorded is not done");
}

/* What it is given is recorded in its place, behind what it waits for and before what waits for it; and it runs by
 * itself again afterwards. */
static void another_stream_joins_a_recording(const struct kernels *k, struct device *d, struct stream *s,
                                             struct stream *other, struct event *e, float *y)
{
        struct graph *g = NULL;
        float seen, *z = k->memory_new(d, sizeof *z);

        for (int waits = 0; waits < 2; waits++) {
                struct error err = {0};

                expect(k->graph_begin(s, NULL) == 0, k->name, "a recording begins");
                k->fill(s, &(struct fill_args){.n = 1, .value = 5, .y = y});
                k->event_record(s, e);
                k->stream_wait(other, e);
                k->fill(other, &(struct fill_args){.n = 1, .value = 6, .y = z});
                if (waits) {
                        k->event_record(other, e);
                        k->stream_wait(s, e);
                        k->add(s, &(struct add_args){.n = 1, .x = z, .y = y});
                }
                if (waits)
                        expect(k->graph_end(s, &g, &err) == 0, k->name, "two streams are recorded");
                else
                        expect(k->graph_end(s, &g, &err) == -EINVAL && !g, k->name, "what joins is waited for");
        }
        k->fill(other, &(struct fill_args){.n = 1, .value = 7, .y = y});
        fetch(k, other, &seen, y, sizeof seen);
        expect(seen == 7, k->name, "nothing of a recording has run, and the other stream runs by itself again");
        k->graph_launch(s, g);
        fetch(k, s, &seen, y, sizeof seen);
        expect(seen == 11, k->name, "both streams' operations run in their order");
        (void)k->graph_free(g);
        k->memory_free(d, z);
}

static void only_operations_are_recorded(const struct kernels *k)
{
        struct device *d;
        struct stream *s, *other;
        struct event *e;
        struct graph *empty = NULL, *g = NULL;
        float *y, seen = 1;

        if (k->device_open(&(struct device_settings){.threads = 2}, &d, NULL) < 0 || k->stream_new(d, &s, NULL) < 0 ||
            k->stream_new(d, &other, NULL) < 0 || k->event_new(d, &e, NULL) < 0 || !(y = k->memory_new(d, sizeof *y)))
                abort();
        expect(k->graph_end(s, &g, NULL) == -EINVAL && !g, k->name, "no recording, no end of it");
        expect(k->graph_begin(s, NULL) == 0 && k->graph_end(s, &empty, NULL) == 0, k->name, "nothing is recorded");
        for (int what = 0; what < N_REFUSED; what++) {
                struct error err = {0};

                expect(k->graph_begin(s, NULL) == 0, k->name, "a recording begins again");
                expect(k->graph_begin(s, NULL) == -EINVAL && k->graph_begin(other, NULL) == -EINVAL, k->name,
                       "one recording at a time");
                k->fill(s, &(struct fill_args){.n = 1, .value = 3, .y = y});
                do_refused(k, d, s, e, empty, (enum refused)what);
                expect(k->graph_end(s, &g, &err) == -EINVAL && !g && err.path[0] && err.text[0], k->name,
                       "and the recording's end tells");
                expect(k->stream_sync(s, NULL) == 0, k->name, "the stream is as it was");
                fetch(k, s, &seen, y, sizeof seen);
                expect(seen == 0, k->name, "and nothing of it ran");
        }
        another_stream_joins_a_recording(k, d, s, other, e, y);
        k->event_record(s, e);
        k->stream_wait(other, e);
        k->fill(s, &(struct fill_args){.n = 1, .value = 3, .y = y});
        fetch(k, s, &seen, y, sizeof seen);
        expect(seen == 3, k->name, "a stream runs again after a failed recording");
        expect(k->graph_begin(s, NULL) == 0 && !k->stream_free(s) && k->graph_begin(other, NULL) == 0, k->name,
               "a stream that goes takes its recording along");
        expect(!k->graph_free(NULL) && !k->graph_free(empty) && !k->event_free(e) && !k->event_free(NULL) &&
                       !k->stream_free(other),
               k->name, "freeing");
        k->memory_free(d, y);
        (void)k->device_close(d);
}

static void plan_only_runs_nothing(const struct kernels *k)
{
        struct conv_shape shape = {1, 4, 4, 32, 32, 3, 3, 1, 1};
        struct device *d;
        struct stream *s;
        struct conv *conv;
        float y = 1;

        if (k->device_open(&(struct device_settings){.threads = 2, .plan_only = true}, &d, NULL) < 0 ||
            k->stream_new(d, &s, NULL) < 0)
                abort();
        expect(k->conv_new(d, &shape, &conv, NULL) == 0, k->name, "a device that plans makes plans");
        (void)k->conv_workspace(conv);
        k->fill(s, &(struct fill_args){.n = 1, .value = 3, .y = &y});
        k->copy_in(s, &y, &(float){4}, sizeof(y));
        expect(k->stream_sync(s, NULL) == 0 && y == 1, k->name, "and runs nothing");
        (void)k->conv_free(conv);
        (void)k->stream_free(s);
        (void)k->device_close(d);
}

/* ---- threads */

/* A step with each team; norm and random numbers are the same whatever it is, and all of it on the reference. */
static void teams_agree(const struct kernels *k)
{
        static const int teams[] = {1, 2, 3, 5};
        struct small first, p;

        small_open(&first, k, teams[0]);
        small_step(&first);
        for (size_t i = 1; i < ARRAY_LEN(teams); i++) {
                double worst = 0;

                small_open(&p, k, teams[i]);
                small_step(&p);
                expect(k->stream_sync(p.s, NULL) == 0, k->name, "a step runs with any team");
                expect(memcmp(first.x, p.x, VALUES * sizeof(float)) == 0, k->name, "random numbers of any team");
                memcpy(p.h, first.h, VALUES * sizeof(float)); /* oneDNN promises less */
                p.k->norm_forward(
                        p.s,
                        &(struct norm_forward_args){
                                p.norm, p.h, NULL, NULL, p.small, p.small + C, true, {0}, p.dx, p.stats, p.workspace});
                first.k->norm_forward(first.s, &(struct norm_forward_args){first.norm,
                                                                           first.h,
                                                                           NULL,
                                                                           NULL,
                                                                           first.small,
                                                                           first.small + C,
                                                                           true,
                                                                           {0},
                                                                           first.dx,
                                                                           first.stats,
                                                                           first.workspace});
                expect(memcmp(first.dx, p.dx, VALUES * sizeof(float)) == 0, k->name, "a norm of any team");
                for (int j = 0; j < WEIGHTS; j++)
                        worst = fmax(worst, fabs((double)first.dw[j] - (double)p.dw[j]));
                expect(worst <= 1e-3, k->name, "gradients of any team");
                small_close(&p);
        }
        small_close(&first);
}

static int fails(const void *args)
{
        (void)args;
        return -EIO;
}

static int counts(const void *args)
{
        ++**(int *const *)args;
        return 0;
}

/* Run at once and in a recording. The failure stays the first one, and nothing is computed from what it left. */
static void what_comes_after_a_failure_does_not_run(const struct kernels *k)
{
        for (int recorded = 0; recorded < 2; recorded++) {
                struct graph *graph = NULL;
                struct error err = {0};
                struct device *d;
                struct stream *s;
                int n = 0, *place = &n;

                if (k->device_open(&(struct device_settings){.threads = 1}, &d, NULL) < 0 ||
                    k->stream_new(d, &s, NULL) < 0 || (recorded && k->graph_begin(s, NULL) < 0))
                        abort();
                host_run(s, "first", counts, &place, sizeof place);
                host_run(s, "second", fails, &place, sizeof place);
                host_run(s, "third", counts, &place, sizeof place);
                if (recorded) {
                        if (k->graph_end(s, &graph, NULL) < 0)
                                abort();
                        k->graph_launch(s, graph);
                }
                expect(n == 1, k->name, "what comes after a failure does not run");
                expect(k->stream_sync(s, &err) == -EIO && strcmp(err.path, "second") == 0, k->name,
                       "the failure is told with its operation");
                (void)k->graph_free(graph);
                (void)k->stream_free(s);
                (void)k->device_close(d);
        }
}

/* With OMP_THREAD_LIMIT=1 and two threads asked for: oneDNN waited for the second for ever. The limit is read when a
 * program starts, so a step runs in another one: this program, called `limited`. */
static void fewer_threads_than_asked(const char *table)
{
        int status = -1;
        pid_t pid = fork();

        if (pid == 0) {
                (void)setenv("OMP_THREAD_LIMIT", "1", 1);
                (void)alarm(60);
                (void)execl("/proc/self/exe", "kernels-check", "limited", table, (char *)NULL);
                _exit(EXIT_FAILURE);
        }
        expect(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0, table,
               "a step ends where one of two threads came");
}

int limited_main(const struct kernels *k)
{
        struct device_info info;
        struct small p;

        small_open(&p, k, 2);
        small_step(&p);
        expect(k->stream_sync(p.s, NULL) == 0 && k->device_info(p.d, &info, NULL) == 0 && info.threads == 1, k->name,
               "the team is what came");
        small_close(&p);
        return n_bad ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- device_info */

struct fake_file {
        const char *path, *text;
};

static void fake(const char *root, const struct fake_file *files, size_t n)
{
        char path[512];

        for (size_t i = 0; i < n; i++) {
                FILE *f;

                (void)snprintf(path, sizeof(path), "%s/%s", root, files[i].path);
                *strrchr(path, '/') = 0;
                if (file_make_folder(path, NULL) < 0)
                        abort();
                (void)snprintf(path, sizeof(path), "%s/%s", root, files[i].path);
                f = fopen(path, "we");
                if (!f || fputs(files[i].text, f) < 0 || fclose(f) != 0)
                        abort();
        }
}

#define MEMINFO                                                                                                        \
        {                                                                                                              \
                "proc/meminfo", "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    600 kB\n"                   \
        }

static const struct fake_file machine[] = {MEMINFO, {"proc/cpuinfo", "processor : 0\nmodel name\t: A Fine Chip\n"}};
/* version 2: the parent's limit is the smaller one, the child's has less left */
static const struct fake_file v2[] = {
        MEMINFO,
        {"proc/self/cgroup", "0::/parent/child\n"},
        {"sys/fs/cgroup/parent/memory.max", "512000\n"},
        {"sys/fs/cgroup/parent/memory.current", "100000\n"},
        {"sys/fs/cgroup/parent/child/memory.max", "600000\n"},
        {"sys/fs/cgroup/parent/child/memory.current", "550000\n"},
        {"sys/fs/cgroup/parent/child/memory.stat", "anon 1\ninactive_file 90000\nactive_file 10000\n"},
};
static const struct fake_file unlimited[] = {MEMINFO,
                                             {"proc/self/cgroup", "0::/a\n"},
                                             {"sys/fs/cgroup/a/memory.max", "max\n"},
                                             {"sys/fs/cgroup/a/memory.current", "5\n"}};
static const struct fake_file v1[] = {
        MEMINFO,
        {"proc/self/cgroup", "9:name=systemd:/x\n4:cpu,memory:/job\n0::/\n"},
        {"sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"},
        {"sys/fs/cgroup/memory/memory.usage_in_bytes", "999999999\n"},
        {"sys/fs/cgroup/memory/job/memory.limit_in_bytes", "300000\n"},
        {"sys/fs/cgroup/memory/job/memory.usage_in_bytes", "280000\n"},
        {"sys/fs/cgroup/memory/job/memory.stat", "inactive_file 1\ntotal_inactive_file 30000\ntotal_active_file 0\n"},
};
/* in a container: the host's path, of which only the mount's root is there; more in use than allowed */
static const struct fake_file container[] = {
        MEMINFO,
        {"proc/self/cgroup", "0::/docker/0123\n"},
        {"sys/fs/cgroup/memory.max", "200000\n"},
        {"sys/fs/cgroup/memory.current", "200001\n"},
};
static const struct fake_file outside[] = {MEMINFO, {"proc/self/cgroup", "0::/../..\n"}};

static void expect_info(const struct fake_file *files, size_t n, const char *name, int64_t total, int64_t free,
                        const char *what)
{
        char root[] = "/tmp/kernels-info-XXXXXX";
        struct device_info info = {0};
        struct error err = {0};

        if (!mkdtemp(root))
                abort();
        fake(root, files, n);
        expect(host_info_read(root, &info, &err) == 0, "device_info", "it reads");
        if (info.memory_total != total || info.memory_free != free || strcmp(info.name, name) != 0)
                printf("%s, %lld bytes, %lld free\n", info.name, (long long)info.memory_total,
                       (long long)info.memory_free);
        expect(info.memory_total == total && info.memory_free == free && strcmp(info.name, name) == 0, "device_info",
               what);
        (void)file_remove_tree(root, NULL);
}

#define EXPECT_INFO(files, ...) expect_info(files, ARRAY_LEN(files), __VA_ARGS__)

static void info_from_files(void)
{
        struct device_info info;
        struct error err = {0};

        EXPECT_INFO(machine, "A Fine Chip", 1024000, 614400, "a machine without groups");
        EXPECT_INFO(v2, "processor", 512000, 150000, "version 2: every level counts, page cache is free");
        EXPECT_INFO(unlimited, "processor", 1024000, 614400, "a group without a limit");
        EXPECT_INFO(v1, "processor", 300000, 50000, "version 1");
        EXPECT_INFO(container, "processor", 200000, 0, "a container's own root");
        EXPECT_INFO(outside, "processor", 1024000, 614400, "a path outside of what is seen");
        expect(host_info_read("/nowhere", &info, &err) == -EIO && err.text[0], "device_info", "no files are -EIO");
}

static void temperature_from_files(void)
{
        static const struct fake_file sensors[] = {{"sys/class/hwmon/hwmon0/name", "nvme\n"},
                                                   {"sys/class/hwmon/hwmon0/temp1_input", "90000\n"},
                                                   {"sys/class/hwmon/hwmon2/name", "k10temp\n"},
                                                   {"sys/class/hwmon/hwmon2/temp1_input", "48625\n"}};
        char root[] = "/tmp/kernels-info-XXXXXX";

        if (!mkdtemp(root))
                abort();
        expect(isnan(host_celsius(root)), "device_use", "without a sensor there is no temperature");
        fake(root, sensors, ARRAY_LEN(sensors));
        expect(host_celsius(root) == 48.625, "device_use", "the temperature is the processor's");
        (void)file_remove_tree(root, NULL);
}

/* A team that works all the time is busy, one that sleeps is not; each question is about the time since the last. */
static void use_of_this_machine(const struct kernels *k)
{
        struct device_use use;
        struct device *d;
        volatile double sum = 0;

        if (k->device_open(&(struct device_settings){.threads = 1}, &d, NULL) < 0)
                abort();
        do {
                for (int i = 0; i < 1000000; i++)
                        sum += i;
                if (k->device_use(d, &use, NULL) < 0)
                        abort();
        } while (!(use.busy > 0));
        expect(use.busy <= 1 && use.memory_bytes > 0, "device_use", "work is seen, and never more than all of it");
        (void)usleep(100000);
        expect(k->device_use(d, &use, NULL) == 0 && use.busy < 0.5, "device_use", "so is rest");
        expect(isnan(use.watts), "device_use", "what nobody tells is not known");
        (void)k->device_close(d);
}

static void info_of_this_machine(const struct kernels *k)
{
        struct device_info info;
        struct device *d;

        if (k->device_open(&(struct device_settings){.threads = 3}, &d, NULL) < 0)
                abort();
        expect(k->device_info(d, &info, NULL) == 0 && info.name[0] && info.memory_total > 0 && info.memory_free >= 0 &&
                       info.memory_free <= info.memory_total && info.threads >= 1 && info.threads <= 3 &&
                       !info.compute_major,
               k->name, "device_info tells of this machine");
        (void)k->device_close(d);
}

int stream_main(const struct kernels *tested, const char *name)
{
        const struct kernels *k[2] = {tested};

        if (kernels_find("reference", &k[1], NULL) < 0)
                return EXIT_FAILURE;
        for (int i = 0; i < 2; i++) {
                replay_equals_running(k[i]);
                only_operations_are_recorded(k[i]);
                plan_only_runs_nothing(k[i]);
                if (!on_processor(k[i]))
                        continue;
                teams_agree(k[i]);
                what_comes_after_a_failure_does_not_run(k[i]);
                info_of_this_machine(k[i]);
                use_of_this_machine(k[i]);
        }
        if (on_processor(tested))
                fewer_threads_than_asked(name);
        info_from_files();
        temperature_from_files();
        printf("stream: %d failed\n", n_bad);
        return n_bad ? EXIT_FAILURE : EXIT_SUCCESS;
}
