/* Small things that every folder uses: clean-up attributes, ownership transfer, checked sizes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _printf_(a, b) __attribute__((format(printf, a, b)))
#define _unused_ __attribute__((unused))

/* Defines `static inline void NAMEp(TYPE **p)` for _cleanup_, from a `_free` that takes NULL. */
#define DEFINE_CLEANUP(type, func)                                                                                     \
        static inline void func##p(type *p)                                                                            \
        {                                                                                                              \
                if (*p)                                                                                                \
                        (void)func(*p);                                                                                \
        }                                                                                                              \
        struct func##_semicolon

/* The pointer's value, and NULL left behind: ownership moves to the caller. */
#define TAKE_PTR(p)                                                                                                    \
        ({                                                                                                             \
                __typeof__(p) *_take_p = &(p);                                                                         \
                __typeof__(p) _take_v = *_take_p;                                                                      \
                *_take_p = NULL;                                                                                       \
                _take_v;                                                                                               \
        })

/* The descriptor, and -1 left behind. */
#define TAKE_FD(fd)                                                                                                    \
        ({                                                                                                             \
                int _take_fd = (fd);                                                                                   \
                (fd) = -1;                                                                                             \
                _take_fd;                                                                                              \
        })

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))

static inline void freep(void *p)
{
        free(*(void **)p);
}

static inline void closep(int *fd)
{
        if (*fd >= 0)
                (void)close(*fd);
}

/* a * b + c; false when it does not fit. */
static inline bool size_mul_add(size_t a, size_t b, size_t c, size_t *ret)
{
        size_t m;

        return !__builtin_mul_overflow(a, b, &m) && !__builtin_add_overflow(m, c, ret);
}
