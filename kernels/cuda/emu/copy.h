/* What a thread of the emulated device has started to copy to shared memory: done when it waits, so that what is read
 * before is what a device might find there. The copies themselves are made by the kernel's own text (copy.h), whose
 * accesses are checked. */
#pragma once

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EMU_COPY_BYTES = 16 };

struct emu_copy {
        void *to;
        const void *from; /* NULL: zeros */
};

/* 16 bytes; `there`: else zeros. */
void emu_copy_start(void *to, const void *from, bool there);
/* What was started since the last is a group. */
void emu_copies_commit(void);
/* The oldest copy that has to be made before no more than the n_left youngest groups are open; false where there is
 * none. */
bool emu_copies_due(unsigned n_left, struct emu_copy *ret);

/* A thread of a block begins, and ends. */
void emu_copies_begin(unsigned thread);
void emu_copies_end(unsigned thread);

#ifdef __cplusplus
}
#endif
