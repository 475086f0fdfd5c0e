/* A file of flax of any bytes is refused with a place, or is a tree whose every value can be read; as a published
 * checkpoint of a small model it is refused, or becomes one of ours that reads again. */
#include "engine/formats/published.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define N_VALUES 48

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct param items[] = {
        {.name = "score_model/kernel", .n_dims = 2, .shape = {3, 2, 1, 1}, .size = 6, .offset = 0, .decayed = true},
        {.name = "score_model/bias", .n_dims = 1, .shape = {2, 1, 1, 1}, .size = 2, .offset = 32},
        {.name = "w", .n_dims = 1, .shape = {1, 1, 1, 1}, .size = 1, .offset = 16, .decayed = true},
};
static const struct params model = {.n = 3, .items = items, .n_values = N_VALUES, .n_parameters = 9};

static void require(bool what)
{
        if (!what)
                abort();
}

static void refused(int r, const struct error *err)
{
        require(r == -EBADMSG && err->text[0]);
        for (const char *c = err->text; *c; c++)
                require(*c >= ' ' && *c <= '~');
}

static void read_values(const struct flax *f, const struct flax_node *n)
{
        float v[64];
        int64_t at = 0;

        for (int64_t some; at < n->size; at += some) {
                some = MIN(n->size - at, (int64_t)ARRAY_LEN(v));
                require(flax_reals(f, n, at, some, v, NULL) == 0);
        }
}

static void as_tree(const char *path)
{
        struct flax *f = NULL;
        struct error err = {0};
        int r = flax_open(path, &f, &err);

        if (r < 0) {
                refused(r, &err);
                return;
        }
        for (size_t i = 0; i < f->n_nodes; i++) {
                const struct flax_node *n = &f->nodes[i];
                char where[FLAX_KEY_MAX];
                int64_t number;

                require(n->parent < i || i == 0);
                flax_path(f, n, where, sizeof where);
                require(strlen(where) < sizeof where && (i == 0 || where[0] == '/'));
                if (flax_is_real(n))
                        read_values(f, n);
                r = flax_integer(f, n, &number, &err);
                require(r == 0 || r == -EINVAL);
        }
        (void)flax_close(f);
}

static int take(void *user, enum section s _unused_, int64_t offset _unused_, int64_t n, const float *values,
                struct error *err _unused_)
{
        for (int64_t i = 0; i < n; i++)
                require(values[i] == values[i] && values[i] - values[i] == 0);
        *(int64_t *)user += n;
        return 0;
}

static void as_checkpoint(const char *path)
{
        char to[64];
        struct published *x = NULL;
        struct error err = {0};
        struct config config;
        int64_t n = 0, step = -1;
        struct checkpoint_io io = {.user = &n, .write = take};
        int r = published_open(path, &model, &x, &err);

        if (r < 0) {
                refused(r, &err);
                return;
        }
        for (size_t i = 0; i < x->n_rows; i++) {
                char line[600];

                published_describe(x, &x->rows[i], line, sizeof line);
                require(line[0] && !strchr(line, '\n'));
        }
        config_defaults(&config);
        (void)snprintf(to, sizeof to, "/dev/shm/mulund-fuzz-flax-%d", (int)getpid());
        r = published_write(x, to, &config, NULL, NULL, NULL, &err);
        if (r < 0)
                refused(r, &err);
        else
                require(checkpoint_read(to, "", &model, (1u << SECTION_N) - 1, &io, &step, NULL, &err) == 0 &&
                        n == 4 * 9 && step == x->step);
        (void)unlink(to);
        (void)published_close(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        int fd = memfd_create("flax", MFD_CLOEXEC);
        char path[64];

        require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        as_tree(path);
        as_checkpoint(path);
        (void)close(fd);
        return 0;
}
