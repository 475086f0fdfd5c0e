/* From a decision of the scheduler to a running worker: checkpoints to go on from, the attempt's row, its assignment.
 */
#pragma once

#include "daemon/scheduler.h"

/* The job's transition to running is on its way, or to failed when it can never start. False: it rests, since something
 * did not work. bytes: of memory that it needs, as far as that is known. */
bool start_job(struct daemon *d, struct job *j, uint64_t devices, int64_t bytes);
