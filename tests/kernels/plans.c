/* Choices of ways by measurement (host_plans.h): what is measured once is kept and read back; the first writer wins;
 * what is damaged is set aside; where nothing can be kept the fixed rule stays; each way of a convolution computes what
 * the others do. */
#include "check.h"

#include "kernels/bf16.h"
#include "kernels/cpu/cpu.h"
#include "kernels/host_plans.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int n_bad;
static char folder[64];

static void expect(bool ok, const char *what)
{
        if (!ok)
                printf("FAIL %s\n", what);
        n_bad += !ok;
}

/* ---- a folder of this test's own */

static const char *path_of(const char *name)
{
        static char path[400];

        (void)snprintf(path, sizeof path, "%s/%s", folder, name);
        return path;
}

static void folder_clear(void)
{
        DIR *d = opendir(folder);
        struct dirent *e;

        while (d && (e = readdir(d)))
                if (e->d_name[0] != '.')
                        (void)unlink(path_of(e->d_name));
        if (d)
                (void)closedir(d);
}

static void file_put(const char *text)
{
        FILE *f = fopen(path_of("plans"), "we");

        if (!f || fputs(text, f) < 0 || fclose(f) != 0)
                abort();
}

static char *file_get(void) /* the caller's to free */
{
        char *text = calloc(1, 65536);
        FILE *f = fopen(path_of("plans"), "re");

        if (f) {
                (void)!fread(text, 1, 65535, f);
                (void)fclose(f);
        }
        return text;
}

static int n_lines(void)
{
        char *text = file_get();
        int n = 0;

        for (const char *p = text; *p; p++)
                n += *p == '\n';
        free(text);
        return n;
}

static bool is_there(const char *name)
{
        return access(path_of(name), F_OK) == 0;
}

/* ---- made-up ways with made-up times */

struct made_up {
        double seconds[3][PLANS_DIRECTIONS];
        int n_timed;
        void (*meanwhile)(void); /* what others do while this one measures, or NULL */
        bool disturbed;          /* the first time that is taken is three times as long */
};

static void made_up_time(void *user, int way, double ret_seconds[PLANS_DIRECTIONS])
{
        struct made_up *m = user;

        if (m->meanwhile && m->n_timed == 0)
                m->meanwhile();
        m->n_timed++;
        for (int i = 0; i < PLANS_DIRECTIONS; i++)
                ret_seconds[i] = m->seconds[way][i] * (m->disturbed && m->n_timed == 1 ? 3 : 1);
}

/* Opens a device in the folder and asks for a choice of three ways, the rule the first; whether it was measured. */
static int choose(const char *where, bool plan_only, const char *shape, struct made_up *m, const bool possible[3],
                  int ways[PLANS_DIRECTIONS], struct error *err)
{
        static const char *const names[] = {"one", "two", "three"};
        struct plans_ways w = {
                .isa = "v0", .names = names, .possible = possible, .n = 3, .time = made_up_time, .user = m};
        struct device_settings settings = {.threads = 1, .plan_only = plan_only, .plans_folder = where};
        struct device *d;

        *err = (struct error){0};
        m->n_timed = 0;
        memset(ways, 0, PLANS_DIRECTIONS * sizeof *ways);
        (void)snprintf(w.shape, sizeof w.shape, "%s", shape);
        if (host_device_open(&settings, &d, err) < 0)
                abort();
        plans_choose(d, &w, ways);
        (void)host_device_close(d);
        return m->n_timed > 0;
}

static const bool all[3] = {true, true, true}, first_two[3] = {true, true, false}, only_one[3] = {true};

static bool same(const int a[3], int x, int y, int z)
{
        return a[0] == x && a[1] == y && a[2] == z;
}

