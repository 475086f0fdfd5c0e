/* What dataset_open knows, as a source: CIFAR-10's binary version and our own files; and CIFAR-10's archive
 * (cifar-10-binary.tar.gz), whose batches are unpacked first. In an archive the batches may lie in any folder; other
 * files are passed over. */
#include "engine/data/archive.h"
#include "engine/data/files.h"
#include "engine/data/reader.h"
#include "engine/data/source.h"

#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define BATCH_MAX ((int64_t)1 << 30) /* bytes; CIFAR-10's have 30,730,000 */

static bool is_archive(const char *path)
{
        return files_has_suffix(path, ".tar.gz") || files_has_suffix(path, ".tgz") || files_has_suffix(path, ".tar");
}

static int recognise(const char *path, struct error *err)
{
        int r = images_reader.recognise(path, err);

        if (r != 0)
                return r;
        if (is_archive(path))
                return 1;
        r = cifar_reader.recognise(path, err);
        return r == -ENOTDIR ? 0 : r;
}

static int unpack(const char *path, const char *folder, struct error *err)
{
        _cleanup_(archive_closep) struct archive_in *a = NULL;
        const char *name;
        int64_t bytes;
        int n = 0, r = archive_open(path, ARCHIVE_TAR, &a, err);

        if (r < 0)
                return r;
        while ((r = archive_next(a, &name, &bytes, err)) > 0) {
                const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
                char to[2 * PATH_MAX];

                if (fnmatch("data_batch_*.bin", base, 0) != 0 && strcmp(base, "test_batch.bin") != 0)
                        continue;
                (void)snprintf(to, sizeof to, "%s/%s", folder, base);
                r = archive_unpack(a, to, BATCH_MAX, err);
                if (r < 0)
                        return r;
                n++;
        }
        if (r == 0 && n == 0)
                return error_set(err, -EBADMSG, path,
                                 "holds no data_batch_*.bin; expected CIFAR-10's binary version, "
                                 "cifar-10-binary.tar.gz");
        return r;
}

/* What is wrong in an unpacked batch is said of the archive: the folder is gone when somebody reads it. */
static int open_archive(const char *path, struct import_sink *s, struct dataset **ret, struct error *err)
{
        const char *base, *folder = NULL;
        struct error inner;
        int r = sink_scratch(s, &folder, err);

        if (r >= 0)
                r = unpack(path, folder, err);
        if (r < 0)
                return r;
        r = dataset_open(folder, ret, &inner);
        if (r >= 0)
                return r;
        base = strrchr(inner.path, '/');
        return error_set(err, r == -ENOENT ? -EBADMSG : r, path, "member %s %s", base ? base + 1 : inner.path,
                         inner.text);
}

static int read_images(const char *path, struct import_sink *s, struct error *err)
{
        _cleanup_(dataset_freep) struct dataset *d = NULL;
        char digest[DIGEST_SIZE];
        int r = is_archive(path) ? open_archive(path, s, &d, err) : dataset_open(path, &d, err);

        if (r >= 0)
                r = dataset_digest(d, digest, err); /* a file of ours may be altered */
        if (r >= 0)
                r = sink_begin(s, (bool[LABEL_N]){[LABEL_TRAIN] = true, [LABEL_TEST] = true}, path, err);
        if (r < 0)
                return r;
        sink_expect(s, dataset_count(d, SPLIT_TRAIN) + dataset_count(d, SPLIT_TEST));
        for (int k = 0; k < 2; k++)
                for (int64_t i = 0; i < dataset_count(d, (enum split)k); i++) {
                        uint8_t image[IMAGE_BYTES];

                        dataset_image(d, (enum split)k, i, image);
                        r = sink_add(s, k == SPLIT_TEST ? LABEL_TEST : LABEL_TRAIN, image, false, err);
                        if (r < 0)
                                return r;
                }
        return 0;
}

const struct import_source cifar_source = {.format = "cifar10", .recognise = recognise, .read = read_images};
