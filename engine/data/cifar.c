/* CIFAR-10's binary version (Krizhevsky 2009; www.cs.toronto.edu/~kriz/cifar.html), a folder of
 *
 *   data_batch_1.bin, data_batch_2.bin, ..   training images; files in the order of their numbers, which may have gaps
 *   test_batch.bin                           test images
 *
 * A file is images of 3,073 bytes without header, as many as it holds:
 *
 *   0     1 byte      label (not read: the models have no classes)
 *   1     1024 bytes  red plane, 32 rows of 32, top row first
 *   1025  1024 bytes  green plane
 *   2049  1024 bytes  blue plane
 *
 * Valid: at least one training file, the test file, each a regular file of n x 3,073 bytes with n > 0. Other files are
 * not looked at, but a data_batch_*.bin whose * is no number is refused rather than left out in silence.
 *
 * Files are mapped (MAP_PRIVATE, read only), so that jobs on the same machine share the page
 * cache's one copy, and an image costs a gather of 3 KiB.
 *
 * Assumed: nobody cuts a file in place while it is mapped, and its disk can be read; either would end the process by
 * SIGBUS when the page is touched. Whoever replaces a data set renames new files into place: the mapping then keeps
 * the old ones. The digest, which is taken when a job starts, does not go through the mapping: it reads the same open
 * files and tells such a change as an error. Nothing here changes after cifar_open, so any thread may read. */
#include "engine/data/digest.h"
#include "engine/data/reader.h"

#include <assert.h>
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define LABEL_MAX 9
#define RECORD_BYTES (1 + IMAGE_BYTES)
#define FILES_MAX 256 /* each keeps a descriptor */
#define TEST_NUMBER INT64_MAX

struct cifar_file {
        char name[NAME_MAX + 1];
        int64_t number; /* of the batch; TEST_NUMBER for the test file, which so comes last */
        int fd;
        const uint8_t *map;
        size_t bytes;
        int64_t first, n_images; /* first: index in its split of its first image */
};

struct cifar {
        char folder[PATH_MAX];
        size_t n_files;
        struct cifar_file *files; /* training files by number, then the test file */
        int64_t count[2];         /* by split */
};

/* 1: a training file with *ret_number; 0: not of this format; TEST_NUMBER in *ret_number for the test file;
 * negative: looks like a batch, but has no number. */
static int parse_name(const char *name, int64_t *ret_number)
{
        static const char prefix[] = "data_batch_", suffix[] = ".bin";
        size_t n = strlen(name), n_digits;
        int64_t number = 0;

        if (!strcmp(name, "test_batch.bin")) {
                *ret_number = TEST_NUMBER;
                return 1;
        }
        if (n < sizeof prefix - 1 + sizeof suffix - 1 || strncmp(name, prefix, sizeof prefix - 1) ||
            strcmp(name + n - (sizeof suffix - 1), suffix))
                return 0;
        n_digits = n - (sizeof prefix - 1) - (sizeof suffix - 1);
        if (n_digits < 1 || n_digits > 9)
                return -EBADMSG;
        for (const char *p = name + sizeof prefix - 1; n_digits--; p++) {
                if (*p < '0' || *p > '9')
                        return -EBADMSG;
                number = 10 * number + (*p - '0');
        }
        *ret_number = number;
        return 1;
}

static int cifar_recognise(const char *folder, struct error *err)
{
        _cleanup_(closedirp) DIR *d = opendir(folder);
        struct dirent *e;
        int64_t number;

        if (!d)
                return error_set(err, -errno, folder, "the folder cannot be opened: %s", strerror(errno));
        while ((errno = 0, e = readdir(d)))
                if (parse_name(e->d_name, &number))
                        return 1;
        return errno ? error_set(err, -errno, folder, "the folder cannot be read: %s", strerror(errno)) : 0;
}

static int add_file(struct cifar *c, const char *name, int64_t number, struct error *err)
{
        struct cifar_file *files;

        if (c->n_files == FILES_MAX)
                return error_set(err, -EBADMSG, c->folder, "more than %d batch files", FILES_MAX);
        files = realloc(c->files, (c->n_files + 1) * sizeof *files);
        if (!files)
                return error_set(err, -ENOMEM, c->folder, "no memory to list it");
        c->files = files;
        files[c->n_files] = (struct cifar_file){.number = number, .fd = -1};
        (void)snprintf(files[c->n_files].name, sizeof files->name, "%s", name);
        c->n_files++;
        return 0;
}

