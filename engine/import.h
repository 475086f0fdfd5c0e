/* Images of any format that is known here (data/source.h) into one file of ours (data/images.h).
 *
 *   cifar10    CIFAR-10's binary version: its folder, or its archive (.tar.gz); also a file of ours
 *   tfrecord   TFRecords of TFDS: `cifar10`, `downsampled_imagenet/32x32`; a folder or a file
 *   numpy      .npy or .npz: a file, or a folder of them
 *   folder     PNG and JPEG images: train/ and test/ (or validation/), or all in one
 *
 * Its provenance, in the file: {"path", "test_path"? (of each the first 900 bytes), "test_share"?, "format",
 * "imported": when, "resized": how many images were not 32 x 32, and were averaged over their area after cropping their
 * centre to a square}. */
#pragma once

#include "engine/dataset.h"

struct import {
        const char *path;
        const char *test_path; /* where the test images are; NULL: at path, too */
        const char *format;    /* NULL: by what is there */
        double test_share;     /* 0, or below 1: this part of the images, evenly over their order, is to test on */
        const char *scratch;   /* a folder that is made for what must be unpacked, and removed */
        /* Now and then (at least every 64 images); all: 0 while it is not known. Negative ends the import. */
        int (*progress)(void *user, int64_t done, int64_t all, struct error *err);
        void *user;
};

struct import_result {
        const char *format;
        int64_t count[2]; /* by split */
        int64_t resized;
        char digest[DIGEST_SIZE];
        double mean[IMAGE_CHANNELS];
};

/* Writes the file whole or not at all; what had its name is replaced. -EBADMSG for what is broken, -EINVAL for what
 * does not fit together, -EOPNOTSUPP for what could be but is not read; err is one line of valid UTF-8. */
int import_dataset(const struct import *i, const char *out, struct import_result *ret, struct error *err);
