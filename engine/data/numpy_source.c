/* NumPy's arrays of images (numpy.lib.format, versions 1 to 3): a .npy file, a .npz (a zip of them), or a folder of
 * either. A folder's files are taken in the order of their numbers; those that begin with "train" are to train on, with
 * "test" or "val" to test on.
 *
 *   0   6 bytes   "\x93NUMPY"
 *   6   2 bytes   version
 *   8   2 bytes   length of the header, little endian; 4 bytes in versions 2 and 3
 *   ..            header: a Python dictionary of descr, fortran_order and shape
 *   ..            the array
 *
 * Valid: uint8, of shape [n, 32, 32, 3], [n, 3, 32, 32] or [n, 3072] (the planes of an image, as ImageNet-32 is
 * published), in C's or Fortran's order, as many bytes as that needs and no more. Of a .npz the array `data` is taken,
 * or the only one there is. Files are mapped, as data/cifar.c does it. */
#include "engine/data/archive.h"
#include "engine/data/files.h"
#include "engine/data/source.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MAGIC "\x93NUMPY"
#define HEADER_MAX 65536 /* bytes of the dictionary */
#define DIMENSIONS_MAX 8
#define ARRAY_MAX ((int64_t)1 << 36) /* bytes, unpacked from a .npz */

/* An array of images in memory. */
struct array {
        const uint8_t *data;
        int64_t n;
        size_t stride_n, stride_h, stride_w, stride_c;
};

/* ---- the header: a Python literal, of which only what NumPy writes is read */

struct literal {
        const char *at, *end;
};

struct header {
        char descr[32];
        bool fortran;
        size_t n_dimensions;
        int64_t shape[DIMENSIONS_MAX];
        bool has_descr, has_order, has_shape;
};

static void skip_spaces(struct literal *l)
{
        while (l->at < l->end && strchr(" \t\n", *l->at) && *l->at)
                l->at++;
}

static bool take(struct literal *l, const char *word)
{
        size_t n = strlen(word);

        skip_spaces(l);
        if ((size_t)(l->end - l->at) < n || memcmp(l->at, word, n) != 0)
                return false;
        l->at += n;
        return true;
}

static bool take_string(struct literal *l, char *ret, size_t size)
{
        char quote;
        size_t n = 0;

        skip_spaces(l);
        if (l->at == l->end || (*l->at != '\'' && *l->at != '"'))
                return false;
        for (quote = *l->at++; l->at < l->end && *l->at != quote; l->at++) {
                if (n + 1 >= size || *l->at < ' ' || *l->at > '~' || *l->at == '\\')
                        return false;
                ret[n++] = *l->at;
        }
        ret[n] = 0;
        return take(l, (char[]){quote, 0});
}

static bool take_number(struct literal *l, int64_t *ret)
{
        int64_t n = 0;
        const char *start;

        skip_spaces(l);
        for (start = l->at; l->at < l->end && *l->at >= '0' && *l->at <= '9'; l->at++)
                if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *l->at - '0', &n))
                        return false;
        *ret = n;
        return l->at > start && (take(l, "L") || true); /* Python 2's long */
}

static bool take_shape(struct literal *l, struct header *h)
{
        if (!take(l, "("))
                return false;
        while (!take(l, ")")) {
                if (h->n_dimensions == DIMENSIONS_MAX || !take_number(l, &h->shape[h->n_dimensions]))
                        return false;
                h->n_dimensions++;
                if (!take(l, ",")) /* (n) alone is no tuple, but harmless */
                        return take(l, ")");
        }
        return true;
}

static bool take_member(struct literal *l, struct header *h)
{
        char key[32];

        if (!take_string(l, key, sizeof key) || !take(l, ":"))
                return false;
        if (!strcmp(key, "descr") && !h->has_descr)
                return h->has_descr = take_string(l, h->descr, sizeof h->descr);
        if (!strcmp(key, "fortran_order") && !h->has_order) {
                h->fortran = take(l, "True");
                return h->has_order = h->fortran || take(l, "False");
        }
        if (!strcmp(key, "shape") && !h->has_shape)
                return h->has_shape = take_shape(l, h);
        return false;
}

