/* Times and sizes as people write them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* A whole number with its unit: ms, s (as without one), m, h, d. False: it is no such text, or does not fit. */
bool units_time(const char *s, int64_t *ret_us);
/* The same with KiB, MiB, GiB, TiB, or B (as without one). */
bool units_bytes(const char *s, int64_t *ret);
/* How they are written in settings: the largest unit without a rest; returns buf. */
#define UNITS_SIZE 32
const char *units_time_text(int64_t us, char buf[UNITS_SIZE]);
const char *units_bytes_text(int64_t bytes, char buf[UNITS_SIZE]);
