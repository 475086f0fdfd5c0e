/* The convolver that is cuDNN: plans for a device that is not there. Private to kernels/cuda/ and its tests. */
#pragma once

#include "kernels/cuda/convolver.h"

/* Plans of this convolver know their ways and workspaces and cannot run. json:
 * CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION of a device, as cuDNN gave it there. -EBADMSG where it is none. */
int convolver_recorded(const char *json, struct convolver **ret, struct error *err);
