/* The race checker: answers the calls that -fsanitize=thread puts before each access of a kernel (the thread
 * sanitizer's own library is not linked). Of each byte of device and shared memory it keeps the last write and two
 * reads; two accesses, one of them a write, are a race where nothing orders them:
 *   - in a block: a barrier between, or a __syncwarp of the whole warp for threads of one warp (no partial ones: they
 *     count as none); shuffles order nothing
 *   - between blocks of a launch: nothing does
 *   - between operations: their stream, events and what the host has waited for (struct emu_order)
 * Two reads are enough: of readers in two blocks, two warps or two lanes that nothing orders, no writer comes after
 * both but through an order that all share. Readers of three streams and more may lose one.
 * Also found: bytes that nobody wrote, memory outside of allocations and shared arrays, memory of the host; an index
 * beyond an array whose size the compiler knows (-fsanitize=bounds-strict), which may be a thread's own. */
#include "kernels/cuda/emu/race.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Who makes an access: operation 22 bits, block 20, thread 10, its clock 12; 0: nobody. */
typedef uint64_t who;

enum { OPERATIONS = 1 << 22, BLOCKS = 1 << 20, WHOLE = BLOCKS - 1, CLOCKS = 1 << 12, PAGE = 4096, WORD = 4 };

/* Of one byte; a word's first cell is all four bytes' until some of them are touched alone. Places are return
 * addresses, from the module's start. */
struct cell {
        who wrote, reads[2]; /* the second is there where it and the first are not ordered */
        uint32_t wrote_at, reads_at[2];
        bool split; /* of a word's first */
};

/* What stand-ins and copies did to all of a page, so that they need not go through its bytes; only where no cell of it
 * is in use. A byte's own write is newer than its page's. */
struct page {
        who wrote, read;
        bool used;
};

#define SPAN_BYTES ((size_t)1 << 38)

static struct {
        uint32_t tick;
        unsigned stream;
        const char *name;
} operations[OPERATIONS];
static struct emu_order order;
static uint32_t operation; /* the one that runs */
static who me;
static unsigned self; /* thread of the block */
static unsigned clocks[EMU_MAX_THREADS], at_barrier[EMU_MAX_THREADS];
static struct cell *cells, *shared_cells;
static struct page *pages, no_page; /* shared memory has none */
static const char *base, *shared_low, *stack_low, *stack_high, *args_low, *args_high;
static const char *image_base, *image_low, *image_high; /* of this module */
static size_t shared_bytes;

static uint32_t operation_of(who w)
{
        return (uint32_t)(w >> 42);
}

static unsigned block_of(who w)
{
        return (unsigned)(w >> 22 & (BLOCKS - 1));
}

static unsigned thread_of(who w)
{
        return (unsigned)(w >> 12 & (EMU_MAX_THREADS - 1));
}

static unsigned clock_of(who w)
{
        return (unsigned)(w & (CLOCKS - 1));
}

static void stamp(size_t block, unsigned thread)
{
        me = (who)operation << 42 | (who)block << 22 | (who)thread << 12 | clocks[thread];
}

/* ---- reports */

/* Lets addr2line say where in the sources a place is. */
static void tell_place(uint32_t at)
{
        char offset[32];
        Dl_info info;
        pid_t pid;

        (void)snprintf(offset, sizeof offset, "%#x", at - 1);
        if (!dladdr(&operation, &info))
                return;
        pid = fork();
        if (pid == 0) {
                (void)dup2(STDERR_FILENO, STDOUT_FILENO);
                (void)execlp("addr2line", "addr2line", "-Cfpse", info.dli_fname, "-i", offset, (char *)NULL);
                _exit(127);
        }
        if (pid > 0)
                (void)waitpid(pid, NULL, 0);
}

static void tell(const char *what, who w, uint32_t at)
{
        const uint32_t o = operation_of(w);

        (void)fprintf(stderr, "emu: %s by %s (stream %u)", what, operations[o].name, operations[o].stream);
        if (block_of(w) != WHOLE)
                (void)fprintf(stderr, ", block %u, thread %u", block_of(w), thread_of(w));
        (void)fputs(" at\n", stderr);
        if (at)
                tell_place(at);
}

