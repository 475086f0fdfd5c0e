/* Each of jansson's allocations fails once: the answer is an error, nothing is half made, nothing is lost (ASan). */
#include "contract/config.h"
#include "contract/event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static long countdown; /* to the allocation that fails; negative: none */

static void *failing_malloc(size_t size)
{
        if (countdown >= 0 && countdown-- == 0)
                return NULL;
        return malloc(size);
}

static void fail_at(long n)
{
        countdown = n;
}

/* Whether the allocation that was to fail was reached. */
static bool failed(void)
{
        bool was = countdown < 0;

        countdown = -1;
        return was;
}

static void config_survives(void **state _unused_)
{
        struct config c, again;
        bool reached = true;

        config_defaults(&c);
        for (long n = 0; reached; n++) {
                _cleanup_json_ json_t *o = NULL;
                struct errors errs = {0};

                fail_at(n);
                o = config_to_json(&c);
                reached = failed();
                assert_true(reached == !o);
                if (o)
                        assert_int_equal(config_from_json(o, &again, &errs), 0);
        }
        reached = true;
        for (long n = 0; reached; n++) {
                fail_at(n);
                json_t *schema = config_schema();

                reached = failed();
                assert_true(reached == !schema);
                json_decref(schema);
        }
}

static void overrides_survive(void **state _unused_)
{
        _cleanup_json_ json_t *value = json_integer(64);
        bool reached = true;

        for (long n = 0; reached; n++) {
                _cleanup_json_ json_t *o = json_object();
                struct errors errs = {0};
                int r;

                fail_at(n);
                r = config_override(o, "model.sm_n_embd", value, &errs);
                reached = failed();
                assert_true((r < 0) == reached && (errs.n > 0) == reached);
                assert_int_equal(value->refcount, reached ? 1 : 2);
        }
}

static void lines_survive(void **state _unused_)
{
        static const char *const lines[] = {
                "{\"seq\":3,\"type\":\"scalars\",\"step\":[1,2],\"time_ms\":[5,6],\"columns\":{\"a\":[9.1,\"NaN\"],"
                "\"b\":[1,2]}}",
                "{\"seq\":4,\"type\":\"artifact\",\"kind\":\"image\",\"step\":1,\"name\":\"a.png\",\"bytes\":1,"
                "\"xxh128\":\"0123456789abcdef0123456789abcdef\",\"metric\":null}",
                "{\"seq\":5,\"type\":\"done\",\"result\":{\"bpd\":3.2}}",
                "{\"type\":\"hello\",\"protocol\":1,\"job\":3,\"attempt\":7,\"pid\":123}",
        };

        for (size_t i = 0; i < ARRAY_LEN(lines); i++)
                for (int way = 0; way < 2; way++) {
                        bool reached = true;

                        for (long n = 0; reached; n++) {
                                _cleanup_(buf_done) struct buf b = BUF_INIT(10000);
                                _cleanup_(event_done) struct event e = {0};
                                int r;

                                if (way == 0)
                                        fail_at(n);
                                r = event_decode(lines[i], strlen(lines[i]), &e, NULL);
                                if (way == 1) {
                                        assert_int_equal(r, 0);
                                        fail_at(n);
                                        r = event_encode(&e, &b, NULL);
                                }
                                reached = failed();
                                if ((r < 0) != reached)
                                        fail_msg("line %zu way %d allocation %ld: %d %s", i, way, n, r, b.data);
                        }
                }
}

static void assignments_survive(void **state _unused_)
{
        static const char text[] =
                "{\"job\":3,\"attempt\":7,\"kind\":\"train\",\"config\":{},\"dataset\":{\"name\":\"p\",\"path\":\"/x\","
                "\"digest\":\"\"},\"folder\":\"/j\",\"socket\":\"\",\"checkpoints\":[{\"path\":\"/c\","
                "\"xxh128\":\"0123456789abcdef0123456789abcdef\",\"step\":1}]}";
        _cleanup_json_ json_t *in = NULL;
        struct assignment a;
        bool reached = true;

        assert_int_equal(json_parse(text, strlen(text), &in, NULL), 0);
        assert_int_equal(assignment_from_json(in, &a, NULL), 0);
        for (long n = 0; reached; n++) {
                json_t *out;

                fail_at(n);
                out = assignment_to_json(&a);
                reached = failed();
                assert_true(reached == !out);
                json_decref(out);
        }
        assignment_done(&a);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(config_survives),
                cmocka_unit_test(overrides_survive),
                cmocka_unit_test(lines_survive),
                cmocka_unit_test(assignments_survive),
        };

        countdown = -1;
        json_set_alloc_funcs(failing_malloc, free);
        return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
