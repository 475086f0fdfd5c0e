/* The request log: a line a request, when its answer is sent or cut:
 *   request ID CLIENT TOKEN METHOD PATH STATUS BYTES ms MILLISECONDS
 * What a client sent stands in it with '?' for whatever is not printable, so that a line is a line. */
#include "api/internal.h"
#include "base/clock.h"

#include <stdio.h>
#include <string.h>

static void make_printable(char *s)
{
        for (; *s; s++)
                if (*s <= ' ' || *s > '~')
                        *s = '?';
}

static const char *text_or_dash(const char *s)
{
        return *s ? s : "-";
}

void request_logged(const struct request *r)
{
        struct control *control = request_settings(r)->control;
        char path[sizeof r->shown], method[sizeof r->method], line[640];

        if (!control->log || !r->request_id[0])
                return;
        memcpy(path, r->shown, sizeof path);
        memcpy(method, r->method, sizeof method);
        make_printable(path);
        make_printable(method);
        (void)snprintf(line, sizeof line, "request %s %s %s %s %s %u %lld %.1f ms", r->request_id,
                       text_or_dash(r->who.address), text_or_dash(r->who.token), method, path, r->status,
                       (long long)r->sent_bytes, (double)(clock_monotonic_us() - r->came_us) / US_PER_MS);
        control->log(control, line);
}
