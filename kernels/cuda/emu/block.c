/* Runs a launch: block after block, each thread of a block a fiber, on one thread of the host. A fiber that ends
 * without having waited takes the next thread, so a kernel without barriers needs no switches. */
#include "kernels/cuda/emu/emu.h"

#include "kernels/cuda/emu/copy.h"
#include "kernels/cuda/emu/race.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

/* What kernels see. */
uint3 emu_thread, emu_block;
dim3 emu_block_dim, emu_grid_dim;

enum state { THREAD_NEW, THREAD_READY, THREAD_BARRIER, THREAD_WARP, THREAD_DONE };

struct fiber {
        void *sp;
        char *stack;
        struct fiber *next; /* of the free ones */
};

struct thread {
        enum state state;
        struct fiber *fiber;
        uint3 index;
        const char *what, *file; /* where it waits */
        int line;
        unsigned mask;
};

/* The two last exchanges of a warp: a lane reaches the next but one only after all have read this one. */
struct warp {
        unsigned n_exchanges[EMU_WARP]; /* of each lane */
        unsigned arrived[2];            /* lanes */
        _Alignas(EMU_EXCHANGE_BYTES) unsigned char slots[2][EMU_WARP * EMU_EXCHANGE_BYTES];
};

enum {
        STACK_BYTES = 256 << 10,
        SHARED_BYTES = 512 << 10,
        SHARED_STATIC = 48 << 10,
        RED_ZONE = 128,
        RED = 0xa5,
        MAX_ARRAYS = 64
};

static struct thread threads[EMU_MAX_THREADS];
static struct warp warps[EMU_MAX_THREADS / EMU_WARP];
static unsigned order[EMU_MAX_THREADS]; /* in which threads are looked at */
static unsigned n_threads, at, n_live, n_arrived, self;
static struct fiber *free_fibers, *current, main_fiber;
static const struct emu_launch *launch;
static const void *launch_args;
static size_t launch_bytes;
static bool running;

bool emu_running(void)
{
        return running;
}

unsigned emu_self(void)
{
        return self;
}

/* ---- order */

enum { ORDER_UNKNOWN, ORDER_FORWARD, ORDER_REVERSE, ORDER_RANDOM };
static int order_kind;
static uint64_t order_state;

static void order_ready(void)
{
        const char *s = getenv("EMU_ORDER");

        if (order_kind != ORDER_UNKNOWN)
                return;
        order_kind = !s || strcmp(s, "forward") == 0 ? ORDER_FORWARD
                     : strcmp(s, "reverse") == 0     ? ORDER_REVERSE
                                                     : ORDER_RANDOM;
        order_state = s ? strtoull(s, NULL, 10) * 2 + 1 : 1;
}

static uint64_t order_next(void)
{
        order_state ^= order_state << 13;
        order_state ^= order_state >> 7;
        return order_state ^= order_state << 17;
}

unsigned emu_choose(unsigned n)
{
        order_ready();
        return order_kind == ORDER_FORWARD ? 0 : order_kind == ORDER_REVERSE ? n - 1 : (unsigned)(order_next() % n);
}

static void shuffle(unsigned *x, size_t n)
{
        for (size_t i = n; i > 1 && order_kind == ORDER_RANDOM; i--) {
                size_t j = order_next() % i;
                unsigned t = x[i - 1];

                x[i - 1] = x[j];
                x[j] = t;
        }
}

static void order_fill(unsigned *x, size_t n)
{
        for (size_t i = 0; i < n; i++)
                x[i] = (unsigned)(order_kind == ORDER_REVERSE ? n - 1 - i : i);
        shuffle(x, n);
}

/* ---- reports */

static bool same_place(const struct thread *a, const struct thread *b)
{
        return a->state == b->state && a->what == b->what && a->line == b->line && a->mask == b->mask;
}

