/* What a table promises beside its operations: refusals with a reason, memory, the dry table. */
#include "check.h"

#include "kernels/host.h"

#include <errno.h>

static int n_bad;

static void expect(bool ok, const char *table, const char *what)
{
        if (!ok)
                printf("FAIL %s: %s\n", table, what);
        n_bad += !ok;
}

static void refuses_with_a_reason(const struct kernels *k, struct device *d)
{
        struct conv *conv = NULL;
        struct dense *dense = NULL;
        struct norm *norm = NULL;
        struct attention *attention = NULL;
        struct device *other = NULL;
        struct error err = {0};

        expect(k->device_open(&(struct device_settings){.index = 3, .threads = 1}, &other, &err) == -ENODEV &&
                       err.text[0],
               k->name, "a device that is not there is -ENODEV");
        expect(k->device_open(&(struct device_settings){.threads = 0}, &other, &err) == -EINVAL && !other, k->name,
               "no threads are -EINVAL");
        err = (struct error){0};
        expect(k->conv_new(d, &(struct conv_shape){1, 0, 4, 32, 32, 3, 3, 1, 1}, &conv, &err) == -EINVAL, k->name,
               "no rows are -EINVAL");
        expect(k->dense_new(d, &(struct dense_shape){INT64_MAX, INT64_MAX, 4, DTYPE_FLOAT32}, &dense, &err) == -EINVAL,
               k->name, "a size that overflows is -EINVAL");
        expect(k->norm_new(d, &(struct norm_shape){1, 4, 33, 0, 32}, &norm, &err) == -EINVAL, k->name,
               "33 channels make no 32 groups");
        expect(k->norm_new(d, &(struct norm_shape){1, 4, 33, 31, 32}, &norm, &err) == -EINVAL, k->name,
               "a group may not straddle two inputs");
        expect(!conv && !dense && !norm && !attention, k->name, "nothing is returned on failure");
        expect(!k->conv_free(NULL) && !k->dense_free(NULL) && !k->norm_free(NULL) && !k->attention_free(NULL) &&
                       !k->stream_free(NULL) && !k->device_close(NULL),
               k->name, "freeing nothing does nothing");
}

/* What these back ends lack is refused by its name. */
static void lacks(const struct kernels *k, struct device *d)
{
        static const struct {
                struct conv_shape shape;
                const char *member;
        } convs[] = {
                {{1, 4, 4, 32, 32, 1, 3, 1, 1}, "kernel_height"},
                {{1, 4, 4, 32, 32, 3, 5, 1, 1}, "kernel_width"},
                {{1, 4, 4, 32, 32, 3, 3, 2, 1}, "stride"},
                {{1, 4, 4, 32, 32, 3, 3, 1, 2}, "groups"},
                {{1, 4, 4, 32, 32, 3, 3, 1, 1, DTYPE_N}, "x_type"},
                {{1, 4, 4, 32, 32, 3, 3, 1, 1, DTYPE_FLOAT32, DTYPE_N}, "y_type"},
        };
        struct conv *conv = NULL;
        struct attention *attention = NULL;
        struct error err = {0};

        for (size_t i = 0; i < ARRAY_LEN(convs); i++) {
                err = (struct error){0};
                expect(k->conv_new(d, &convs[i].shape, &conv, &err) == -ENOTSUP && !conv &&
                               strstr(err.text, convs[i].member),
                       k->name, convs[i].member);
        }
        expect(k->attention_new(d, &(struct attention_shape){1, 4, 32, 2}, &attention, &err) == -ENOTSUP &&
                       !attention && strstr(err.text, "heads 2"),
               k->name, "several heads");
}

