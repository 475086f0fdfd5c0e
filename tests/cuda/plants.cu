/* Faults planted in kernels, each with the verdict that the emulated device must give, and controls that must pass:
 * `plants` runs each in a process of its own. What an order of threads shows is found by two orders' results. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/emu/emu.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

namespace
{

enum { N = 256 };

/* ---- controls and faults */

__global__ void fine_fill(float *y)
{
        y[blockIdx.x * blockDim.x + threadIdx.x] = 1;
}

__global__ void fine_reverse(float *y)
{
        SHARED(float, s, [N]);

        s[threadIdx.x] = (float)threadIdx.x;
        __syncthreads();
        y[threadIdx.x] = s[N - 1 - threadIdx.x];
}

__global__ void fine_sum(float *y)
{
        y[threadIdx.x] = (float)block_sum((double)threadIdx.x);
}

__global__ void no_barrier(float *y)
{
        SHARED(float, s, [N]);

        s[threadIdx.x] = (float)threadIdx.x;
        y[threadIdx.x] = s[N - 1 - threadIdx.x];
}

__global__ void no_second_barrier(float *y)
{
        SHARED(float, s, [1]);

        if (threadIdx.x == 0)
                s[0] = 1;
        __syncthreads();
        y[threadIdx.x] = s[0];
        if (threadIdx.x == N - 1)
                s[0] = 2;
}

__global__ void race_of_blocks(float *y)
{
        y[0] = (float)blockIdx.x;
}

__global__ void race_of_threads(float *y)
{
        y[0] = (float)threadIdx.x;
}

__global__ void shared_unwritten(float *y)
{
        SHARED(float, s, [N]);

        y[threadIdx.x] = s[threadIdx.x] * 0;
}

__global__ void memory_unwritten(float *y)
{
        y[threadIdx.x] = y[threadIdx.x] * 0;
}

__global__ void divergent_barrier(float *y)
{
        if (threadIdx.x < 32)
                __syncthreads();
        else
                __syncthreads();
        y[threadIdx.x] = 1;
}

__global__ void barrier_of_some(float *y)
{
        if (threadIdx.x < 32)
                __syncthreads();
        y[threadIdx.x] = 1;
}

__global__ void early_end(float *y)
{
        if (threadIdx.x > 200)
                return;
        __syncthreads();
        y[threadIdx.x] = 1;
}

__global__ void shuffle_of_some(float *y)
{
        float x = 1;

        if (threadIdx.x % 32 < 16)
                x = __shfl_xor_sync(ALL_LANES, x, 1);
        y[threadIdx.x] = x;
}

__global__ void shuffle_divergent(float *y)
{
        float x = 1;

        if (threadIdx.x % 2)
                x = __shfl_xor_sync(ALL_LANES, x, 1);
        else
                x = __shfl_xor_sync(ALL_LANES, x, 2);
        y[threadIdx.x] = x;
}

__global__ void shuffle_from_outside(float *y)
{
        float x = 1;

        if (threadIdx.x % 32 < 16)
                x = __shfl_xor_sync(0xffffu, x, 16);
        y[threadIdx.x] = x;
}

__global__ void dynamic_unasked(float *y)
{
        DYNAMIC_SHARED(float, s);

        y[threadIdx.x] = s[threadIdx.x];
}

__global__ void too_much_shared(float *y)
{
        SHARED(float, s, [16384]);

        y[threadIdx.x] = s[0];
}

/* ---- running them */

enum verdict { PASSES, FAULT, REFUSED, NAN_SEEN, ORDERS_DIFFER };

struct plant {
        const char *name;
        void (*kernel)(float *);
        unsigned blocks, threads;
        size_t shared;
        enum verdict verdict;
        const char *says; /* of a fault */
};

