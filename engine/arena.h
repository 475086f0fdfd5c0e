/* The memory of a step: first fit over one block of device memory, so that the same sequence of calls gives the same
 * addresses every time and nothing is allocated in a step. Without memory (a dry run) it hands out addresses that
 * nobody reads and only learns the peak, which is what the step will need. */
#pragma once

#include "base/error.h"

struct arena;

/* memory: bytes of device memory, 64-byte aligned, borrowed; NULL for a dry run, which has no limit. */
int arena_new(void *memory, size_t bytes, struct arena **ret, struct error *err);
struct arena *arena_free(struct arena *a);

/* 64-byte aligned, never NULL: running out after a dry run of the same calls is a bug (assert). */
void *arena_alloc(struct arena *a, size_t bytes);
void arena_release(struct arena *a, void *p); /* NULL does nothing */
/* What was taken since a mark and not released is released together. */
size_t arena_mark(const struct arena *a);
void arena_release_since(struct arena *a, size_t mark);
size_t arena_peak(const struct arena *a);
size_t arena_used(const struct arena *a); /* 0 after a step that released all */

DEFINE_CLEANUP(struct arena *, arena_free);
