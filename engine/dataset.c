/* Data sets behind one door: dataset_open asks each format's reader (one now: data/cifar.h) whether it knows the
 * folder's files. And the order of training, which is computed, not stored: image `position` of a run is
 *
 *   epoch = position / count, i = position mod count, index = P(i)
 *
 * where P is a permutation of [0, count) keyed by seed and epoch: a balanced Feistel network (Luby & Rackoff 1988) of
 * ROUNDS rounds on 2 h bits, the smallest even number that holds count - 1, with Philox as round function, applied
 * until the result is below count (cycle walking; Black & Rogaway 2002). 2^(2h) < 4 count, so fewer than 4 walks are
 * expected. What is computed here is part of what "resume is bit-identical" means: it never changes. */
#include "engine/dataset.h"

#include "engine/data/cifar.h"
#include "kernels/philox.h"

#include <assert.h>
#include <errno.h>

#define ROUNDS 8

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

int dataset_digest(const struct dataset *d, char ret[DIGEST_SIZE], struct error *err)
{
        return cifar_digest(d->cifar, ret, err);
}

void dataset_image(const struct dataset *d, enum split split, int64_t index, uint8_t ret[IMAGE_BYTES])
{
        cifar_image(d->cifar, split, index, ret);
}

/* A permutation of [0, 2^(2 half_bits)); Philox counters: element the half, step the epoch, block the round. */
static uint64_t feistel(uint64_t x, unsigned half_bits, uint32_t seed, uint64_t epoch)
{
        uint32_t mask = (uint32_t)(((uint64_t)1 << half_bits) - 1);
        uint32_t left = (uint32_t)(x >> half_bits) & mask, right = (uint32_t)x & mask;

        for (uint32_t round = 0; round < ROUNDS; round++) {
                uint32_t f = philox_draw(seed, STREAM_DATA, round, right, 0, epoch, 0).v[0] & mask;
                uint32_t next = left ^ f;

                left = right;
                right = next;
        }
        return (uint64_t)left << half_bits | right;
}

int64_t dataset_training_index(int64_t count, uint32_t seed, int64_t position)
{
        unsigned half_bits = 1;
        uint64_t x;

        assert(count > 0 && position >= 0);
        while (half_bits < 32 && ((uint64_t)(count - 1) >> (2 * half_bits)))
                half_bits++;
        x = (uint64_t)(position % count);
        do
                x = feistel(x, half_bits, seed, (uint64_t)(position / count));
        while (x >= (uint64_t)count);
        return (int64_t)x;
}
