/* The format is in images.h. Read as data/cifar.c reads its files, with the same assumptions. */
#include "engine/data/images.h"

#include "contract/text.h"
#include "engine/data/digest.h"
#include "engine/data/reader.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MAGIC_BYTES (sizeof IMAGES_MAGIC - 1)
#define TEXT_BYTES (IMAGES_HEADER_BYTES - MAGIC_BYTES)
#define VERSION 1
#define COUNT_MAX ((int64_t)1 << 40) /* images of a split: (2 COUNT_MAX) x IMAGE_BYTES fits */
#define CHUNK_IMAGES 64

struct images {
        char path[PATH_MAX];
        int fd;
        const uint8_t *map;
        size_t bytes;
        int64_t count[2]; /* by split */
        char digest[DIGEST_SIZE];
        double mean[IMAGE_CHANNELS];
        json_t *header;
};

static int images_recognise(const char *path, struct error *err)
{
        /* not blocking: a FIFO would wait for its writer */
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        char magic[MAGIC_BYTES];
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return error_set(err, -errno, path, "cannot be opened: %s", strerror(errno));
        return S_ISREG(st.st_mode) && pread(fd, magic, sizeof magic, 0) == (ssize_t)sizeof magic &&
               !memcmp(magic, IMAGES_MAGIC, sizeof magic);
}

static void images_close(void *reader)
{
        struct images *f = reader;

        if (f->map)
                (void)munmap((void *)f->map, f->bytes);
        if (f->fd >= 0)
                (void)close(f->fd);
        json_decref(f->header);
        free(f);
}

static void images_closep(struct images **f)
{
        if (*f)
                images_close(*f);
}

static int map_file(struct images *f, struct error *err)
{
        struct stat st;
        void *map;

        f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (f->fd < 0 || fstat(f->fd, &st) < 0)
                return error_set(err, -errno, f->path, "cannot be opened: %s", strerror(errno));
        if (!S_ISREG(st.st_mode) || st.st_size < IMAGES_HEADER_BYTES)
                return error_set(err, -EBADMSG, f->path, "has %lld bytes, fewer than its header of %d",
                                 (long long)st.st_size, IMAGES_HEADER_BYTES);
        map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, f->fd, 0);
        if (map == MAP_FAILED)
                return error_set(err, -errno, f->path, "cannot be mapped: %s", strerror(errno));
        f->map = map;
        f->bytes = (size_t)st.st_size;
        return 0;
}

static int read_shape(const json_t *header, struct error *err)
{
        static const int64_t expected[] = {IMAGE_SIDE, IMAGE_SIDE, IMAGE_CHANNELS};
        json_t *shape = NULL;
        int r = json_get_container(header, "", "shape", JSON_ARRAY, &shape, err);
        bool same = r > 0 && json_array_size(shape) == ARRAY_LEN(expected);

        if (r < 0)
                return r;
        for (size_t i = 0; same && i < ARRAY_LEN(expected); i++)
                same = json_is_integer(json_array_get(shape, i)) &&
                       json_integer_value(json_array_get(shape, i)) == expected[i];
        return same ? 0 : error_set(err, -EINVAL, "/shape", "expected [32, 32, 3]");
}

static int read_mean(const json_t *header, double ret[IMAGE_CHANNELS], struct error *err)
{
        json_t *mean = NULL;
        int r = json_get_container(header, "", "mean", JSON_ARRAY, &mean, err);
        bool good = r > 0 && json_array_size(mean) == IMAGE_CHANNELS;

        if (r < 0)
                return r;
        for (size_t k = 0; good && k < IMAGE_CHANNELS; k++) {
                const json_t *v = json_array_get(mean, k);

                ret[k] = json_number_value(v);
                good = json_is_number(v) && ret[k] >= 0 && ret[k] <= 255;
        }
        return good ? 0 : error_set(err, -EINVAL, "/mean", "expected three numbers from 0 to 255");
}

static int read_digest(const json_t *header, char ret[DIGEST_SIZE], struct error *err)
{
        const char *digest = "";
        int r = json_get_string(header, "", "digest", DIGEST_SIZE - 1, &digest, err);

        if (r < 0)
                return r;
        if (!text_is_digest(digest))
                return error_set(err, -EINVAL, "/digest", "expected 32 hexadecimal digits");
        (void)snprintf(ret, DIGEST_SIZE, "%s", digest);
        return 0;
}

