/* A format in which images are trained on: what dataset_open (engine/dataset.h) needs of it. Each has a row in
 * dataset.c. Nothing of a reader changes after open, so any thread may ask it. */
#pragma once

#include "engine/dataset.h"

struct dataset_reader {
        const char *format; /* "cifar10" */
        /* 1: what lies at path is of this format, well or ill; 0: it is not; negative: it cannot be looked at. */
        int (*recognise)(const char *path, struct error *err);
        /* *ret is handed to the others. */
        int (*open)(const char *path, void **ret, struct error *err);
        void (*close)(void *reader);
        int64_t (*count)(const void *reader, enum split split);
        void (*image)(const void *reader, enum split split, int64_t index, uint8_t ret[IMAGE_BYTES]);
        void (*remark)(const void *reader, char *ret, size_t size); /* NULL: never any */
        int (*digest)(const void *reader, char ret[DIGEST_SIZE], struct error *err);
        /* What the file says of itself, after digest has found it whole; NULL: no such thing, it is counted. */
        void (*mean)(const void *reader, double ret[IMAGE_CHANNELS]);
        const json_t *(*provenance)(const void *reader); /* borrowed; NULL: none */
};

/* Adds an image's values to the sums of its channels, of which the mean is made. */
static inline void image_add(const uint8_t image[IMAGE_BYTES], uint64_t sum[IMAGE_CHANNELS])
{
        for (size_t i = 0; i < IMAGE_BYTES; i++)
                sum[i % IMAGE_CHANNELS] += image[i];
}

/* Planes of red, green and blue, [3, 32, 32], as the files of CIFAR-10 and ImageNet-32 have them. */
static inline void image_from_planes(const uint8_t planes[IMAGE_BYTES], uint8_t ret[IMAGE_BYTES])
{
        for (size_t i = 0; i < IMAGE_PIXELS; i++)
                for (size_t k = 0; k < IMAGE_CHANNELS; k++)
                        ret[IMAGE_CHANNELS * i + k] = planes[k * IMAGE_PIXELS + i];
}

extern const struct dataset_reader cifar_reader, images_reader;
