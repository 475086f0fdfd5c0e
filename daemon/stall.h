/* A running job that makes no step any more: it is said in its events and in the log, once until it goes on, and where
 * the settings want that the job is paused, after a checkpoint if it can still write one. Nothing for ten times its
 * usual step (the median of its last ones), and at least the setting stalled-after, is too long; the first step may
 * take as long as the setting says. Of the loop's thread. */
#pragma once

#include "base/error.h"

struct event;
struct source;
struct worker;

#define STALL_STEPS 15 /* that the median is of */

struct stall {
        int64_t moved_us; /* monotonic; 0: it is not watched */
        int64_t step;     /* the last that was heard of; -1: none */
        int64_t steps_us[STALL_STEPS];
        size_t n_steps; /* all that there were */
        bool said;
        struct source *timer;
};

/* The attempt's process runs, or was found. */
void stall_begin(struct worker *w);
/* An event of it: progress counts when its step is another, whatever else it says counts. */
void stall_note(struct worker *w, const struct event *e);
void stall_end(struct worker *w);

/* How long it may make no step: a pure function. */
int64_t stall_patience_us(const struct stall *s, int64_t least_us);
