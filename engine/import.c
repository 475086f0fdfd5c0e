/* A source reads, the sink decides on the split and writes. Which images are to test on is said by the source (names of
 * files and folders), by a path of their own, or by a share; two of these at once contradict each other. */
#include "engine/import.h"

#include "base/clock.h"
#include "contract/text.h"
#include "engine/data/images.h"
#include "engine/data/source.h"

#include <errno.h>
#include <string.h>

#define PROGRESS_IMAGES 64
#define PROVENANCE_PATH_MAX ((size_t)900) /* bytes; two of them, each escaped, fit into the header */

static const struct import_source *const sources[] = {&cifar_source, &tfrecord_source, &numpy_source, &folder_source};

struct import_sink {
        const struct import *import;
        const char *out;
        struct images_writer *writer; /* from sink_begin on: what cannot be read makes no file */
        int forced;                   /* the split of what is read now, where paths say it; -1: they do not */
        int64_t added, expected, shared, resized;
        bool has_scratch;
};

static bool is_test_by_share(struct import_sink *s)
{
        double before = (double)s->shared * s->import->test_share;

        s->shared++;
        return (int64_t)((double)s->shared * s->import->test_share) > (int64_t)before;
}

static int check_labels(const struct import_sink *s, const bool has[LABEL_N], const char *path, struct error *err)
{
        if (s->forced == SPLIT_TRAIN && has[LABEL_TEST])
                return error_set(err, -EINVAL, path, "has test images of its own; leave test_path out");
        if (s->forced == SPLIT_TEST && has[LABEL_TRAIN])
                return error_set(err, -EINVAL, path, "has images that are to train on; test_path is for test images");
        if (s->forced >= 0)
                return 0;
        if (s->import->test_share > 0)
                return has[LABEL_TEST]
                               ? error_set(err, -EINVAL, path, "has test images of its own; leave test_share out")
                               : 0;
        if (has[LABEL_NONE] || !has[LABEL_TEST])
                return error_set(err, -EINVAL, path,
                                 "nothing says which of its images are to test on: name them by test_path, or a part "
                                 "of them by test_share");
        if (!has[LABEL_TRAIN])
                return error_set(err, -EINVAL, path, "has no images to train on");
        return 0;
}

int sink_begin(struct import_sink *s, const bool has[LABEL_N], const char *path, struct error *err)
{
        int r = check_labels(s, has, path, err);

        return r < 0 || s->writer ? r : images_writer_new(s->out, &s->writer, err);
}

void sink_expect(struct import_sink *s, int64_t n_images)
{
        s->expected = n_images;
}

int64_t sink_count(const struct import_sink *s)
{
        return s->added;
}

int sink_scratch(struct import_sink *s, const char **ret, struct error *err)
{
        const char *folder = s->import->scratch;
        int r = s->has_scratch ? 0 : file_remove_tree(folder, err); /* of one that was killed */

        if (r >= 0 && !s->has_scratch)
                r = file_make_folder(folder, err);
        if (r < 0)
                return r;
        s->has_scratch = true;
        *ret = folder;
        return 0;
}

int sink_add(struct import_sink *s, enum import_label label, const uint8_t image[IMAGE_BYTES], bool resized,
             struct error *err)
{
        enum split split = label == LABEL_TEST ? SPLIT_TEST : SPLIT_TRAIN;
        int r;

        if (s->forced >= 0)
                split = (enum split)s->forced;
        else if (s->import->test_share > 0)
                split = is_test_by_share(s) ? SPLIT_TEST : SPLIT_TRAIN;
        r = images_writer_add(s->writer, split, image, err);
        if (r < 0)
                return r;
        s->resized += resized;
        if (++s->added % PROGRESS_IMAGES != 0 || !s->import->progress)
                return 0;
        return s->import->progress(s->import->user, s->added, s->expected, err);
}

