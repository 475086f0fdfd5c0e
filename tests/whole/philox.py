"""Random numbers by purpose: Philox 4x32-10 (Salmon et al., SC 2011) and every draw that the program makes, from the table in
kernels/philox.h and the comments of kernels/kernels.h. All vectorised over numpy arrays; a draw is rounded to float32, as
the program keeps it, and the float64 computation starts from that."""

import numpy as np

EPS, EPS_0, LATENT, TIME, DROPOUT, INIT, DATA, SAMPLE, SAMPLE_LATENT, PIXEL = range(10)
FLIP = 12

MASK = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def philox_4x32_10(counter, key):
    """counter: four, key: two arrays (or numbers) of 32-bit words that broadcast. Returns [.., 4] words as uint64."""
    c = [np.asarray(x, np.uint64) for x in counter]
    k = [np.asarray(x, np.uint64) for x in key]
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> HALF) ^ c[1] ^ k[0], p1 & MASK, (p0 >> HALF) ^ c[3] ^ k[1], p0 & MASK]
        k = [(k[0] + np.uint64(0x9E3779B9)) & MASK, (k[1] + np.uint64(0xBB67AE85)) & MASK]
    return np.stack(np.broadcast_arrays(*c), axis=-1)


def words(seed, stream, block, quad, image, step, attempt=0):
    """Four words: of the quad (elements / 4, / 8 for dropout) of an image's draw at a step."""
    quad, image, step = (np.asarray(x, np.uint64) for x in (quad, image, step))
    high = np.uint64(attempt << 24) | ((image >> HALF) & np.uint64(0xFF)) << np.uint64(16) | (step >> HALF) & np.uint64(0xFFFF)
    return philox_4x32_10([quad & MASK, image & MASK, step & MASK, high], [seed, stream << 16 | block])


def open_uniform(word):
    """In (0, 1), never an end."""
    return (word.astype(np.float64) + 0.5) / 2.0**32


def uniform(word):
    """In [0, 1), 24 bits."""
    return (word >> np.uint64(8)).astype(np.float64) / 2.0**24


def box_muller(word_0, word_1):
    radius = np.sqrt(-2 * np.log(open_uniform(word_0)))
    angle = 2 * np.pi * word_1.astype(np.float64) / 2.0**32
    return radius * np.cos(angle), radius * np.sin(angle)


def rounded(x):
    return np.asarray(x).astype(np.float32).astype(np.float64)


def normal(seed, stream, block, image, step, d):
    """[d] standard normals of one image: words 0 and 1 of a quad make elements 0 and 1, words 2 and 3 the others."""
    w = words(seed, stream, block, np.arange((d + 3) // 4), image, step)
    return rounded(np.stack([*box_muller(w[:, 0], w[:, 1]), *box_muller(w[:, 2], w[:, 3])], axis=-1).reshape(-1)[:d])


def pixel_uniforms(seed, image, d):
    return uniform(words(seed, PIXEL, 0, np.arange(d // 4), image, 0)).reshape(-1)


def gamma(seed, block, image, step, n, k):
    """[10, n] of Gamma(shape 1/k, scale 1): Gamma(1 + 1/k) of Marsaglia & Tsang 2000, times U^k."""
    shape = 1 + 1 / k
    d = shape - 1 / 3
    c = 1 / np.sqrt(9 * d)
    out, due = np.empty(10 * n), np.arange(10 * n)
    for attempt in range(255):
        w = words(seed, LATENT, block, due, image, step, attempt)
        x = box_muller(w[:, 0], w[:, 1])[0]
        v = (1 + c * x)**3
        with np.errstate(invalid="ignore"):
            good = (v > 0) & (np.log(open_uniform(w[:, 2])) < 0.5 * x * x + d - d * v + d * np.log(v))
        out[due[good]] = (d * v * open_uniform(w[:, 3])**k)[good]
        due = due[~good]
        if not due.size:
            return rounded(out).reshape(10, n)
    raise AssertionError("255 rejections in a row")


def gumbel(seed, block, image, step, n):
    w = words(seed, LATENT, block, np.arange((n + 3) // 4), image, step)
    return rounded(-np.log(-np.log(open_uniform(w.reshape(-1)[:n]))))


def dropout(seed, block, image, step, shape, rate):
    """Multipliers of one image: element i has the 16-bit half i % 8 of quad i / 8, low halves first."""
    w = words(seed, DROPOUT, block, np.arange(int(np.prod(shape)) // 8), image, step)
    halves = np.stack([w & np.uint64(0xFFFF), w >> np.uint64(16)], axis=-1).reshape(-1)
    return ((halves >= round(rate * 65536)) / (1 - rate)).reshape(shape)


def truncated_normal(seed, number, elements):
    """Standard normals cut to [-2, 2] for these elements of a parameter: the first of a pair that fits, else the next pair."""
    out, due = np.empty(len(elements)), np.arange(len(elements))
    for attempt in range(256):
        w = words(seed, INIT, 0, elements[due], number, 0, attempt)
        a, b = (rounded(x) for x in box_muller(w[:, 0], w[:, 1]))
        out[due] = np.where(np.abs(a) <= 2, a, b)
        due = due[(np.abs(a) > 2) & (np.abs(b) > 2)]
        if not due.size:
            return out
    raise AssertionError("256 rejections in a row")


def plain_normal(seed, number, elements):
    w = words(seed, INIT, 0, elements, number, 0)
    return rounded(box_muller(w[:, 0], w[:, 1])[0])


def time_word(seed, block, at, image, step):
    """Uniform number `at` of the sequence that times are made of."""
    return float(uniform(words(seed, TIME, block, at // 4, image, step)[at % 4]))


def time(seed, step, i, total, *, block=0, image=0, independent=False, n_timesteps=0):
    """t of image i of total: t_0 + i / total (mod 1) or a uniform of its own; whole steps in discrete time, at least one."""
    if independent:
        t = time_word(seed, block, i, image, step)
    else:
        t = np.fmod(time_word(seed, block, 0, image, step) + i / total, 1)
    if n_timesteps:
        t = max(np.ceil(t * n_timesteps), 1) / n_timesteps
        return np.float64(np.float32(t)), np.float64(np.float32(t - 1 / n_timesteps))
    return np.float64(np.float32(min(t, 1 - 2.0**-24))), None


def is_mirrored(seed, image, step):
    return bool(words(seed, FLIP, 0, 0, image, step)[0] & np.uint64(1))


def training_index(count, seed, position):
    """The image at a position: a permutation of each epoch by a Feistel network of 8 rounds over 2 x half_bits bits, walked until
    it lands below count."""
    half_bits = 1
    while (count - 1) >> (2 * half_bits):
        half_bits += 1
    mask, epoch, x = (1 << half_bits) - 1, position // count, position % count
    while True:
        left, right = x >> half_bits, x & mask
        for round_ in range(8):
            left, right = right, left ^ (int(words(seed, DATA, round_, right, 0, epoch)[0]) & mask)
        x = left << half_bits | right
        if x < count:
            return x
