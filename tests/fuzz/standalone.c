/* Runs a fuzzer's function without libFuzzer: over each file of the folders given, and over mutations of it that are
 * the same every time. `program CORPUS ..`; a failure is a crash, as with libFuzzer. */
#include "base/file.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define MUTATIONS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t state;

static uint32_t below(uint32_t n)
{
        state = state * 1664525u + 1013904223u;
        return (uint32_t)((uint64_t)state * n >> 32);
}

/* Changes, cuts out or doubles a few bytes; returns the new size, at most size + 64. */
static size_t mutate(uint8_t *data, size_t size)
{
        for (uint32_t n = 1 + below(4); n--;) {
                size_t at = below((uint32_t)size + 1), length = 1 + below(16);

                length = MIN(length, size - at);
                switch (below(4)) {
                case 0:
                        if (length)
                                data[at] = (uint8_t)below(256);
                        break;
                case 1:
                        if (length)
                                data[at] ^= (uint8_t)(1u << below(8));
                        break;
                case 2:
                        memmove(data + at, data + at + length, size - at - length);
                        size -= length;
                        break;
                default:
                        memmove(data + at + length, data + at, size - at);
                        size += length;
                }
        }
        return size;
}

static void run_copy(const uint8_t *data, size_t size)
{
        uint8_t *copy = malloc(size ? size : 1); /* its own block, so that the sanitizer sees a read past the end */

        memcpy(copy, data, size);
        (void)LLVMFuzzerTestOneInput(copy, size);
        free(copy);
}

int main(int argc, char **argv)
{
        int n_files = 0;

        for (int i = 1; i < argc; i++) {
                DIR *d = opendir(argv[i]);
                struct dirent *e;

                while (d && (e = readdir(d))) {
                        struct buf b = BUF_INIT((size_t)1 << 24);
                        char path[PATH_MAX];
                        uint8_t *copy;

                        if (e->d_name[0] == '.')
                                continue;
                        (void)snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
                        if (file_read(path, &b, NULL) < 0 || !(copy = malloc(b.size + 64)))
                                return 2;
                        run_copy((const uint8_t *)(b.data ? b.data : ""), b.size);
                        state = (uint32_t)b.size; /* not the folder's order */
                        for (int k = 0; k < MUTATIONS; k++) {
                                memcpy(copy, b.data ? b.data : "", b.size);
                                run_copy(copy, mutate(copy, b.size));
                        }
                        free(copy);
                        buf_done(&b);
                        n_files++;
                }
                if (!d)
                        return 2;
                (void)closedir(d);
        }
        (void)printf("%d files and %d mutations of each\n", n_files, MUTATIONS);
        return n_files ? 0 : 2;
}
