#include "base/array.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 16

bool array_grow(void *items, size_t n, size_t *room, size_t size)
{
        size_t wanted = *room ? 2 * *room : FIRST_ROOM;
        void *p;

        if (n < *room)
                return true;
        memcpy(&p, items, sizeof p); /* a pointer of any type */
        p = reallocarray(p, wanted, size);
        if (!p)
                return false;
        memcpy(items, &p, sizeof p);
        *room = wanted;
        return true;
}
