/* An event file of any bytes: what comes before the first bad place is read, and everything that is handed out can be
 * touched. A first byte of 0: the rest is the file; else the rest are events, a length of a byte or two before each,
 * in records with their checksums. A scalar that is read and written again is the same. */
#include "engine/formats/records.h"
#include "engine/formats/tfevents.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool what)
{
        if (!what)
                abort();
}

static void touch(const void *data, size_t n)
{
        unsigned sum = 0;

        for (size_t i = 0; i < n; i++)
                sum += ((const uint8_t *)data)[i];
        __asm__ volatile("" : : "r"(sum));
}

static void frame(const uint8_t *event, size_t n, struct buf *b)
{
        uint8_t head[RECORD_HEAD_BYTES], foot[RECORD_FOOT_BYTES];

        records_frame(event, n, head, foot);
        require(buf_append(b, head, sizeof head, NULL) == 0 && buf_append(b, event, n, NULL) == 0 &&
                buf_append(b, foot, sizeof foot, NULL) == 0);
}

static void frame_all(const uint8_t *data, size_t size, struct buf *b)
{
        while (size) {
                size_t n = *data++;

                size--;
                if (n >= 128 && size) {
                        n = (n & 127) | (size_t)*data++ << 7;
                        size--;
                }
                n = MIN(n, size);
                frame(data, n, b);
                data += n;
                size -= n;
        }
}

static bool read_first(int fd, struct tfevents_value *ret, char tag[1024])
{
        struct tfevents *t = NULL;
        struct error err = {0};
        char path[64];
        int r;

        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        require(tfevents_open(path, &t, &err) == 0);
        while ((r = tfevents_next(t, ret, &err)) > 0) {
                touch(ret->tag, ret->tag_bytes);
                touch(ret->image, ret->image_bytes);
                require(ret->kind != TFEVENTS_OTHER || ret->what);
                if (ret->kind == TFEVENTS_SCALAR && ret->tag_bytes < 1024 && !memchr(ret->tag, 0, ret->tag_bytes) &&
                    tag) {
                        memcpy(tag, ret->tag, ret->tag_bytes);
                        tag[ret->tag_bytes] = 0;
                        break;
                }
        }
        require(r >= 0 || ((r == -EBADMSG || r == -ENODATA || r == -E2BIG) && err.text[0]));
        require(tfevents_bytes_done(t) <= tfevents_bytes(t) && strlen(tfevents_version(t)) < 32);
        (void)tfevents_close(t);
        return r > 0;
}

static int file_of(const void *data, size_t size)
{
        int fd = memfd_create("events", MFD_CLOEXEC);

        require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
        return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct buf b = BUF_INIT((size_t)1 << 26), again = BUF_INIT((size_t)1 << 20);
        struct tfevents_value v, w;
        char tag[1024], tag_again[1024];
        int fd;

        if (size && data[0])
                frame_all(data + 1, size - 1, &b);
        else if (size)
                require(buf_append(&b, data + 1, size - 1, NULL) == 0);
        fd = file_of(b.data, b.size);
        (void)read_first(fd, &v, NULL);
        if (read_first(fd, &v, tag)) {
                int fd_again;

                require(tfevents_put_scalar(&again, v.wall, v.step, tag, v.scalar, NULL) == 0);
                fd_again = file_of(again.data, again.size);
                require(read_first(fd_again, &w, tag_again) && !strcmp(tag, tag_again) && w.step == v.step);
                require(w.scalar == v.scalar || (w.scalar != w.scalar && v.scalar != v.scalar));
                (void)close(fd_again);
        }
        (void)close(fd);
        buf_done(&b);
        buf_done(&again);
        return 0;
}
