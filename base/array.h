/* Arrays that grow by doubling. */
#pragma once

#include "base/macros.h"

/* Room for one more item of `size` bytes behind n of them. items: the address of the pointer to the array, which may be
 * NULL and moves; *room: how many there is room for. False without memory: the array stays. */
bool array_grow(void *items, size_t n, size_t *room, size_t size);
