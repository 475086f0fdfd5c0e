/* clang-format off */
/* Random numbers that depend on what they are for, never on who computes them or in how many parts: Philox 4x32-10
 * (Salmon et al., SC 2011), one text for C and CUDA.
 *
 * Layout, bit by bit (tests/kernels holds it disjoint); `counter` and `key` are the generator's:
 *
 *   word         bits     what
 *   key[0]       31..0    seed
 *   key[1]       31..16   stream (enum philox_stream)
 *   key[1]       15..0    block
 *   counter[0]   31..0    element: what it counts depends on the stream
 *   counter[1]   31..0    image, bits 31..0
 *   counter[2]   31..0    step, bits 31..0
 *   counter[3]   31..24   attempt
 *   counter[3]   23..16   image, bits 39..32
 *   counter[3]   15..0    step, bits 47..32
 *
 * What they are, by stream. image and block are the row's (struct row), step the state's, attempt 0, unless said. A
 * row's image is its place in the batch when training, else the image's index in its split (sampling: the sample's
 * number); its block is the repeat of a dense evaluation, else 0; step is the number of updates before when training, 0
 * in an evaluation.
 *
 *   stream          element                     words of a draw                             else
 *   EPS, EPS_0      value / 4                   0, 1: values 0, 1; 2, 3: values 2, 3
 *   LATENT, gamma   variate j of value i of n:  0, 1 the normal, 2 its acceptance,          attempt: rejections before
 *                   j n + i                     3 the uniform U of U^k
 *   LATENT, gumbel  value / 4                   word i mod 4: value i
 *   TIME            time_place / 4 where times  antithetic: word 0; independent: word       image: time_image, block:
 *                   are independent, else 0     time_place mod 4                            time_block (1: a dense
 *                                                                                           evaluation's, else 0)
 *   DROPOUT         value / 8 of the image      half i mod 8, the low half of word 0 first  block: the mask's number
 *                   (pixel channels + channel)
 *   INIT            value                       0, 1: a pair of normals, of which the    image: the parameter's
 *                                               first is taken that is not too large        number; step 0; attempt:
 *                                                                                           pairs before
 *   DATA            right half of the Feistel   0                                           block: round; image: 0;
 *                   network                                                                 step: epoch
 *   SAMPLE          value / 4                   as EPS                                      step: the sampler's, n_steps
 *                                                                                           for z_1
 *   SAMPLE_LATENT   value / 4                   as EPS                                      step: n_steps
 *   PIXEL           value / 4                   word i mod 4: value i                       step: 0
 *   DEQUANTISE      truncated: the value;       0, 1: a pair of normals, of which the       attempt: pairs before;
 *                   uniform: value / 4          first is taken; word i mod 4: value i       block: the importance sample
 *   PROBE           value / 4                   as EPS; signs: word i mod 4: value i        the same
 *   FLIP            0                           word 0, bit 0: whether the image is mirrored
 */
/* clang-format on */
#pragma once

#include "kernels/device_fn.h"

#include <math.h>
#include <stdint.h>

enum philox_stream {
        STREAM_EPS,     /* noise of z_t */
        STREAM_EPS_0,   /* noise of the reconstruction */
        STREAM_LATENT,  /* the latent's noise */
        STREAM_TIME,    /* t_0 of a batch */
        STREAM_DROPOUT, /* masks; block: the residual block's number */
        STREAM_INIT,    /* initial weights; image: the parameter's number */
        STREAM_DATA,    /* the epoch's permutation */
        STREAM_SAMPLE,  /* z_1 and the sampler's noise; step: the sampler's */
        STREAM_SAMPLE_LATENT,
        STREAM_PIXEL, /* a draw of the decoder instead of its arg max */
        STREAM_DEQUANTISE,
        STREAM_PROBE, /* of the divergence; step: 0, one a trajectory */
        STREAM_FLIP,  /* of a training image, left to right */
        STREAM_N
};

struct philox {
        uint32_t v[4];
};

DEVICE_FN struct philox philox_4x32_10(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1)
{
        struct philox r;

        for (int i = 0; i < 10; i++) {
                uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;

                c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
                c1 = (uint32_t)p1;
                c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
                c3 = (uint32_t)p0;
                k0 += 0x9E3779B9u;
                k1 += 0xBB67AE85u;
        }
        r.v[0] = c0;
        r.v[1] = c1;
        r.v[2] = c2;
        r.v[3] = c3;
        return r;
}

/* Four words for elements 4 * quad .. 4 * quad + 3. */
DEVICE_FN struct philox philox_draw(uint32_t seed, uint32_t stream, uint32_t block, uint32_t quad, uint64_t image,
                                    uint64_t step, uint32_t attempt)
{
        uint32_t c3 =
                (attempt & 0xFFu) << 24 | (uint32_t)(image >> 32 & 0xFFu) << 16 | (uint32_t)(step >> 32 & 0xFFFFu);

        return philox_4x32_10(quad, (uint32_t)image, (uint32_t)step, c3, seed, stream << 16 | (block & 0xFFFFu));
}

/* [0, 1) with 24 bits, exact in float. */
DEVICE_FN float philox_uniform(uint32_t word)
{
        return (float)(word >> 8) * 0x1p-24f;
}

/* Two standard normals from two words (Box & Muller 1958). In double, so that every back end rounds the same value. */
DEVICE_FN void philox_normal_pair(uint32_t word0, uint32_t word1, float *ret0, float *ret1)
{
        double r = sqrt(-2.0 * log(((double)word0 + 0.5) * 0x1p-32));
        double a = 6.283185307179586476925 * ((double)word1 * 0x1p-32);

        *ret0 = (float)(r * cos(a));
        *ret1 = (float)(r * sin(a));
}

#define PHILOX_PERMUTATION_ROUNDS 8

/* A permutation of [0, 2^(2 half_bits)): a balanced Feistel network (Luby & Rackoff 1988). */
DEVICE_FN uint64_t philox_feistel(uint64_t x, unsigned half_bits, uint32_t seed, uint64_t epoch)
{
        uint32_t mask = (uint32_t)(((uint64_t)1 << half_bits) - 1);
        uint32_t left = (uint32_t)(x >> half_bits) & mask, right = (uint32_t)x & mask;

        for (uint32_t round = 0; round < PHILOX_PERMUTATION_ROUNDS; round++) {
                uint32_t f = philox_draw(seed, STREAM_DATA, round, right, 0, epoch, 0).v[0] & mask;
                uint32_t next = left ^ f;

                left = right;
                right = next;
        }
        return (uint64_t)left << half_bits | right;
}

/* The order of training, computed and not stored: image P(position mod count) of [0, count) in the epoch position /
 * count, P a permutation keyed by seed and epoch. The network permutes the smallest 2^(2 h) that hold count - 1 and is
 * applied until the result is below count (cycle walking; Black & Rogaway 2002): 2^(2 h) < 4 count, so fewer than 4
 * walks are expected. count is positive, position is not negative. What is computed here is part of what "resume
 * is bit-identical" means: it never changes. */
DEVICE_FN int64_t philox_permutation(int64_t count, uint32_t seed, int64_t position)
{
        uint64_t x = (uint64_t)(position % count);
        unsigned half_bits = 1;

        while (half_bits < 32 && ((uint64_t)(count - 1) >> (2 * half_bits)))
                half_bits++;
        do
                x = philox_feistel(x, half_bits, seed, (uint64_t)(position / count));
        while (x >= (uint64_t)count);
        return (int64_t)x;
}
