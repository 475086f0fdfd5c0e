/* A folder of any names, kinds and sizes is refused with a reason, or every image of it can be read. The input makes
 * the folder, a member after the other, at most 8:
 *
 *   1 byte   name: 0..7 of the table; else as many bytes as this & 31, which follow
 *   1 byte   kind: 0 folder, 1 dangling link, 2 FIFO, else a file
 *   2 bytes  size, little endian: in bytes where the kind is odd, else in images of 3,073 (mod 16)
 *   1 byte   what it is filled with */
#include "engine/dataset.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void make_member(const char *path, uint8_t kind, size_t size, uint8_t fill)
{
        _cleanup_(freep) char *content = NULL;

        if (kind == 0)
                (void)mkdir(path, 0700);
        else if (kind == 1)
                (void)!symlink("nowhere", path);
        else if (kind == 2)
                (void)mkfifo(path, 0600);
        else {
                FILE *f = fopen(path, "wx");

                content = malloc(size + 1);
                memset(content, fill, size);
                if (f) {
                        (void)fwrite(content, 1, size, f);
                        (void)fclose(f);
                }
        }
}

static void make_folder(const char *folder, const uint8_t *data, size_t size)
{
        static const char *const names[] = {"data_batch_1.bin",  "data_batch_2.bin", "data_batch_10.bin",
                                            "test_batch.bin",    "data_batch_.bin",  "data_batch_x.bin",
                                            "data_batch_01.bin", "batches.meta.txt"};

        for (int member = 0; member < 8 && size >= 5; member++) {
                char name[32] = "", path[128];
                size_t n = data[0] < ARRAY_LEN(names) ? 0 : MIN(data[0] & 31u, size - 5);
                const uint8_t *rest = data + 1 + n;
                size_t number = rest[1] | (size_t)rest[2] << 8;

                memcpy(name, n ? (const char *)data + 1 : "", n);
                for (size_t i = 0; i < n; i++)
                        name[i] = name[i] == '/' || !name[i] ? '_' : name[i];
                (void)snprintf(path, sizeof path, "%s/%s", folder, data[0] < ARRAY_LEN(names) ? names[data[0]] : name);
                make_member(path, rest[0], rest[0] & 1 ? number : number % 16 * 3073, rest[3]);
                size -= n + 5;
                data += n + 5;
        }
}

static void read_all(const struct dataset *d)
{
        char digest[DIGEST_SIZE];
        uint8_t image[IMAGE_BYTES];

        for (int s = 0; s < 2; s++) {
                int64_t n = dataset_count(d, (enum split)s);

                if (n < 1)
                        abort();
                for (int64_t i = 0; i < n; i++) {
                        dataset_image(d, (enum split)s, i, image);
                        if (memcmp(image, image + 1, IMAGE_BYTES - 1))
                                abort(); /* every file is of one byte */
                }
        }
        if (dataset_digest(d, digest, NULL) < 0 || strlen(digest) != DIGEST_SIZE - 1)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char folder[] = "/dev/shm/mulund-fuzz.XXXXXX", elsewhere[] = "/tmp/mulund-fuzz.XXXXXX";
        char *at = mkdtemp(folder) ? folder : mkdtemp(elsewhere);
        struct dataset *d = NULL;
        struct error err = {0};
        int r;

        if (!at)
                abort();
        make_folder(at, data, size);
        r = dataset_open(at, &d, &err);
        if (r == 0 ? !d : d || !err.text[0] || !err.path[0])
                abort();
        if (d)
                read_all(d);
        d = dataset_free(d);
        return file_remove_tree(at, NULL) < 0 ? (abort(), 0) : 0;
}
