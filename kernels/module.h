/* Back ends in modules, which are loaded when they are asked for, so that a machine without CUDA or
 * MPI runs the same binaries. Private to kernels/. */
#pragma once

#include "kernels/kernels.h"

/* libmulun-NAME.so in the folder that MULUN_MODULES names, else beside the running binary, else where it is
 * installed, as seen from there (MULUN_MODULES_FROM_HERE), and what it shows by that name. -ENODEV where it is not
 * there or cannot be loaded (its libraries are missing), with what the loader says, or shows nothing of that name.
 * Modules stay loaded. */
int module_symbol(const char *name, const char *symbol, void **ret, struct error *err);
/* The table of a back end's module. */
int module_load(const char *name, const struct kernels **ret, struct error *err);
