/* By the first byte: a TFRecord as it stands (even), or (odd) two records whose checksums are right, of what follows up
 * to the length in the second byte (times 16) and of the rest, so that what is behind the checksums is met, too. */
#include "engine/formats/records.h"
#include "tests/fuzz/import_one.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_record(struct buf *b, const uint8_t *data, size_t size)
{
        uint8_t head[RECORD_HEAD_BYTES], foot[RECORD_FOOT_BYTES];

        records_frame(data, size, head, foot);
        require(buf_append(b, head, sizeof head, NULL) == 0 && buf_append(b, data, size, NULL) == 0 &&
                buf_append(b, foot, sizeof foot, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct buf b = BUF_INIT((size_t)1 << 24);
        size_t first;

        if (size < 2)
                return 0;
        first = MIN((size_t)data[1] * 16, size - 2);
        if (data[0] & 1) {
                add_record(&b, data + 2, first);
                add_record(&b, data + 2 + first, size - 2 - first);
                import_one("x.tfrecord", (const uint8_t *)b.data, b.size, 0.5);
        } else {
                import_one("x.tfrecord", data + 2, size - 2, 0.5);
        }
        buf_done(&b);
        return 0;
}
