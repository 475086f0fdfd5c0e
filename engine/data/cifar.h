/* CIFAR-10's binary version (Krizhevsky 2009; www.cs.toronto.edu/~kriz/cifar.html), a folder of
 *
 *   data_batch_1.bin, data_batch_2.bin, ..   training images; files in the order of their numbers, which may have gaps
 *   test_batch.bin                           test images
 *
 * A file is images of 3,073 bytes without header, as many as it holds:
 *
 *   0     1 byte      label (not read: the models have no classes)
 *   1     1024 bytes  red plane, 32 rows of 32, top row first
 *   1025  1024 bytes  green plane
 *   2049  1024 bytes  blue plane
 *
 * Valid: at least one training file, the test file, each a regular file of n x 3,073 bytes with n > 0. Other files are
 * not looked at, but a data_batch_*.bin whose * is no number is refused rather than left out in silence. */
#pragma once

#include "engine/dataset.h"

struct cifar;

/* 1: folder holds a file of this format's names; 0: none; negative: it cannot be listed. */
int cifar_recognise(const char *folder, struct error *err);

/* -EBADMSG for a file that is not what is said above, -ENOENT for one that is missing, else as open(2). */
int cifar_open(const char *folder, struct cifar **ret, struct error *err);
struct cifar *cifar_free(struct cifar *c);

int64_t cifar_count(const struct cifar *c, enum split split);
void cifar_image(const struct cifar *c, enum split split, int64_t index, uint8_t ret[IMAGE_BYTES]);
/* What is odd in the files' numbering, "" when nothing is: numbers that are missing before the last one, or twice. */
void cifar_remark(const struct cifar *c, char *ret, size_t size);
int cifar_digest(const struct cifar *c, char ret[DIGEST_SIZE], struct error *err);

DEFINE_CLEANUP(struct cifar *, cifar_free);