static bool read_header(const char *text, size_t size, struct header *h)
{
        struct literal l = {text, text + size};

        *h = (struct header){0};
        if (!take(&l, "{"))
                return false;
        while (!take(&l, "}"))
                if (!take_member(&l, h) || (!take(&l, ",") && (skip_spaces(&l), l.at == l.end || *l.at != '}')))
                        return false;
        skip_spaces(&l);
        return l.at == l.end && h->has_descr && h->has_order && h->has_shape;
}

/* ---- the array */

static void print_shape(const struct header *h, char *ret, size_t size)
{
        size_t n = (size_t)snprintf(ret, size, "[");

        for (size_t i = 0; i < h->n_dimensions && n < size; i++)
                n += (size_t)snprintf(ret + n, size - n, "%s%lld", i ? ", " : "", (long long)h->shape[i]);
        if (n < size)
                (void)snprintf(ret + n, size - n, "]");
}

static bool is_shape(const struct header *h, size_t n, int64_t a, int64_t b, int64_t c)
{
        const int64_t expected[] = {a, b, c};

        return h->n_dimensions == n && !memcmp(h->shape + 1, expected, (n - 1) * sizeof *expected);
}

/* Strides of [d0, d1, d2] behind n images. */
static void find_strides(const struct header *h, const size_t d[3], size_t ret_stride[3], size_t *ret_n)
{
        size_t n = (size_t)h->shape[0];

        *ret_n = h->fortran ? 1 : IMAGE_BYTES;
        for (int i = 0; i < 3; i++) {
                ret_stride[i] = h->fortran ? n : 1;
                for (int k = h->fortran ? 0 : i + 1; h->fortran ? k < i : k < 3; k++)
                        ret_stride[i] *= d[k];
        }
}

static int lay_out(const struct header *h, struct array *ret, const char *path, struct error *err)
{
        static const size_t rows[] = {IMAGE_SIDE, IMAGE_SIDE, IMAGE_CHANNELS};
        static const size_t planes[] = {IMAGE_CHANNELS, IMAGE_SIDE, IMAGE_SIDE};
        size_t s[3];
        char shape[200];

        print_shape(h, shape, sizeof shape);
        if (strcmp(h->descr, "|u1") != 0 && strcmp(h->descr, "<u1") != 0 && strcmp(h->descr, ">u1") != 0 &&
            strcmp(h->descr, "u1") != 0)
                return error_set(err, -EOPNOTSUPP, path, "is an array of type %s and shape %s; expected uint8 (|u1)",
                                 h->descr, shape);
        if (is_shape(h, 4, IMAGE_SIDE, IMAGE_SIDE, IMAGE_CHANNELS)) {
                find_strides(h, rows, s, &ret->stride_n);
                ret->stride_h = s[0];
                ret->stride_w = s[1];
                ret->stride_c = s[2];
        } else if (is_shape(h, 4, IMAGE_CHANNELS, IMAGE_SIDE, IMAGE_SIDE)) {
                find_strides(h, planes, s, &ret->stride_n);
                ret->stride_c = s[0];
                ret->stride_h = s[1];
                ret->stride_w = s[2];
        } else if (is_shape(h, 2, IMAGE_BYTES, 0, 0)) {
                /* an image's 3,072 values are one dimension: their order is that of C, whatever the array's */
                ret->stride_w = h->fortran ? (size_t)h->shape[0] : 1;
                ret->stride_h = ret->stride_w * IMAGE_SIDE;
                ret->stride_c = ret->stride_w * IMAGE_PIXELS;
                ret->stride_n = h->fortran ? 1 : IMAGE_BYTES;
        } else {
                return error_set(err, -EOPNOTSUPP, path,
                                 "is an array of shape %s; expected [n, 32, 32, 3], [n, 3, 32, 32] or [n, 3072]",
                                 shape);
        }
        ret->n = h->shape[0];
        return 0;
}

