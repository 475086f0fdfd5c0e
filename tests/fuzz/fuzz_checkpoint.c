/* A checkpoint of any bytes is refused before the first value, or hands over every value of the model once; exported it
 * is refused or can be read from end to end. */
#include "engine/formats/export.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define N_VALUES 48

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct param items[] = {
        {.name = "a/kernel", .n_dims = 4, .shape = {1, 3, 2, 1}, .size = 6, .offset = 0, .decayed = true},
        {.name = "a/bias", .n_dims = 1, .shape = {5}, .size = 5, .offset = 32},
        {.name = "w", .n_dims = 2, .shape = {2, 2}, .size = 4, .offset = 16, .decayed = true},
};
static const struct params model = {.n = 3, .items = items, .n_values = N_VALUES, .n_parameters = 15};

static int count_values(void *user, enum section s, int64_t offset, int64_t n, const float *values,
                        struct error *err _unused_)
{
        unsigned(*seen)[N_VALUES] = user;

        for (int64_t i = offset; i < offset + n; i++) {
                if (s >= SECTION_N || i < 0 || i >= N_VALUES || seen[s][i]++)
                        abort();
                float v = values[i - offset];
                __asm__ volatile("" : : "x"(v));
        }
        return 0;
}

/* What is listed and exported without a model: all of it can be read. */
static void as_export(int fd, const char *path, bool whole)
{
        for (int format = 0; format < EXPORT_N; format++) {
                struct export *e = NULL;
                struct error err = {0};
                char piece[100];
                int r = export_open(fd, path, (enum export_format)format, 8, &e, &err);

                if (r < 0 && (whole || r != -EBADMSG || !err.text[0]))
                        abort();
                for (int64_t at = 0, n; r == 0 && at < export_bytes(e); at += n) {
                        n = MIN(export_bytes(e) - at, (int64_t)sizeof piece);
                        if (export_read(e, at, piece, (size_t)n, &err) < 0)
                                abort();
                }
                (void)export_close(e);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        unsigned seen[SECTION_N][N_VALUES] = {{0}}, n_seen = 0;
        struct checkpoint_io io = {.user = seen, .write = count_values};
        int fd = memfd_create("checkpoint", MFD_CLOEXEC);
        struct error err = {0};
        int64_t step = -1;
        char path[64];
        int r;

        if (fd < 0 || write(fd, data, size) != (ssize_t)size)
                abort();
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        r = checkpoint_read(path, "", &model, (1u << SECTION_N) - 1, &io, &step, NULL, &err);
        as_export(fd, path, r == 0);
        (void)close(fd);
        for (int s = 0; s < SECTION_N; s++)
                for (int i = 0; i < N_VALUES; i++)
                        n_seen += seen[s][i];
        if (r == 0 ? n_seen != 60 || step < 0 : r != -EBADMSG || n_seen || step != -1 || !err.text[0])
                abort();
        for (const char *c = err.text; *c; c++)
                if (*c < ' ' || *c > '~')
                        abort();
        return 0;
}
