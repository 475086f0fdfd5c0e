/* Copies to shared memory that a thread starts and waits for later (kernels/cuda/copy.h): kept in order, by thread. */
#include "kernels/cuda/emu/copy.h"

#include "kernels/cuda/emu/emu.h"

enum { MAX_COPIES = 64 };

static struct {
        unsigned n, first, group; /* copies, the oldest that has not ended, groups closed since the thread began */
        struct {
                struct emu_copy copy;
                unsigned group;
        } at[MAX_COPIES];
} threads[EMU_MAX_THREADS];

void emu_copies_begin(unsigned thread)
{
        threads[thread].n = threads[thread].first = threads[thread].group = 0;
}

void emu_copies_end(unsigned thread)
{
        if (threads[thread].first < threads[thread].n)
                emu_fault("thread %u ended with copies that it has not waited for", thread);
}

void emu_copy_start(void *to, const void *from, bool there)
{
        unsigned self = emu_self(), n = threads[self].n;

        if ((uintptr_t)to % EMU_COPY_BYTES || (uintptr_t)from % EMU_COPY_BYTES)
                emu_fault("a copy of 16 bytes from %p to %p, which are not at multiples of 16", from, to);
        if (!emu_shared_has(to, EMU_COPY_BYTES))
                emu_fault("a copy to %p, which is no shared memory", to);
        if (n == MAX_COPIES)
                emu_fault("more than %d copies that nobody waited for", MAX_COPIES);
        threads[self].at[n].copy = (struct emu_copy){to, there ? from : NULL};
        threads[self].at[n].group = threads[self].group;
        threads[self].n++;
}

void emu_copies_commit(void)
{
        threads[emu_self()].group++;
}

bool emu_copies_due(unsigned n_left, struct emu_copy *ret)
{
        unsigned self = emu_self(), first = threads[self].first;

        if (first == threads[self].n || threads[self].at[first].group + n_left >= threads[self].group) {
                for (unsigned i = first; i < threads[self].n; i++)
                        threads[self].at[i - first] = threads[self].at[i];
                threads[self].n -= first;
                threads[self].first = 0;
                return false;
        }
        *ret = threads[self].at[first].copy;
        threads[self].first++;
        return true;
}
