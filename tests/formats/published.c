/* A checkpoint that the published code wrote (flax-mulan/, made by running it: three steps, then the averaged weights'
 * outputs for some inputs) becomes one of ours that computes the same, trains further and goes back byte for byte.
 *
 *   test-published --import FROM TO [CONFIG]   with that model's configuration, or that of a JSON file
 *   test-published --make - TO CONFIG          a checkpoint of a configuration, of any size */
#include "engine/formats/export.h"
#include "engine/formats/published.h"
#include "engine/trainer.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define IMAGES 2
#define PUBLISHED_FILE DATA "/mulan-velocity-linear.flax"

static char folder[64], path[96], to[96];
static struct config config;
static struct params *params;

static struct config published_config(void)
{
        struct config c;

        config_defaults(&c);
        c.gamma_type = GAMMA_LINEAR;
        c.sm_n_embd = 32;
        c.sm_n_layer = c.forward_n_layer = 1;
        c.batch_size_train = 4;
        c.threads = 2;
        return c;
}

static int set_up(void **state _unused_)
{
        strcpy(folder, "/tmp/mulund-published.XXXXXX");
        if (!mkdtemp(folder))
                return -1;
        (void)snprintf(path, sizeof path, "%s/altered.flax", folder);
        (void)snprintf(to, sizeof to, "%s/step-3.safetensors", folder);
        config = published_config();
        return params_new(&config, &params, NULL);
}

static int tear_down(void **state _unused_)
{
        params = params_free(params);
        return file_remove_tree(folder, NULL);
}

static int import(const char *from, const struct params *p, const struct config *c, const char *file, struct error *err)
{
        _cleanup_(published_closep) struct published *x = NULL;
        int r = published_open(from, p, &x, err);

        return r < 0 ? r : published_write(x, file, c, NULL, NULL, NULL, err);
}

static void import_published(void)
{
        struct error err = {0};

        if (import(PUBLISHED_FILE, params, &config, to, &err) < 0)
                fail_msg("%s: %s", err.path, err.text);
}

static void *read_data(const char *name, size_t size)
{
        struct buf b = BUF_INIT(1 << 20);
        char file[300];

        (void)snprintf(file, sizeof file, "%s/%s.raw", DATA, name);
        assert_int_equal(file_read(file, &b, NULL), 0);
        assert_int_equal(b.size, size);
        return b.data;
}

/* ---- the networks */

struct networks_run {
        float *z, *g, *e, *net, *f, *zero, *logits;
};

static void networks_pass(struct model *m, void *user)
{
        struct networks_run *x = user;
        struct score_network *s = &m->networks.score;
        struct encoder_network *n = &m->networks.encoder;

        tape_bind(s->z, x->z, NULL, NULL, false);
        tape_bind(s->g, x->g, NULL, NULL, false);
        tape_bind(s->e, x->e, NULL, NULL, false);
        tape_bind(s->net, x->net, NULL, NULL, false);
        tape_forward(&m->pass, &s->tape);
        tape_bind(n->f, x->f, NULL, NULL, false);
        tape_bind(n->time, x->zero, NULL, NULL, false);
        tape_bind(n->context, x->zero, NULL, NULL, false);
        tape_bind(n->logits, x->logits, NULL, NULL, false);
        tape_forward(&m->pass, &n->tape);
}

/* Device memory of a test: its end frees all of it. */
static void *uploaded[16];
static size_t n_uploaded;

static void free_uploaded(struct runtime *rt)
{
        while (n_uploaded)
                rt->k->memory_free(rt->device, uploaded[--n_uploaded]);
}

static void *upload(struct runtime *rt, const char *name, size_t bytes)
{
        void *device = runtime_memory(rt, bytes, NULL);
        _cleanup_(freep) void *host = name ? read_data(name, bytes) : NULL;

        assert_non_null(device);
        assert_true(n_uploaded < ARRAY_LEN(uploaded));
        uploaded[n_uploaded++] = device;
        if (host)
                rt->k->copy_in(rt->stream, device, host, bytes);
        assert_int_equal(rt->k->stream_sync(rt->stream, NULL), 0);
        return device;
}

