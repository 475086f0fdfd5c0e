/* Copies to shared memory that a thread starts and waits for later (kernels/cuda/copy.h): kept in order, by thread. */
#include "kernels/cuda/emu/copy.h"

#include "kernels/cuda/emu/emu.h"

enum { MAX_COPIES = 64 };

/* Counted since the thread began: copies that it started, that were made; groups that it closed. */
static struct {
        unsigned started, made, closed;
        struct {
                struct emu_copy copy;
                unsigned group;
        } at[MAX_COPIES]; /* the n-th at n % MAX_COPIES */
} threads[EMU_MAX_THREADS];

void emu_copies_begin(unsigned thread)
{
        threads[thread].started = threads[thread].made = threads[thread].closed = 0;
}

void emu_copies_end(unsigned thread)
{
        if (threads[thread].made < threads[thread].started)
                emu_fault("thread %u ended with copies that it has not waited for", thread);
}

void emu_copy_start(void *to, const void *from, bool there)
{
        unsigned self = emu_self(), place = threads[self].started++ % MAX_COPIES;

        if ((uintptr_t)to % EMU_COPY_BYTES || (uintptr_t)from % EMU_COPY_BYTES)
                emu_fault("a copy of 16 bytes from %p to %p, which are not at multiples of 16", from, to);
        if (!emu_shared_has(to, EMU_COPY_BYTES))
                emu_fault("a copy to %p, which is no shared memory", to);
        if (threads[self].started - threads[self].made > MAX_COPIES)
                emu_fault("more than %d copies that nobody waited for", MAX_COPIES);
        threads[self].at[place].copy = (struct emu_copy){to, there ? from : NULL};
        threads[self].at[place].group = threads[self].closed;
}

void emu_copies_commit(void)
{
        threads[emu_self()].closed++;
}

bool emu_copies_due(unsigned n_left, struct emu_copy *ret)
{
        unsigned self = emu_self(), place = threads[self].made % MAX_COPIES;

        if (threads[self].made == threads[self].started ||
            threads[self].at[place].group + n_left >= threads[self].closed)
                return false;
        *ret = threads[self].at[place].copy;
        threads[self].made++;
        return true;
}