static int read_header(struct images *f, struct error *err)
{
        static const char *const keys[] = {"version", "shape", "train", "test", "digest", "mean", "provenance", NULL};
        json_t *provenance = NULL;
        int64_t version = 0;
        int r = json_parse((const char *)f->map + MAGIC_BYTES, TEXT_BYTES, &f->header, err);

        if (r < 0)
                return r;
        if (!json_is_object(f->header))
                return error_set(err, -EINVAL, "", "expected an object");
        r = json_get_int(f->header, "", "version", 0, INT32_MAX, &version, err);
        if (r < 0)
                return r;
        if (version != VERSION)
                return error_set(err, -EINVAL, "/version", "is %lld; this release reads version %d", (long long)version,
                                 VERSION);
        if ((r = json_only_keys(f->header, "", keys, err)) < 0 || (r = read_shape(f->header, err)) < 0 ||
            (r = json_get_int(f->header, "", "train", 1, COUNT_MAX, &f->count[SPLIT_TRAIN], err)) < 0 ||
            (r = json_get_int(f->header, "", "test", 1, COUNT_MAX, &f->count[SPLIT_TEST], err)) < 0 ||
            (r = read_digest(f->header, f->digest, err)) < 0 || (r = read_mean(f->header, f->mean, err)) < 0 ||
            (r = json_get_container(f->header, "", "provenance", JSON_OBJECT, &provenance, err)) < 0)
                return r;
        if (!f->count[SPLIT_TRAIN] || !f->count[SPLIT_TEST] || !provenance)
                return error_set(err, -EINVAL, "", "expected train, test and provenance");
        return 0;
}

static int images_open(const char *path, void **ret, struct error *err)
{
        _cleanup_(images_closep) struct images *f = calloc(1, sizeof *f);
        struct error inner;
        int64_t expected;
        int r;

        if (!f)
                return error_set(err, -ENOMEM, path, "no memory to open it");
        f->fd = -1;
        if (strlen(path) >= sizeof f->path)
                return error_set(err, -ENAMETOOLONG, path, "the path is too long");
        (void)snprintf(f->path, sizeof f->path, "%s", path);
        r = map_file(f, err);
        if (r < 0)
                return r;
        if (memcmp(f->map, IMAGES_MAGIC, MAGIC_BYTES) != 0)
                return error_set(err, -EBADMSG, path, "does not begin with %s", IMAGES_MAGIC);
        r = read_header(f, &inner);
        if (r < 0)
                return error_set(err, r == -ENOMEM ? r : -EBADMSG, path, "its header is not valid: %s%s%s", inner.path,
                                 inner.path[0] ? ": " : "", inner.text);
        expected = IMAGES_HEADER_BYTES + (f->count[SPLIT_TRAIN] + f->count[SPLIT_TEST]) * IMAGE_BYTES;
        if ((int64_t)f->bytes != expected)
                return error_set(err, -EBADMSG, path, "has %zu bytes; expected %lld for %lld and %lld images", f->bytes,
                                 (long long)expected, (long long)f->count[SPLIT_TRAIN],
                                 (long long)f->count[SPLIT_TEST]);
        *ret = TAKE_PTR(f);
        return 0;
}

static int64_t images_count(const void *reader, enum split split)
{
        const struct images *f = reader;

        return f->count[split];
}

static void images_image(const void *reader, enum split split, int64_t index, uint8_t ret[IMAGE_BYTES])
{
        const struct images *f = reader;
        int64_t at = index + (split == SPLIT_TEST ? f->count[SPLIT_TRAIN] : 0);

        assert(index >= 0 && index < f->count[split]);
        memcpy(ret, f->map + IMAGES_HEADER_BYTES + (size_t)at * IMAGE_BYTES, IMAGE_BYTES);
}

static void digest_counts(struct digest *d, const int64_t count[2])
{
        uint64_t counts[2] = {htole64((uint64_t)count[SPLIT_TRAIN]), htole64((uint64_t)count[SPLIT_TEST])};

        digest_add(d, counts, sizeof counts);
}

