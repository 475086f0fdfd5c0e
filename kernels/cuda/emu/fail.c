/* Failures that a test asks for: out of memory, a device that is lost, what the driver says after an Xid. */
#include "kernels/cuda/emu/emu.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kinds[EMU_N_CALLS] = {"open", "memory", "launch", "wait"};

static struct {
        char kind[16];
        unsigned long n; /* 0: none is asked for */
        int code;
} asked;
static unsigned long n_calls[EMU_N_CALLS];
static cudaError_t lost;

static void read_asked(void)
{
        const char *s = getenv("EMU_FAIL");

        if (s && (sscanf(s, "%15[a-z]:%lu:%d", asked.kind, &asked.n, &asked.code) != 3 || !asked.n))
                emu_fault("EMU_FAIL=%s, expected KIND:N:CODE", s);
}

cudaError_t emu_lost(void)
{
        return lost;
}

cudaError_t emu_fail(enum emu_call call)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;

        (void)pthread_once(&once, read_asked);
        if (lost != cudaSuccess)
                return lost;
        if (__atomic_add_fetch(&n_calls[call], 1, __ATOMIC_RELAXED) != asked.n || strcmp(kinds[call], asked.kind) != 0)
                return cudaSuccess;
        if (asked.code != cudaErrorMemoryAllocation)
                lost = (cudaError_t)asked.code;
        return (cudaError_t)asked.code;
}
