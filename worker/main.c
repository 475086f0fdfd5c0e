/* mulun-worker: one attempt at one job. The daemon starts it with an assignment on standard input (contract/event.h);
 * people may ask it to describe a data set, to list devices, to estimate memory, or to time a step. */
#include "base/log.h"
#include "worker/bench.h"
#include "worker/task.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define INPUT_MAX ((size_t)4 << 20)
#define DRAIN_MS 5000

static const char usage[] =
        "usage: mulun-worker                 run the assignment on standard input (for mulund)\n"
        "       mulun-worker --describe DIR  print what data set a folder or file holds, as JSON\n"
        "       mulun-worker --probe         print the devices that this machine has, as JSON\n"
        "       mulun-worker --estimate KIND print the memory that a configuration on standard input needs, as JSON\n"
        "                                    (KIND: train, evaluate, sample)\n"
        "       mulun-worker --bench [--embd N] [--layers N] [--encoder-layers N] [--batch N] [--steps N] [--threads "
        "N]\n"
        "                            [--bf16 1] [--cuda 1]  time training steps: a table by operation, then a line of "
        "JSON\n"
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
        _cleanup_(dataset_freep) struct dataset *d = NULL;
        char digest[DIGEST_SIZE], remark[300];
        double mean[IMAGE_CHANNELS];
        struct error err;

        if (dataset_open(folder, &d, &err) < 0 || dataset_digest(d, digest, &err) < 0)
                return print_error(&err);
        dataset_remark(d, remark, sizeof remark);
        dataset_mean(d, mean);
        return print_json(json_pack("{s:s, s:I, s:I, s:s, s:[f,f,f], s:O*, s:s*}", "format", dataset_format(d), "train",
                                    (json_int_t)dataset_count(d, SPLIT_TRAIN), "test",
                                    (json_int_t)dataset_count(d, SPLIT_TEST), "digest", digest, "mean", mean[0],
                                    mean[1], mean[2], "source", json_object_get(dataset_provenance(d), "format"),
                                    "remark", remark[0] ? remark : NULL));
}

/* Adds what back end says of its device; its error where there is none of that index. */
static int probe_device(const char *backend, int index, json_t *devices, struct error *err)
{
        struct device_settings settings = {.index = index, .threads = 1, .plan_only = true};
        const struct kernels *k;
        struct device_info info;
        struct device *d;
        int r = kernels_find(backend, &k, err);

        if (r >= 0)
                r = k->device_open(&settings, &d, err);
        if (r < 0)
                return r;
        r = k->device_info(d, &info, err);
        (void)k->device_close(d);
        if (r < 0)
                return r;
        return json_array_append_new(devices, json_pack("{s:s, s:i, s:s, s:s, s:I, s:I, s:[i,i], s:b}", "backend",
                                                        backend, "index", index, "name", info.name, "uuid", info.uuid,
                                                        "memory_total", (json_int_t)info.memory_total, "memory_free",
                                                        (json_int_t)info.memory_free, "compute", info.compute_major,
                                                        info.compute_minor, "bf16", info.bf16)) < 0
                       ? error_set(err, -ENOMEM, NULL, "out of memory")
                       : 0;
}

