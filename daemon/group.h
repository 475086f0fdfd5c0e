/* A control group (version 2) of its own for each attempt, below the daemon's, where the service manager has delegated
 * that: so that all that an attempt has started ends with it, also what left its process group. Without one, process
 * groups are all that there is. The groups get no controllers: then the daemon's own group may hold processes beside
 * them, and a service manager can put the next daemon there. Of the loop's thread. */
#pragma once

#include "base/error.h"

#include <limits.h>
#include <sys/types.h>

struct groups {
        char folder[PATH_MAX]; /* of the daemon's group; "": nothing is delegated */
};

/* Whether the daemon's group is delegated to it (systemd marks it with user.delegate), and where it is. */
void groups_find(struct groups *g);
/* Moves a process that has no children yet into the attempt's group; without delegation this is nothing. */
int group_put(const struct groups *g, int64_t attempt, pid_t pid, struct error *err);
/* Ends all that is in the attempt's group, at once. */
void group_kill(const struct groups *g, int64_t attempt);
/* Removes the groups of attempts in which nothing is left. */
void groups_sweep(const struct groups *g);