static void is_measured_once_and_kept(void)
{
        /* a tenth faster, a little less than that, slower */
        struct made_up m = {{{1, 1, 1}, {0.9, 0.91, 2}, {0.95, INFINITY, 0.5}}, 0}, other = {{{1, 1, 1}}, 0};
        struct error err;
        int ways[3];

        folder_clear();
        expect(choose(folder, true, "x", &m, all, ways, &err) == 0 && same(ways, 0, 0, 0),
               "a plan alone measures nothing");
        expect(choose(folder, false, "x", &m, only_one, ways, &err) == 0 && n_lines() == 0, "one way is no choice");
        expect(choose(folder, false, "x", &m, all, ways, &err) == 1 && same(ways, 1, 0, 2),
               "what is a tenth faster is taken, what is less is not");
        expect(choose(folder, false, "x", &other, all, ways, &err) == 0 && same(ways, 1, 0, 2),
               "the choice is read back");
        expect(choose(folder, true, "x", &other, all, ways, &err) == 0 && same(ways, 1, 0, 2),
               "by what only plans, too");
        expect(choose(folder, false, "y", &m, all, ways, &err) == 1 && n_lines() == 3, "another shape is another line");
        expect(choose(folder, false, "x", &m, first_two, ways, &err) == 1 && same(ways, 1, 0, 0),
               "a choice that cannot be computed here is made anew");
        expect(choose(folder, false, "x", &other, first_two, ways, &err) == 0 && same(ways, 1, 0, 0), "and kept, too");
        expect(choose(folder, false, "x", &other, all, ways, &err) == 0 && same(ways, 1, 0, 2), "beside the other");
        m.disturbed = true;
        expect(choose(folder, false, "z", &m, all, ways, &err) == 1 && same(ways, 1, 0, 2),
               "a time that was disturbed once chooses nothing");
        expect(choose(NULL, false, "x", &m, all, ways, &err) == 0 && same(ways, 0, 0, 0),
               "without a folder the rule stays");
        expect(err.code == 0, "and nobody complains");
}

static void what_is_damaged_is_set_aside(void)
{
        static const char *const texts[] = {"something else\n",
                                            "mulund plans 1\nno tab\n",
                                            "mulund plans 1\na\tb\tc\n",
                                            "mulund plans 1\nkey\tone one o",
                                            "mulund plans 1\nkey\x01\tone\n",
                                            "m"};
        struct made_up m = {{{1, 1, 1}, {0.5, 1, 1}, {1, 1, 1}}, 0};
        struct error err;
        int ways[3];

        for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
                folder_clear();
                file_put(texts[i]);
                expect(choose(folder, false, "x", &m, all, ways, &err) == 1 && same(ways, 1, 0, 0) && n_lines() == 2,
                       texts[i]);
                expect(is_there("plans.damaged"), "what was damaged is set aside");
        }
        folder_clear();
        file_put("");
        expect(choose(folder, false, "x", &m, all, ways, &err) == 1 && n_lines() == 2 && !is_there("plans.damaged"),
               "an empty file is a new one");
}

static void what_cannot_be_kept_is_not_used(void)
{
        struct made_up m = {{{1, 1, 1}, {0.5, 0.5, 0.5}, {1, 1, 1}}, 0};
        struct error err;
        int ways[3];

        expect(choose("/proc/nothing/here", false, "x", &m, all, ways, &err) == 0 && same(ways, 0, 0, 0) && err.text[0],
               "a folder that is not there: the rule, with a warning");
        folder_clear();
        file_put("mulund plans 1\n");
        expect(choose(path_of("plans"), false, "x", &m, all, ways, &err) == 0 && err.text[0], "a file is no folder");
}

static void a_folder_that_is_only_read_is_not_used(void)
{
        struct made_up m = {{{1, 1, 1}, {0.5, 0.5, 0.5}, {1, 1, 1}}, 0};
        struct error err;
        int ways[3], status;

        folder_clear();
        (void)chmod(folder, 0555);
        if (fork() == 0) {
                if (geteuid() == 0 && setuid(65534) < 0) /* root writes everywhere */
                        _exit(1);
                _exit(choose(folder, false, "x", &m, all, ways, &err) != 0 || !same(ways, 0, 0, 0) || !err.text[0]);
        }
        expect(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0,
               "a folder that is only read: the rule, with a warning");
        (void)chmod(folder, 0700);
}

