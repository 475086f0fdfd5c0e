/* A .npy, or by the first byte (odd) a .npz, of anything is refused, or holds images. */
#include "tests/fuzz/import_one.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (size)
                import_one(data[0] & 1 ? "x.npz" : "x.npy", data + 1, size - 1, 0.5);
        return 0;
}
