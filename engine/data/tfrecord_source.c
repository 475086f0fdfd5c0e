/* TFRecords of tf.train.Example whose feature `image` is a PNG (or JPEG) of 32 x 32, as TFDS writes `cifar10` and
 * `downsampled_imagenet/32x32`: a file, or a folder of
 *
 *   NAME-SPLIT.tfrecord-00003-of-00032     SPLIT: train to train on, test or validation to test on
 *
 * of one NAME, with all the parts of a split; files with ".tfrecord" in another kind of name are taken, too, and say
 * nothing of their split. Order: by file name, then as the file has them. */
#include "engine/data/files.h"
#include "engine/data/picture.h"
#include "engine/data/source.h"
#include "engine/formats/records.h"
#include "example.pb-c.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define RECORD_MAX ((size_t)1 << 20) /* bytes; an image of 32 x 32 needs some thousands */

/* ---- names */

struct part {
        char name[NAME_MAX + 1]; /* NAME-SPLIT */
        const char *split;       /* in name; NULL: not of the form above */
        unsigned number, of;
};

static bool is_record_file(const char *name)
{
        return strstr(name, ".tfrecord") != NULL;
}

static void parse_name(const char *name, struct part *ret)
{
        const char *suffix = strstr(name, ".tfrecord-");
        char *dash;
        int end = 0;

        *ret = (struct part){0};
        if (!suffix || sscanf(suffix, ".tfrecord-%5u-of-%5u%n", &ret->number, &ret->of, &end) != 2 || suffix[end])
                return;
        (void)snprintf(ret->name, sizeof ret->name, "%.*s", (int)(suffix - name), name);
        dash = strrchr(ret->name, '-');
        ret->split = dash ? dash + 1 : NULL;
}

static int label_of(const struct part *p, enum import_label *ret)
{
        if (!p->split)
                *ret = LABEL_NONE;
        else if (!strcmp(p->split, "train"))
                *ret = LABEL_TRAIN;
        else if (!strcmp(p->split, "test") || !strcmp(p->split, "validation"))
                *ret = LABEL_TEST;
        else
                return -EINVAL;
        return 0;
}

static bool same_data_set(const struct part *a, const struct part *b)
{
        return a->split - a->name == b->split - b->name && !strncmp(a->name, b->name, (size_t)(a->split - a->name));
}

/* One file after another in their order: each begins a split, or is the next part of the one before. */
static int check_next(const struct part *before, const struct part *p, const char *file, struct error *err)
{
        bool begins = !before->split || strcmp(before->name, p->name) != 0;
        unsigned expected = begins ? 0 : before->number + 1;

        if (before->split && begins && before->number + 1 != before->of)
                return error_set(err, -ENOENT, file, "part %05u of %05u of %s is missing before it", before->number + 1,
                                 before->of, before->name);
        if (!p->split)
                return 0;
        if (before->split && !same_data_set(before, p))
                return error_set(err, -EINVAL, file, "is of another data set than %s beside it", before->name);
        if (p->number != expected || (!begins && p->of != before->of) || p->number >= p->of)
                return error_set(err, -ENOENT, file, "part %05u of %s is missing before it", expected, p->name);
        return 0;
}

static int check_names(const char *path, const struct files *files, bool ret_has[LABEL_N], struct error *err)
{
        struct part before = {0}, none = {0};
        char file[PATH_MAX] = "", test[16] = ""; /* test: the split that is to test on */
        int r = 0;

        for (size_t i = 0; i < files->n && r >= 0; i++) {
                enum import_label label = LABEL_NONE;
                struct part p;

                (void)snprintf(file, sizeof file, "%s/%s", path, files->paths[i]);
                parse_name(files->paths[i], &p);
                r = label_of(&p, &label);
                if (r < 0)
                        return error_set(err, r, file, "is of split %s; expected train, test or validation", p.split);
                if (label == LABEL_TEST && test[0] && strcmp(test, p.split) != 0)
                        return error_set(err, -EINVAL, file,
                                         "there are both test and validation files; keep one kind of them in the "
                                         "folder");
                if (label == LABEL_TEST)
                        (void)snprintf(test, sizeof test, "%s", p.split);
                ret_has[label] = true;
                r = check_next(&before, &p, file, err);
                before = p;
                before.split = p.split ? before.name + (p.split - p.name) : NULL;
        }
        return r < 0 ? r : check_next(&before, &none, file, err);
}

/* ---- records */

