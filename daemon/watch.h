/* What GPUs say of themselves, by a process that looks at them for the daemon (mulun-worker --watch), so that a driver
 * that hangs holds up nobody: it has a deadline for every question, is killed where it keeps none, and started again
 * after a rest. Meanwhile jobs go on, and its devices are not watched. Of the loop's thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct daemon;
struct device;
struct watch;

/* Starts it, where there are GPUs: d->watch; else that stays NULL, which every call below takes. */
void watch_begin(struct daemon *d);
/* Questions that are not answered yet are dropped. NULL is fine; returns NULL. */
struct watch *watch_end(struct watch *w);

/* Asks how the devices are. done is called once, later, when d->devices has it, or when there will be no answer. False:
 * nobody watches, and it is not called. */
bool watch_ask(struct watch *w, void (*done)(void *user), void *user);
/* Whether something may start on these devices by what is known of them: asked for after the last job was gone, and not
 * long ago. Where it is not, it asks, and the queue is looked at again after the answer. */
bool watch_is_fresh(struct daemon *d, uint64_t devices);
/* A device is in service again: nothing that was known of it counts, and it is asked for anew. */
void watch_anew(struct device *x);
/* The counters of energy of these devices together, in mJ; -1: one of them is not known. */
int64_t watch_energy_mj(const struct daemon *d, uint64_t devices);

/* What a number of the driver's XID errors means; NULL: it is not in the table. ret_out: the device is not to be used
 * until a person has looked at it. */
const char *xid_meaning(int64_t number, bool *ret_out);
