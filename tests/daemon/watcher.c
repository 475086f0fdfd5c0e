/* The part of mulun-worker that looks at GPUs, alone: under a sanitizer the rest of it takes long to build. */
#include "worker/watch.h"

#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
        return argc >= 4 && !strcmp(argv[1], "--watch") ? watch(atoi(argv[2]), argc - 3, argv + 3) : 2;
}
