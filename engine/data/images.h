/* Our own format, which imports write: one file, NAME.images,
 *
 *   0      8 bytes              "mulundIM"
 *   8      4088 bytes           a JSON object, then spaces, then a newline as the last byte
 *   4096   train x 3072 bytes   training images, each [32, 32, 3]: row, column, channel (red, green, blue)
 *   ..     test x 3072 bytes    test images
 *
 *   {"version": 1, "shape": [32, 32, 3], "train": 50000, "test": 10000,
 *    "digest": XXH128 of train and test as little-endian u64 and of all images, 32 hexadecimal digits,
 *    "mean": [125.3, 123.0, 113.9],                      of the training images' values, by channel
 *    "provenance": {..}}                                 where they came from: engine/import.h
 *
 * Valid: exactly these members, train and test at least 1, as many bytes as they say and no more. The digest is checked
 * when it is asked for. */
#pragma once

#include "engine/dataset.h"

#define IMAGES_MAGIC "mulundIM"
#define IMAGES_HEADER_BYTES 4096

/* Writes such a file: whole under its name, or not at all. Test images may come between training images. They wait in a
 * nameless file in the same folder. */
struct images_writer;
int images_writer_new(const char *path, struct images_writer **ret, struct error *err);
struct images_writer *images_writer_free(struct images_writer *w); /* without commit: nothing is left */

int images_writer_add(struct images_writer *w, enum split split, const uint8_t image[IMAGE_BYTES], struct error *err);
int64_t images_writer_count(const struct images_writer *w, enum split split);
/* -EINVAL where a split has no image, -E2BIG where the header does not hold the provenance. */
int images_writer_commit(struct images_writer *w, const json_t *provenance, char ret_digest[DIGEST_SIZE],
                         double ret_mean[IMAGE_CHANNELS], struct error *err);

DEFINE_CLEANUP(struct images_writer *, images_writer_free);
