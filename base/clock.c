#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t read_clock(clockid_t id)
{
        struct timespec ts;

        (void)clock_gettime(id, &ts);
        return (int64_t)ts.tv_sec * US_PER_S + ts.tv_nsec / 1000;
}

int64_t clock_wall_us(void)
{
        return read_clock(CLOCK_REALTIME);
}

int64_t clock_monotonic_us(void)
{
        return read_clock(CLOCK_MONOTONIC);
}

const char *clock_rfc3339(int64_t wall_us, char buf[RFC3339_SIZE])
{
        time_t s = (time_t)(wall_us / US_PER_S);
        struct tm tm;
        char day[24];

        (void)gmtime_r(&s, &tm);
        (void)strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
        (void)snprintf(buf, RFC3339_SIZE, "%s.%03dZ", day, (int)(wall_us / US_PER_MS % 1000));
        return buf;
}

void clock_cond_init(pthread_cond_t *c)
{
        pthread_condattr_t attributes;

        (void)pthread_condattr_init(&attributes);
        (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        (void)pthread_cond_init(c, &attributes);
        (void)pthread_condattr_destroy(&attributes);
}
