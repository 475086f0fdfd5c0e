#include "daemon/quota.h"

#include "daemon/daemon.h"
#include "daemon/worker.h"

#include <stdio.h>
#include <string.h>

bool quota_allows(const struct daemon *d, const char *owner, int64_t n)
{
        int64_t most = d->settings.devices_per_owner;

        for (const struct worker *w = d->workers; w; w = w->next)
                if (!strcmp(w->owner, owner))
                        n += __builtin_popcountll(w->devices);
        return !most || !owner[0] || n <= most;
}

void quota_owner(const struct daemon *d, size_t device, char *ret, size_t size)
{
        const struct worker *w = d->workers;

        while (w && !(w->devices >> device & 1))
                w = w->next;
        (void)snprintf(ret, size, "%s", w ? w->owner : "");
}