static void report_threads(void)
{
        static const char *const names[] = {"not started", "ready", "wait", "wait", "have ended"};

        for (unsigned i = 0, j; i < n_threads; i = j) {
                const struct thread *t = &threads[i];

                for (j = i + 1; j < n_threads && same_place(t, &threads[j]); j++)
                        ;
                (void)fprintf(stderr, "  threads %u .. %u: %s", i, j - 1, names[t->state]);
                if (t->state == THREAD_BARRIER || t->state == THREAD_WARP)
                        (void)fprintf(stderr, " at %s, mask %08x (%s:%d)", t->what, t->mask, t->file, t->line);
                (void)fputc('\n', stderr);
        }
}

void emu_fault(const char *fmt, ...)
{
        va_list ap;

        (void)fputs("emu: FAULT: ", stderr);
        va_start(ap, fmt);
        (void)vfprintf(stderr, fmt, ap);
        va_end(ap);
        (void)fputc('\n', stderr);
        if (running) {
                (void)fprintf(stderr, "  in %s, grid %u %u %u, block %u %u %u; block %u %u %u, thread %u %u %u\n",
                              launch->name, emu_grid_dim.x, emu_grid_dim.y, emu_grid_dim.z, emu_block_dim.x,
                              emu_block_dim.y, emu_block_dim.z, emu_block.x, emu_block.y, emu_block.z, emu_thread.x,
                              emu_thread.y, emu_thread.z);
                report_threads();
        }
        abort();
}

/* ---- fibers */

/* Saves what a call must keep, leaves the stack pointer in *from and goes on where `to` was left. */
void emu_switch(void **from, void *to);
__asm__(".text\n.globl emu_switch\n.hidden emu_switch\n.type emu_switch,@function\n"
        "emu_switch:\nendbr64\npush %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n.size emu_switch,.-emu_switch\n");

#if defined(__SANITIZE_ADDRESS__)
static const void *main_bottom;
static size_t main_bytes;

static void switch_begins(void **fake, const struct fiber *to)
{
        bool main = to == &main_fiber;

        __sanitizer_start_switch_fiber(fake, main ? main_bottom : to->stack, main ? main_bytes : STACK_BYTES);
}

/* The first switch of a launch tells where the host thread's stack lies. */
static void switch_ends(void *fake)
{
        const void *bottom;
        size_t bytes;

        __sanitizer_finish_switch_fiber(fake, &bottom, &bytes);
        if (!main_bottom) {
                main_bottom = bottom;
                main_bytes = bytes;
        }
}

static void switch_forgets(void)
{
        main_bottom = NULL;
}

void emu_poison(const void *p, size_t n)
{
        __asan_poison_memory_region(p, n);
}

void emu_unpoison(const void *p, size_t n)
{
        __asan_unpoison_memory_region(p, n);
}
#else
static void switch_begins(void **fake, const struct fiber *to)
{
        (void)fake;
        (void)to;
}

static void switch_ends(void *fake)
{
        (void)fake;
}

static void switch_forgets(void)
{
}

void emu_poison(const void *p, size_t n)
{
        (void)p;
        (void)n;
}

void emu_unpoison(const void *p, size_t n)
{
        (void)p;
        (void)n;
}
#endif

static void switch_to(struct fiber *f)
{
        struct fiber *old = current;
        void *fake = NULL;

        current = f;
        switch_begins(&fake, f);
        emu_switch(&old->sp, f->sp);
        switch_ends(fake);
}

/* Fiber f goes on as thread t. */
static void become(unsigned t, const struct fiber *f)
{
        self = t;
        emu_thread = threads[t].index;
        race_thread(t, f->stack, f->stack + STACK_BYTES);
}