static double relative_error(struct runtime *rt, const float *device, const char *name, size_t n)
{
        _cleanup_(freep) float *expected = read_data(name, n * sizeof *expected), *found = calloc(n, sizeof *found);
        double difference = 0, sum = 0;

        rt->k->copy_out(rt->stream, found, device, n * sizeof *found);
        assert_int_equal(rt->k->stream_sync(rt->stream, NULL), 0);
        for (size_t i = 0; i < n; i++) {
                difference += pow((double)found[i] - (double)expected[i], 2);
                sum += (double)expected[i] * (double)expected[i];
        }
        assert_true(sum > 0);
        return sqrt(difference / sum);
}

static void run_networks(struct runtime *rt, struct networks_run *x)
{
        _cleanup_(model_freep) struct model *model = NULL;
        _cleanup_(arena_freep) struct arena *arena = NULL;
        struct pass p = {.k = rt->k, .stream = rt->stream};
        struct error err;
        size_t bytes;
        void *block;

        RUN(&p, encode_image, .n = IMAGES * DIMENSIONS, .x = upload(rt, "images", IMAGES * DIMENSIONS), .f = x->f);
        assert_int_equal(
                model_new(rt->k, rt->device, rt->stream, rt->layout, &config, IMAGES, PRECISION_FLOAT32, &model, &err),
                0);
        model->pass.params = rt->section[SECTION_EMA];
        assert_int_equal(model_dry_run(model, networks_pass, x, &bytes, &err), 0);
        block = upload(rt, NULL, bytes);
        assert_int_equal(arena_new(block, bytes, &arena, &err), 0);
        model->pass.arena = arena;
        networks_pass(model, x);
        assert_int_equal(rt->k->stream_sync(rt->stream, &err), 0);
}

static void imported_networks_compute_what_the_published_ones_did(void **state _unused_)
{
        _cleanup_(runtime_freep) struct runtime *rt = NULL;
        struct runtime_need need = {.pass_bytes = 64};
        struct networks_run x;
        struct error err;
        int64_t step = 0;

        import_published();
        assert_int_equal(runtime_new(&config, false, NULL, &rt, &err), 0);
        assert_int_equal(runtime_allocate(rt, 1u << SECTION_EMA, false, &need, &err), 0);
        assert_int_equal(runtime_load(rt, to, "", &step, NULL, &err), 0);
        assert_int_equal(step, 3);
        x = (struct networks_run){.z = upload(rt, "z", IMAGES * DIMENSIONS * sizeof(float)),
                                  .g = upload(rt, "g", IMAGES * sizeof(float)),
                                  .e = upload(rt, "conditioning", IMAGES * 50 * sizeof(float)),
                                  .net = upload(rt, NULL, IMAGES * DIMENSIONS * sizeof(float)),
                                  .f = upload(rt, NULL, IMAGES * DIMENSIONS * sizeof(float)),
                                  .zero = upload(rt, NULL, IMAGES * sizeof(float)),
                                  .logits = upload(rt, NULL, IMAGES * 50 * sizeof(float))};
        run_networks(rt, &x);
        (void)printf("net %g, logits %g\n", relative_error(rt, x.net, "net", IMAGES * DIMENSIONS),
                     relative_error(rt, x.logits, "logits", IMAGES * 50));
        assert_true(relative_error(rt, x.net, "net", IMAGES * DIMENSIONS) < 1e-5);
        assert_true(relative_error(rt, x.logits, "logits", IMAGES * 50) < 1e-5);
        free_uploaded(rt);
}

/* ---- training on */

static void three_more_steps_run(void **state _unused_)
{
        _cleanup_(runtime_freep) struct runtime *rt = NULL;
        _cleanup_(trainer_freep) struct trainer *trainer = NULL;
        _cleanup_(dataset_freep) struct dataset *d = NULL;
        _cleanup_json_ json_t *fresh = json_object();
        unsigned all = (1u << SECTION_N) - 1;
        struct runtime_need need = {0};
        struct training_scalars s;
        struct error err;
        int64_t step, n;

        import_published();
        assert_int_equal(dataset_open(PHOTOGRAPHS, &d, &err), 0);
        assert_int_equal(runtime_new(&config, false, NULL, &rt, &err), 0);
        assert_int_equal(trainer_new(rt, all, &trainer, &need, &err), 0);
        assert_int_equal(runtime_allocate(rt, all, true, &need, &err), 0);
        assert_int_equal(trainer_bind(trainer, d, &err), 0);
        assert_int_equal(runtime_load(rt, to, "", &step, NULL, &err), 0);
        assert_int_equal(trainer_restore(trainer, step, fresh, &err), 0);
        for (int64_t done = 0; done < 3; done += n)
                if (trainer_window(trainer, 3 - done, &n, &err) < 0)
                        fail_msg("%s", err.text);
        assert_int_equal(trainer_step_number(trainer), 6);
        s = trainer_take_window(trainer);
        assert_true(s.bpd > 1 && s.bpd < 100);
        trainer = trainer_free(trainer);
}