static int images_digest(const void *reader, char ret[DIGEST_SIZE], struct error *err)
{
        const struct images *f = reader;
        _cleanup_(digest_freep) struct digest *digest = NULL;
        char found[DIGEST_SIZE];
        int r = digest_new(f->path, &digest, err);

        if (r < 0)
                return r;
        digest_counts(digest, f->count);
        r = digest_add_file(digest, f->fd, IMAGES_HEADER_BYTES, (int64_t)f->bytes - IMAGES_HEADER_BYTES, f->path, err);
        if (r < 0)
                return r;
        digest_text(digest, found);
        if (strcmp(found, f->digest) != 0)
                return error_set(err, -EBADMSG, f->path, "its images have the digest %s; its header says %s: altered",
                                 found, f->digest);
        (void)snprintf(ret, DIGEST_SIZE, "%s", found);
        return 0;
}

static void images_mean(const void *reader, double ret[IMAGE_CHANNELS])
{
        const struct images *f = reader;

        memcpy(ret, f->mean, sizeof f->mean);
}

static const json_t *images_provenance(const void *reader)
{
        const struct images *f = reader;

        return json_object_get(f->header, "provenance");
}

const struct dataset_reader images_reader = {
        .format = "images",
        .recognise = images_recognise,
        .open = images_open,
        .close = images_close,
        .count = images_count,
        .image = images_image,
        .digest = images_digest,
        .mean = images_mean,
        .provenance = images_provenance,
};

/* ---- writing. The images' digest begins with their counts, which are known last: it is taken of the written file. */

struct pile { /* images of a split that wait to be written together */
        size_t n;
        uint8_t images[CHUNK_IMAGES * IMAGE_BYTES];
};

struct images_writer {
        char path[PATH_MAX];
        struct file_writer *file;
        int test_fd; /* of the nameless file */
        int64_t count[2];
        uint64_t sum[IMAGE_CHANNELS]; /* of the training images */
        struct pile pile[2];
};