/* The next thread that can run; n_threads where all have ended. */
static unsigned pick(void)
{
        for (int pass = 0; pass < 2; pass++) {
                for (; at < n_threads; at++)
                        if (threads[order[at]].state <= THREAD_READY)
                                return order[at++];
                at = 0;
                if (pass == 0)
                        shuffle(order, n_threads);
        }
        if (n_live > 0)
                emu_fault("no thread of the block can run: a barrier or warp operation that not all reach");
        return n_threads;
}

static void park(void)
{
        current->next = free_fibers;
        free_fibers = current;
}

static void go(unsigned t);

/* A fiber runs threads until there is none that has not begun. */
static void fiber_main(void)
{
        switch_ends(NULL);
        for (;;) {
                unsigned next;

                threads[self].fiber = current;
                threads[self].state = THREAD_READY;
                emu_copies_begin(self);
                launch->call(launch_args);
                emu_copies_end(self);
                threads[self].state = THREAD_DONE;
                n_live--;
                if (n_arrived > 0 && n_arrived == n_live)
                        emu_fault("thread %u ended while all others wait at a barrier", self);
                next = pick();
                if (next < n_threads && threads[next].state == THREAD_NEW) {
                        become(next, current);
                        continue;
                }
                park();
                if (next < n_threads)
                        go(next);
                else
                        switch_to(&main_fiber);
        }
}

static struct fiber *fiber_get(void)
{
        static unsigned colour;
        struct fiber *f = free_fibers;
        void **sp;

        if (f) {
                free_fibers = f->next;
                return f;
        }
        f = calloc(1, sizeof *f);
        if (!f)
                emu_fault("out of memory for a fiber");
        f->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (f->stack == MAP_FAILED)
                emu_fault("out of memory for a stack");
        /* stacks of the same layout would share cache sets: shifted. Then what emu_switch pops: six registers,
         * fiber_main as the return address, and a word that keeps the stack's alignment. */
        sp = (void **)(void *)(f->stack + STACK_BYTES - colour++ % 32 * 128);
        *--sp = NULL;
        *--sp = (void *)fiber_main;
        for (int i = 0; i < 6; i++)
                *--sp = NULL;
        f->sp = sp;
        return f;
}

/* A parked fiber waits inside of fiber_main's loop, so a thread that begins finds `self` set. */
static void go(unsigned t)
{
        struct fiber *f = threads[t].state == THREAD_NEW ? fiber_get() : threads[t].fiber;

        become(t, f);
        switch_to(f);
}

/* The thread that runs has said in its state why it waits. */
static void wait_here(void)
{
        unsigned next = pick();

        if (next != self)
                go(next);
}

/* ---- barriers and exchanges */

static struct thread *stand(enum state state, const char *what, unsigned mask, const char *file, int line)
{
        struct thread *t = &threads[self];

        if (!running)
                emu_fault("%s outside of a kernel", what);
        t->state = state;
        t->what = what;
        t->file = file;
        t->line = line;
        t->mask = mask;
        return t;
}

void emu_syncthreads(const char *file, int line)
{
        struct thread *t = stand(THREAD_BARRIER, "__syncthreads", ~0u, file, line);

        for (unsigned i = 0; i < n_threads && n_arrived > 0; i++)
                if (threads[i].state == THREAD_BARRIER && (threads[i].line != line || strcmp(threads[i].file, file)))
                        emu_fault("divergent __syncthreads: this thread at %s:%d, thread %u at %s:%d", file, line, i,
                                  threads[i].file, threads[i].line);
                else if (threads[i].state == THREAD_BARRIER && i != self)
                        break; /* those that wait agree */
        if (++n_arrived == n_live) {
                if (n_live != n_threads)
                        emu_fault("__syncthreads after %u threads of the block have ended", n_threads - n_live);
                for (unsigned i = 0; i < n_threads; i++)
                        threads[i].state = THREAD_READY;
                n_arrived = 0;
                at = 0;
                race_barrier(n_threads);
                shuffle(order, n_threads); /* the last to arrive does not always go on first */
                t->state = THREAD_READY;
        }
        wait_here();
}

