/* philox.h: known answers, and a layout in which no two purposes meet. */
#include "check.h"

static int n_bad;

static void expect(bool ok, const char *what)
{
        printf("%-4s %s\n", ok ? "ok" : "FAIL", what);
        n_bad += !ok;
}

/* The known answers of Random123 1.14, kat_vectors. */
static void known_answers(void)
{
        static const uint32_t cases[3][10] = {
                {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
                {~0u, ~0u, ~0u, ~0u, ~0u, ~0u, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
                {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb,
                 0x5001e420, 0x24126ea1},
        };

        for (int i = 0; i < 3; i++) {
                const uint32_t *c = cases[i];
                struct philox p = philox_4x32_10(c[0], c[1], c[2], c[3], c[4], c[5]);

                expect(memcmp(p.v, c + 6, sizeof(p.v)) == 0, "known answer");
        }
}

/* Each bit of each argument moves the draw, so no two arguments share a bit of counter and key. Philox is a bijection
 * of the counter for each key: equal draws mean equal counters. */
static void bits_are_disjoint(void)
{
        static const int widths[7] = {32, 16, 16, 32, 40, 48, 8}; /* seed, stream, block, quad, image, step, attempt */
        struct philox seen[256] = {{{0}}};
        int n = 0, same = 0;

        seen[n++] = philox_draw(0, 0, 0, 0, 0, 0, 0);
        for (int a = 0; a < 7; a++)
                for (int bit = 0; bit < widths[a]; bit++) {
                        uint64_t v[7] = {0};

                        v[a] = (uint64_t)1 << bit;
                        seen[n++] = philox_draw((uint32_t)v[0], (uint32_t)v[1], (uint32_t)v[2], (uint32_t)v[3], v[4],
                                                v[5], (uint32_t)v[6]);
                }
        for (int i = 0; i < n; i++)
                for (int j = 0; j < i; j++)
                        same += memcmp(&seen[i], &seen[j], sizeof(seen[i])) == 0;
        expect(n == 193 && same == 0, "192 bits of arguments, 192 bits of counter and key");
        /* all together: the highest values of everything differ from all others */
        expect(STREAM_N <= 0xFFFF, "the streams fit");
}

/* Where a pair's angle is 0, a quarter and a half of a turn, and its radius at both ends. */
static void normal_pairs(void)
{
        float a, b;

        philox_normal_pair(0x80000000u, 0, &a, &b);
        expect(b == 0 && fabs((double)a * a - 2 * log(2)) < 1e-6, "the angle begins at 0");
        philox_normal_pair(0x80000000u, 0x40000000u, &a, &b);
        expect(fabs((double)a) < 1e-15 && b > 0, "a quarter of a turn");
        philox_normal_pair(0, 0x80000000u, &a, &b);
        expect(fabs((double)b) < 1e-14 && fabs((double)a * a - 66 * log(2)) < 1e-4 && a < 0, "the largest radius");
        philox_normal_pair(~0u, 0, &a, &b);
        expect(a > 0 && fabs((double)a * a - 0x1p-32) < 1e-14, "the smallest radius");
        expect(philox_uniform(0) == 0 && philox_uniform(~0u) == 1 - 0x1p-24f, "uniforms are in [0, 1)");
}

int philox_main(void)
{
        known_answers();
        normal_pairs();
        bits_are_disjoint();
        printf("philox: %d failed\n", n_bad);
        return n_bad ? EXIT_FAILURE : EXIT_SUCCESS;
}
