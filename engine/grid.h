/* PNG grids of samples, through libpng. */
#pragma once

#include "base/file.h"

/* images [n, 32, 32, 3] values 0..255, row-major in a grid of `columns` columns, 2 pixels of gap; written atomically.
 */
int grid_write_png(const char *path, const uint8_t *images, int64_t n, int64_t columns, char ret_digest[DIGEST_SIZE],
                   int64_t *ret_bytes, struct error *err);
