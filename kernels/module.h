/* Back ends in modules, which are loaded when they are asked for, so that a machine without CUDA runs the same
 * binaries. Private to kernels/. */
#pragma once

#include "kernels/kernels.h"

/* libmulun-NAME.so in the folder that MULUN_MODULES names, else beside the running binary, else in ../lib/mulund from
 * there. -ENODEV where it is not there or cannot be loaded (its libraries are missing), with what the loader says.
 * Modules stay loaded. */
int module_load(const char *name, const struct kernels **ret, struct error *err);
