/* Low disk is a state: below the reserve nothing new starts, and what runs goes on. A part of the reserve, enough for
 * the checkpoints of what runs, is a file that was allocated beforehand, STATE/reserve: whoever else fills the disk
 * does not take that. When little more than this is left, trainings and imports write a checkpoint and stop, for which
 * the file makes room; they go on by themselves when there is room again, with some between, so that it does not
 * flutter. */
#pragma once

#include "base/error.h"

struct daemon;

struct disk {
        bool low;
        int64_t free_bytes, reserve_bytes; /* free: with what is allocated; reserve 0: it is not watched */
        int64_t held_bytes;                /* of these, what is allocated */
};

/* What there is now, and what follows for a state that was low or not. On a failure it is not low. */
struct disk disk_read(const char *folder, int64_t reserve_bytes, bool was_low);
/* "" while it is not low. */
void disk_describe(const struct disk *disk, char *ret, size_t size);

/* Looks again, says a change in the log, allocates or gives back, stops what must, and looks later as long as there is
 * reason to. True: nothing may start. */
bool disk_check(struct daemon *d);
/* Gives back what is allocated: something that is to be written does not fit. */
void disk_release(struct daemon *d);