static void memory_is_aligned_and_zero(const struct kernels *k, struct device *d, struct stream *s)
{
        static const size_t sizes[] = {0, 1, 63, 64, 65, 100000};
        unsigned char buffer[65], back[65];

        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
                void *p = k->memory_new(d, sizes[i]);
                bool zero = p;

                expect(p && (uintptr_t)p % KERNELS_ALIGN == 0, k->name, "memory is aligned");
                if (sizes[i] == sizeof(buffer)) {
                        memset(buffer, 1, sizeof(buffer));
                        k->copy_out(s, buffer, p, sizeof(buffer));
                        (void)k->stream_sync(s, NULL);
                        for (size_t j = 0; j < sizeof(buffer); j++)
                                zero = zero && buffer[j] == 0;
                        expect(zero, k->name, "memory is zero");
                        memset(buffer, 7, sizeof(buffer));
                        k->copy_in(s, p, buffer, sizeof(buffer));
                        k->copy_out(s, back, p, sizeof(back));
                        expect(k->stream_sync(s, NULL) == 0 && memcmp(buffer, back, sizeof(back)) == 0, k->name,
                               "what is copied in comes out");
                }
                k->memory_free(d, p);
        }
        expect(!k->memory_new(d, SIZE_MAX - 5), k->name, "too much memory is NULL");
        k->memory_free(d, NULL);
}

static int fails(const void *args)
{
        return *(const int *)args;
}

/* The wrapper's promise, with failures made up: no operation of the processor's back ends fails by itself. */
static void first_failure_stays(const struct kernels *k, struct stream *s)
{
        float y = 1;
        struct fill_args args = {.n = 1, .value = 2, .y = &y};
        struct error err = {0};

        k->fill(s, &args);
        expect(y == 2 && k->stream_sync(s, &err) == 0, k->name, "an operation runs");
        host_run(s, "first", fails, &(int){-EIO}, sizeof(int));
        host_run(s, "second", fails, &(int){-ENOMEM}, sizeof(int));
        args.value = 3;
        k->fill(s, &args);
        k->copy_in(s, &y, &(float){4}, sizeof(y));
        expect(y == 2, k->name, "nothing runs after a failure");
        expect(k->stream_sync(s, &err) == -EIO && strcmp(err.path, "first") == 0, k->name, "the first failure is told");
        expect(k->stream_sync(s, NULL) == -EIO, k->name, "and stays");
}

static void dry_does_nothing(const struct kernels *k, struct device *d, struct stream *s)
{
        struct event *event = (void *)s;
        struct graph *graph = (void *)s;
        struct kernels dry;
        char byte = 1;

        kernels_dry(k, &dry);
        expect(!dry.memory_new(d, 100), k->name, "a dry table takes no memory");
        dry.copy_in(s, NULL, &byte, 1);
        dry.copy_out(s, &byte, NULL, 1);
        dry.event_record(s, NULL);
        dry.stream_wait(s, NULL);
        expect(dry.event_new(d, &event, NULL) == 0 && !event && dry.graph_begin(s, NULL) == 0 &&
                       dry.graph_end(s, &graph, NULL) == 0 && !graph,
               k->name, "a dry table's events and graphs are nothing");
        dry.graph_launch(s, graph);
#define KERNEL(op) dry.op(s, NULL);
#include "kernels/kernels.def"
#undef KERNEL
        dry.memory_free(d, NULL);
        expect(dry.stream_sync(s, NULL) == 0 && byte == 1, k->name, "a dry table does nothing");
        expect(dry.conv_new == k->conv_new && dry.abi == k->abi, k->name, "a dry table's plans are the real ones");
}

int table_main(const struct kernels *tested)
{
        const struct kernels *k[2] = {tested};
        struct error err = {0};

        expect(kernels_find("abacus", &k[1], &err) == -EINVAL && strstr(err.text, "reference") &&
                       strstr(err.text, "cpu"),
               "kernels_find", "an unknown name is -EINVAL and names the known ones");
        if (kernels_find("reference", &k[1], &err) < 0)
                return EXIT_FAILURE;
        for (int i = 0; i < 2; i++) {
                struct device *d;
                struct stream *s;

                if (k[i]->device_open(&(struct device_settings){.threads = 2}, &d, &err) < 0 ||
                    k[i]->stream_new(d, &s, &err) < 0)
                        return EXIT_FAILURE;
                refuses_with_a_reason(k[i], d);
                lacks(k[i], d);
                memory_is_aligned_and_zero(k[i], d, s);
                dry_does_nothing(k[i], d, s);
                if (on_processor(k[i]))
                        first_failure_stays(k[i], s);
                (void)k[i]->stream_free(s);
                (void)k[i]->device_close(d);
        }
        printf("table: %d failed\n", n_bad);
        return n_bad ? EXIT_FAILURE : EXIT_SUCCESS;
}
