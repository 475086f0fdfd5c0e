/* Runs a fuzzer's function over the files of the folders that are named: its corpus as a regression test, without
 * libFuzzer. Each input is copied into memory of its exact size, so that a read past its end is seen by ASan. */
#include "base/file.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_folder(const char *folder, int *n)
{
        struct dirent **entries = NULL;
        int count = scandir(folder, &entries, NULL, alphasort);

        for (int i = 0; i < count; i++) {
                _cleanup_(buf_done) struct buf b = BUF_INIT((size_t)16 << 20);
                char path[4096];
                struct error err;

                (void)snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
                if (entries[i]->d_name[0] != '.' && file_read(path, &b, &err) >= 0) {
                        uint8_t *copy = malloc(b.size ? b.size : 1);

                        if (!copy)
                                return -1;
                        if (b.size)
                                memcpy(copy, b.data, b.size);
                        (void)LLVMFuzzerTestOneInput(copy, b.size);
                        free(copy);
                        ++*n;
                }
                free(entries[i]);
        }
        free(entries);
        return count < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
        int n = 0;

        for (int i = 1; i < argc; i++)
                if (run_folder(argv[i], &n) < 0) {
                        (void)fprintf(stderr, "%s cannot be read\n", argv[i]);
                        return 1;
                }
        (void)printf("%d inputs\n", n);
        return n ? 0 : 1;
}
