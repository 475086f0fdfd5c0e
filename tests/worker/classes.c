/* Whose a failure is: what a sick machine says is never charged to a job. */
#include "worker/reporter.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

static void what_the_machine_says_is_the_hosts(void **state _unused_)
{
        static const int codes[] = {EIO,    ENOSPC, EDQUOT,    EROFS,     EMFILE,   ENFILE, EAGAIN, ESTALE,
                                    ENOENT, EACCES, ETIMEDOUT, EHOSTDOWN, ENOTCONN, ENXIO,  EPIPE,  EUCLEAN};

        for (size_t i = 0; i < ARRAY_LEN(codes); i++)
                assert_int_equal(reporter_class(-codes[i]), ERROR_HOST);
}

static void what_a_task_says_has_its_class(void **state _unused_)
{
        assert_int_equal(reporter_class(REPORTER_DATA), ERROR_DATA);
        assert_int_equal(reporter_class(-EDOM), ERROR_NUMERIC);
        assert_int_equal(reporter_class(-ENOMEM), ERROR_MEMORY);
        assert_int_equal(reporter_class(-ENODEV), ERROR_DEVICE);
        assert_int_equal(reporter_class(-EBADMSG), ERROR_CONFIGURATION);
        assert_int_equal(reporter_class(-EINVAL), ERROR_CONFIGURATION);
}

static void an_import_is_tried_again_on_a_sick_machine(void **state _unused_)
{
        static const int codes[] = {ENOMEM, EIO, ENOSPC, EDQUOT, EROFS, EMFILE, ENFILE, ESTALE};

        for (size_t i = 0; i < ARRAY_LEN(codes); i++)
                assert_true(error_is_hosts(-codes[i]));
        assert_false(error_is_hosts(-EBADMSG) || error_is_hosts(-EINVAL) || error_is_hosts(-ENOENT));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_the_machine_says_is_the_hosts),
                cmocka_unit_test(what_a_task_says_has_its_class),
                cmocka_unit_test(an_import_is_tried_again_on_a_sick_machine),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