const struct plant plants[] = {
        {"fine_fill", fine_fill, 4, N / 4, 0, PASSES, ""},
        {"fine_reverse", fine_reverse, 1, N, 0, PASSES, ""},
        {"fine_sum", fine_sum, 1, N, 0, PASSES, ""},
        {"no_barrier", no_barrier, 1, N, 0, NAN_SEEN, ""},
        {"no_second_barrier", no_second_barrier, 1, N, 0, ORDERS_DIFFER, ""},
        {"race_of_blocks", race_of_blocks, 4, 1, 0, ORDERS_DIFFER, ""},
        {"race_of_threads", race_of_threads, 1, N, 0, ORDERS_DIFFER, ""},
        {"shared_unwritten", shared_unwritten, 1, N, 0, NAN_SEEN, ""},
        {"memory_unwritten", memory_unwritten, 1, N, 0, NAN_SEEN, ""},
        {"divergent_barrier", divergent_barrier, 1, N, 0, FAULT, "divergent __syncthreads"},
        {"barrier_of_some", barrier_of_some, 1, N, 0, FAULT, "barrier"},
        {"early_end", early_end, 1, N, 0, FAULT, "ended"},
        {"shuffle_of_some", shuffle_of_some, 1, N, 0, FAULT, "not all reach"},
        {"shuffle_divergent", shuffle_divergent, 1, N, 0, FAULT, "divergent warp operation"},
        {"shuffle_from_outside", shuffle_from_outside, 1, N, 0, FAULT, "is not in mask"},
        {"dynamic_unasked", dynamic_unasked, 1, N, 0, FAULT, "asked for no dynamic"},
        {"too_much_shared", too_much_shared, 1, N, 0, FAULT, "static shared memory"},
        {"too_many_threads", fine_fill, 1, 1025, 0, REFUSED, ""},
        {"no_threads", fine_fill, 1, 0, 0, REFUSED, ""},
        {"too_much_dynamic", fine_fill, 1, N, 49153, REFUSED, ""},
};

/* In a child: launches, and writes what came of it to the pipe. */
void child(const struct plant *p, const char *order, int out)
{
        cudaStream_t s;
        float *y;
        int refused;

        (void)setenv("EMU_ORDER", order, 1);
        (void)dup2(out, STDERR_FILENO);
        if (cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking) != cudaSuccess ||
            cudaMalloc((void **)&y, N * sizeof *y) != cudaSuccess)
                _exit(3);
        refused = LAUNCH(p->kernel, p->blocks, p->threads, p->shared, s, y) != cudaSuccess;
        if (!refused && write(out, y, N * sizeof *y) != (ssize_t)(N * sizeof *y))
                _exit(3);
        _exit(refused ? 2 : 0);
}

struct outcome {
        int status;
        char said[8192];
        size_t n;
};

void run(const struct plant *p, const char *order, struct outcome *ret)
{
        int ends[2];
        pid_t pid;
        ssize_t n;

        *ret = {};
        if (pipe(ends) < 0 || (pid = fork()) < 0)
                abort();
        if (pid == 0)
                child(p, order, ends[1]);
        (void)close(ends[1]);
        while ((n = read(ends[0], ret->said + ret->n, sizeof ret->said - 1 - ret->n)) > 0)
                ret->n += (size_t)n;
        (void)close(ends[0]);
        (void)waitpid(pid, &ret->status, 0);
}

bool has_nan(const struct outcome *o)
{
        float y[N];

        memcpy(y, o->said, sizeof y);
        for (int i = 0; i < N; i++)
                if (isnan(y[i]))
                        return true;
        return false;
}

enum verdict verdict_of(const struct outcome *a, const struct outcome *b)
{
        if (WIFSIGNALED(a->status))
                return FAULT;
        if (WEXITSTATUS(a->status) == 2)
                return REFUSED;
        if (a->n != b->n || memcmp(a->said, b->said, a->n) != 0)
                return ORDERS_DIFFER;
        return has_nan(a) ? NAN_SEEN : PASSES;
}
} // namespace

int main(void)
{
        static const char *const names[] = {"passes", "ends the process", "is refused", "leaves NaN", "differs"};
        static struct outcome forward, reverse;
        int bad = 0;

        for (const struct plant &p : plants) {
                run(&p, "forward", &forward);
                run(&p, "reverse", &reverse);
                enum verdict got = verdict_of(&forward, &reverse);
                /* in one of the orders what is not there yet is NaN */
                bool ok = (got == p.verdict || (p.verdict == NAN_SEEN && got == ORDERS_DIFFER)) &&
                          strstr(forward.said, p.says);

                if (!ok)
                        printf("FAIL %s %s, should: %s %s\n%s\n", p.name, names[got], names[p.verdict], p.says,
                               got == FAULT ? forward.said : "");
                bad += !ok;
        }
        printf("%zu plants and controls, %d with another verdict\n", sizeof plants / sizeof *plants, bad);
        return bad != 0;
}
