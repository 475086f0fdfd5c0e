/* The emulated device, which executes the text of .cu files where there is no GPU: its scheduler (block.c) runs a
 * block's threads as fibers, its runtime (runtime.c, memory.c, fail.c) answers the calls of cudart that device.c makes.
 * What would hang or read garbage on a device ends the process with a report: emu_fault. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EMU_MAX_THREADS = 1024, EMU_WARP = 32, EMU_EXCHANGE_BYTES = 64, EMU_STREAMS = 32 };

struct emu_launch {
        void (*call)(const void *args); /* runs one thread */
        const void *kernel;             /* identity, for cudaFuncSetAttribute */
        const char *name;
        dim3 grid, block;
        size_t shared; /* bytes of dynamic shared memory */
};

/* ---- for kernels (emu/dialect.h) */

void emu_syncthreads(const char *file, int line);
void emu_syncwarp(unsigned mask, const char *file, int line);
/* Every lane of mask gives n bytes, at most EMU_EXCHANGE_BYTES; returns all lanes', EMU_EXCHANGE_BYTES apart, until the
 * warp's next exchange but one. It orders no memory: that is emu_syncwarp's. */
const unsigned char *emu_exchange(unsigned mask, const void *mine, size_t n, const char *what, const char *file,
                                  int line);

/* All lanes of a warp give n bytes, at most EMU_EXCHANGE_BYTES; `meet` works once on what all gave, EMU_EXCHANGE_BYTES
 * apart, and each lane gets back what is in its place then. */
void emu_meet(void *mine, size_t n, void (*meet)(unsigned char *all), const char *what, const char *file, int line);

/* A static shared array: where it lies in the block that runs now. */
struct emu_shared {
        uint64_t block; /* serial number of that block */
        void *p;
};
void *emu_shared_get(struct emu_shared *v, size_t size, size_t align, const char *name);
void *emu_dynamic_shared(void);

/* ---- for launches and stand-ins */

/* Runs when the host waits, or goes into the graph that s captures. fn gets a copy of args. */
cudaError_t emu_enqueue(const char *name, void (*fn)(const void *args), const void *args, size_t bytes, cudaStream_t s);
cudaError_t emu_enqueue_launch(const struct emu_launch *l, const void *args, size_t bytes, cudaStream_t s);

/* A stand-in says what it is about to read or write: [p, p + n) must lie in one allocation of the device. */
void emu_touch(const void *p, size_t n, bool write);

/* A stand-in says that it takes longer on the device's clock than other operations do. */
void emu_take_time(double ms);

/* Runs all blocks of a launch, in the order of EMU_ORDER: forward (also where it is not set), reverse, or the seed of a
 * random one. */
void emu_run(const struct emu_launch *l, const void *args, size_t bytes);

void emu_fault(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* Whether a thread of a kernel runs. */
bool emu_running(void);
/* Its number in its block. */
unsigned emu_self(void);
/* Whether [p, p + n) lies in one array of the running block's shared memory. */
bool emu_shared_has(const void *p, size_t n);
/* One of [0, n), n > 0, by EMU_ORDER: the first, the last, any. */
unsigned emu_choose(unsigned n);

/* ---- device memory (memory.c): the host can touch it between these two alone */

void emu_memory_open(void);
void emu_memory_close(void);
/* Whether an address is one that device memory may have. */
bool emu_memory_has(const void *p);
/* Where those addresses begin. */
const char *emu_memory_base(void);
/* "" where [p, p + n) lies in an allocation, else why not. */
const char *emu_memory_wrong(const void *p, size_t n);
cudaError_t emu_memory_new(void **ret, size_t bytes);
void emu_memory_free(void *p);
void emu_memory_left(size_t *ret_free, size_t *ret_total);

/* ---- failures that are asked for (fail.c) */

enum emu_call { EMU_OPEN, EMU_MEMORY, EMU_LAUNCH, EMU_WAIT, EMU_N_CALLS };

/* What a call of that kind has to return, cudaSuccess mostly. EMU_FAIL=KIND:N:CODE (KIND open, memory, launch or wait)
 * makes the N-th call of a kind, counted from 1, fail with cudaError CODE. All but cudaErrorMemoryAllocation stay, as
 * on a device: then every later call of any kind fails alike. */
cudaError_t emu_fail(enum emu_call call);
/* The failure that stays, or cudaSuccess. */
cudaError_t emu_lost(void);

/* A factor as tensor cores take a float: ten bits behind the first. */
static inline double emu_tf32(double v)
{
        union {
                float f;
                uint32_t u;
        } x = {.f = (float)v};

        if ((x.u & 0x7f800000U) != 0x7f800000U)
                x.u = (x.u + 0x1000U) & ~0x1fffU; /* to the nearest, ties away from zero */
        return (double)x.f;
}

/* Address sanitizer's, or nothing. */
void emu_poison(const void *p, size_t n);
void emu_unpoison(const void *p, size_t n);

#ifdef __cplusplus
}
#endif
