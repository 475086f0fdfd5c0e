/* What the end of a worker means that said neither done nor error nor stopped. */
#pragma once

#include "daemon/worker.h"

/* Of one that was asked to stop, or stopped by itself: the trigger; fills the write's detail and the attempt's outcome.
 */
enum job_trigger ending_stopped(struct worker *w, struct write *write);

/* The trigger; fills the write's detail, the attempt's outcome and the worker's failure. */
enum job_trigger ending_of(struct worker *w, struct write *write);
