/* How the processes of a test are ranks of a group: by mpirun on the processor, or started by group_of on a CUDA
 * device. */
#pragma once

#include "contract/config.h"
#include "kernels/comm.h"

/* backend: "cpu" or "cuda=N", which makes N processes of this one and waits for them. */
struct group group_of(const char *backend);
/* Its name for kernels_find. */
const char *group_backend(void);
/* The emulated device: minutes for what the processor does in seconds, so that the largest cases are left out. */
bool group_slow(void);
/* machine.backend, and devices 1. */
void group_configure(struct config *c);
