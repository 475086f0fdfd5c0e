/* Bytes as lower-case hexadecimal digits. */
#pragma once

#include <stddef.h>

/* ret [2 n + 1]: two digits a byte, then a zero. */
void hex_write(const void *bytes, size_t n, char *ret);
