/* Convolutions on the emulated device choose among ways of which the first is slow and one cannot be had: what is
 * measured is kept by GPU, library and shape, read back without measuring, made anew where the file is stale or
 * damaged, and left alone by a device that only plans. */
#include "kernels/kernels.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { N_PLANS = 7 }; /* of a convolution */

static int n_bad;
static char folder[] = "/tmp/mulun-choice.XXXXXX", file[64], damaged[64], lock[64];
static char text[65536];

static void expect(bool ok, const char *what)
{
        if (!ok)
                printf("FAIL %s; the file:\n%s", what, text);
        n_bad += !ok;
}

static void read_file(void)
{
        FILE *f = fopen(file, "re");

        memset(text, 0, sizeof text);
        if (f) {
                (void)!fread(text, 1, sizeof text - 1, f);
                (void)fclose(f);
        }
}

static void write_file(const char *what)
{
        FILE *f = fopen(file, "we");

        if (!f || fputs(what, f) < 0 || fclose(f) != 0)
                n_bad++;
}

static int count(const char *what)
{
        int n = 0;

        for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
                n++;
        return n;
}

/* Makes a convolution on a device of its own, and reads the file. */
static void convolve(const struct kernels *k, bool plan_only, enum dtype type, bool tf32)
{
        struct device_settings settings = {.threads = 1, .plan_only = plan_only, .plans_folder = folder};
        struct conv_shape shape = {1, 4, 4, 2, 2, 3, 3, 1, 1, type, type, tf32};
        struct device *d;
        struct conv *c;
        struct error err;

        if (k->device_open(&settings, &d, &err) < 0 || k->conv_new(d, &shape, &c, &err) < 0) {
                printf("FAIL %s: %s\n", err.path, err.text);
                n_bad++;
                return;
        }
        (void)k->conv_free(c);
        (void)k->device_close(d);
        read_file();
}

int main(void)
{
        const struct kernels *k;
        struct error err;

        if (kernels_find("cuda-emu", &k, &err) < 0 || !mkdtemp(folder)) {
                printf("FAIL %s\n", err.text);
                return 1;
        }
        (void)snprintf(file, sizeof file, "%s/plans", folder);
        (void)snprintf(damaged, sizeof damaged, "%s/plans.damaged", folder);
        (void)snprintf(lock, sizeof lock, "%s/plans.lock", folder);

        convolve(k, true, DTYPE_FLOAT32, false);
        expect(!text[0], "a device that only plans wrote");
        convolve(k, false, DTYPE_FLOAT32, false);
        expect(count("\tplain\n") == N_PLANS && count("\n") == N_PLANS + 1, "not the fastest way, once for each plan");
        expect(count("emulated device; loops 1; conv forward residual bias float32 or split 1x4x4, 2 to 2\t") == 1,
               "a key");
        convolve(k, false, DTYPE_FLOAT32, false);
        expect(count("\n") == N_PLANS + 1, "measured twice");
        convolve(k, false, DTYPE_FLOAT32, true);
        convolve(k, false, DTYPE_BF16, false);
        expect(count("\n") == 3 * N_PLANS + 1 && count(" tf32 ") == N_PLANS && count(" bf16 ") == N_PLANS,
               "types share a choice");

        write_file("mulund plans 1\n"
                   "emulated device; loops 1; conv forward float32 or split 1x4x4, 2 to 2\tnonsense\n"
                   "emulated device; loops 1; conv backward_data float32 or split 1x4x4, 2 to 2\trefused\n"
                   "emulated device; loops 1; conv backward_weights float32 or split 1x4x4, 2 to 2\tslow\n");
        convolve(k, false, DTYPE_FLOAT32, false);
        expect(count("conv forward float32 or split 1x4x4, 2 to 2\tplain\n") == 1, "an unknown way was not made anew");
        expect(count("conv backward_data float32 or split 1x4x4, 2 to 2\tplain\n") == 1, "one that cannot be had");
        expect(count("conv backward_weights") == 1, "a slow choice that was kept is kept");

        /* terms of tf32, where float32's own plans are slow; what is kept is found again, and agrees */
        (void)setenv("EMU_FLOAT32", "slow", 1);
        (void)unlink(file);
        convolve(k, false, DTYPE_FLOAT32, false);
        expect(count("\tsplit:plain\n") == N_PLANS && count("\n") == N_PLANS + 1, "float32's slow plans were taken");
        convolve(k, false, DTYPE_FLOAT32, false);
        expect(count("\n") == N_PLANS + 1, "a split was measured twice");
        (void)unsetenv("EMU_FLOAT32");
        convolve(k, false, DTYPE_FLOAT32, false);
        expect(count("\tsplit:plain\n") == N_PLANS, "a split that was kept was not taken");

        write_file("mulund plans 1\nhalf a line");
        convolve(k, false, DTYPE_FLOAT32, false);
        expect(count("\tplain\n") == N_PLANS && access(damaged, F_OK) == 0, "a damaged file is not set aside");

        (void)unlink(file);
        (void)unlink(damaged);
        (void)unlink(lock);
        (void)rmdir(folder);
        printf("%d failures\n", n_bad);
        return n_bad > 0;
}
