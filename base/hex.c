#include "base/hex.h"

void hex_write(const void *bytes, size_t n, char *ret)
{
        static const char digits[] = "0123456789abcdef";
        const unsigned char *b = bytes;

        for (size_t i = 0; i < n; i++) {
                *ret++ = digits[b[i] >> 4];
                *ret++ = digits[b[i] & 15];
        }
        *ret = 0;
}