static int read_array(const uint8_t *data, size_t size, struct array *ret, const char *path, struct error *err)
{
        size_t start = 10, length, expected;
        struct header h;
        int r;

        if (size < sizeof MAGIC - 1 || memcmp(data, MAGIC, sizeof MAGIC - 1) != 0)
                return error_set(err, -EBADMSG, path, "does not begin as NumPy's arrays do");
        if (size < 12)
                return error_set(err, -EBADMSG, path, "is cut inside its header: it has %zu bytes", size);
        if (data[6] < 1 || data[6] > 3 || data[7] != 0)
                return error_set(err, -EOPNOTSUPP, path, "is of version %d.%d; expected 1.0, 2.0 or 3.0", data[6],
                                 data[7]);
        length = data[8] | (size_t)data[9] << 8;
        if (data[6] > 1) {
                length |= (size_t)data[10] << 16 | (size_t)data[11] << 24;
                start = 12;
        }
        if (length > HEADER_MAX || size < start + length)
                return error_set(err, -EBADMSG, path, "its header of %zu bytes is cut, or has more than %d", length,
                                 HEADER_MAX);
        if (!read_header((const char *)data + start, length, &h))
                return error_set(err, -EBADMSG, path,
                                 "its header is not understood; expected a plain type, the order and the shape (at "
                                 "most %d dimensions)",
                                 DIMENSIONS_MAX);
        r = lay_out(&h, ret, path, err);
        if (r < 0)
                return r;
        if (!size_mul_add((size_t)ret->n, IMAGE_BYTES, start + length, &expected) || size != expected)
                return error_set(err, -EBADMSG, path,
                                 "has %zu bytes; expected a header of %zu and %lld images of %d bytes", size,
                                 start + length, (long long)ret->n, IMAGE_BYTES);
        ret->data = data + start + length;
        return 0;
}

static void get_image(const struct array *a, int64_t i, uint8_t ret[IMAGE_BYTES])
{
        const uint8_t *from = a->data + (size_t)i * a->stride_n;

        for (size_t h = 0; h < IMAGE_SIDE; h++)
                for (size_t w = 0; w < IMAGE_SIDE; w++)
                        for (size_t c = 0; c < IMAGE_CHANNELS; c++)
                                *ret++ = from[h * a->stride_h + w * a->stride_w + c * a->stride_c];
}

/* ---- files */

struct mapped {
        void *data;
        size_t size;
};

static void mapped_done(struct mapped *m)
{
        if (m->data)
                (void)munmap(m->data, m->size);
}

static int map_file(const char *path, struct mapped *ret, struct error *err)
{
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return error_set(err, -errno, path, "cannot be opened: %s", strerror(errno));
        if (!S_ISREG(st.st_mode) || st.st_size == 0)
                return error_set(err, -EBADMSG, path, "is empty, or no regular file");
        ret->data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (ret->data == MAP_FAILED) {
                ret->data = NULL;
                return error_set(err, -errno, path, "cannot be mapped: %s", strerror(errno));
        }
        ret->size = (size_t)st.st_size;
        return 0;
}

static bool is_array_name(const char *name)
{
        return files_has_suffix(name, ".npy");
}

static bool is_zip_name(const char *name)
{
        return files_has_suffix(name, ".npz");
}

static bool is_numpy(const char *name)
{
        return is_array_name(name) || is_zip_name(name);
}

