/* What the end of a worker means that said neither done nor error nor stopped. */
#pragma once

#include "daemon/worker.h"

/* The trigger; fills the write's detail and the worker's failure. */
enum job_trigger ending_of(struct worker *w, struct write *write);
