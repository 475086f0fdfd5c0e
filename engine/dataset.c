/* Data sets behind one door: dataset_open asks each format's reader (one now: data/cifar.h) whether it knows the
 * folder's files. */
#include "engine/dataset.h"

#include "engine/data/cifar.h"

#include <errno.h>

struct dataset {
        const char *format;
        struct cifar *cifar;
};

int dataset_open(const char *folder, struct dataset **ret, struct error *err)
{
        _cleanup_(dataset_freep) struct dataset *d = calloc(1, sizeof *d);
        int r;

        if (!d)
                return error_set(err, -ENOMEM, folder, "no memory to open it");
        r = cifar_recognise(folder, err);
        if (r < 0)
                return r;
        if (r == 0)
                return error_set(err, -ENOENT, folder,
                                 "no data set that is known here; expected CIFAR-10's binary version: data_batch_1.bin "
                                 "and so on, and test_batch.bin");
        r = cifar_open(folder, &d->cifar, err);
        if (r < 0)
                return r;
        d->format = "cifar10";
        *ret = TAKE_PTR(d);
        return 0;
}

struct dataset *dataset_free(struct dataset *d)
{
        if (!d)
                return NULL;
        d->cifar = cifar_free(d->cifar);
        free(d);
        return NULL;
}

const char *dataset_format(const struct dataset *d)
{
        return d->format;
}

int64_t dataset_count(const struct dataset *d, enum split split)
{
        return cifar_count(d->cifar, split);
}

void dataset_remark(const struct dataset *d, char *ret, size_t size)
{
        cifar_remark(d->cifar, ret, size);
}

int dataset_digest(const struct dataset *d, char ret[DIGEST_SIZE], struct error *err)
{
        return cifar_digest(d->cifar, ret, err);
}

void dataset_image(const struct dataset *d, enum split split, int64_t index, uint8_t ret[IMAGE_BYTES])
{
        cifar_image(d->cifar, split, index, ret);
}