/* Those that have arrived at the exchange agree with each other, so one of them is enough to agree with. */
static void exchange_check(unsigned base, unsigned lanes)
{
        const struct thread *t = &threads[self];
        unsigned lane = lanes ? (unsigned)__builtin_ctz(lanes) : self % EMU_WARP;
        const struct thread *o = &threads[base + lane];

        if (o->mask != t->mask || o->line != t->line || o->what != t->what)
                emu_fault("divergent warp operation: this thread at %s, mask %08x (%s:%d), lane %u at %s, mask %08x "
                          "(%s:%d)",
                          t->what, t->mask, t->file, t->line, lane, o->what, o->mask, o->file, o->line);
}

/* Where to look for the lanes that may go on: their own places in the order, not behind all that wait at a barrier. */
static unsigned place_of_warp(unsigned base)
{
        if (order_kind == ORDER_RANDOM || base + EMU_WARP > n_threads)
                return 0;
        return order_kind == ORDER_FORWARD ? base : n_threads - EMU_WARP - base;
}

/* The last to arrive lets `meet`, where there is one, work on what all gave. */
static unsigned char *exchange(unsigned mask, const void *mine, size_t n, void (*meet)(unsigned char *all),
                               const char *what, const char *file, int line)
{
        unsigned lane = self % EMU_WARP, base = self - lane, side;
        struct warp *w = &warps[self / EMU_WARP];

        (void)stand(THREAD_WARP, what, mask, file, line);
        side = w->n_exchanges[lane]++ % 2;
        if (!(mask >> lane & 1))
                emu_fault("%s: lane %u is not in its own mask %08x (%s:%d)", what, lane, mask, file, line);
        exchange_check(base, w->arrived[side]);
        memcpy(w->slots[side] + lane * EMU_EXCHANGE_BYTES, mine, n);
        w->arrived[side] |= 1u << lane;
        if (w->arrived[side] == mask) {
                w->arrived[side] = 0;
                if (meet)
                        meet(w->slots[side]);
                for (unsigned m = mask; m; m &= m - 1)
                        threads[base + (unsigned)__builtin_ctz(m)].state = THREAD_READY;
                at = place_of_warp(base);
                if (order_kind != ORDER_RANDOM || order_next() % 4)
                        return w->slots[side]; /* the last to arrive goes on first, mostly: switches cost */
        }
        wait_here();
        return w->slots[side];
}

const unsigned char *emu_exchange(unsigned mask, const void *mine, size_t n, const char *what, const char *file,
                                  int line)
{
        return exchange(mask, mine, n, NULL, what, file, line);
}

void emu_meet(void *mine, size_t n, void (*meet)(unsigned char *all), const char *what, const char *file, int line)
{
        const unsigned char *const all = exchange(~0u, mine, n, meet, what, file, line);

        memcpy(mine, all + (size_t)(self % EMU_WARP) * EMU_EXCHANGE_BYTES, n);
}

void emu_syncwarp(unsigned mask, const char *file, int line)
{
        (void)emu_exchange(mask, "", 1, "__syncwarp", file, line);
        if (mask == ~0u)
                race_warp(); /* lanes that are not all of a warp are told of as if they had not met */
}

/* ---- shared memory: pieces with red zones, NaN at first */

static _Alignas(1024) char shared[SHARED_BYTES];
static size_t shared_top, shared_static;
static struct array {
        const char *start;
        size_t bytes;
} arrays[MAX_ARRAYS]; /* of the running block */
static size_t n_arrays;
static uint64_t block_serial;
static void *dynamic;

/* What is written behind an array is found at the block's end, where no sanitizer tells at once. */
#if defined(__SANITIZE_ADDRESS__)
static void red_zone_fill(char *p)
{
        (void)p;
}

static void red_zones_check(void)
{
}
#else
static void red_zone_fill(char *p)
{
        memset(p, RED, RED_ZONE);
}