static void another_keeps(void)
{
        struct made_up other = {{{1, 1, 1}, {1, 1, 1}, {0.1, 1, 1}}, 0};
        struct error err;
        int ways[3];

        expect(choose(folder, false, "x", &other, all, ways, &err) == 1 && same(ways, 2, 0, 0), "another is first");
}

static void what_is_kept_meanwhile_wins(void)
{
        struct made_up m = {{{1, 1, 1}, {0.1, 0.1, 0.1}, {1, 1, 1}}, 0, another_keeps};
        struct error err;
        int ways[3];

        folder_clear();
        expect(choose(folder, false, "x", &m, all, ways, &err) == 1 && same(ways, 2, 0, 0) && n_lines() == 2,
               "what another kept while this one measured");
}

/* Processes with opposite times, at once: all get what the first wrote. */
static void the_first_writer_wins(void)
{
        enum { N = 8 };
        int kept[3], status;
        struct made_up m = {{{1, 1, 1}}, 0};
        struct error err;

        folder_clear();
        for (int i = 0; i < N; i++)
                if (fork() == 0) {
                        struct made_up mine = {{{1, 1, 1}, {1, 1, 1}, {1, 1, 1}}, 0};
                        int ways[3], again[3];

                        mine.seconds[1 + i % 2][i % 3] = 0.1;
                        (void)choose(folder, false, "x", &mine, all, ways, &err);
                        (void)choose(folder, false, "x", &mine, all, again, &err);
                        _exit(memcmp(ways, again, sizeof ways) != 0 || mine.n_timed > 0);
                }
        for (int i = 0; i < N; i++)
                expect(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0,
                       "each process has what is kept");
        expect(choose(folder, false, "x", &m, all, kept, &err) == 0 && n_lines() == 2 && !same(kept, 0, 0, 0),
               "one line, of the first");
}

/* ---- the ways of the cpu back end */

enum { CHANNELS = 64, SIDE = 9, IMAGES = 2, PIXELS = IMAGES * SIDE * SIDE, N_VALUES = PIXELS * CHANNELS };
enum { N_WEIGHTS = 9 * CHANNELS * CHANNELS, N_LARGEST = N_VALUES + N_WEIGHTS };

/* Everything that a convolution of x, w and dy makes, one behind the other; the caller's to free. */
static double *convolve(const struct kernels *k, enum dtype type)
{
        struct conv_shape shape = {IMAGES, SIDE, SIDE, CHANNELS, CHANNELS, 3, 3, 1, 1, type, type};
        double *ret = calloc(2 * N_VALUES + N_WEIGHTS, sizeof *ret);
        struct device *d;
        struct stream *s;
        struct conv *c;
        void *b[7];

        if (k->device_open(&(struct device_settings){.threads = 2, .plans_folder = folder}, &d, NULL) < 0 ||
            k->stream_new(d, &s, NULL) < 0 || k->conv_new(d, &shape, &c, NULL) < 0)
                abort();
        for (int i = 0; i < 7; i++)
                b[i] = k->memory_new(d, i == 6 ? k->conv_workspace(c) : N_LARGEST * sizeof(float));
        for (int64_t i = 0; i < N_VALUES; i++) {
                value_set(type, b[0], i, (double)(i * 7 % 13) * 0.125 - 0.75);
                value_set(type, b[1], i, (double)(i * 5 % 11) * 0.125 - 0.625);
        }
        for (int64_t i = 0; i < N_WEIGHTS; i++)
                ((float *)b[2])[i] = (float)(i * 3 % 17) * 0.0078125f - 0.0625f;
        k->conv_forward(s, &(struct conv_forward_args){
                                   .conv = c, .x = b[0], .w = b[2], .residual = b[1], .y = b[3], .workspace = b[6]});
        k->conv_backward_data(
                s, &(struct conv_backward_data_args){.conv = c, .dy = b[1], .w = b[2], .dx = b[4], .workspace = b[6]});
        k->conv_backward_weights(s, &(struct conv_backward_weights_args){
                                            .conv = c, .x = b[0], .dy = b[1], .dw = b[5], .workspace = b[6]});
        expect(k->stream_sync(s, NULL) == 0, "a convolution runs");
        for (int64_t i = 0; i < N_VALUES; i++) {
                ret[i] = value_at(type, b[3], i);
                ret[N_VALUES + i] = value_at(type, b[4], i);
        }
        for (int64_t i = 0; i < N_WEIGHTS; i++)
                ret[2 * N_VALUES + i] = ((float *)b[5])[i];
        for (int i = 0; i < 7; i++)
                k->memory_free(d, b[i]);
        (void)k->conv_free(c);
        (void)k->stream_free(s);
        (void)k->device_close(d);
        return ret;
}