static const char *kind_of_race(who w)
{
        return operation_of(w) != operation  ? "race between operations"
               : block_of(w) != block_of(me) ? "race between blocks"
                                             : "race in a block";
}

static void race(const void *p, const char *now, uint32_t at, const char *then, who w, uint32_t then_at)
{
        tell(now, me, at);
        tell(then, w, then_at);
        emu_fault("%s: %s and %s of %p, with nothing between that orders them", kind_of_race(w), then, now, p);
}

static void wrong_access(const void *p, size_t n, bool write, uint32_t at, const char *what)
{
        tell(write ? "write" : "read", me, at);
        emu_fault("%s of %zu bytes at %p: %s", write ? "write" : "read", n, p, what);
}

/* ---- what comes before what */

/* Whether w comes before the access that is made now. */
static bool before(who w)
{
        const uint32_t o = operation_of(w);
        const unsigned t = thread_of(w);

        if (!w)
                return true;
        if (o != operation)
                return order.after[operations[o].stream] >= operations[o].tick;
        if (block_of(w) != block_of(me))
                return block_of(w) == WHOLE; /* what a stand-in did before it launched */
        if (t == self)
                return true;
        return clock_of(w) < at_barrier[t] || (t / EMU_WARP == self / EMU_WARP && clock_of(w) < clocks[self]);
}

/* How far from one another two readers of one operation are: lanes, warps, blocks. */
static int distance(who a, who b)
{
        return operation_of(a) != operation_of(b) || block_of(a) != block_of(b) ? 2
               : thread_of(a) / EMU_WARP != thread_of(b) / EMU_WARP             ? 1
                                                                                : 0;
}

static void after_write(const struct cell *c, const struct page *page, const char *p, const char *now, uint32_t at)
{
        const who wrote = c->wrote ? c->wrote : page->wrote;

        if (!before(wrote))
                race(p, now, at, "write", wrote, c->wrote_at);
}

static void read_byte(struct cell *c, const struct page *page, const char *p, uint32_t at)
{
        after_write(c, page, p, "read", at);
        if (c->reads[1] && before(c->reads[1]))
                c->reads[1] = 0;
        if (!c->reads[0] || before(c->reads[0])) {
                c->reads[0] = me;
                c->reads_at[0] = at;
        } else if (!c->reads[1] || distance(c->reads[0], c->reads[1]) < distance(c->reads[0], me)) {
                c->reads[1] = me;
                c->reads_at[1] = at;
        }
}

static void write_byte(struct cell *c, const struct page *page, const char *p, uint32_t at)
{
        after_write(c, page, p, "write", at);
        for (int i = 0; i < 2; i++)
                if (!before(c->reads[i]))
                        race(p, "write", at, "read", c->reads[i], c->reads_at[i]);
        if (!before(page->read))
                race(p, "write", at, "read", page->read, 0);
        *c = (struct cell){.wrote = me, .wrote_at = at, .split = c->split};
}

static void access_cell(struct cell *c, struct page *page, const char *p, bool write, uint32_t at)
{
        if (write) {
                if (c->wrote != me || c->reads[0])
                        write_byte(c, page, p, at);
                return;
        }
        if (!c->wrote && !page->wrote)
                wrong_access(p, 1, write, at, "what nobody has written");
        if (c->reads[0] != me)
                read_byte(c, page, p, at);
}

static void split(struct cell *word)
{
        word->split = true;
        for (int i = 1; i < WORD; i++)
                word[i] = *word;
}

/* Memory of a block is another one's afterwards. */
static void forget_other_blocks(struct cell *c)
{
        const who mine = me >> 22;

        if (c->wrote >> 22 != mine && c->reads[0] >> 22 != mine && c->reads[1] >> 22 != mine)
                *c = (struct cell){.split = c->split};
}

