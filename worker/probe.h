/* Which devices this machine has. */
#pragma once

#include "base/json.h"

/* {"devices": [{backend, index, name, uuid, ..}], "cuda": why there is no GPU, or not each, where it is so}: the
 * processor, every GPU, and of those that are divided (MIG) every instance. The caller owns *ret. To be called before
 * anything else uses a GPU, from a process of one thread. */
int probe_devices(json_t **ret, struct error *err);
