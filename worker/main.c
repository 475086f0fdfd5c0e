/* mulun-worker: one attempt at one job. The daemon starts it with an assignment on standard input (contract/event.h);
 * people may ask it to describe a data set, to list devices, to estimate memory, or to time a step. */
#include "base/log.h"
#include "worker/bench.h"
#include "worker/launcher.h"
#include "worker/probe.h"
#include "worker/rank.h"
#include "worker/sandbox.h"
#include "worker/task.h"
#include "worker/watch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define INPUT_MAX ((size_t)4 << 20)
#define DRAIN_MS 5000

static const char usage[] =
        "usage: mulun-worker [--ranks N]     run the assignment on standard input (for mulund), on so many devices\n"
        "       mulun-worker --describe DIR  print what data set a folder or file holds, as JSON\n"
        "       mulun-worker --probe         print the devices that this machine has, as JSON\n"
        "       mulun-worker --estimate KIND [BYTES]\n"
        "                                    print the memory that a configuration on standard input needs, as JSON, "
        "and\n"
        "                                    what would need no more than BYTES\n"
        "                                    (KIND: train, evaluate, sample)\n"
        "       mulun-worker --bench [--embd N] [--layers N] [--encoder-layers N] [--batch N] [--threads N]\n"
        "                            [--cuda 1] [--bf16 1 | --tf32 1] [--recompute 0..2 (1)] [--steps N] [--warmup N]\n"
        "                            [--plans FOLDER] [--paper 1] [--ode 1]\n"
        "                                    time training steps: a table by operation, then a line of JSON; "
        "algorithms as\n"
        "                                    measured, kept in the folder; or, on paper, what a step's operations "
        "move;\n"
        "                                    or what the network with its input gradient takes along the flow\n"
        "       mulun-worker --check cpu|cuda\n"
        "                                    whether a device computes: a few training steps, twice, and the same "
        "bits\n"
        "       mulun-worker --watch MS UUID..\n"
        "                                    tell of GPUs, as JSON: what changes, looked at every MS, and what is "
        "asked\n"
        "       mulun-worker --help | --version\n";

static int print_json(json_t *json)
{
        _cleanup_(freep) char *text = json ? json_to_text(json) : NULL;

        json_decref(json);
        return text && puts(text) >= 0 ? 0 : 1;
}

static int print_error(const struct error *err)
{
        (void)print_json(json_pack("{s:{s:s, s:s}}", "error", "path", err->path, "detail", err->text));
        return 1;
}

static int describe(const char *folder)
{
        const struct assignment what = {.dataset_path = (char *)folder};
        _cleanup_(dataset_freep) struct dataset *d = NULL;
        char digest[DIGEST_SIZE], remark[300];
        double mean[IMAGE_CHANNELS];
        struct error err;

        if (sandbox_enter(&what, false, &err) < 0 || dataset_open(folder, &d, &err) < 0 ||
            dataset_digest(d, digest, &err) < 0)
                return print_error(&err);
        dataset_remark(d, remark, sizeof remark);
        dataset_mean(d, mean);
        return print_json(json_pack("{s:s, s:I, s:I, s:s, s:[f,f,f], s:O*, s:s*}", "format", dataset_format(d), "train",
                                    (json_int_t)dataset_count(d, SPLIT_TRAIN), "test",
                                    (json_int_t)dataset_count(d, SPLIT_TEST), "digest", digest, "mean", mean[0],
                                    mean[1], mean[2], "source", json_object_get(dataset_provenance(d), "format"),
                                    "remark", remark[0] ? remark : NULL));
}

static int probe(void)
{
        json_t *found;
        struct error err;

        return probe_devices(&found, &err) < 0 ? print_error(&err) : print_json(found);
}

static int read_input(json_t **ret, struct error *err)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(INPUT_MAX);
        int r = file_read("/dev/stdin", &b, err);

        return r < 0 ? r : json_parse(b.data, b.size, ret, err);
}

static int read_config(const json_t *json, struct config *ret, struct error *err)
{
        struct errors errs = {0};
        int r = config_from_json(json, ret, &errs);

        if (r < 0)
                *err = errs.items[0];
        return r;
}

