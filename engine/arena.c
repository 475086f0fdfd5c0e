#include "engine/arena.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define ALIGN ((size_t)64)
/* Blocks at a time: the largest configuration has fewer than 8,000 nodes, each with a value, a gradient and something
 * kept at most. */
#define BLOCKS_MAX 65536

struct block {
        size_t offset, size, number; /* number: in the order of taking */
};

struct arena {
        char *base;
        size_t bytes, peak;
        struct block *used; /* by offset */
        size_t n, capacity, next_number;
};

int arena_new(void *memory, size_t bytes, struct arena **ret, struct error *err)
{
        struct arena *a = calloc(1, sizeof *a);

        if (a) {
                a->capacity = BLOCKS_MAX;
                a->used = malloc(a->capacity * sizeof *a->used);
        }
        if (!a || !a->used) {
                free(a);
                return error_set(err, -ENOMEM, NULL, "no memory for the arena's table");
        }
        /* an address that faults when somebody reads it in a dry run */
        a->base = memory ? memory : (char *)ALIGN;
        a->bytes = memory ? bytes : SIZE_MAX / 2;
        *ret = a;
        return 0;
}

struct arena *arena_free(struct arena *a)
{
        if (!a)
                return NULL;
        free(a->used);
        free(a);
        return NULL;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
        size_t size = (MAX(bytes, 1) + ALIGN - 1) / ALIGN * ALIGN, offset = 0, i;

        for (i = 0; i < a->n && a->used[i].offset - offset < size; i++)
                offset = a->used[i].offset + a->used[i].size;
        assert(offset + size <= a->bytes && a->n < a->capacity);
        memmove(a->used + i + 1, a->used + i, (a->n - i) * sizeof *a->used);
        a->used[i] = (struct block){offset, size, a->next_number++};
        a->n++;
        a->peak = MAX(a->peak, offset + size);
        return a->base + offset;
}

void arena_release(struct arena *a, void *p)
{
        size_t i = a->n;

        if (!p)
                return;
        while (i > 0 && a->base + a->used[i - 1].offset != (char *)p)
                i--;
        assert(i > 0);
        memmove(a->used + i - 1, a->used + i, (a->n - i) * sizeof *a->used);
        a->n--;
}

size_t arena_mark(const struct arena *a)
{
        return a->next_number;
}

void arena_release_since(struct arena *a, size_t mark)
{
        size_t n = 0;

        for (size_t i = 0; i < a->n; i++)
                if (a->used[i].number < mark)
                        a->used[n++] = a->used[i];
        a->n = n;
}

size_t arena_peak(const struct arena *a)
{
        return a->peak;
}

size_t arena_used(const struct arena *a)
{
        size_t sum = 0;

        for (size_t i = 0; i < a->n; i++)
                sum += a->used[i].size;
        return sum;
}
