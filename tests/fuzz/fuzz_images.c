/* A file of ours that is not is refused; one that opens can be read to its end, and its digest is its header's or told
 * to be another. */
#include "tests/fuzz/import_one.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        import_one("x.images", data, size, 0);
        return 0;
}
