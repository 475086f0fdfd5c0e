/* What all lanes give is spread out to matrices, multiplied row by row of b, and given back. */
#include "kernels/cuda/emu/mma.h"

#include "kernels/bf16.h"
#include "kernels/cuda/emu/emu.h"

enum { ROWS = 16, COLUMNS = 8, K_BF16 = 16, K_TF32 = 8, HIGH = 0, LOW = 1 };

struct lane {
        float d[4];
        uint32_t a[2][4], b[2][2];
};
_Static_assert(sizeof(struct lane) <= EMU_EXCHANGE_BYTES, "a lane's share of an exchange");

/* Of all columns. */
typedef float row __attribute__((vector_size(4 * COLUMNS)));

static void multiply(row d[ROWS], const float (*a)[ROWS], const row *b, int n_k)
{
        for (int i = 0; i < ROWS; i++)
                for (int k = 0; k < n_k; k++)
                        d[i] += a[k][i] * b[k];
}

static void take(const struct lane *lanes, row d[ROWS])
{
        for (int l = 0; l < EMU_WARP; l++)
                for (int i = 0; i < 4; i++)
                        d[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2] = lanes[l].d[i];
}

static void give(struct lane *lanes, const row d[ROWS])
{
        for (int l = 0; l < EMU_WARP; l++)
                for (int i = 0; i < 4; i++)
                        lanes[l].d[i] = d[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2];
}

static void of_bf16(unsigned char *all)
{
        struct lane *const lanes = (struct lane *)all;
        float a[K_BF16][ROWS];
        row d[ROWS], b[K_BF16];

        for (int l = 0; l < EMU_WARP; l++)
                for (int half = 0; half < 2; half++) {
                        const int k = l % 4 * 2 + half, shift = 16 * half;

                        for (int i = 0; i < 4; i++)
                                a[k + i / 2 * 8][l / 4 + i % 2 * 8] =
                                        bf16_widen((uint16_t)(lanes[l].a[HIGH][i] >> shift));
                        for (int i = 0; i < 2; i++)
                                b[k + i * 8][l / 4] = bf16_widen((uint16_t)(lanes[l].b[HIGH][i] >> shift));
                }
        take(lanes, d);
        multiply(d, a, b, K_BF16);
        give(lanes, d);
}

static float tf32(uint32_t word)
{
        float f;

        word &= ~0x1fffU;
        memcpy(&f, &word, sizeof f);
        return f;
}

static void spread(const struct lane *lanes, int term, float a[K_TF32][ROWS], row b[K_TF32])
{
        for (int l = 0; l < EMU_WARP; l++) {
                for (int i = 0; i < 4; i++)
                        a[l % 4 + i / 2 * 4][l / 4 + i % 2 * 8] = tf32(lanes[l].a[term][i]);
                for (int i = 0; i < 2; i++)
                        b[l % 4 + i * 4][l / 4] = tf32(lanes[l].b[term][i]);
        }
}

static void of_tf32(unsigned char *all)
{
        struct lane *const lanes = (struct lane *)all;
        float a[K_TF32][ROWS];
        row d[ROWS], b[K_TF32];

        spread(lanes, HIGH, a, b);
        take(lanes, d);
        multiply(d, a, b, K_TF32);
        give(lanes, d);
}

static void of_split(unsigned char *all)
{
        struct lane *const lanes = (struct lane *)all;
        float high[K_TF32][ROWS], low[K_TF32][ROWS];
        row d[ROWS], b_high[K_TF32], b_low[K_TF32];

        spread(lanes, HIGH, high, b_high);
        spread(lanes, LOW, low, b_low);
        take(lanes, d);
        multiply(d, low, b_high, K_TF32);
        multiply(d, high, b_low, K_TF32);
        multiply(d, high, b_high, K_TF32);
        give(lanes, d);
}

void emu_mma(enum emu_mma kind, float d[4], const uint32_t a[4], const uint32_t a_low[4], const uint32_t b[2],
             const uint32_t b_low[2], const char *file, int line)
{
        static void (*const meet[])(unsigned char *) = {
                [EMU_MMA_BF16] = of_bf16, [EMU_MMA_TF32] = of_tf32, [EMU_MMA_SPLIT] = of_split};
        struct lane mine;

        memcpy(mine.d, d, sizeof mine.d);
        memcpy(mine.a[HIGH], a, sizeof mine.a[HIGH]);
        memcpy(mine.b[HIGH], b, sizeof mine.b[HIGH]);
        if (kind == EMU_MMA_SPLIT) {
                memcpy(mine.a[LOW], a_low, sizeof mine.a[LOW]);
                memcpy(mine.b[LOW], b_low, sizeof mine.b[LOW]);
        }
        emu_meet(&mine, sizeof mine, meet[kind], "mma", file, line);
        memcpy(d, mine.d, sizeof mine.d);
}