static int find_image(const Mulund__Example *e, const ProtobufCBinaryData **ret, struct error *err)
{
        const ProtobufCBinaryData *found = NULL;

        for (size_t i = 0; e->features && i < e->features->n_feature; i++) {
                const Mulund__FeatureEntry *f = e->features->feature[i];

                if (strcmp(f->key, "image") != 0)
                        continue;
                if (found)
                        return error_set(err, -EBADMSG, NULL, "has the feature image twice");
                if (!f->value || !f->value->bytes_list || f->value->bytes_list->n_value != 1)
                        return error_set(err, -EBADMSG, NULL, "its feature image is not one string of bytes");
                found = f->value->bytes_list->value;
        }
        if (!found)
                return error_set(err, -EBADMSG, NULL, "has no feature image; expected a tf.train.Example as of TFDS");
        *ret = found;
        return 0;
}

static void example_freep(Mulund__Example **e)
{
        if (*e)
                mulund__example__free_unpacked(*e, NULL);
}

/* err without a path */
static int read_example(const uint8_t *data, size_t size, uint8_t ret[IMAGE_BYTES], struct error *err)
{
        _cleanup_(example_freep) Mulund__Example *e = mulund__example__unpack(NULL, size, data);
        const ProtobufCBinaryData *image = NULL;
        bool resized;
        int r;

        if (!e)
                return error_set(err, -EBADMSG, NULL, "is no tf.train.Example");
        r = find_image(e, &image, err);
        return r < 0 ? r : picture_read(image->data, image->len, false, ret, &resized, err);
}

/* before, all: bytes of the files before this one, and of all: from these the number of images is guessed. */
static int read_file(const char *path, enum import_label label, int64_t before, int64_t all, int64_t counted,
                     struct import_sink *s, struct error *err)
{
        _cleanup_(records_freep) struct records *r = NULL;
        const uint8_t *data;
        size_t size;
        int e = records_open(path, RECORD_MAX, &r, err);

        if (e < 0)
                return e;
        while ((e = records_next(r, &data, &size, err)) > 0) {
                double share = (double)(before + records_bytes_done(r)) / (double)all;
                uint8_t image[IMAGE_BYTES];
                struct error inner;

                e = read_example(data, size, image, &inner);
                if (e < 0)
                        return error_set(err, e, path, "record %lld: %s", (long long)records_count(r) - 1, inner.text);
                sink_expect(s, counted + (int64_t)((double)(sink_count(s) + 1 - counted) / share));
                e = sink_add(s, label, image, false, err);
                if (e < 0)
                        return e;
        }
        /* what is right for an event file, which may still be written, is a broken one here */
        return e == -ENODATA ? -EBADMSG : e;
}

static int64_t bytes_of(const char *path)
{
        struct stat st;

        return stat(path, &st) < 0 ? 0 : st.st_size;
}

static int read_folder(const char *path, const struct files *files, struct import_sink *s, struct error *err)
{
        int64_t all = 0, before = 0, counted = sink_count(s);
        char file[PATH_MAX];
        int r = 0;

        for (size_t i = 0; i < files->n; i++) {
                (void)snprintf(file, sizeof file, "%s/%s", path, files->paths[i]);
                all += bytes_of(file);
        }
        for (size_t i = 0; i < files->n && r >= 0; i++) {
                enum import_label label = LABEL_NONE;
                struct part p;

                parse_name(files->paths[i], &p);
                (void)label_of(&p, &label); /* checked before */
                (void)snprintf(file, sizeof file, "%s/%s", path, files->paths[i]);
                r = read_file(file, label, before, MAX(all, 1), counted, s, err);
                before += bytes_of(file);
        }
        return r;
}

static int recognise(const char *path, struct error *err)
{
        const char *slash = strrchr(path, '/');

        return is_record_file(slash ? slash + 1 : path) ? 1 : files_any(path, is_record_file, err);
}

static int read_images(const char *path, struct import_sink *s, struct error *err)
{
        _cleanup_(files_done) struct files files = {0};
        bool has[LABEL_N] = {false};
        struct stat st;
        int r;

        if (stat(path, &st) < 0)
                return error_set(err, -errno, path, "cannot be looked at: %s", strerror(errno));
        if (!S_ISDIR(st.st_mode)) {
                has[LABEL_NONE] = true;
                r = sink_begin(s, has, path, err);
                return r < 0 ? r : read_file(path, LABEL_NONE, 0, MAX(st.st_size, 1), sink_count(s), s, err);
        }
        r = files_list(path, false, is_record_file, &files, err);
        if (r >= 0 && !files.n)
                r = error_set(err, -ENOENT, path, "holds no TFRecord");
        if (r >= 0)
                r = check_names(path, &files, has, err);
        if (r >= 0)
                r = sink_begin(s, has, path, err);
        return r < 0 ? r : read_folder(path, &files, s, err);
}

const struct import_source tfrecord_source = {.format = "tfrecord", .recognise = recognise, .read = read_images};
