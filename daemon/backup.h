/* Backups while the daemon runs: STATE/backups/NAME, made by a thread of its own from a snapshot of the database and
 * links to the files of jobs. While one is made no checkpoint is removed and no job, so that all that the snapshot
 * names is there. A daemon that is killed meanwhile leaves NAME.partial, which the next one removes. */
#pragma once

#include "daemon/op.h"

struct backup;

/* Answers the operation when the backup is whole. -EEXIST: the name is taken, or one is being made; -ENOSPC. */
void op_backup(struct op *op);
/* Gives up what is being made; its operation is answered. */
void backup_stop(struct daemon *d);
/* At start: what a daemon before left half-made. */
void backup_recover(struct daemon *d);
