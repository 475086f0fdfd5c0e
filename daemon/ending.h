/* What the end of a worker means that said neither done nor error nor stopped. */
#pragma once

#include "daemon/worker.h"

#define LOSSES_MAX 3 /* attempts in a row without a word and without a new checkpoint */

/* The trigger; fills the write's detail and, when the job fails, its error. */
enum job_trigger ending_of(struct worker *w, struct write *write);
/* It counts as a loss: it had its chance, and nobody asked it to end. */
bool ending_counts(const struct worker *w);
