/* Device memory: pieces of one span of addresses, each with guards and NaN until written, no address given out twice.
 * The host cannot touch it but while operations run (nearly always: CLOSED_EVERY), so who reads a result before
 * waiting, or takes a device's pointer for the host's, is told at once. */
#include "kernels/cuda/emu/emu.h"

#include "kernels/cuda/emu/race.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { GUARD_BYTES = 256, PAGE = 4096, GUARD = 0xa5 };
#define SPAN_BYTES ((size_t)1 << 38)
#define DEVICE_BYTES ((size_t)1 << 33)

struct piece {
        char *start;
        size_t bytes;
        bool freed;
};

static struct piece *pieces; /* by address */
static size_t n_pieces, allocated;
/* Pages that lie together and are not freed: what is opened and closed. */
static struct run {
        char *low, *high;
} * runs;
static size_t n_runs;
static char *base, *top; /* of the span; of what was given out */
static struct sigaction before;

/* A host's access to the span, or a kernel's to no memory at all. What is neither is not ours to tell. */
static void on_fault(int number, siginfo_t *info, void *context)
{
        (void)number;
        (void)context;
        if (emu_running())
                emu_fault("an access to %p: %s", info->si_addr, emu_memory_wrong(info->si_addr, 1));
        if (emu_memory_has(info->si_addr))
                emu_fault("the host touches device memory at %p", info->si_addr);
        (void)sigaction(SIGSEGV, &before, NULL); /* the access is made again */
}

static void span_new(void)
{
        struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};

        base = mmap(NULL, SPAN_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED)
                emu_fault("no addresses for device memory");
        (void)madvise(base, SPAN_BYTES, MADV_HUGEPAGE); /* addresses are new each time: a page's fault costs most */
        top = base;
        (void)sigaction(SIGSEGV, &action, &before);
}

/* A system call for each run costs more than small kernels do: a program that waits often finds the memory closed the
 * first times, and then now and then. */
enum { CLOSED_ALWAYS = 1000, CLOSED_EVERY = 16 };
static bool is_open;

static void protect(char *p, size_t n, int how)
{
        if (n > 0 && mprotect(p, n, how) < 0)
                emu_fault("device memory cannot be opened or closed to the host");
}

static void span_ready(void)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;

        (void)pthread_once(&once, span_new);
}

bool emu_memory_has(const void *p)
{
        return (uintptr_t)p - (uintptr_t)base < SPAN_BYTES && base;
}

const char *emu_memory_base(void)
{
        span_ready();
        return base;
}

void emu_memory_left(size_t *ret_free, size_t *ret_total)
{
        *ret_total = DEVICE_BYTES;
        *ret_free = DEVICE_BYTES - allocated;
}

/* ---- pieces */

static size_t whole(size_t bytes)
{
        return (bytes + 2 * GUARD_BYTES + PAGE - 1) / PAGE * PAGE;
}

/* The last piece that begins at p or before; NULL where there is none. */
static struct piece *piece_at(const void *p)
{
        size_t low = 0, high = n_pieces;