static int list_files(struct cifar *c, struct error *err)
{
        _cleanup_(closedirp) DIR *d = opendir(c->folder);
        struct dirent *e;

        if (!d)
                return error_set(err, -errno, c->folder, "the folder cannot be opened: %s", strerror(errno));
        while ((errno = 0, e = readdir(d))) {
                int64_t number;
                int r = parse_name(e->d_name, &number);

                if (r < 0) {
                        char path[2 * PATH_MAX];

                        (void)snprintf(path, sizeof path, "%s/%s", c->folder, e->d_name);
                        return error_set(err, r, path,
                                         "a batch file without a number; expected data_batch_1.bin and so on");
                }
                if (r > 0) {
                        r = add_file(c, e->d_name, number, err);
                        if (r < 0)
                                return r;
                }
        }
        return errno ? error_set(err, -errno, c->folder, "the folder cannot be read: %s", strerror(errno)) : 0;
}

static int by_number(const void *a, const void *b)
{
        const struct cifar_file *x = a, *y = b;

        if (x->number != y->number)
                return x->number < y->number ? -1 : 1;
        return strcmp(x->name, y->name); /* data_batch_01.bin beside data_batch_1.bin */
}

static int map_file(const struct cifar *c, struct cifar_file *f, struct error *err)
{
        char path[2 * PATH_MAX];
        struct stat st;
        void *map;

        (void)snprintf(path, sizeof path, "%s/%s", c->folder, f->name);
        /* not blocking: a FIFO of that name would wait for its writer */
        f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (f->fd < 0)
                return error_set(err, -errno, path, "cannot be opened: %s", strerror(errno));
        if (fstat(f->fd, &st) < 0)
                return error_set(err, -errno, path, "cannot be read: %s", strerror(errno));
        if (!S_ISREG(st.st_mode))
                return error_set(err, -EBADMSG, path, "%s; expected a file of images of %d bytes",
                                 S_ISDIR(st.st_mode) ? "is a folder" : "is not a regular file", RECORD_BYTES);
        if (st.st_size == 0)
                return error_set(err, -EBADMSG, path, "is empty; expected images of %d bytes", RECORD_BYTES);
        if (st.st_size % RECORD_BYTES)
                return error_set(err, -EBADMSG, path,
                                 "has %lld bytes, which is not a multiple of %d, the bytes of an image: cut %lld bytes "
                                 "into image %lld",
                                 (long long)st.st_size, RECORD_BYTES, (long long)(st.st_size % RECORD_BYTES),
                                 (long long)(st.st_size / RECORD_BYTES));
        map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, f->fd, 0);
        if (map == MAP_FAILED)
                return error_set(err, -errno, path, "cannot be mapped: %s", strerror(errno));
        f->map = map;
        f->bytes = (size_t)st.st_size;
        f->n_images = st.st_size / RECORD_BYTES;
        /* records of another size divide evenly now and then; their first bytes are no labels */
        for (int64_t i = 0; i < f->n_images; i++)
                if (f->map[i * RECORD_BYTES] > LABEL_MAX)
                        return error_set(
                                err, -EBADMSG, path,
                                "image %lld has label %d; expected labels of 0 to %d: are its records of %d bytes?",
                                (long long)i, f->map[i * RECORD_BYTES], LABEL_MAX, RECORD_BYTES);
        return 0;
}

static void cifar_close(void *reader)
{
        struct cifar *c = reader;

        for (size_t i = 0; i < c->n_files; i++) {
                if (c->files[i].map)
                        (void)munmap((void *)c->files[i].map, c->files[i].bytes);
                if (c->files[i].fd >= 0)
                        (void)close(c->files[i].fd);
        }
        free(c->files);
        free(c);
}

static void cifar_closep(struct cifar **c)
{
        if (*c)
                cifar_close(*c);
}

