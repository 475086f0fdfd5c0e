/* One PNG or JPEG image as 32 x 32 RGB.
 *
 * PNG: every colour type and depth, interlaced or not. Grey is repeated in the three channels, 16 bits are rounded to
 * 8, transparency is left out (the colours beneath stand), gamma and profiles are not applied.
 * JPEG: grey and three colours, baseline, progressive or arithmetic, 8 bits. Four colours (CMYK) are refused: without a
 * profile nobody knows what they look like. The orientation that a camera noted is not applied.
 *
 * Whatever libpng or libjpeg call an error, and what libjpeg warns of (data that are cut or damaged), is an error. */
#pragma once

#include "engine/dataset.h"

/* The size as it is stored. -EBADMSG: broken; -EOPNOTSUPP: not read; -E2BIG: more than 64 Mi pixels or 32,768 a side;
 * err says what, without a path. An image that is not 32 x 32 is cropped to the square at its centre, whose area is
 * averaged (exactly, rounded to nearest; a smaller image's pixels are repeated); fit false: it is refused, -EINVAL.
 * ret_resized: whether it was. */
int picture_read(const uint8_t *data, size_t size, bool fit, uint8_t ret[IMAGE_BYTES], bool *ret_resized,
                 struct error *err);
