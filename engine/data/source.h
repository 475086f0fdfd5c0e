/* A format from which images are imported (engine/import.h): it hands out its images one by one, and knows nothing of
 * what is written. Each has a row in import.c. */
#pragma once

#include "engine/dataset.h"

struct import_sink;

struct import_source {
        const char *format; /* "tfrecord" */
        /* 1: what lies at path is of this format, well or ill; 0: it is not; negative: it cannot be looked at. */
        int (*recognise)(const char *path, struct error *err);
        /* sink_begin, then sink_add of every image, in an order that depends on what is there alone. Errors name the
         * file and, in a file of many, the record that is broken. */
        int (*read)(const char *path, struct import_sink *s, struct error *err);
};

extern const struct import_source cifar_source, tfrecord_source, numpy_source, folder_source;

/* What a source knows of an image's split. */
enum import_label { LABEL_TRAIN, LABEL_TEST, LABEL_NONE, LABEL_N };

/* Says once, before the first image, which labels there will be. -EINVAL where that does not fit what was asked for: no
 * test images and nothing said of which to take, or test images both here and there. path is for the error. */
int sink_begin(struct import_sink *s, const bool has[LABEL_N], const char *path, struct error *err);
/* How many images there will be in all, as far as is known by now; for the progress. */
void sink_expect(struct import_sink *s, int64_t n_images);
/* -ECANCELED where it shall end. resized: it was not 32 x 32. */
int sink_add(struct import_sink *s, enum import_label label, const uint8_t image[IMAGE_BYTES], bool resized,
             struct error *err);
int64_t sink_count(const struct import_sink *s); /* images added, of both splits */
/* A folder for what must be unpacked, made when first asked for and removed when all is read. *ret is borrowed. */
int sink_scratch(struct import_sink *s, const char **ret, struct error *err);