static void access_bytes(struct cell *c, struct page *page, const char *p, size_t n, bool write, uint32_t at)
{
        page->used = true;
        for (size_t i = 0, step; i < n; i += step) {
                const size_t within = (uintptr_t)(p + i) % WORD;
                struct cell *word = c + i - within;

                step = within == 0 && n - i >= WORD && !word->split ? WORD : 1;
                if (step == 1 && !word->split)
                        split(word);
                if (page == &no_page)
                        forget_other_blocks(&c[i]);
                access_cell(&c[i], page, p + i, write, at);
        }
}

/* All of one page, no byte of which has a story of its own. */
static void access_page(struct page *page, const char *p, bool write)
{
        if (!before(page->wrote))
                race(p, write ? "write" : "read", 0, "write", page->wrote, 0);
        if (write && !before(page->read))
                race(p, "write", 0, "read", page->read, 0);
        if (write)
                *page = (struct page){.wrote = me};
        else if (!page->wrote)
                wrong_access(p, PAGE, write, 0, "what nobody has written");
        else
                page->read = me;
}

/* Whether a byte was written before, so that it is an allocation's. */
static bool known(size_t i)
{
        const struct cell *word = cells + i / WORD * WORD;

        return pages[i / PAGE].wrote || (word->split ? cells[i].wrote : word->wrote);
}

static void access_device(const char *p, size_t n, bool write, uint32_t at)
{
        const size_t i = (size_t)(p - base);

        /* what lies between two known bytes is an allocation's too, as these have guards */
        if (!known(i) || !known(i + n - 1)) {
                const char *wrong = emu_memory_wrong(p, n);

                if (*wrong)
                        wrong_access(p, n, write, at, wrong);
        }
        access_bytes(cells + i, pages + i / PAGE, p, n, write, at);
}

static void access_shared(const char *p, size_t n, bool write, uint32_t at)
{
        struct cell *c = shared_cells + (p - shared_low);

        if (!emu_shared_has(p, n))
                wrong_access(p, n, write, at, "out of bounds: past the end of a shared array");
        access_bytes(c, &no_page, p, n, write, at);
}

static bool inside(const char *p, const char *low, const char *high)
{
        return p >= low && p < high;
}

static void access_any(const void *address, size_t n, bool write, const void *from)
{
        const char *p = address;
        const uint32_t at = (uint32_t)((const char *)from - image_base);

        if (!emu_running() || inside(p, stack_low, stack_high))
                return;
        if (emu_memory_has(p))
                access_device(p, n, write, at);
        else if (inside(p, shared_low, shared_low + shared_bytes))
                access_shared(p, n, write, at);
        else if (write || !(inside(p, image_low, image_high) || inside(p, args_low, args_high)))
                wrong_access(p, n, write, at, "memory of the host");
}

/* ---- what the scheduler and the runtime tell */

static int find_image(struct dl_phdr_info *i, size_t n, void *context)
{
        const char *low = NULL, *high = NULL;

        (void)n;
        (void)context;
        for (int k = 0; k < i->dlpi_phnum; k++) {
                const ElfW(Phdr) *h = &i->dlpi_phdr[k];
                const char *start = (const char *)i->dlpi_addr + h->p_vaddr;

                if (h->p_type != PT_LOAD)
                        continue;
                low = low ? low : start;
                high = start + h->p_memsz;
        }
        if (inside((const char *)&operation, low, high)) {
                image_base = (const char *)i->dlpi_addr;
                image_low = low;
                image_high = high;
        }
        return 0;
}

static void *room(size_t bytes)
{
        void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (p == MAP_FAILED)
                emu_fault("no addresses for the race checker");
        (void)madvise(p, bytes, MADV_HUGEPAGE);
        return p;
}

static void ready(void)
{
        base = emu_memory_base();
        pages = room(SPAN_BYTES / PAGE * sizeof *pages);
        cells = room(SPAN_BYTES * sizeof *cells);
        (void)dl_iterate_phdr(find_image, NULL);
}

void race_begin(const struct emu_order *o, const char *name)
{
        if (!cells)
                ready();
        if (++operation == OPERATIONS)
                emu_fault("too many operations for the race checker");
        order = *o;
        operations[operation].tick = o->after[o->stream];
        operations[operation].stream = o->stream;
        operations[operation].name = name;
        clocks[0] = 0;
        self = 0;
        stamp(WHOLE, 0);
}