        while (low < high) {
                size_t middle = (low + high) / 2;

                if (pieces[middle].start <= (const char *)p)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low > 0 ? &pieces[low - 1] : NULL;
}

const char *emu_memory_wrong(const void *p, size_t n)
{
        const struct piece *x = emu_memory_has(p) ? piece_at(p) : NULL;

        if (!emu_memory_has(p))
                return "not of the device";
        if (!x)
                return "before an allocation";
        if (x->freed && (const char *)p < x->start + x->bytes)
                return "freed";
        return (const char *)p + n <= x->start + x->bytes ? "" : "out of bounds: past the end of an allocation";
}

void emu_touch(const void *p, size_t n, bool write)
{
        const char *wrong = n ? emu_memory_wrong(p, n) : "";

        if (*wrong)
                emu_fault("%s of %zu bytes at %p: %s", write ? "write" : "read", n, p, wrong);
        race_range(p, n, write);
}

/* Pages behind all others become a run's. */
static bool run_add(char *low, char *high)
{
        struct run *more;

        if (n_runs > 0 && runs[n_runs - 1].high == low) {
                runs[n_runs - 1].high = high;
                return true;
        }
        more = realloc(runs, (n_runs + 1) * sizeof *runs);
        if (!more)
                return false;
        runs = more;
        runs[n_runs++] = (struct run){low, high};
        return true;
}

/* Takes pages out of the run that has them, which leaves up to two. */
static void run_cut(char *low, char *high)
{
        struct run *more = realloc(runs, (n_runs + 1) * sizeof *runs);
        size_t i = 0;

        if (!more)
                emu_fault("out of memory for a list of pages");
        runs = more;
        while (runs[i].high <= low)
                i++;
        memmove(runs + i + 1, runs + i, (n_runs++ - i) * sizeof *runs);
        runs[i].high = low;
        runs[i + 1].low = high;
        for (size_t j = i + 2; j-- > i;) /* what is empty goes */
                if (runs[j].low == runs[j].high)
                        memmove(runs + j, runs + j + 1, (--n_runs - j) * sizeof *runs);
}

cudaError_t emu_memory_new(void **ret, size_t bytes)
{
        struct piece *more;
        char *start;
        size_t room;

        span_ready();
        if (bytes > DEVICE_BYTES - allocated)
                return cudaErrorMemoryAllocation;
        room = whole(bytes);
        if (room > (size_t)(base + SPAN_BYTES - top))
                return cudaErrorMemoryAllocation;
        more = realloc(pieces, (n_pieces + 1) * sizeof *pieces);
        if (!more)
                return cudaErrorMemoryAllocation;
        pieces = more;
        start = top;
        if (!run_add(start, start + room))
                return cudaErrorMemoryAllocation;
        top += room;
        protect(start, room, PROT_READ | PROT_WRITE);
        memset(start, 0xff, room);
        memset(start, GUARD, GUARD_BYTES);
        memset(start + GUARD_BYTES + bytes, GUARD, GUARD_BYTES);
        if (!is_open)
                protect(start, room, PROT_NONE);
        emu_poison(start, room);
        emu_unpoison(start + GUARD_BYTES, bytes);
        pieces[n_pieces++] = (struct piece){start + GUARD_BYTES, bytes, false};
        allocated += bytes;
        *ret = start + GUARD_BYTES;
        return cudaSuccess;
}

void emu_memory_free(void *p)
{
        struct piece *x = emu_memory_has(p) ? piece_at(p) : NULL;

        if (!x || x->start != p || x->freed)
                emu_fault("freeing %p, which is no allocation", p);
        x->freed = true;
        allocated -= x->bytes;
        emu_poison(x->start, x->bytes);
        race_forget(x->start, x->bytes);
        run_cut(x->start - GUARD_BYTES, x->start - GUARD_BYTES + whole(x->bytes));
        protect(x->start - GUARD_BYTES, whole(x->bytes), PROT_NONE);
        (void)madvise(x->start - GUARD_BYTES, whole(x->bytes), MADV_DONTNEED);
}

/* ---- for operations alone */

static void protect_all(int how)
{
        for (size_t i = 0; i < n_runs; i++)
                protect(runs[i].low, (size_t)(runs[i].high - runs[i].low), how);
}

void emu_memory_open(void)
{
        span_ready();
        if (!is_open)
                protect_all(PROT_READ | PROT_WRITE);
        is_open = true;
}

/* Where no sanitizer sees what is written beside an allocation, the guards do. */
#if !defined(__SANITIZE_ADDRESS__)
static void guards_check(void)
{
        char guard[GUARD_BYTES];

        memset(guard, GUARD, sizeof guard);
        for (size_t i = 0; i < n_runs; i++)
                for (const struct piece *x = piece_at(runs[i].low + GUARD_BYTES);
                     x < pieces + n_pieces && x->start < runs[i].high; x++)
                        if (memcmp(x->start - GUARD_BYTES, guard, sizeof guard) != 0 ||
                            memcmp(x->start + x->bytes, guard, sizeof guard) != 0)
                                emu_fault("out of bounds: something wrote beside an allocation of %zu bytes", x->bytes);
}
#else
static void guards_check(void)
{
}
#endif

void emu_memory_close(void)
{
        static unsigned n;

        guards_check();
        if (++n > CLOSED_ALWAYS && n % CLOSED_EVERY)
                return;
        protect_all(PROT_NONE);
        is_open = false;
}
