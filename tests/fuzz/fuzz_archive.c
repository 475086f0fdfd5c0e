/* A .tar.gz (or .tar: zlib passes it through) of anything is refused, or holds CIFAR-10. */
#include "tests/fuzz/import_one.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        import_one("x.tar.gz", data, size, 0);
        return 0;
}
