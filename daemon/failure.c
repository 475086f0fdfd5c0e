#include "daemon/failure.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

const struct failure_rule failure_rules[] = {
#define F(name, text, retried, rests, blame) [FAILURE_##name] = {text, retried, rests, blame},
#include "daemon/failure.def"
#undef F
};

enum failure failure_of_error(enum error_class c)
{
        static const enum failure classes[] = {
                [ERROR_CONFIGURATION] = FAILURE_CONFIGURATION,
                [ERROR_NUMERIC] = FAILURE_NUMERIC,
                [ERROR_MEMORY] = FAILURE_MEMORY,
                [ERROR_DATA] = FAILURE_DATA,
                [ERROR_DEVICE] = FAILURE_DEVICE,
                [ERROR_HOST] = FAILURE_HOST,
        };
        static_assert(ARRAY_LEN(classes) == ERROR_CLASS_N, "a failure for each");

        return classes[c];
}

int64_t failure_wait_us(int64_t unit_us, int failures)
{
        return unit_us * MIN((int64_t)1 << MIN(failures - 1, 10), (int64_t)100);
}

void failure_note(enum failure f, const char *detail, struct attempt_row *ret)
{
        ret->outcome = OUTCOME_FAILED;
        (void)snprintf(ret->class, sizeof ret->class, "%s", failure_rules[f].name);
        (void)snprintf(ret->blame, sizeof ret->blame, "%s", failure_rules[f].blame);
        ret->detail = detail ? strdup(detail) : NULL;
}
