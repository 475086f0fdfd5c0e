/* An attempt on several devices: a process on each, a rank, and this one, which the daemon knows. It starts the ranks
 * (on processors by mpirun), holds the attempt's lock for them, hands a request to stop on to the first, and waits for
 * all. When one ends badly all end; the first rank's own reason is the attempt's, else that of the rank that was first
 * to fail, with its device, which this process says then. A launcher that is killed leaves no rank behind: each dies
 * with the process that started it. */
#pragma once

#include "contract/config.h"
#include "contract/event.h"

/* On how many devices an attempt runs: as many as the assignment lists; without a list `asked` (0: nothing was asked)
 * or what the configuration says. 1 but for training and evaluation. */
int launcher_ranks(const struct assignment *a, int asked);
/* Runs it on n devices to its end, those of the assignment's list or, without one, n parts of the processor's cores or
 * the first n GPUs, which it adds to a. The exit code. */
int launcher_run(struct assignment *a, const struct config *c, int n);