/* ---- there and back */

static void export_all(const char *file, enum export_format format, int64_t chunk_bytes, struct buf *ret)
{
        _cleanup_(export_closep) struct export *e = NULL;
        _cleanup_(closep) int fd = open(file, O_RDONLY | O_CLOEXEC);
        struct error err = {0};

        if (export_open(fd, file, format, chunk_bytes, &e, &err) < 0)
                fail_msg("%s", err.text);
        assert_int_equal(buf_reserve(ret, (size_t)export_bytes(e), &err), 0);
        assert_int_equal(export_read(e, 0, ret->data, (size_t)export_bytes(e), &err), 0);
        ret->size = (size_t)export_bytes(e);
}

static void the_export_is_the_published_file(void **state _unused_)
{
        _cleanup_(buf_done) struct buf ours = BUF_INIT(1 << 24), theirs = BUF_INIT(1 << 24);

        import_published();
        export_all(to, EXPORT_FLAX, FLAX_CHUNK_BYTES, &ours);
        assert_int_equal(file_read(PUBLISHED_FILE, &theirs, NULL), 0);
        assert_int_equal(ours.size, theirs.size);
        assert_memory_equal(ours.data, theirs.data, ours.size);
}

static void chunked_or_not_is_the_same_checkpoint(void **state _unused_)
{
        _cleanup_(buf_done) struct buf chunked = BUF_INIT(1 << 24), a = BUF_INIT(1 << 24), b = BUF_INIT(1 << 24);
        char again[128];

        import_published();
        export_all(to, EXPORT_FLAX, 5000, &chunked);
        assert_int_equal(file_write_atomic(path, chunked.data, chunked.size, NULL, NULL), 0);
        (void)snprintf(again, sizeof again, "%s/again", folder);
        assert_int_equal(import(path, params, &config, again, NULL), 0);
        assert_int_equal(file_read(to, &a, NULL), 0);
        assert_int_equal(file_read(again, &b, NULL), 0);
        assert_true(chunked.size > 5200000 && a.size == b.size);
        assert_memory_equal(a.data, b.data, a.size);
}

static void any_part_of_an_export_can_be_read(void **state _unused_)
{
        _cleanup_(buf_done) struct buf whole = BUF_INIT(1 << 24);
        _cleanup_(export_closep) struct export *e = NULL;
        _cleanup_(closep) int fd = -1;
        char part[3000];

        import_published();
        export_all(to, EXPORT_FLAX, FLAX_CHUNK_BYTES, &whole);
        fd = open(to, O_RDONLY | O_CLOEXEC);
        assert_int_equal(export_open(fd, to, EXPORT_FLAX, FLAX_CHUNK_BYTES, &e, NULL), 0);
        for (int64_t at = 0; at < export_bytes(e); at += 7919) {
                size_t n = (size_t)MIN((int64_t)sizeof part, export_bytes(e) - at);

                assert_int_equal(export_read(e, at, part, n, NULL), 0);
                assert_memory_equal(part, whole.data + at, n);
        }
}

