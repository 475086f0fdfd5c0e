/* mulun-worker --bench: times training steps of mulan_velocity on synthetic images, without daemon or disk. */
#pragma once

#include <stdbool.h>

/* Prints one line of JSON: seconds (median of a step), images_per_second, peak_bytes, gflops (convolutions, dense
 * layers and attention, 2 per multiply-add, a training step as 3 forward passes). Returns the exit code. */
int bench(int argc, char **argv);

/* Whether a device computes: the same few training steps twice, on synthetic images, come to the same finite numbers.
 * Prints a line of JSON: {"passed": true}, or {"error": {"class", "detail"}} with the class of an attempt's error,
 * where what it computed is the device's. Returns the exit code. */
int bench_check(bool cuda);
