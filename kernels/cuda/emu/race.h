/* What the scheduler and the runtime tell the race checker (race.c); nothing in builds without it. The build with it
 * (EMU_RACE) has the kernels' accesses instrumented as for the thread sanitizer. */
#pragma once

#include "kernels/cuda/emu/emu.h"

/* An operation's place among those of all streams: its stream, and how many operations of each stream come before its
 * end by the order of calls, waits and events (its own among them). */
struct emu_order {
        unsigned stream;
        uint32_t after[EMU_STREAMS];
};

#ifdef EMU_RACE
void race_begin(const struct emu_order *order, const char *name);
void race_end(void);
/* A block of a launch begins; the kernel may read its arguments too. */
void race_block(size_t block, const void *args, size_t bytes);
/* Thread t of the block runs from here on, its stack in [low, high). */
void race_thread(unsigned t, const char *low, const char *high);
/* All threads of the block have met; the running one has met with those of its warp. */
void race_barrier(unsigned n_threads);
void race_warp(void);
void race_shared(const char *low, size_t bytes);
/* The running operation reads or writes all of it, or it is freed. */
void race_range(const void *p, size_t n, bool write);
void race_forget(const void *p, size_t n);
#else
#define RACE_NOTHING static inline __attribute__((always_inline)) void
RACE_NOTHING race_begin(const struct emu_order *order, const char *name)
{
        (void)order;
        (void)name;
}
RACE_NOTHING race_end(void)
{
}
RACE_NOTHING race_block(size_t block, const void *args, size_t bytes)
{
        (void)block;
        (void)args;
        (void)bytes;
}
RACE_NOTHING race_thread(unsigned t, const char *low, const char *high)
{
        (void)t;
        (void)low;
        (void)high;
}
RACE_NOTHING race_barrier(unsigned n_threads)
{
        (void)n_threads;
}
RACE_NOTHING race_warp(void)
{
}
RACE_NOTHING race_shared(const char *low, size_t bytes)
{
        (void)low;
        (void)bytes;
}
RACE_NOTHING race_range(const void *p, size_t n, bool write)
{
        (void)p;
        (void)n;
        (void)write;
}
RACE_NOTHING race_forget(const void *p, size_t n)
{
        (void)p;
        (void)n;
}
#undef RACE_NOTHING
#endif