static void clipping_is_a_chain_of_its_own(void **state _unused_)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(1 << 24);
        _cleanup_(flax_closep) struct flax *f = NULL;
        _cleanup_(published_closep) struct published *x = NULL;

        config.gradient_clip_norm = 1;
        import_published();
        export_all(to, EXPORT_FLAX, FLAX_CHUNK_BYTES, &b);
        assert_int_equal(file_write_atomic(path, b.data, b.size, NULL, NULL), 0);
        assert_int_equal(flax_open(path, &f, NULL), 0);
        assert_non_null(flax_find(f, f->nodes, "opt_state/0"));
        assert_non_null(flax_find(f, f->nodes, "opt_state/1/0/inner_state/0/mu/score_model/conv_in/kernel"));
        assert_non_null(flax_find(f, f->nodes, "opt_state/1/1/inner_state/0/nu/encoder_model/conv_in/bias"));
        assert_int_equal(published_open(path, params, &x, NULL), 0);
        assert_int_equal(x->n[PUBLISHED_MATCHED], 4 * params->n);
        assert_int_equal(x->n[PUBLISHED_LEFT_OVER], 0);
}

static void weights_alone_are_safetensors(void **state _unused_)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(1 << 24);
        _cleanup_json_ json_t *header = NULL;
        uint64_t size;

        import_published();
        export_all(to, EXPORT_EMA, FLAX_CHUNK_BYTES, &b);
        memcpy(&size, b.data, sizeof size);
        assert_int_equal(size % 8, 0);
        assert_int_equal(json_parse(b.data + 8, size, &header, NULL), 0);
        assert_int_equal(json_object_size(header), params->n + 1);
        assert_int_equal(b.size, 8 + size + 4 * (size_t)params->n_parameters);
        assert_string_equal(
                json_string_value(json_object_get(json_object_get(header, "score_model/conv_in/kernel"), "dtype")),
                "F32");
}

/* ---- what does not fit */

/* The published file with `from`, which occurs n times at least, made `with` at its last-th place. */
static void alter(const char *from, const char *with, size_t size, int nth)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(1 << 24);
        char *at;

        assert_int_equal(file_read(PUBLISHED_FILE, &b, NULL), 0);
        at = b.data;
        while (nth--) {
                at = memmem(at, b.size - (size_t)(at - b.data), from, size);
                assert_non_null(at);
                at += size;
        }
        memcpy(at - size, with, size);
        assert_int_equal(file_write_atomic(path, b.data, b.size, NULL, NULL), 0);
}

static void assert_refused(const char *text)
{
        struct error err = {0};

        assert_int_equal(import(path, params, &config, to, &err), -EBADMSG);
        if (!strstr(err.text, text))
                fail_msg("\"%s\" lacks \"%s\"", err.text, text);
        assert_int_equal(access(to, F_OK), -1);
}

static void what_does_not_fit_is_refused_by_name(void **state _unused_)
{
        alter("conv_in", "conv_on", 7, 2); /* params/score_model */
        assert_refused("not score_model/conv_in/kernel (and 1 more");
        alter("conv_in", "conv_on", 7, 4); /* ema_params/score_model */
        assert_refused("not score_model/conv_in/kernel");
        alter("float32", "uint32\xc4", 7, 1);
        assert_refused("/params/encoder_model/GroupNorm_0/bias, byte");
        alter("\x93\x91 \xa7"
              "float32",
              "\x93\x91\x10\xa7"
              "float64",
              11, 1);
        assert_refused("/params/encoder_model/GroupNorm_0/bias has shape [16], the configuration has [32]");
}

static void another_configuration_is_refused(void **state _unused_)
{
        struct error err;

        params = params_free(params);
        config.sm_n_embd = 64;
        assert_int_equal(params_new(&config, &params, &err), 0);
        assert_int_equal(import(PUBLISHED_FILE, params, &config, to, &err), -EBADMSG);
        assert_non_null(strstr(err.text, "/params/score_model/dense0/kernel has shape [82,128], the configuration has "
                                         "[114,256] (and "));
}

static void values_that_are_no_weights_are_refused(void **state _unused_)
{
        static const char first[] = "\x59\x4a\x19\xb6\x02\x89\x1a\xb6", nan[] = "\x59\x4a\x19\xb6\x00\x00\xc0\x7f";

        struct error err = {0};

        alter(first, nan, 8, 1);
        assert_refused("/params/encoder_model/GroupNorm_0/bias: value 1 is nan, which no weight is");
        assert_int_equal(import(path, params, &config, to, &err), -EBADMSG);
        assert_string_equal(err.path, path); /* the file that is wrong */
}