/* room: bytes that the device has, or NULL. */
static int estimate(const char *kind_name, const char *room)
{
        _cleanup_json_ json_t *json = NULL;
        struct config config;
        struct error err;
        int kind = 0;
        char advice[256], *end = NULL;
        const unsigned long long most = room ? strtoull(room, &end, 10) : SIZE_MAX;
        size_t bytes;

        while (kind < JOB_IMPORT && strcmp(job_kind_names[kind], kind_name))
                kind++;
        if (kind == JOB_IMPORT /* which needs next to nothing */ || (room && (*end || end == room))) {
                (void)fputs(usage, stderr);
                return 2;
        }
        if (read_input(&json, &err) < 0 || read_config(json, &config, &err) < 0 ||
            task_estimate(&config, (enum job_kind)kind, most, &bytes, advice, sizeof advice, &err) < 0)
                return print_error(&err);
        return print_json(json_pack("{s:I, s:s}", "bytes", (json_int_t)bytes, "advice", advice));
}

static int run_import(struct task *t, struct error *err)
{
        const struct assignment *a = t->assignment;
        int r = a->config ? read_config(a->config, &t->config, err) : 0;

        if (r < 0)
                return r;
        task_sweep(t);
        log_info("attempt %lld at job %lld: import of %s", (long long)a->attempt, (long long)a->job, a->import.path);
        return task_import(t, err);
}

/* The devices of this attempt, whatever the configuration asks for; a rank's own. */
static int take_rank(struct task *t, struct error *err)
{
        t->config.devices = t->rank ? t->rank->size : 1;
        return t->rank ? rank_take_place(t->rank, t->assignment, t->config.backend == BACKEND_CUDA, err) : 0;
}

static int run_model(struct task *t, struct error *err)
{
        const struct assignment *a = t->assignment;
        int r = read_config(a->config, &t->config, err);

        if (r >= 0)
                r = take_rank(t, err);
        if (r >= 0) {
                const char *plans = t->config.plans == PLANS_MEASURED && a->plans && *a->plans ? a->plans : NULL;

                *err = (struct error){0};
                r = runtime_new(&t->config, false, plans, &t->rt, err);
                if (r >= 0 && err->code < 0)
                        log_warning("%s: %s; plans are chosen by the rule", err->path, err->text);
        }
        if (r >= 0 && t->rank)
                r = ranks_join(t->rt, &(struct group){t->rank->rank, t->rank->size, t->rank->meet}, err);
        if (r >= 0 && (a->kind != JOB_SAMPLE || t->config.sampling_latent == SAMPLING_LATENT_IMAGES))
                r = dataset_open(a->dataset_path, &t->dataset, err);
        if (r >= 0 && t->dataset)
                r = dataset_digest(t->dataset, t->data, err);
        if (r < 0)
                return r;
        if (task_leads(t))
                task_sweep(t);
        log_info("attempt %lld at job %lld: %s, %lld parameters, %d threads", (long long)a->attempt, (long long)a->job,
                 job_kind_names[a->kind], (long long)t->rt->layout->n_parameters, t->rt->info.threads);
        return a->kind == JOB_TRAIN      ? task_train(t, err)
               : a->kind == JOB_EVALUATE ? task_evaluate(t, err)
                                         : task_sample(t, err);
}

/* What went wrong, as people read it. */
static void describe_failure(const struct task *t, const struct error *err, int code, char *ret, size_t size)
{
        int n = snprintf(ret, size, "%s%s%s", err->path, err->path[0] ? ": " : "", err->text);

        if (code == -EDOM && t->assignment->kind == JOB_TRAIN)
                (void)snprintf(ret + n, size - (size_t)n,
                               "; a new job can change them and go on from this one's newest checkpoint: POST "
                               "/v1/jobs {\"kind\": \"train\", \"start_from\": {\"job\": %lld}, \"overrides\": "
                               "{\"optimizer.learning_rate\": %g}}",
                               (long long)t->assignment->job, t->config.learning_rate / 4);
}

