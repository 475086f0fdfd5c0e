#include "daemon/life.h"

#include "base/macros.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>

const char *const life_names[] = {
#define S(state, entry) #state,
#define W(state, event, next)
#include "daemon/life.def"
#undef S
#undef W
        NULL};
static_assert(ARRAY_LEN(life_names) == LIFE_N + 1, "a name a state");

const char *const life_event_names[] = {"PROCESS", "NO_PROCESS", "FOUND",  "FOUND_CLOSED", "WRITE", "WRITE_OUTCOME",
                                        "WRITTEN", "REFUSED",    "RESTED", "EXIT",         NULL};
static_assert(ARRAY_LEN(life_event_names) == LIFE_EVENT_N + 1, "a name an event");

int life_next(enum life state, enum life_event event)
{
        static const struct {
                enum life state;
                enum life_event event;
                enum life next;
        } rows[] = {
#define S(state, entry)
#define W(state, event, next) {LIFE_##state, LIFE_##event, LIFE_##next},
#include "daemon/life.def"
#undef S
#undef W
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++)
                if (rows[i].state == state && rows[i].event == event)
                        return (int)rows[i].next;
        return -EINVAL;
}

bool life_has_process(enum life state)
{
        return life_next(state, LIFE_EXIT) >= 0;
}

bool life_is_closed(enum life state)
{
        return state == LIFE_LINGERING || state >= LIFE_OVER;
}

bool life_has_outcome(enum life state)
{
        return state == LIFE_CLOSING || state == LIFE_ENDED_CLOSING || life_is_closed(state);
}
