/* Low disk is a state: below the reserve nothing new starts, so that what runs can write its checkpoints; it ends by
 * itself, with some room between, so that it does not flutter. */
#pragma once

#include "base/error.h"

struct daemon;

struct disk {
        bool low;
        int64_t free_bytes, reserve_bytes; /* reserve 0: it is not watched */
};

/* What there is now, and what follows for a state that was low or not. On a failure it is not low. */
struct disk disk_read(const char *folder, int64_t reserve_bytes, bool was_low);
/* "" while it is not low. */
void disk_describe(const struct disk *disk, char *ret, size_t size);

/* Looks again, says a change in the log, and looks later as long as there is reason to. True: nothing may start. */
bool disk_check(struct daemon *d);
