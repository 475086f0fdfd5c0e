/* mulun-worker --bench: times training steps of mulan_velocity on synthetic images, without daemon or disk. */
#pragma once

/* Prints one line of JSON: seconds (median of a step), images_per_second, peak_bytes, gflops (convolutions, dense
 * layers and attention, 2 per multiply-add, a training step as 3 forward passes). Returns the exit code. */
int bench(int argc, char **argv);
