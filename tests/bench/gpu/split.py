#!/usr/bin/python3
"""What products of two tf32 terms (kernels/cuda/split.h) are off by, beside float32's own in BLAS's order: 2,000 x 32 sums of n products of
normal values, in units of float32's rounding, 2^-24 (|sum| + root mean square). Needs numpy.

    split.py"""
import numpy

UNIT = 2.0**-24


def tf32(x):
    bits = x.astype(numpy.float32).view(numpy.uint32)
    return ((bits + 0x1000) & numpy.uint32(0xFFFFE000)).view(numpy.float32)  # to the nearest, ties away from zero


def terms(x):
    high = tf32(x)
    return high.astype(float), tf32(x - high).astype(float)


def errors(sums, want):
    e = numpy.abs(sums.astype(float) - want) / (numpy.abs(want) + numpy.sqrt((want**2).mean())) / UNIT
    return numpy.sqrt((e**2).mean()), e.max()


def main():
    random = numpy.random.default_rng(0)
    print("products | split: rms, worst | float32: rms, worst")
    for n in (18, 288, 1152, 2304):
        x, w = (random.standard_normal(s).astype(numpy.float32) for s in ((2000, n), (n, 32)))
        (xh, xl), (wh, wl) = terms(x), terms(w)
        want = x.astype(float) @ w.astype(float)
        split, own = errors(xh @ wh + xh @ wl + xl @ wh, want), errors(x @ w, want)
        print(f"{n} | {split[0]:.2f}, {split[1]:.1f} | {own[0]:.2f}, {own[1]:.1f}")


if __name__ == "__main__":
    main()
