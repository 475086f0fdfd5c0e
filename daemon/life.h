/* The states of a worker and what moves it from one to the next, by the table life.def. Pure. */
#pragma once

#include <stdbool.h>

enum life {
#define S(state, entry) LIFE_##state,
#define W(state, event, next)
#include "daemon/life.def"
#undef S
#undef W
        LIFE_N
};

enum life_event {
        LIFE_PROCESS,
        LIFE_NO_PROCESS,
        LIFE_FOUND,
        LIFE_FOUND_CLOSED,
        LIFE_WRITE,
        LIFE_WRITE_OUTCOME,
        LIFE_WRITTEN,
        LIFE_REFUSED,
        LIFE_RESTED,
        LIFE_EXIT,
        LIFE_EVENT_N
};

extern const char *const life_names[];
extern const char *const life_event_names[];

/* The next state, or -EINVAL: the event cannot happen there. */
int life_next(enum life state, enum life_event event);
/* It has a process, as far as is known. */
bool life_has_process(enum life state);
/* Its outcome is in the store, or on its way there: nothing more that it says counts. */
bool life_has_outcome(enum life state);
/* Its outcome is in the store. */
bool life_is_closed(enum life state);