/* Renamed keys: what is missing is made up for, what is left over is counted. */
static void absent_sections_are_made_up_for(void **state _unused_)
{
        static const struct {
                const char *from, *with;
                size_t matched, missing, left_over, nth;
        } rows[] = {{"ema_params", "ema_paramz", 3, 1, 1, 1},
                    {"\xa6params", "\xa6parumz", 3, 1, 1, 1},
                    {"opt_state", "opt_stats", 2, 2, 2, 1}};

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                _cleanup_(published_closep) struct published *x = NULL;
                struct error err = {0};

                alter(rows[i].from, rows[i].with, strlen(rows[i].from), (int)rows[i].nth);
                if (published_open(path, params, &x, &err) < 0)
                        fail_msg("%s", err.text);
                assert_int_equal(x->n[PUBLISHED_MATCHED], rows[i].matched * params->n);
                assert_int_equal(x->n[PUBLISHED_MISSING], rows[i].missing * params->n);
                assert_int_equal(x->n[PUBLISHED_LEFT_OVER], rows[i].left_over * params->n + (i == 2 ? 2 : 0));
                assert_int_equal(x->updates, i == 2 ? -1 : 3);
                assert_int_equal(published_write(x, to, &config, NULL, NULL, NULL, &err), 0);
        }
        alter("step", "stop", 4, 1);
        assert_int_equal(import(path, params, &config, to, NULL), 0);
}

static void the_report_names_every_tensor(void **state _unused_)
{
        _cleanup_(published_closep) struct published *x = NULL;
        char line[600];

        alter("step", "st\"p", 4, 1);
        assert_int_equal(published_open(path, params, &x, NULL), 0);
        assert_int_equal(x->n_rows, 4 * params->n + 1);
        assert_int_equal(x->step, 3); /* the optimizer's count */
        published_describe(x, &x->rows[0], line, sizeof line);
        assert_string_equal(line, "matched,params/score_model/dense0/kernel,\"/params/score_model/dense0/kernel\","
                                  "float32,\"[82,128]\"");
        published_describe(x, &x->rows[x->n_rows - 1], line, sizeof line);
        assert_string_equal(line, "left-over,,\"/st?p\",int32,\"[]\"");
}

/* ---- for foreign.py and tests/bench/formats.py */

static int read_value(void *user _unused_, enum section section, int64_t offset, int64_t n, float *ret,
                      struct error *err _unused_)
{
        for (int64_t i = 0; i < n; i++)
                ret[i] = (float)((offset + i) % 1000 + section) / 1000;
        return 0;
}

static int read_config(const char *file, struct error *err)
{
        _cleanup_json_ json_t *document = NULL;
        struct errors errs = {0};
        int r = json_parse_file(file, 1 << 20, &document, err);

        if (r >= 0 && (r = config_from_json(document, &config, &errs)) < 0)
                *err = errs.items[0];
        return r;
}

static int tool(int argc, char **argv)
{
        struct checkpoint_io io = {.read = read_value};
        struct error err = {0};
        int r = 0;

        config = published_config();
        if (argc == 5)
                r = read_config(argv[4], &err);
        if (r >= 0)
                r = params_new(&config, &params, &err);
        if (r >= 0 && !strcmp(argv[1], "--make"))
                r = checkpoint_write(argv[3], params, &config, 1000, NULL, &io, NULL, NULL, &err);
        else if (r >= 0)
                r = import(argv[2], params, &config, argv[3], &err);
        params = params_free(params);
        if (r < 0)
                (void)fprintf(stderr, "%s: %s\n", err.path, err.text);
        return r < 0;
}

int main(int argc, char **argv)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                T(imported_networks_compute_what_the_published_ones_did),
                T(three_more_steps_run),
                T(the_export_is_the_published_file),
                T(chunked_or_not_is_the_same_checkpoint),
                T(any_part_of_an_export_can_be_read),
                T(clipping_is_a_chain_of_its_own),
                T(weights_alone_are_safetensors),
                T(what_does_not_fit_is_refused_by_name),
                T(another_configuration_is_refused),
                T(values_that_are_no_weights_are_refused),
                T(absent_sections_are_made_up_for),
                T(the_report_names_every_tensor),
        };

        if (argc >= 4)
                return tool(argc, argv);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
