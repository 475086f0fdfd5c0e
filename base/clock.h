/* Time: microseconds everywhere, RFC 3339 in UTC for people. */
#pragma once

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#define US_PER_S 1000000LL
#define US_PER_MS 1000LL

int64_t clock_wall_us(void);      /* since 1970 */
int64_t clock_monotonic_us(void); /* never goes back; for intervals */

#define RFC3339_SIZE 32

/* "2026-11-24T12:00:00.000Z" in UTC with milliseconds; returns buf. */
const char *clock_rfc3339(int64_t wall_us, char buf[RFC3339_SIZE]);

/* A condition whose timed waits end by the monotonic clock. */
void clock_cond_init(pthread_cond_t *c);