/* The whole of an attempt, or a rank's part of it: rank NULL, or not. */
static int attempt(const struct assignment *a, const struct rank *rank)
{
        struct task t = {.assignment = a, .rank = rank};
        struct error err = {0}, second;
        bool told = true;
        int r = reporter_new(task_leads(&t) ? a : NULL, rank ? CHANNEL_RANK : CHANNEL_WHOLE, &t.reporter, &err);

        if (r < 0) {
                log_error("%s: %s", err.path, err.text);
                if (rank)
                        rank_fail(rank, reporter_class(r), err.text, 0, false);
                return 1;
        }
        r = a->kind == JOB_IMPORT ? run_import(&t, &err) : run_model(&t, &err);
        if (r < 0) {
                char detail[900];

                describe_failure(&t, &err, r, detail, sizeof detail);
                log_error("%s", detail);
                told = reporter_error(t.reporter, reporter_class(r), detail, t.step, &second) >= 0;
                if (!told)
                        log_error("%s: %s", second.path, second.text);
                if (rank)
                        rank_fail(rank, reporter_class(r), detail, t.step, told && task_leads(&t));
        }
        if (rank)
                rank_end(rank);
        reporter_drain(t.reporter, DRAIN_MS);
        (void)reporter_free(t.reporter);
        (void)dataset_free(t.dataset);
        (void)runtime_free(t.rt);
        return r < 0 ? 1 : 0;
}

/* n: devices, where somebody asked for a number of them; 0. */
static int work(int n)
{
        _cleanup_json_ json_t *json = NULL;
        _cleanup_(assignment_done) struct assignment a = {0};
        struct config c;
        struct error err = {0}, not_now;
        int r = read_input(&json, &err);

        if (r >= 0)
                r = assignment_from_json(json, &a, &err);
        if (r < 0) {
                log_error("no assignment on standard input: %s %s", err.path, err.text);
                return 2;
        }
        /* a configuration that cannot be read is the attempt's to report */
        if (a.kind != JOB_IMPORT && read_config(a.config, &c, &not_now) >= 0)
                n = launcher_ranks(&a, n);
        else
                n = 1;
        if (sandbox_enter(&a, n > 1, &err) < 0) {
                log_error("%s%s%s", err.path, err.path[0] ? ": " : "", err.text);
                return 1;
        }
        return n > 1 ? launcher_run(&a, &c, n) : attempt(&a, NULL);
}

static int work_as_rank(const char *launcher, const char *number)
{
        _cleanup_(assignment_done) struct assignment a = {0};
        struct rank rank;
        struct error err = {0};

        if (rank_begin(launcher, number, &rank, &a, &err) < 0) {
                log_error("rank %s cannot begin: %s: %s", number, err.path, err.text);
                return 1;
        }
        if (rank.rank > 0)
                log_set_level(LOG_WARNING); /* the first says for all what goes well */
        return attempt(&a, &rank);
}

/* Threads of a loop that wait asleep: on a machine that others use too, those that spin take the processor from those
 * that work (a step took three times as long). OpenMP reads it before main, hence once more from the start. */
static void wait_asleep(char **argv)
{
        if (getenv("OMP_WAIT_POLICY") || setenv("OMP_WAIT_POLICY", "passive", 1) < 0)
                return;
        (void)execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
        wait_asleep(argv);
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error of write(2) */
        if (argc == 1)
                return work(0);
        if (argc == 3 && !strcmp(argv[1], "--ranks") && atoi(argv[2]) > 0)
                return work(atoi(argv[2]));
        if (argc == 4 && !strcmp(argv[1], "--rank"))
                return work_as_rank(argv[2], argv[3]);
        if (argc == 3 && !strcmp(argv[1], "--describe"))
                return describe(argv[2]);
        if (argc == 2 && !strcmp(argv[1], "--probe"))
                return probe();
        if (argc >= 2 && argc <= 4 && !strcmp(argv[1], "--estimate"))
                return estimate(argc > 2 ? argv[2] : "train", argc > 3 ? argv[3] : NULL);
        if (argc == 3 && !strcmp(argv[1], "--check") && (!strcmp(argv[2], "cpu") || !strcmp(argv[2], "cuda")))
                return bench_check(!strcmp(argv[2], "cuda"));
        if (argc >= 4 && !strcmp(argv[1], "--watch") && atoi(argv[2]) > 0)
                return watch(atoi(argv[2]), argc - 3, argv + 3);
        if (!strcmp(argv[1], "--bench"))
                return bench(argc - 2, argv + 2);
        if (argc == 2 && !strcmp(argv[1], "--version"))
                return puts("mulun-worker " MULUND_VERSION) < 0;
        if (argc == 2 && !strcmp(argv[1], "--help"))
                return fputs(usage, stdout) < 0;
        (void)fputs(usage, stderr);
        return 2;
}
