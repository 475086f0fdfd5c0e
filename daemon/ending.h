/* What the end of a worker means that said neither done nor error nor stopped. */
#pragma once

#include "daemon/worker.h"

/* Of one that was asked to stop, or stopped by itself: the trigger; fills the write's detail and the attempt's outcome.
 */
enum job_trigger ending_stopped(struct worker *w, struct write *write);

/* Of one that failed and not by its job's fault: again from its last checkpoint, but where its limit of failures is
 * used up. said: what happened. Fills the write's detail, and the job's error. */
enum job_trigger ending_failed(struct worker *w, enum failure f, const char *said, struct write *write);

/* The trigger; fills the write's detail, the attempt's outcome and the worker's failure. */
enum job_trigger ending_of(struct worker *w, struct write *write);