/* Which member holds the images: data.npy, or the only array. */
static int choose_member(const char *path, char ret[NAME_MAX + 1], struct error *err)
{
        _cleanup_(archive_closep) struct archive_in *a = NULL;
        int n = 0, n_data = 0, r = archive_open(path, ARCHIVE_ZIP, &a, err);
        const char *name;
        int64_t bytes;

        if (r < 0)
                return r;
        while ((r = archive_next(a, &name, &bytes, err)) > 0) {
                bool is_data = !strcmp(name, "data.npy");

                if (!is_array_name(name))
                        continue;
                if (is_data || n_data == 0)
                        (void)snprintf(ret, NAME_MAX + 1, "%s", name);
                n_data += is_data;
                n++;
        }
        if (r < 0)
                return r;
        if (n == 0)
                return error_set(err, -EBADMSG, path, "holds no array");
        if (n_data > 1)
                return error_set(err, -EBADMSG, path, "holds the array data %d times", n_data);
        if (n > 1 && n_data == 0)
                return error_set(err, -EOPNOTSUPP, path, "holds %d arrays, none of them called data", n);
        return 0;
}

/* Into a file of the scratch folder, whose path ret gets. */
static int unpack(const char *path, struct import_sink *s, char ret[PATH_MAX], struct error *err)
{
        _cleanup_(archive_closep) struct archive_in *a = NULL;
        char chosen[NAME_MAX + 1];
        const char *name, *folder = NULL;
        int64_t bytes;
        int r = choose_member(path, chosen, err);

        if (r >= 0)
                r = sink_scratch(s, &folder, err);
        if (r >= 0)
                r = archive_open(path, ARCHIVE_ZIP, &a, err);
        if (r < 0)
                return r;
        (void)snprintf(ret, PATH_MAX, "%s/array.npy", folder);
        (void)unlink(ret); /* of the file before */
        while ((r = archive_next(a, &name, &bytes, err)) > 0)
                if (!strcmp(name, chosen))
                        return archive_unpack(a, ret, ARRAY_MAX, err);
        return r < 0 ? r : error_set(err, -EBADMSG, path, "has changed while it was read");
}

static int read_file(const char *path, enum import_label label, struct import_sink *s, struct error *err)
{
        _cleanup_(mapped_done) struct mapped m = {0};
        char unpacked[PATH_MAX];
        struct array a = {0};
        int r = 0;

        if (is_zip_name(path))
                r = unpack(path, s, unpacked, err);
        if (r >= 0)
                r = map_file(is_zip_name(path) ? unpacked : path, &m, err);
        if (r >= 0)
                r = read_array(m.data, m.size, &a, path, err);
        if (r >= 0)
                sink_expect(s, sink_count(s) + a.n);
        for (int64_t i = 0; i < a.n && r >= 0; i++) {
                uint8_t image[IMAGE_BYTES];

                get_image(&a, i, image);
                r = sink_add(s, label, image, false, err);
        }
        return r;
}

static enum import_label label_of(const char *name)
{
        if (!strncmp(name, "train", 5))
                return LABEL_TRAIN;
        return !strncmp(name, "test", 4) || !strncmp(name, "val", 3) ? LABEL_TEST : LABEL_NONE;
}

static int recognise(const char *path, struct error *err)
{
        return is_numpy(path) ? 1 : files_any(path, is_numpy, err);
}

static int read_images(const char *path, struct import_sink *s, struct error *err)
{
        _cleanup_(files_done) struct files files = {0};
        bool has[LABEL_N] = {false};
        int r;

        if (is_numpy(path)) {
                has[LABEL_NONE] = true;
                r = sink_begin(s, has, path, err);
                return r < 0 ? r : read_file(path, LABEL_NONE, s, err);
        }
        r = files_list(path, false, is_numpy, &files, err);
        if (r >= 0 && !files.n)
                r = error_set(err, -ENOENT, path, "holds no .npy or .npz file");
        for (size_t i = 0; i < files.n; i++)
                has[label_of(files.paths[i])] = true;
        if (r >= 0)
                r = sink_begin(s, has, path, err);
        for (size_t i = 0; i < files.n && r >= 0; i++) {
                char file[PATH_MAX];

                (void)snprintf(file, sizeof file, "%s/%s", path, files.paths[i]);
                r = read_file(file, label_of(files.paths[i]), s, err);
        }
        return r;
}

const struct import_source numpy_source = {.format = "numpy", .recognise = recognise, .read = read_images};
