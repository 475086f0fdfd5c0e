/* Data sets behind one door: dataset_open asks each format's reader (data/reader.h) whether it knows what is there. */
#include "engine/dataset.h"

#include "engine/data/reader.h"

#include <errno.h>

static const struct dataset_reader *const readers[] = {&images_reader, &cifar_reader};

struct dataset {
        const struct dataset_reader *reader;
        void *data; /* the reader's */
};

int dataset_open(const char *path, struct dataset **ret, struct error *err)
{
        _cleanup_(dataset_freep) struct dataset *d = calloc(1, sizeof *d);
        int r = 0;

        if (!d)
                return error_set(err, -ENOMEM, path, "no memory to open it");
        for (size_t i = 0; i < ARRAY_LEN(readers) && r == 0; i++) {
                r = readers[i]->recognise(path, err);
                if (r > 0)
                        d->reader = readers[i];
        }
        if (r < 0)
                return r;
        if (!d->reader)
                return error_set(err, -ENOENT, path,
                                 "no data set that is known here; expected CIFAR-10's binary version: data_batch_1.bin "
                                 "and so on, and test_batch.bin; or a file that an import has written");
        r = d->reader->open(path, &d->data, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(d);
        return 0;
}

struct dataset *dataset_free(struct dataset *d)
{
        if (!d)
                return NULL;
        if (d->data)
                d->reader->close(d->data);
        free(d);
        return NULL;
}

const char *dataset_format(const struct dataset *d)
{
        return d->reader->format;
}

int64_t dataset_count(const struct dataset *d, enum split split)
{
        return d->reader->count(d->data, split);
}

void dataset_remark(const struct dataset *d, char *ret, size_t size)
{
        ret[0] = 0;
        if (d->reader->remark)
                d->reader->remark(d->data, ret, size);
}

int dataset_digest(const struct dataset *d, char ret[DIGEST_SIZE], struct error *err)
{
        return d->reader->digest(d->data, ret, err);
}

void dataset_mean(const struct dataset *d, double ret[IMAGE_CHANNELS])
{
        int64_t n = dataset_count(d, SPLIT_TRAIN);
        uint64_t sum[IMAGE_CHANNELS] = {0};
        uint8_t image[IMAGE_BYTES];

        if (d->reader->mean) {
                d->reader->mean(d->data, ret);
                return;
        }
        for (int64_t i = 0; i < n; i++) {
                dataset_image(d, SPLIT_TRAIN, i, image);
                image_add(image, sum);
        }
        for (size_t k = 0; k < IMAGE_CHANNELS; k++)
                ret[k] = (double)sum[k] / (double)(n * IMAGE_PIXELS);
}

const json_t *dataset_provenance(const struct dataset *d)
{
        return d->reader->provenance ? d->reader->provenance(d->data) : NULL;
}

void dataset_image(const struct dataset *d, enum split split, int64_t index, uint8_t ret[IMAGE_BYTES])
{
        d->reader->image(d->data, split, index, ret);
}
