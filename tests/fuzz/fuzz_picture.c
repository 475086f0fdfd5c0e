/* An image of any bytes is refused with a reason, or gives all of its 3,072 values. The checksums of a PNG's chunks are
 * put right first, so that what is behind them is met. */
#include "engine/data/picture.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void mend_checksums(uint8_t *data, size_t size)
{
        for (size_t at = 8; at + 12 <= size;) {
                uint32_t length, crc;

                memcpy(&length, data + at, sizeof length);
                length = be32toh(length);
                if (length > size - at - 12)
                        return;
                crc = htobe32((uint32_t)crc32(0, data + at + 4, length + 4));
                memcpy(data + at + 8 + length, &crc, sizeof crc);
                at += 12 + (size_t)length;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        uint8_t *copy = malloc(size ? size : 1), image[IMAGE_BYTES];
        struct error err = {0};
        bool resized = false;

        if (!copy)
                return 0;
        memcpy(copy, data, size);
        if (size && data[0] == 0x89)
                mend_checksums(copy, size);
        if (picture_read(copy, size, true, image, &resized, &err) < 0 && !err.text[0])
                abort();
        free(copy);
        return 0;
}
