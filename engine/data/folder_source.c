/* A folder of PNG and JPEG images, known by their names' ends (.png, .jpg, .jpeg); other files are passed over. With a
 * folder train/ in it, that and test/ (or val/ or validation/) are read, and nothing beside them; without, everything
 * in it and below. Order: by name, numbers by their value. */
#include "engine/data/files.h"
#include "engine/data/picture.h"
#include "engine/data/source.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX ((size_t)256 << 20) /* bytes */

static bool is_image(const char *name)
{
        return files_has_suffix(name, ".png") || files_has_suffix(name, ".jpg") || files_has_suffix(name, ".jpeg");
}

static bool is_folder(const char *path, const char *name, char ret[PATH_MAX])
{
        struct stat st;

        return snprintf(ret, PATH_MAX, "%s/%s", path, name) < PATH_MAX && lstat(ret, &st) == 0 && S_ISDIR(st.st_mode);
}

static int recognise(const char *path, struct error *err)
{
        struct stat st;

        if (stat(path, &st) < 0)
                return error_set(err, -errno, path, "cannot be looked at: %s", strerror(errno));
        return S_ISDIR(st.st_mode);
}

static int read_image(const char *path, enum import_label label, struct import_sink *s, struct error *err)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(FILE_MAX);
        uint8_t image[IMAGE_BYTES];
        struct error inner;
        bool resized;
        int r = file_read(path, &b, err);

        if (r < 0)
                return r;
        r = picture_read((const uint8_t *)b.data, b.size, true, image, &resized, &inner);
        if (r < 0)
                return error_set(err, r, path, "%s", inner.text);
        return sink_add(s, label, image, resized, err);
}

struct part {
        enum import_label label;
        char path[PATH_MAX];
        struct files files;
};

static int list_part(struct part *p, struct error *err)
{
        int r = files_list(p->path, true, is_image, &p->files, err);

        return r >= 0 && !p->files.n ? error_set(err, -ENOENT, p->path, "holds no PNG or JPEG image") : r;
}

static int read_part(const struct part *p, struct import_sink *s, struct error *err)
{
        for (size_t i = 0; i < p->files.n; i++) {
                char path[PATH_MAX];
                int r;

                if (snprintf(path, sizeof path, "%s/%s", p->path, p->files.paths[i]) >= (int)sizeof path)
                        return error_set(err, -ENAMETOOLONG, p->path, "a path in it is too long");
                r = read_image(path, p->label, s, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

struct parts {
        size_t n;
        struct part parts[2];
};

static void parts_done(struct parts *p)
{
        for (size_t i = 0; i < p->n; i++)
                files_done(&p->parts[i].files);
}

static int find_parts(const char *path, struct parts *ret, struct error *err)
{
        static const char *const test_names[] = {"test", "val", "validation"};

        ret->n = 1;
        if (!is_folder(path, "train", ret->parts[0].path)) {
                ret->parts[0].label = LABEL_NONE;
                if (snprintf(ret->parts[0].path, PATH_MAX, "%s", path) >= PATH_MAX)
                        return error_set(err, -ENAMETOOLONG, path, "the path is too long");
                return 0;
        }
        ret->parts[0].label = LABEL_TRAIN;
        for (size_t i = 0; i < ARRAY_LEN(test_names); i++) {
                char test[PATH_MAX];

                if (!is_folder(path, test_names[i], test))
                        continue;
                if (ret->n == 2)
                        return error_set(err, -EINVAL, path,
                                         "has several folders of test images; name one of them by test_path, and "
                                         "train as path");
                ret->parts[ret->n].label = LABEL_TEST;
                memcpy(ret->parts[ret->n++].path, test, sizeof test);
        }
        return 0;
}

static int read_images(const char *path, struct import_sink *s, struct error *err)
{
        _cleanup_(parts_done) struct parts p = {0};
        bool has[LABEL_N] = {false};
        int64_t all = 0;
        int r = find_parts(path, &p, err);

        for (size_t i = 0; i < p.n && r >= 0; i++) {
                has[p.parts[i].label] = true;
                r = list_part(&p.parts[i], err);
                all += (int64_t)p.parts[i].files.n;
        }
        if (r >= 0)
                r = sink_begin(s, has, path, err);
        if (r < 0)
                return r;
        sink_expect(s, sink_count(s) + all);
        for (size_t i = 0; i < p.n && r >= 0; i++)
                r = read_part(&p.parts[i], s, err);
        return r;
}

const struct import_source folder_source = {.format = "folder", .recognise = recognise, .read = read_images};
