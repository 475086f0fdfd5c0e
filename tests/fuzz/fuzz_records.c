/* The records of a file that is not what it should be end with an error, within the file. What was read before it is,
 * framed again, the same bytes. */
#include "engine/formats/records.h"
#include "tests/fuzz/import_one.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char shared[] = "/dev/shm/mulund-fuzz.XXXXXX", elsewhere[] = "/tmp/mulund-fuzz.XXXXXX";
        int fd = mkstemp(shared);
        const char *path = fd >= 0 ? shared : elsewhere;
        struct records *r = NULL;
        const uint8_t *record;
        struct error err = {0};
        size_t record_size, done = 0;
        int e;

        if (fd < 0)
                fd = mkstemp(elsewhere);
        require(fd >= 0 && write(fd, data, size) == (ssize_t)size && close(fd) == 0);
        require(records_open(path, 1 << 16, &r, &err) == 0);
        while ((e = records_next(r, &record, &record_size, &err)) > 0) {
                uint8_t head[RECORD_HEAD_BYTES], foot[RECORD_FOOT_BYTES];

                records_frame(record, record_size, head, foot);
                require(!memcmp(data + done, head, sizeof head) &&
                        !memcmp(data + done + sizeof head, record, record_size) &&
                        !memcmp(data + done + sizeof head + record_size, foot, sizeof foot));
                done += sizeof head + record_size + sizeof foot;
                require(records_bytes_done(r) == (int64_t)done);
        }
        require(e < 0 ? err.text[0] : done == size);
        r = records_free(r);
        require(unlink(path) == 0);
        return 0;
}
