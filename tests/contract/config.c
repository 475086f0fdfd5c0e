/* The configuration table: every row's default, range and type, the checks across rows, overrides, the schema. */
#include "contract/config.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static json_t *parse(const char *text)
{
        json_t *v;

        assert_int_equal(json_parse(text, strlen(text), &v, NULL), 0);
        return v;
}

/* A document with one key set; value is taken. */
static json_t *with(const char *path, json_t *value)
{
        struct errors errs = {0};
        json_t *document = json_object();

        assert_int_equal(config_override(document, path, value, &errs), 0);
        json_decref(value);
        return document;
}

/* Reads a document of one key; expects an error at its pointer that holds `text`, or none (NULL). */
static void expect(const char *path, json_t *value, const char *text)
{
        _cleanup_json_ json_t *document = with(path, value);
        struct errors errs = {0};
        struct config c, untouched;
        char pointer[100] = "/";
        bool found = false;
        int r;

        memset(&c, 0x5a, sizeof c);
        untouched = c;
        strcat(pointer, path);
        for (char *p = pointer; (p = strchr(p, '.'));)
                *p = '/';
        r = config_from_json(document, &c, &errs);
        for (size_t i = 0; i < errors_kept(&errs); i++)
                if (!strcmp(errs.items[i].path, pointer)) {
                        found = true;
                        if (text && !strstr(errs.items[i].text, text))
                                fail_msg("%s: %s, expected %s", path, errs.items[i].text, text);
                        if (!text && !strstr(errs.items[i].text, "is not a multiple") &&
                            !strstr(errs.items[i].text, "has ") && !strstr(errs.items[i].text, "not computed") &&
                            !strstr(errs.items[i].text, "is above latent_size"))
                                fail_msg("%s refused: %s", path, errs.items[i].text);
                }
        if (text) {
                if (!found)
                        fail_msg("%s: no error at its pointer", path);
                assert_int_equal(r, -EINVAL);
                assert_memory_equal(&c, &untouched, sizeof c);
        }
        assert_int_equal(r<0, errs.n> 0);
}

static void defaults_are_a_valid_configuration(void **state _unused_)
{
        _cleanup_json_ json_t *empty = json_object();
        struct config a, b;
        struct errors errs = {0};

        config_defaults(&a);
        assert_int_equal(config_check(&a, &errs), 0);
        assert_int_equal(config_from_json(empty, &b, &errs), 0);
        assert_memory_equal(&a, &b, sizeof a);
        assert_int_equal(a.sm_n_embd, 128);
        assert_true(isnan(a.gradient_clip_norm));
        assert_string_equal(a.dataset, "photos32");
}

static void every_row_has_its_default(void **state _unused_)
{
        struct config c;

        config_defaults(&c);
#define BOOL(path, m, d, text) assert_true(c.m == (d));
#define INT(path, m, d, lo, hi, unit, text) assert_true(c.m == (d) && c.m >= (lo) && c.m <= (hi));
#define REAL(path, m, d, lo, hi, unit, text) assert_true(c.m == (d) && c.m >= (lo) && c.m <= (hi));
#define OPTIONAL_REAL(path, m, lo, hi, unit, text) assert_true(isnan(c.m));
#define STRING(path, m, d, n, text) assert_string_equal(c.m, d);
#define CHOICE(path, m, tag, d, text) assert_true(c.m == (d));
#include "contract/config.def"
#undef BOOL
#undef INT
#undef REAL
#undef OPTIONAL_REAL
#undef STRING
#undef CHOICE
}

static void expect_wrong_types(const char *path, bool is_string, bool is_number, bool is_bool, bool takes_null)
{
        expect(path, json_object(), "an object");
        expect(path, json_array(), "an array");
        if (!takes_null)
                expect(path, json_null(), "null");
        if (!is_string)
                expect(path, json_string("1"), "a string");
        if (!is_number)
                expect(path, json_integer(1), "1 is not");
        if (!is_bool)
                expect(path, json_true(), "true");
}