/* The processor, and every CUDA device; "cuda" says why there is none, where there is none. */
static int probe(void)
{
        json_t *devices = json_array();
        struct error err = {0};
        int n = 0;

        if (probe_device("cpu", 0, devices, &err) < 0) {
                json_decref(devices);
                return print_error(&err);
        }
        while (probe_device("cuda", n, devices, &err) == 0)
                n++;
        return print_json(json_pack("{s:o, s:s*}", "devices", devices, "cuda", n == 0 ? err.text : NULL));
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

static int estimate(const char *kind_name)
{
        _cleanup_json_ json_t *json = NULL;
        struct config config;
        struct error err;
        int kind = 0;
        size_t bytes;

        while (kind < JOB_IMPORT && strcmp(job_kind_names[kind], kind_name))
                kind++;
        if (kind == JOB_IMPORT) { /* which needs next to nothing */
                (void)fputs(usage, stderr);
                return 2;
        }
        if (read_input(&json, &err) < 0 || read_config(json, &config, &err) < 0 ||
            task_estimate(&config, (enum job_kind)kind, &bytes, &err) < 0)
                return print_error(&err);
        return print_json(json_pack("{s:I}", "bytes", (json_int_t)bytes));
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

static int run_model(struct task *t, struct error *err)
{
        const struct assignment *a = t->assignment;
        int r = read_config(a->config, &t->config, err);

        if (r >= 0) {
                const char *plans = t->config.plans == PLANS_MEASURED && a->plans && *a->plans ? a->plans : NULL;

                *err = (struct error){0};
                r = runtime_new(&t->config, false, plans, &t->rt, err);
                if (r >= 0 && err->code < 0)
                        log_warning("%s: %s; plans are chosen by the rule", err->path, err->text);
        }
        if (r >= 0 && (a->kind != JOB_SAMPLE || t->config.sampling_latent == SAMPLING_LATENT_IMAGES))
                r = dataset_open(a->dataset_path, &t->dataset, err);
        if (r >= 0 && t->dataset)
                r = dataset_digest(t->dataset, t->data, err);
        if (r < 0)
                return r;
        task_sweep(t);
        log_info("attempt %lld at job %lld: %s, %lld parameters, %d threads", (long long)a->attempt, (long long)a->job,
                 job_kind_names[a->kind], (long long)t->rt->layout->n_parameters, t->rt->info.threads);
        return a->kind == JOB_TRAIN      ? task_train(t, err)
               : a->kind == JOB_EVALUATE ? task_evaluate(t, err)
                                         : task_sample(t, err);
}

static enum error_class class_of(int code)
{
        switch (code) {
        case -EDOM:
                return ERROR_NUMERIC;
        case -ENOMEM:
                return ERROR_MEMORY;
        case -ESTALE:
                return ERROR_DATA;
        case -EBADMSG: /* data or checkpoints that are there and are not what they should be */
        case -EINVAL:
        case -ENOTSUP:
                return ERROR_CONFIGURATION;
        default:
                return ERROR_HOST;
        }
}

static int work(void)
{
        _cleanup_json_ json_t *json = NULL;
        struct assignment a;
        struct task t = {.assignment = &a};
        struct error err = {0}, second;
        int r = read_input(&json, &err);

        if (r >= 0)
                r = assignment_from_json(json, &a, &err);
        if (r < 0) {
                log_error("no assignment on standard input: %s %s", err.path, err.text);
                return 2;
        }
        r = reporter_new(&a, &t.reporter, &err);
        if (r < 0) {
                log_error("%s: %s", err.path, err.text);
                assignment_done(&a);
                return 1;
        }
        r = a.kind == JOB_IMPORT ? run_import(&t, &err) : run_model(&t, &err);
        if (r < 0) {
                char detail[900];
                int n = snprintf(detail, sizeof detail, "%s%s%s", err.path, err.path[0] ? ": " : "", err.text);

                if (r == -EDOM && a.kind == JOB_TRAIN)
                        (void)snprintf(detail + n, sizeof detail - (size_t)n,
                                       "; a new job can change them and go on from this one's newest checkpoint: POST "
                                       "/v1/jobs {\"kind\": \"train\", \"start_from\": {\"job\": %lld}, \"overrides\": "
                                       "{\"optimizer.learning_rate\": %g}}",
                                       (long long)a.job, t.config.learning_rate / 4);
                log_error("%s", detail);
                if (reporter_error(t.reporter, class_of(r), detail, t.step, &second) < 0)
                        log_error("%s: %s", second.path, second.text);
        }
        reporter_drain(t.reporter, DRAIN_MS);
        (void)reporter_free(t.reporter);
        (void)dataset_free(t.dataset);
        (void)runtime_free(t.rt);
        assignment_done(&a);
        return r < 0 ? 1 : 0;
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
                return work();
        if (argc == 3 && !strcmp(argv[1], "--describe"))
                return describe(argv[2]);
        if (argc == 2 && !strcmp(argv[1], "--probe"))
                return probe();
        if ((argc == 2 || argc == 3) && !strcmp(argv[1], "--estimate"))
                return estimate(argc == 3 ? argv[2] : "train");
        if (!strcmp(argv[1], "--bench"))
                return bench(argc - 2, argv + 2);
        if (argc == 2 && !strcmp(argv[1], "--version"))
                return puts("mulun-worker " MULUND_VERSION) < 0;
        if (argc == 2 && !strcmp(argv[1], "--help"))
                return fputs(usage, stdout) < 0;
        (void)fputs(usage, stderr);
        return 2;
}