int images_writer_new(const char *path, struct images_writer **ret, struct error *err)
{
        static const char header[IMAGES_HEADER_BYTES];
        _cleanup_(images_writer_freep) struct images_writer *w = calloc(1, sizeof *w);
        char folder[PATH_MAX];
        int r;

        if (!w)
                return error_set(err, -ENOMEM, path, "no memory to write it");
        w->test_fd = -1;
        r = file_writer_new(path, &w->file, err);
        if (r < 0)
                return r;
        (void)snprintf(w->path, sizeof w->path, "%s", path);
        (void)snprintf(folder, sizeof folder, "%s", path);
        w->test_fd = open(dirname(folder), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (w->test_fd < 0)
                return error_set(err, -errno, path, "a temporary file cannot be made beside it: %s", strerror(errno));
        r = file_writer_append(w->file, header, sizeof header, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(w);
        return 0;
}

struct images_writer *images_writer_free(struct images_writer *w)
{
        if (!w)
                return NULL;
        w->file = file_writer_free(w->file);
        if (w->test_fd >= 0)
                (void)close(w->test_fd);
        free(w);
        return NULL;
}

int64_t images_writer_count(const struct images_writer *w, enum split split)
{
        return w->count[split];
}

static int keep_test_images(struct images_writer *w, const uint8_t *data, size_t size, struct error *err)
{
        while (size) {
                ssize_t n = write(w->test_fd, data, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set(err, -errno, w->path, "its test images cannot be written: %s",
                                         strerror(errno));
                data += n;
                size -= (size_t)n;
        }
        return 0;
}

static int write_pile(struct images_writer *w, enum split split, struct error *err)
{
        struct pile *p = &w->pile[split];
        int r = split == SPLIT_TEST ? keep_test_images(w, p->images, p->n * IMAGE_BYTES, err)
                                    : file_writer_append(w->file, p->images, p->n * IMAGE_BYTES, err);

        p->n = 0;
        return r;
}

int images_writer_add(struct images_writer *w, enum split split, const uint8_t image[IMAGE_BYTES], struct error *err)
{
        struct pile *p = &w->pile[split];

        if (w->count[split] == COUNT_MAX)
                return error_set(err, -E2BIG, w->path, "more than %lld images", (long long)COUNT_MAX);
        memcpy(p->images + p->n * IMAGE_BYTES, image, IMAGE_BYTES);
        w->count[split]++;
        if (split == SPLIT_TRAIN)
                image_add(image, w->sum);
        return ++p->n == CHUNK_IMAGES ? write_pile(w, split, err) : 0;
}

static int append_test_images(struct images_writer *w, struct error *err)
{
        uint8_t *chunk = w->pile[SPLIT_TEST].images; /* empty by now */
        off_t done = 0;
        ssize_t n;

        while ((n = pread(w->test_fd, chunk, sizeof w->pile->images, done)) != 0) {
                int r;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set(err, -errno, w->path, "its test images cannot be read: %s", strerror(errno));
                r = file_writer_append(w->file, chunk, (size_t)n, err);
                if (r < 0)
                        return r;
                done += n;
        }
        return 0;
}

static int write_header(struct images_writer *w, const json_t *provenance, const char *digest, const double mean[3],
                        struct error *err)
{
        _cleanup_json_ json_t *header = json_pack(
                "{s:i, s:[i,i,i], s:I, s:I, s:s, s:[f,f,f], s:O}", "version", VERSION, "shape", IMAGE_SIDE, IMAGE_SIDE,
                IMAGE_CHANNELS, "train", (json_int_t)w->count[SPLIT_TRAIN], "test", (json_int_t)w->count[SPLIT_TEST],
                "digest", digest, "mean", mean[0], mean[1], mean[2], "provenance", provenance);
        _cleanup_(freep) char *text = json_to_text(header);
        char bytes[IMAGES_HEADER_BYTES];

        if (!text)
                return error_set(err, -ENOMEM, w->path, "no memory for its header");
        if (strlen(text) >= TEXT_BYTES)
                return error_set(err, -E2BIG, w->path, "its header has no room for %zu bytes of JSON", strlen(text));
        memset(bytes, ' ', sizeof bytes);
        memcpy(bytes, IMAGES_MAGIC, MAGIC_BYTES);
        memcpy(bytes + MAGIC_BYTES, text, strlen(text));
        bytes[sizeof bytes - 1] = '\n';
        return file_writer_overwrite(w->file, 0, bytes, sizeof bytes, err);
}

static int digest_written(const struct images_writer *w, char ret[DIGEST_SIZE], struct error *err)
{
        _cleanup_(digest_freep) struct digest *digest = NULL;
        int r = digest_new(w->path, &digest, err);

        if (r < 0)
                return r;
        digest_counts(digest, w->count);
        r = digest_add_file(digest, file_writer_fd(w->file), IMAGES_HEADER_BYTES,
                            (w->count[SPLIT_TRAIN] + w->count[SPLIT_TEST]) * IMAGE_BYTES, w->path, err);
        if (r >= 0)
                digest_text(digest, ret);
        return r;
}

int images_writer_commit(struct images_writer *w, const json_t *provenance, char ret_digest[DIGEST_SIZE],
                         double ret_mean[IMAGE_CHANNELS], struct error *err)
{
        double mean[IMAGE_CHANNELS];
        char digest[DIGEST_SIZE];
        int r;

        for (int s = 0; s < 2; s++)
                if (!w->count[s])
                        return error_set(err, -EINVAL, w->path, "there are no %s images", split_names[s]);
        for (size_t k = 0; k < IMAGE_CHANNELS; k++)
                mean[k] = (double)w->sum[k] / (double)(w->count[SPLIT_TRAIN] * IMAGE_PIXELS);
        if ((r = write_pile(w, SPLIT_TRAIN, err)) < 0 || (r = write_pile(w, SPLIT_TEST, err)) < 0 ||
            (r = append_test_images(w, err)) < 0 || (r = digest_written(w, digest, err)) < 0 ||
            (r = write_header(w, provenance, digest, mean, err)) < 0 ||
            (r = file_writer_commit(w->file, NULL, NULL, err)) < 0)
                return r;
        memcpy(ret_mean, mean, sizeof mean);
        (void)snprintf(ret_digest, DIGEST_SIZE, "%s", digest);
        return 0;
}