void race_end(void)
{
        args_low = args_high = NULL;
}

void race_block(size_t block, const void *args, size_t bytes)
{
        if (block >= WHOLE)
                emu_fault("too many blocks for the race checker");
        for (int i = 0; i < EMU_MAX_THREADS; i++) {
                clocks[i] = 1;
                at_barrier[i] = 0;
        }
        args_low = args;
        args_high = args_low + bytes;
        stamp(block, 0);
}

void race_thread(unsigned t, const char *low, const char *high)
{
        self = t;
        stack_low = low;
        stack_high = high;
        stamp(block_of(me), t);
}

static void tick(unsigned t)
{
        if (++clocks[t] == CLOCKS)
                emu_fault("too many barriers in a block for the race checker");
}

void race_barrier(unsigned n_threads)
{
        for (unsigned i = 0; i < n_threads; i++) {
                tick(i);
                at_barrier[i] = clocks[i];
        }
        stamp(block_of(me), self);
}

void race_warp(void)
{
        tick(self);
        stamp(block_of(me), self);
}

void race_shared(const char *low, size_t bytes)
{
        if (!shared_cells)
                shared_cells = calloc(bytes, sizeof *shared_cells);
        if (!shared_cells)
                emu_fault("out of memory for the race checker");
        shared_low = low;
        shared_bytes = bytes;
}

void race_range(const void *p, size_t n, bool write)
{
        const char *const end = (const char *)p + n;

        for (const char *at = p, *next; at < end; at = next) {
                const size_t i = (size_t)(at - base);
                struct page *page = pages + i / PAGE;

                next = base + (i / PAGE + 1) * PAGE;
                if (next <= end && i % PAGE == 0 && !page->used)
                        access_page(page, at, write);
                else
                        access_bytes(cells + i, page, at, (size_t)((next < end ? next : end) - at), write, 0);
        }
}

/* An allocation's pages are its own. */
void race_forget(const void *p, size_t n)
{
        const size_t first = (size_t)((const char *)p - base) / PAGE;
        const size_t end = ((size_t)((const char *)p - base) + n + PAGE - 1) / PAGE;

        if (!cells)
                return;
        (void)madvise(cells + first * PAGE, (end - first) * PAGE * sizeof *cells, MADV_DONTNEED);
        memset(pages + first, 0, (end - first) * sizeof *pages);
}

/* ---- what the compiler calls; names and arguments are its own */

void __tsan_init(void);
void __tsan_func_entry(void *from);
void __tsan_func_exit(void);
void __tsan_read_range(const void *p, size_t n);
void __tsan_write_range(const void *p, size_t n);

void __tsan_init(void)
{
}

void __tsan_func_entry(void *from)
{
        (void)from;
}

void __tsan_func_exit(void)
{
}

void __tsan_read_range(const void *p, size_t n)
{
        access_any(p, n, false, __builtin_return_address(0));
}

void __tsan_write_range(const void *p, size_t n)
{
        access_any(p, n, true, __builtin_return_address(0));
}

#define ACCESS(name, n, write)                                                                                         \
        void __tsan_##name(const void *p);                                                                             \
        void __tsan_##name(const void *p)                                                                              \
        {                                                                                                              \
                access_any(p, n, write, __builtin_return_address(0));                                                  \
        }
#define ACCESSES(n)                                                                                                    \
        ACCESS(read##n, n, false)                                                                                      \
        ACCESS(write##n, n, true)                                                                                      \
        ACCESS(unaligned_read##n, n, false)                                                                            \
        ACCESS(unaligned_write##n, n, true)
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)

/* An index out of bounds: where, as the compiler's undefined-behaviour sanitizer lays it out; types behind it. */
struct bounds_place {
        const char *file;
        uint32_t line, column;
};

void __ubsan_handle_out_of_bounds_abort(const struct bounds_place *at, uintptr_t i);
void __ubsan_handle_out_of_bounds_abort(const struct bounds_place *at, uintptr_t i)
{
        emu_fault("index %td is out of bounds of an array (%s:%u)", (ptrdiff_t)i, at->file, at->line);
}
