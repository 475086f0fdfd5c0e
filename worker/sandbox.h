/* What a worker's process may still do once it has its assignment and before it reads a byte of data: write below the
 * folders that it is given alone, read all but the daemon's own secrets (Landlock), and none of the system calls that a
 * worker has no use for (seccomp). What it starts, and each of its threads made afterwards, is bound in the same way;
 * there is no way back. */
#pragma once

#include "base/error.h"
#include "contract/event.h"

/* a: what is worked on; its folder, its plans' and that of an import's outcome stay writable, and what it names
 * readable; one with a data set alone only reads. $MULUN_HIDDEN: a line each FOLDER/PATTERN of what is not to be read.
 * ranks: it starts several processes that speak with each other (a launcher). $MULUN_SANDBOX=no: nothing is done. A
 * kernel without Landlock is no error: the daemon says it once. */
int sandbox_enter(const struct assignment *a, bool ranks, struct error *err);
