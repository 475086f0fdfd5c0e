/* Classes of failures: whether one is retried, whether its device rests meanwhile, whose it is. */
#pragma once

#include "store/store.h"

enum failure {
#define F(name, text, retried, rests, blame) FAILURE_##name,
#include "daemon/failure.def"
#undef F
        FAILURE_N,
        FAILURE_NONE = FAILURE_N
};

struct failure_rule {
        const char *name;
        bool retried, rests;
        const char *blame; /* whose it is */
};
extern const struct failure_rule failure_rules[FAILURE_N];

/* The class that a worker's error event names. */
enum failure failure_of_error(enum error_class c);
/* How long to wait after so many failures in a row (from 1): the unit, doubled each time, up to 100 units. */
int64_t failure_wait_us(int64_t unit_us, int failures);

/* An attempt's end, as its row says it. detail: copied, may be NULL. */
void failure_note(enum failure f, const char *detail, struct attempt_row *ret);
