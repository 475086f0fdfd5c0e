#include "base/log.h"

#include "base/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static _Atomic int lowest_level = LOG_INFO;

void log_set_level(enum log_level lowest)
{
        atomic_store(&lowest_level, (int)lowest);
}

/* A name of a file or a worker's word may hold anything: a line stays one, and gives a terminal no orders (C0, DEL, and
 * C1 as UTF-8 has them). */
static void make_plain(char *s, size_t size)
{
        for (size_t i = 0; i < size; i++) {
                const unsigned char c = (unsigned char)s[i], next = i + 1 < size ? (unsigned char)s[i + 1] : 0;

                if (c == 0xc2 && next >= 0x80 && next <= 0x9f)
                        s[i] = s[i + 1] = '?';
                else if (c < ' ' || c == 0x7f)
                        s[i] = '?';
        }
}

void log_line(enum log_level level, const char *fmt, ...)
{
        static const char *const names[] = {"debug", "info", "warning", "error"};
        char line[1024], stamp[RFC3339_SIZE];
        va_list ap;
        int n, m;

        if ((int)level < atomic_load(&lowest_level))
                return;
        n = snprintf(line, sizeof line, "%s %s ", clock_rfc3339(clock_wall_us(), stamp), names[level]);
        va_start(ap, fmt);
        m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
        va_end(ap);
        n = MIN(n + MAX(m, 0), (int)sizeof line - 2);
        make_plain(line, (size_t)n);
        line[n] = '\n';
        for (size_t done = 0, size = (size_t)n + 1; done < size;) {
                ssize_t written = write(STDERR_FILENO, line + done, size - done);

                if (written < 0 && errno != EINTR)
                        return; /* there is nowhere to say so */
                done += (size_t)MAX(written, (ssize_t)0);
        }
}