/* 1, 0 or negative, as a source's recognise. */
static int find_source(const char *path, const char *format, const struct import_source **ret, struct error *err)
{
        int r = 0;

        for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
                r = format ? !strcmp(format, sources[i]->format) : sources[i]->recognise(path, err);
                if (r > 0)
                        *ret = sources[i];
                if (r != 0)
                        return r;
        }
        return error_set(err, -EINVAL, format ? "format" : path,
                         format ? "expected cifar10, tfrecord, numpy or folder"
                                : "no images that are known here; expected CIFAR-10's binary version, TFRecords, .npy "
                                  "or .npz, or a folder of PNG or JPEG images");
}

static int read_from(struct import_sink *s, const char *path, int forced, const struct import_source **ret_source,
                     struct error *err)
{
        int r = find_source(path, s->import->format, ret_source, err);

        if (r < 0)
                return r;
        s->forced = forced;
        return (*ret_source)->read(path, s, err);
}

/* A path for the header, where it is cut to what surely has room. */
static json_t *path_text(const char *path)
{
        return path ? json_stringn(path, text_valid_utf8(path, MIN(strlen(path), PROVENANCE_PATH_MAX))) : NULL;
}

static json_t *provenance(const struct import_sink *s, const char *format)
{
        const struct import *i = s->import;

        return json_pack("{s:o, s:o*, s:o*, s:s, s:o, s:I}", "path", path_text(i->path), "test_path",
                         path_text(i->test_path), "test_share", i->test_share > 0 ? json_real(i->test_share) : NULL,
                         "format", format, "imported", json_from_time(clock_wall_us()), "resized",
                         (json_int_t)s->resized);
}

static int read_and_write(struct import_sink *s, struct import_result *ret, struct error *err)
{
        const struct import *i = s->import;
        const struct import_source *source = NULL;
        _cleanup_json_ json_t *from = NULL;
        int r = read_from(s, i->path, i->test_path ? SPLIT_TRAIN : -1, &source, err);

        if (r >= 0 && i->test_path)
                r = read_from(s, i->test_path, SPLIT_TEST, &source, err);
        if (r >= 0 && i->progress)
                r = i->progress(i->user, s->added, s->added, err);
        if (r < 0)
                return r;
        from = provenance(s, source->format);
        if (!from)
                return error_set(err, -ENOMEM, i->path, "no memory to say where it comes from");
        for (int k = 0; k < 2; k++)
                ret->count[k] = images_writer_count(s->writer, (enum split)k);
        ret->format = source->format;
        ret->resized = s->resized;
        return images_writer_commit(s->writer, from, ret->digest, ret->mean, err);
}

/* Names of files may hold any bytes, and a text may be cut inside a character; it goes into events and answers. */
static void make_printable(char *text)
{
        char *end = text + strlen(text);

        for (char *p = text; *p; p++)
                if ((unsigned char)*p < ' ' || *p == 127)
                        *p = '?';
        while ((text += text_valid_utf8(text, (size_t)(end - text))) < end)
                *text = '?';
}

int import_dataset(const struct import *i, const char *out, struct import_result *ret, struct error *err)
{
        struct import_sink s = {.import = i, .out = out, .forced = -1};
        struct import_result result = {0};
        struct error inner = {0};
        int r;

        if (i->test_share < 0 || !(i->test_share < 1))
                return error_set(err, -EINVAL, "test_share", "expected a number below 1");
        if (i->test_share > 0 && i->test_path)
                return error_set(err, -EINVAL, "test_share", "test_path names the test images");
        r = read_and_write(&s, &result, &inner);
        s.writer = images_writer_free(s.writer);
        if (s.has_scratch)
                (void)file_remove_tree(i->scratch, NULL);
        if (r >= 0) {
                *ret = result;
                return 0;
        }
        make_printable(inner.path);
        make_printable(inner.text);
        return error_set(err, r, inner.path, "%s", inner.text);
}