static int cifar_open(const char *folder, void **ret, struct error *err)
{
        _cleanup_(cifar_closep) struct cifar *c = calloc(1, sizeof *c);
        char path[2 * PATH_MAX];
        int r;

        if (!c)
                return error_set(err, -ENOMEM, folder, "no memory to open it");
        if (strlen(folder) >= sizeof c->folder)
                return error_set(err, -ENAMETOOLONG, folder, "the path is too long");
        (void)snprintf(c->folder, sizeof c->folder, "%s", folder);
        r = list_files(c, err);
        if (r < 0)
                return r;
        if (c->n_files)
                qsort(c->files, c->n_files, sizeof *c->files, by_number);
        if (!c->n_files || c->files[0].number == TEST_NUMBER) {
                (void)snprintf(path, sizeof path, "%s/data_batch_1.bin", folder);
                return error_set(err, -ENOENT, path, "is missing: the folder has no training images");
        }
        if (c->files[c->n_files - 1].number != TEST_NUMBER) {
                (void)snprintf(path, sizeof path, "%s/test_batch.bin", folder);
                return error_set(err, -ENOENT, path, "is missing: the folder has no test images");
        }
        for (size_t i = 0; i < c->n_files; i++) {
                struct cifar_file *f = &c->files[i];
                int64_t *count = &c->count[f->number == TEST_NUMBER ? SPLIT_TEST : SPLIT_TRAIN];

                r = map_file(c, f, err);
                if (r < 0)
                        return r;
                f->first = *count;
                *count += f->n_images;
        }
        *ret = TAKE_PTR(c);
        return 0;
}

static int64_t cifar_count(const void *reader, enum split split)
{
        const struct cifar *c = reader;

        return c->count[split];
}

static void cifar_image(const void *reader, enum split split, int64_t index, uint8_t ret[IMAGE_BYTES])
{
        const struct cifar *c = reader;
        const struct cifar_file *f = split == SPLIT_TEST ? &c->files[c->n_files - 1] : c->files;

        assert(index >= 0 && index < c->count[split]);
        while (index >= f->first + f->n_images)
                f++;
        image_from_planes(f->map + (size_t)(index - f->first) * RECORD_BYTES + 1, ret);
}

/* What is odd in the files' numbering: numbers that are missing before the last one, or twice. */
static void cifar_remark(const void *reader, char *ret, size_t size)
{
        const struct cifar *c = reader;
        size_t n = 0;

        ret[0] = 0;
        for (size_t i = 0; i < c->n_files && c->files[i].number != TEST_NUMBER && n < size; i++) {
                int64_t number = c->files[i].number, expected = i ? c->files[i - 1].number + 1 : MIN(number, 1);
                const char *between = n ? "; " : "";

                if (number == expected + 1)
                        n += (size_t)snprintf(ret + n, size - n, "%sdata_batch_%lld.bin is missing", between,
                                              (long long)expected);
                else if (number > expected)
                        n += (size_t)snprintf(ret + n, size - n,
                                              "%sdata_batch_%lld.bin to data_batch_%lld.bin are missing", between,
                                              (long long)expected, (long long)number - 1);
                else if (number < expected)
                        n += (size_t)snprintf(ret + n, size - n, "%sbatch %lld is there twice", between,
                                              (long long)number);
        }
}

static int digest_batch(const struct cifar *c, const struct cifar_file *f, struct digest *digest, struct error *err)
{
        uint64_t size = htole64(f->bytes);
        char path[2 * PATH_MAX];

        (void)snprintf(path, sizeof path, "%s/%s", c->folder, f->name);
        digest_add(digest, f->name, strlen(f->name) + 1);
        digest_add(digest, &size, sizeof size);
        return digest_add_file(digest, f->fd, 0, (int64_t)f->bytes, path, err);
}

/* For each file, training files by number and then the test file: its name with a NUL, its size as a little-endian
 * u64, its bytes. The folder's own name does not count. */
static int cifar_digest(const void *reader, char ret[DIGEST_SIZE], struct error *err)
{
        const struct cifar *c = reader;
        _cleanup_(digest_freep) struct digest *digest = NULL;
        int r = digest_new(c->folder, &digest, err);

        for (size_t i = 0; i < c->n_files && r >= 0; i++)
                r = digest_batch(c, &c->files[i], digest, err);
        if (r < 0)
                return r;
        digest_text(digest, ret);
        return 0;
}

const struct dataset_reader cifar_reader = {
        .format = "cifar10",
        .recognise = cifar_recognise,
        .open = cifar_open,
        .close = cifar_close,
        .count = cifar_count,
        .image = cifar_image,
        .remark = cifar_remark,
        .digest = cifar_digest,
};
