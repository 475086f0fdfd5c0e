/* What bf16 costs in bits per dimension: bench-precision TEMPLATE DATA STEPS [N_EMBD [THREADS [PRECISION]]]. Trains the
 * template (a file of configs/) for so many steps in float32 and in bf16 from the same seed (or in PRECISION alone),
 * and measures the sparse bound of each model's average on the whole test split in both. A line of JSON for each of the
 * four. */
#include "base/file.h"
#include "base/json.h"
#include "engine/likelihood.h"
#include "engine/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTIONS ((1U << SECTION_N) - 1)
#define BATCH_EVAL 32

static const char *const names[] = {[PRECISION_FLOAT32] = "float32", [PRECISION_BF16] = "bf16"};

static int train(const struct config *c, const struct dataset *d, const char *path, double *ret_bpd, struct error *err)
{
        _cleanup_(runtime_freep) struct runtime *rt = NULL;
        _cleanup_(trainer_freep) struct trainer *t = NULL;
        struct runtime_need need = {0};
        char digest[DIGEST_SIZE];
        int64_t bytes;
        int r = runtime_new(c, false, NULL, &rt, err);

        r = r < 0 ? r : trainer_new(rt, SECTIONS, &t, &need, err);
        r = r < 0 ? r : runtime_allocate(rt, SECTIONS, true, &need, err);
        r = r < 0 ? r : runtime_initialise(rt, (uint32_t)c->seed, err);
        r = r < 0 ? r : trainer_bind(t, d, err);
        for (int64_t done = 0, n; r >= 0 && done < c->num_steps_train; done += n) {
                n = 0;
                if (done >= c->num_steps_train - 500 && done < c->num_steps_train - 499)
                        (void)trainer_take_window(t);
                r = trainer_window(t,
                                   done < c->num_steps_train - 500 ? c->num_steps_train - 500 - done
                                                                   : c->num_steps_train - done,
                                   &n, err);
        }
        if (r >= 0)
                *ret_bpd = trainer_take_window(t).bpd;
        return r < 0 ? r : runtime_save(rt, path, c->num_steps_train, "{}", digest, &bytes, err);
}

static int go_on(void *user, int64_t done, int64_t all, struct error *err)
{
        (void)user;
        (void)done;
        (void)all;
        (void)err;
        return 0;
}

static int evaluate(const struct config *c, const struct dataset *d, const char *path, struct evaluation_result *ret,
                    struct error *err)
{
        _cleanup_(runtime_freep) struct runtime *rt = NULL;
        _cleanup_(evaluator_freep) struct evaluator *v = NULL;
        struct evaluation e = {.method = LIKELIHOOD_SPARSE,
                               .split = SPLIT_TEST,
                               .weights = WEIGHTS_EMA,
                               .n_images = dataset_count(d, SPLIT_TEST),
                               .seed = 1};
        struct runtime_need need = {0};
        char *state = NULL;
        int64_t step;
        int r = runtime_new(c, false, NULL, &rt, err);

        r = r < 0 ? r : evaluator_new(rt, BATCH_EVAL, &v, &need, err);
        r = r < 0 ? r : runtime_allocate(rt, 1U << SECTION_EMA, false, &need, err);
        r = r < 0 ? r : runtime_load(rt, path, "", &step, &state, err);
        free(state);
        r = r < 0 ? r : evaluator_bind(v, err);
        return r < 0 ? r : evaluator_run(v, d, &e, &(struct between){go_on, NULL}, ret, err);
}

static int compare(struct config *c, const struct dataset *d, enum precision trained, struct error *err)
{
        char path[64];
        double last = NAN;
        int r;

        (void)snprintf(path, sizeof path, "/tmp/bench-precision-%d-%s", (int)getpid(), names[trained]);
        c->precision = trained;
        r = train(c, d, path, &last, err);
        for (int p = PRECISION_FLOAT32; r >= 0 && p <= PRECISION_BF16; p++) {
                struct evaluation_result result = {0};

                c->evaluation_precision = p;
                r = evaluate(c, d, path, &result, err);
                if (r >= 0)
                        (void)printf(
                                "{\"trained\": \"%s\", \"steps\": %lld, \"last_500\": %.4f, \"evaluated\": \"%s\", "
                                "\"bpd\": %.5f, \"standard_error\": %.4f, \"recon\": %.5f, \"latent\": %.5f, "
                                "\"diff\": %.5f, \"images\": %lld}\n",
                                names[trained], (long long)c->num_steps_train, last, names[p], result.mean.bpd,
                                result.standard_error, result.mean.recon, result.mean.latent, result.mean.diff,
                                (long long)result.n_images);
                (void)fflush(stdout);
                free(result.images);
        }
        (void)unlink(path);
        return r;
}

int main(int argc, char **argv)
{
        _cleanup_(dataset_freep) struct dataset *d = NULL;
        _cleanup_json_ json_t *document = NULL;
        struct config c;
        struct errors errs = {0};
        struct error err = {0};
        int r;

        if (argc < 4) {
                (void)fprintf(stderr, "usage: bench-precision TEMPLATE DATA STEPS [N_EMBD [THREADS [PRECISION]]]\n");
                return 2;
        }
        document = json_load_file(argv[1], 0, NULL);
        if (!document || config_from_json(document, &c, &errs) < 0) {
                (void)fprintf(stderr, "%s: %s\n", argv[1], errs.n ? errs.items[0].text : "not JSON");
                return 1;
        }
        c.num_steps_train = strtoll(argv[3], NULL, 10);
        c.sm_n_embd = argc > 4 ? strtoll(argv[4], NULL, 10) : c.sm_n_embd;
        c.threads = argc > 5 ? strtoll(argv[5], NULL, 10) : 2;
        r = dataset_open(argv[2], &d, &err);
        for (int p = PRECISION_FLOAT32; r >= 0 && p <= PRECISION_BF16; p++)
                if (argc < 7 || strcmp(argv[6], names[p]) == 0)
                        r = compare(&c, d, p, &err);
        if (r < 0)
                (void)fprintf(stderr, "bench-precision: %s: %s\n", err.path, err.text);
        return r < 0 ? 1 : 0;
}