static void every_row_takes_its_range_and_refuses_the_rest(void **state _unused_)
{
        char expected[100];

#define BOOL(path, m, d, text)                                                                                         \
        expect(path, json_true(), NULL);                                                                               \
        expect(path, json_false(), NULL);                                                                              \
        expect_wrong_types(path, false, false, true, false);
#define INT(path, m, d, lo, hi, unit, text)                                                                            \
        (void)snprintf(expected, sizeof expected, "%lld is not an integer in %lld..%lld", (hi) + 1LL, (long long)(lo), \
                       (long long)(hi));                                                                               \
        expect(path, json_integer((hi) + 1LL), expected);                                                              \
        expect(path, json_integer((lo)-1LL), "is not an integer in");                                                  \
        expect(path, json_real((lo) + 0.5), "is not an integer in");                                                   \
        expect(path, json_real(lo), "is not an integer in");                                                           \
        expect(path, json_integer(lo), NULL);                                                                          \
        expect(path, json_integer(hi), NULL);                                                                          \
        expect_wrong_types(path, false, true, false, false);
#define REAL(path, m, d, lo, hi, unit, text)                                                                           \
        expect(path, json_real(lo), NULL);                                                                             \
        expect(path, json_real(hi), NULL);                                                                             \
        expect(path, json_real(nextafter(lo, -INFINITY)), "is not a number in");                                       \
        expect(path, json_real(nextafter(hi, INFINITY)), "is not a number in");                                        \
        expect_wrong_types(path, false, true, false, false);
#define OPTIONAL_REAL(path, m, lo, hi, unit, text)                                                                     \
        expect(path, json_null(), NULL);                                                                               \
        expect(path, json_real(lo), NULL);                                                                             \
        expect(path, json_real(2 * (hi)), "is not null or a number in");                                               \
        expect_wrong_types(path, false, true, false, true);
#define STRING(path, m, d, n, text)                                                                                    \
        expect(path, json_string("x"), NULL);                                                                          \
        expect(path, json_string(""), "is not 1.." #n " bytes");                                                       \
        expect(path, json_string("a\nb"), "is not 1.." #n " bytes");                                                   \
        expect(path, json_stringn("a\0b", 3), "is not 1.." #n " bytes");                                               \
        expect_wrong_types(path, true, false, false, false);
#define CHOICE(path, m, tag, d, text)                                                                                  \
        for (size_t i = 0; tag##_names[i]; i++)                                                                        \
                expect(path, json_string(tag##_names[i]), NULL);                                                       \
        expect(path, json_string("no such"), "the string is not");                                                     \
        expect_wrong_types(path, true, false, false, false);
#include "contract/config.def"
#undef BOOL
#undef INT
#undef REAL
#undef OPTIONAL_REAL
#undef STRING
#undef CHOICE
}

static void the_text_names_value_and_range(void **state _unused_)
{
        expect("model.sm_n_embd", json_real(96.5), "96.5 is not an integer in 32..2048");
        expect("model.sm_n_embd", json_real(96.0), "96.0 is not an integer in 32..2048");
        expect("model.sm_pdrop", json_real(1.5), "1.5 is not a number in 0..0.99");
        expect("vdm_type", json_string("vdm2"), "the string is not one of mulan_velocity, mulan_epsilon, vdm");
        expect("optimizer.name", json_string("sgd"), "the string is not \"adamw\"");
}

static void unknown_keys_are_errors_at_their_pointer(void **state _unused_)
{
        static const char *const cases[][2] = {
                {"{\"x\": 1}", "/x"},
                {"{\"model\": {\"x\": 1}}", "/model/x"},
                {"{\"model\": {\"sm_n_embd\": 64, \"X/~\": {}}}", "/model/X~1~0"},
                {"{\"model.sm_n_embd\": 64}", "/model.sm_n_embd"},
                {"{\"model\": 1}", "/model"},
                {"{\"vdm_type\": {\"x\": 1}}", "/vdm_type"},
                {"{\"\": {}}", "/"},
                {"{\"model\": {\"\": 1}}", "/model/"},
                {"{\"model\": {\"model\": {\"sm_n_embd\": 64}}}", "/model/model"},
                {"{\"mod\": {}}", "/mod"},
                {"{\"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\": "
                 "1}",
                 "/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"},
                {"[]", ""},
                {"\"model\"", ""},
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                _cleanup_json_ json_t *document = parse(cases[i][0]);
                struct errors errs = {0};
                struct config c;

                assert_int_equal(config_from_json(document, &c, &errs), -EINVAL);
                assert_int_equal(errs.n, 1);
                assert_string_equal(errs.items[0].path, cases[i][1]);
        }
}

static void all_errors_are_collected(void **state _unused_)
{
        _cleanup_json_ json_t *document = parse(
                "{\"vdm_type\": 3, \"model\": {\"sm_n_embd\": 96.5, \"a\": 1, \"sm_pdrop\": null}, \"data\": []}");
        struct errors errs = {0};
        struct config c;

        assert_int_equal(config_from_json(document, &c, &errs), -EINVAL);
        assert_int_equal(errs.n, 5);
}

static void what_no_row_says_is_checked(void **state _unused_)
{
        static const char *const cases[][2] = {
                {"{\"model\": {\"latent_k\": 51}}", "/model/latent_k"},
                {"{\"model\": {\"sm_n_embd\": 96}}", NULL},
                {"{\"model\": {\"sm_n_embd\": 100}}", "/model/sm_n_embd"},
                {"{\"model\": {\"gamma_min\": 0, \"gamma_max\": 0}}", "/model/gamma_max"},
                {"{\"vdm_type\": \"vdm\"}", "/model/gamma_type"},
                {"{\"vdm_type\": \"vdm\", \"model\": {\"gamma_type\": \"fixed\", \"sm_n_timesteps\": 1000}}", NULL},
                {"{\"vdm_type\": \"vdm\", \"model\": {\"gamma_type\": \"learnable_scalar\"}}", NULL},
                {"{\"vdm_type\": \"vdm\", \"model\": {\"gamma_type\": \"linear\"}}", "/model/gamma_type"},
                {"{\"vdm_type\": \"vdm\", \"model\": {\"gamma_type\": \"fixed\", \"unet_type\": \"ldm\"}}",
                 "/model/unet_type"},
                {"{\"vdm_type\": \"vdm\", \"model\": {\"gamma_type\": \"straight\"}, \"training\": {\"loss_weight\": "
                 "\"flow_matching\"}}",
                 NULL},
                {"{\"vdm_type\": \"vdm\", \"model\": {\"gamma_type\": \"learnable_scalar\"}, \"training\": "
                 "{\"loss_weight\": "
                 "\"simple\"}}",
                 "/training/loss_weight"},
                {"{\"training\": {\"loss_weight\": \"simple\"}}", "/training/loss_weight"},
                {"{\"model\": {\"gamma_type\": \"cosine\"}}", "/model/gamma_type"},
                {"{\"model\": {\"gamma_type\": \"fixed\"}}", "/model/gamma_type"},
                {"{\"model\": {\"gamma_type\": \"linear\"}}", NULL},
                {"{\"model\": {\"sm_n_timesteps\": 1000}}", "/model/sm_n_timesteps"},
                {"{\"vdm_type\": \"mulan_epsilon\", \"model\": {\"sm_n_timesteps\": 1000}}", NULL},
                {"{\"model\": {\"unet_type\": \"ldm\"}}", NULL},
                {"{\"model\": {\"unet_type\": \"ldm\"}, \"machine\": {\"precision\": \"bf16\"}}", "/machine/precision"},
                {"{\"model\": {\"unet_type\": \"ldm\"}, \"evaluation\": {\"precision\": \"bf16\"}}",
                 "/evaluation/precision"},
                {"{\"model\": {\"encoder\": \"cnn\"}}", NULL},
                {"{\"data\": {\"flip_flag\": true}}", "/data/flip_flag"},
                {"{\"data\": {\"flip\": true, \"flip_flag\": true}}", NULL},
                {"{\"model\": {\"reparam_type\": \"label\"}}", NULL},
                {"{\"model\": {\"latent_type\": \"gumbel\"}}", NULL},
                {"{\"model\": {\"latent_type\": \"gaussian\"}}", NULL},
                {"{\"optimizer\": {\"lr_decay\": true}, \"training\": {\"num_steps_train\": 100}}",
                 "/training/num_steps_lr_warmup"},
                {"{\"optimizer\": {\"lr_decay\": true}, \"training\": {\"num_steps_train\": 101}}", NULL},
                {"{\"training\": {\"num_steps_train\": 10}}", NULL},
                {"{\"optimizer\": {\"learning_rate\": 1}}", NULL}, /* an integer is taken for a real */
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                _cleanup_json_ json_t *document = parse(cases[i][0]);
                struct errors errs = {0};
                struct config c;
                int r = config_from_json(document, &c, &errs);

                if (errs.n != (cases[i][1] != NULL) || (r < 0) != (cases[i][1] != NULL))
                        fail_msg("%s: %zu errors: %s", cases[i][0], errs.n, errs.items[0].text);
                if (cases[i][1])
                        assert_string_equal(errs.items[0].path, cases[i][1]);
        }
}

static void published_configurations_read_and_come_back(void **state _unused_)
{
        static const char *const files[] = {"cifar10-conditioned.json", "imagenet32.json", "vdm-cifar10.json"};

        for (size_t i = 0; i < ARRAY_LEN(files); i++) {
                _cleanup_json_ json_t *document = NULL, *whole = NULL;
                struct config a, b;
                struct errors errs = {0};
                char path[512];
                const char *section, *key;
                json_t *o, *v;

                (void)snprintf(path, sizeof path, "%s/%s", PUBLISHED, files[i]);
                assert_int_equal(json_parse_file(path, 65536, &document, NULL), 0);
                if (config_from_json(document, &a, &errs) < 0)
                        fail_msg("%s: %s %s", files[i], errs.items[0].path, errs.items[0].text);
                whole = config_to_json(&a);
                assert_non_null(whole);
                /* whatever the file says is what is written back */
                json_object_foreach(document, section, o)
                {
                        if (!json_is_object(o))
                                assert_true(json_equal(o, json_object_get(whole, section)));
                        else
                                json_object_foreach(o, key, v)
                                {
                                        json_t *w = json_object_get(json_object_get(whole, section), key);

                                        assert_true(json_is_real(w) ? json_number_value(v) == json_real_value(w)
                                                                    : json_equal(v, w));
                                }
                }
                assert_int_equal(config_from_json(whole, &b, &errs), 0);
                _cleanup_json_ json_t *again = config_to_json(&b);
                assert_true(json_equal(whole, again));
        }
}

static void a_whole_configuration_survives_as_text(void **state _unused_)
{
        _cleanup_json_ json_t *document = NULL, *whole = NULL, *read = NULL;
        _cleanup_(freep) char *text = NULL;
        struct config a, b;
        struct errors errs = {0};

        config_defaults(&a);
        a.gradient_clip_norm = 0.1;
        a.ema_rate = 1.0 / 3;
        a.seed = 4294967295;
        strcpy(a.dataset, "caf\xc3\xa9");
        whole = config_to_json(&a);
        text = json_to_text(whole);
        assert_int_equal(json_parse(text, strlen(text), &read, NULL), 0);
        assert_int_equal(config_from_json(read, &b, &errs), 0);
        assert_true(a.gradient_clip_norm == b.gradient_clip_norm && a.ema_rate == b.ema_rate && a.seed == b.seed);
        assert_string_equal(a.dataset, b.dataset);
}

static void overrides_know_their_keys(void **state _unused_)
{
        static const struct {
                const char *document, *dotted, *pointer;
        } cases[] = {
                {"{}", "model.sm_n_embd", NULL},
                {"{\"model\": {}}", "model.sm_n_embd", NULL},
                {"{\"model\": {\"sm_n_embd\": 3}}", "model.sm_n_embd", NULL},
                {"{}", "vdm_type", NULL},
                {"{}", "model", "/model"},
                {"{}", "", "/"},
                {"{}", ".", "//"},
                {"{}", "model.", "/model/"},
                {"{}", "model.sm_n_embd.x", "/model/sm_n_embd/x"},
                {"{}", "model/sm_n_embd", "/model~1sm_n_embd"},
                {"{\"model\": 3}", "model.sm_n_embd", "/model/sm_n_embd"},
                {"[]", "model.sm_n_embd", ""},
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                _cleanup_json_ json_t *document = parse(cases[i].document), *value = json_integer(64);
                struct errors errs = {0};
                int r = config_override(document, cases[i].dotted, value, &errs);

                assert_int_equal(r, cases[i].pointer ? -EINVAL : 0);
                assert_int_equal(errs.n, cases[i].pointer != NULL);
                if (cases[i].pointer)
                        assert_string_equal(errs.items[0].path, cases[i].pointer);
                else
                        assert_int_equal(value->refcount, 2);
        }
}

static void a_key_is_found_by_its_path_or_the_end_of_it(void **state)
{
        static const struct {
                const char *key, *path, *error;
        } cases[] = {
                {"optimizer.learning_rate", "optimizer.learning_rate", NULL},
                {"learning_rate", "optimizer.learning_rate", NULL},
                {"vdm_type", "vdm_type", NULL},
                {"training.seed", "training.seed", NULL},
                {"seed", NULL, "which of them: training.seed or evaluation.seed?"},
                {"rate", NULL, "there is no such key"},
                {"optimizer", NULL, "optimizer is a section"},
                {"learning_rte", NULL, "is it optimizer.learning_rate that is meant?"},
                {".learning_rate", NULL, "there is no such key"},
                {"x.optimizer.learning_rate", NULL, "there is no such key"},
                {"", NULL, ""},
                {".", NULL, "there is no such key"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct errors errs = {0};
                const char *path = config_path(cases[i].key, "here", &errs);

                assert_int_equal(errs.n, cases[i].error != NULL);
                if (cases[i].path)
                        assert_string_equal(path, cases[i].path);
                else if (path || strcmp(errs.items[0].path, "here") != 0 || !strstr(errs.items[0].text, cases[i].error))
                        fail_msg("%s: %s", cases[i].key, errs.items[0].text);
        }
}

static void a_text_is_read_as_its_key_has_it(void **state)
{
        static const struct {
                const char *path, *text, *value, *error;
        } cases[] = {
                {"training.seed", "7", "7", NULL},
                {"optimizer.learning_rate", "2e-3", "0.002", NULL},
                {"optimizer.learning_rate", "1", "1.0", NULL},
                {"model.with_attention", "true", "true", NULL},
                {"model.reparam_type", "true", "\"true\"", NULL}, /* a choice that is called so */
                {"data.dataset", "10", "\"10\"", NULL},
                {"data.dataset", "a,\"b", "\"a,\\\"b\"", NULL},
                {"training.seed", "1.5", NULL, "not an integer"},
                {"training.seed", "", NULL, "training.seed: "},
                {"training.seed", "[3]", NULL, "training.seed: "},
                {"optimizer.learning_rate", "2", NULL, "0..1"},
                {"model.with_attention", "1", NULL, "true or false"},
                {"model.gamma_type", "poly", NULL, "poly_fixedend"},
                {"no.such", "3", NULL, "no such key"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct errors errs = {0};
                _cleanup_json_ json_t *v = config_value(cases[i].path, cases[i].text, "here", &errs);
                _cleanup_(freep) char *text = v ? json_to_text(v) : NULL;

                assert_int_equal(errs.n, cases[i].error != NULL);
                if (cases[i].value)
                        assert_string_equal(text, cases[i].value);
                else if (v || !strstr(errs.items[0].text, cases[i].error))
                        fail_msg("%s = %s: %s", cases[i].path, cases[i].text, errs.items[0].text);
        }
}

static void describes(json_t *schema, json_t *section)
{
        const char *key;
        json_t *v;

        assert_true(json_is_false(json_object_get(schema, "additionalProperties")));
        json_object_foreach(section, key, v)
        {
                json_t *s = json_object_get(json_object_get(schema, "properties"), key);

                assert_true(json_is_object(s));
                if (json_is_object(v)) {
                        describes(s, v);
                        continue;
                }
                assert_true(json_equal(v, json_object_get(s, "default")));
                assert_true(json_is_string(json_object_get(s, "description")));
        }
}

static void schema_describes_every_row(void **state _unused_)
{
        _cleanup_json_ json_t *schema = config_schema(), *whole = NULL;
        struct config c;

        assert_non_null(schema);
        config_defaults(&c);
        whole = config_to_json(&c);
        describes(schema, whole);
}

static void a_digest_is_of_all_rows_but_those_left_out(void **state _unused_)
{
        static const char *const none[] = {NULL}, *const some[] = {"optimizer", "training.seed", NULL};
        char before[DIGEST_SIZE], after[DIGEST_SIZE];
        struct config a, b;

        config_defaults(&a);
        b = a;
        b.learning_rate *= 2;
        b.seed++;
        memset(b.dataset, 'x', sizeof b.dataset); /* what lies behind a shorter text is none of it */
        (void)snprintf(b.dataset, sizeof b.dataset, "%s", a.dataset);
        config_digest(&a, none, before);
        config_digest(&b, none, after);
        assert_string_not_equal(before, after);
        config_digest(&a, some, before);
        config_digest(&b, some, after);
        assert_string_equal(before, after);
        b.num_steps_lr_warmup++; /* not "training.seed", though beside it */
        config_digest(&b, some, after);
        assert_string_not_equal(before, after);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(defaults_are_a_valid_configuration),
                cmocka_unit_test(every_row_has_its_default),
                cmocka_unit_test(every_row_takes_its_range_and_refuses_the_rest),
                cmocka_unit_test(the_text_names_value_and_range),
                cmocka_unit_test(unknown_keys_are_errors_at_their_pointer),
                cmocka_unit_test(all_errors_are_collected),
                cmocka_unit_test(what_no_row_says_is_checked),
                cmocka_unit_test(published_configurations_read_and_come_back),
                cmocka_unit_test(a_whole_configuration_survives_as_text),
                cmocka_unit_test(overrides_know_their_keys),
                cmocka_unit_test(schema_describes_every_row),
                cmocka_unit_test(a_digest_is_of_all_rows_but_those_left_out),
                cmocka_unit_test(a_key_is_found_by_its_path_or_the_end_of_it),
                cmocka_unit_test(a_text_is_read_as_its_key_has_it),
        };

        return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