static void red_zones_check(void)
{
        static const char red[RED_ZONE] = {[0 ... RED_ZONE - 1] = (char)RED};

        for (size_t i = 0; i < n_arrays; i++)
                if (memcmp(arrays[i].start + arrays[i].bytes, red, RED_ZONE) != 0)
                        emu_fault("out of bounds: something wrote behind a shared array of %zu bytes", arrays[i].bytes);
}
#endif

static void *shared_take(size_t n, size_t align, const char *name)
{
        char *p;

        shared_top = (shared_top + RED_ZONE + align - 1) & ~(align - 1);
        p = shared + shared_top;
        shared_top += n;
        if (shared_top + RED_ZONE > SHARED_BYTES)
                emu_fault("too much shared memory (%s)", name);
        if (n_arrays == MAX_ARRAYS)
                emu_fault("too many shared arrays (%s)", name);
        arrays[n_arrays++] = (struct array){p, n};
        red_zone_fill(p + n);
        emu_unpoison(p, n);
        memset(p, 0xff, n);
        return p;
}

bool emu_shared_has(const void *p, size_t n)
{
        for (size_t i = 0; i < n_arrays; i++)
                if ((const char *)p >= arrays[i].start && (const char *)p + n <= arrays[i].start + arrays[i].bytes)
                        return true;
        return false;
}

static void shared_begin(size_t dynamic_bytes)
{
        block_serial++;
        shared_top = shared_static = n_arrays = 0;
        emu_poison(shared, SHARED_BYTES);
        race_shared(shared, SHARED_BYTES);
        dynamic = dynamic_bytes ? shared_take(dynamic_bytes, 128, "dynamic") : NULL;
}

void *emu_shared_get(struct emu_shared *v, size_t size, size_t align, const char *name)
{
        if (v->block != block_serial) {
                shared_static += size;
                if (shared_static > SHARED_STATIC)
                        emu_fault("more than 48 KiB of static shared memory (%s)", name);
                v->p = shared_take(size, align < 16 ? 16 : align, name);
                v->block = block_serial;
        }
        return v->p;
}

void *emu_dynamic_shared(void)
{
        if (!dynamic)
                emu_fault("the launch asked for no dynamic shared memory");
        return dynamic;
}

/* ---- launches */

static void run_block(size_t b)
{
        const dim3 *g = &launch->grid;

        race_block(b, launch_args, launch_bytes);
        emu_block = (uint3){(unsigned)(b % g->x), (unsigned)(b / g->x % g->y), (unsigned)(b / ((size_t)g->x * g->y))};
        shared_begin(launch->shared);
        for (unsigned i = 0; i < n_threads; i++)
                threads[i].state = THREAD_NEW;
        memset(warps, 0, sizeof warps);
        order_fill(order, n_threads);
        at = n_arrived = 0;
        n_live = n_threads;
        current = &main_fiber;
        go(pick());
        red_zones_check();
}

void emu_run(const struct emu_launch *l, const void *args, size_t bytes)
{
        size_t n_blocks = (size_t)l->grid.x * l->grid.y * l->grid.z;
        unsigned *blocks = malloc(n_blocks * sizeof *blocks);

        if (!blocks)
                emu_fault("out of memory for a launch");
        order_ready();
        launch = l;
        launch_args = args;
        launch_bytes = bytes;
        emu_grid_dim = l->grid;
        emu_block_dim = l->block;
        n_threads = l->block.x * l->block.y * l->block.z;
        for (unsigned i = 0; i < n_threads; i++)
                threads[i].index = (uint3){i % l->block.x, i / l->block.x % l->block.y, i / (l->block.x * l->block.y)};
        switch_forgets();
        running = true;
        order_fill(blocks, n_blocks);
        for (size_t i = 0; i < n_blocks; i++)
                run_block(blocks[i]);
        running = false;
        free(blocks);
}