/* The largest difference of n values beside their root mean square. */
static double difference(const double *got, const double *want, size_t n)
{
        double most = 0, squares = 0;

        for (size_t i = 0; i < n; i++) {
                most = fmax(most, fabs(got[i] - want[i]));
                squares += want[i] * want[i];
        }
        return most / sqrt(squares / (double)n);
}

/* What a device measured, all ways in turn written over it. */
static void each_way_computes_the_same(const struct kernels *k, enum dtype type)
{
        static const char *const ways[] = {"winograd", "direct", "direct_bf16"};
        /* bf16: eight roundings of 2^-9 and Winograd's, see bf16.c; float32: its checker's limit */
        double limit = type == DTYPE_BF16 ? 0x1p-5 : 0x1p-18;
        const struct kernels *reference;
        double *want, *got, *again;
        char *text, *end;

        if (kernels_find("reference", &reference, NULL) < 0)
                abort();
        folder_clear();
        got = convolve(k, type);
        again = convolve(k, type);
        want = convolve(reference, type);
        expect(n_lines() == 2, "a convolution's ways are measured and kept");
        expect(memcmp(got, again, (2 * N_VALUES + N_WEIGHTS) * sizeof *got) == 0, "a second device computes the same");
        text = file_get();
        end = strrchr(text, '\t');
        for (size_t i = 0; end && i < (type == DTYPE_BF16 ? 3 : 2); i++) {
                (void)sprintf(end, "\t%s %s %s\n", ways[i], ways[i], ways[i]);
                file_put(text);
                free(got);
                got = convolve(k, type);
                expect(difference(got, want, N_VALUES) < limit, "forward");
                expect(difference(got + N_VALUES, want + N_VALUES, N_VALUES) < limit, "backward data");
                expect(difference(got + 2 * N_VALUES, want + 2 * N_VALUES, N_WEIGHTS) < limit, "backward weights");
        }
        free(text);
        free(got);
        free(again);
        free(want);
}

static void a_dense_layer_is_measured(const struct kernels *k)
{
        struct device *d;
        struct dense *x;

        folder_clear();
        if (k->device_open(&(struct device_settings){.threads = 2, .plans_folder = folder}, &d, NULL) < 0 ||
            k->dense_new(d, &(struct dense_shape){128, 64, 64, DTYPE_FLOAT32}, &x, NULL) < 0)
                abort();
        expect(n_lines() == 2, "a dense layer's ways are measured and kept");
        (void)k->dense_free(x);
        (void)k->device_close(d);
}

int plans_main(const struct kernels *k)
{
        (void)snprintf(folder, sizeof folder, "/tmp/check-plans-XXXXXX");
        if (!mkdtemp(folder))
                return EXIT_FAILURE;
        /* before OpenMP has threads, which a child of fork would lack */
        the_first_writer_wins();
        a_folder_that_is_only_read_is_not_used();
        is_measured_once_and_kept();
        what_is_kept_meanwhile_wins();
        what_is_damaged_is_set_aside();
        what_cannot_be_kept_is_not_used();
        each_way_computes_the_same(k, DTYPE_FLOAT32);
        each_way_computes_the_same(k, DTYPE_BF16);
        a_dense_layer_is_measured(k);
        folder_clear();
        (void)rmdir(folder);
        printf("plans: %d failed\n", n_bad);
        return n_bad ? EXIT_FAILURE : EXIT_SUCCESS;
}
