/* The emulated device, which executes the text of .cu files where there is no GPU: its scheduler (block.c) runs a
 * block's threads as fibers, its runtime (runtime.c) answers the calls of cudart that device.c makes. What would hang
 * or read garbage on a device ends the process with a report: emu_fault. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EMU_MAX_THREADS = 1024, EMU_WARP = 32, EMU_EXCHANGE_BYTES = 64 };

struct emu_launch {
        void (*call)(const void *args); /* runs one thread */
        const void *kernel;             /* identity, for cudaFuncSetAttribute */
        const char *name;
        dim3 grid, block;
        size_t shared; /* bytes of dynamic shared memory */
};

/* ---- for kernels (emu/dialect.h) */

void emu_syncthreads(const char *file, int line);
/* Every lane of mask gives n bytes, at most EMU_EXCHANGE_BYTES; returns all lanes', EMU_EXCHANGE_BYTES apart, until the
 * warp's next exchange but one. */
const unsigned char *emu_exchange(unsigned mask, const void *mine, size_t n, const char *what, const char *file,
                                  int line);

/* A static shared array: where it lies in the block that runs now. */
struct emu_shared {
        uint64_t block; /* serial number of that block */
        void *p;
};
void *emu_shared_get(struct emu_shared *v, size_t size, size_t align, const char *name);
void *emu_dynamic_shared(void);

/* ---- for launches and stand-ins */

/* Runs now, or into the graph that s captures. fn gets a copy of args. */
cudaError_t emu_enqueue(const char *name, void (*fn)(const void *args), const void *args, size_t bytes, cudaStream_t s);
cudaError_t emu_enqueue_launch(const struct emu_launch *l, const void *args, size_t bytes, cudaStream_t s);

/* Runs all blocks of a launch, in the order of EMU_ORDER: forward (also where it is not set), reverse, or the seed of a
 * random one. */
void emu_run(const struct emu_launch *l, const void *args);

void emu_fault(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Address sanitizer's, or nothing. */
void emu_poison(const void *p, size_t n);
void emu_unpoison(const void *p, size_t n);

#ifdef __cplusplus
}
#endif
