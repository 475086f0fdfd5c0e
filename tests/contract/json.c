/* Numbers as text: what printf makes of them, faster, and what reads back as the same number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static void expect(double v)
{
        char text[JSON_REAL_SIZE], expected[64];

        (void)snprintf(expected, sizeof expected, "%.15g", v);
        if (strtod(expected, NULL) != v)
                (void)snprintf(expected, sizeof expected, "%.17g", v);
        if (!strpbrk(expected, ".e"))
                (void)strcat(expected, ".0");
        assert_int_equal(json_real_text(v, text), strlen(expected));
        assert_string_equal(text, expected);
}

static void a_number_is_what_printf_makes_of_it(void **state _unused_)
{
        unsigned seed = 1;

        for (int e = -30; e < 30; e++)
                for (int i = -3; i <= 3; i++) {
                        double v = pow(10, e), w = ldexp(1, e);

                        for (int k = 0; k < abs(i); k++) {
                                v = nextafter(v, i < 0 ? 0 : INFINITY);
                                w = nextafter(w, i < 0 ? 0 : INFINITY);
                        }
                        expect(v);
                        expect(-v);
                        expect(w);
                        expect((double)(float)v);
                }
        for (int i = 0; i < 300000; i++) {
                double part = ldexp((double)rand_r(&seed) + (double)rand_r(&seed) / RAND_MAX, -(rand_r(&seed) % 60));

                expect(part);
                expect((double)(float)part);
                expect(rand_r(&seed) % 1000000 / 1000.0);
                expect((double)rand_r(&seed) * 1024);
        }
        expect(0);
        expect(-0.0);
        expect(5e-324);
        expect(1.7976931348623157e308);
        expect(-13.3);
        expect(0.1 + 0.2);
        expect(99999999999999.99);
        expect(0.5 + 0x1p-50);
}

static void a_verbatim_value_is_written_as_it_stands(void **state _unused_)
{
        static const char text[] = "{\"rate\":1e-05,\"name\":\"\\u00e9\\n\"}";
        _cleanup_json_ json_t *v = json_verbatim(text, strlen(text)), *o = json_pack("{s:O, s:s}", "a", v, "b", "c"),
                              *bad = NULL;
        _cleanup_(freep) char *written = json_to_text(o);
        struct error err;

        assert_true(json_is_verbatim(v) && !json_is_verbatim(o) && !json_is_verbatim(json_object_get(o, "b")));
        assert_string_equal(written, "{\"a\":{\"rate\":1e-05,\"name\":\"\\u00e9\\n\"},\"b\":\"c\"}");
        assert_int_equal(json_parse("[\"\xff{}\"]", 6, &bad, &err), -EINVAL); /* nobody can send one */
        assert_null(bad);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(a_number_is_what_printf_makes_of_it),
                                           cmocka_unit_test(a_verbatim_value_is_written_as_it_stands)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
