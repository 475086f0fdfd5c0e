/* The state folder: whose it is, on what file system, and that one daemon at a time uses it. */
#pragma once

#include "base/error.h"

struct daemon;

/* Makes it and its folders where they are missing, puts its real path into the settings and that of the workers' socket
 * into d, and locks it. ret_lock: the caller's, held as long as it is open. -EBUSY: another daemon has it; -EPERM:
 * others may write there; -EXDEV: a network file system. */
int state_open(struct daemon *d, int *ret_lock, struct error *err);

#define STATE_DESCRIPTORS_LEAST 512 /* without so many the daemon does not start */

/* Without changing anything: whose the folder is and on what file system; errors as above. */
int state_check(const char *state, struct error *err);
/* Whether a daemon holds its lock. */
bool state_is_locked(const char *state);

/* Whether what statfs(2) and the mount table (below) say of a file system stands for one on this machine's own disks.
 * Of what is mounted through FUSE only that which is known to be. */
bool state_file_system_is_local(unsigned long magic, const char *type);

#define STATE_TYPE_SIZE 64
/* What the mount table calls the file system of the path: "ext4", "fuse.sshfs"; "" where it does not say. */
void state_file_system_type(const char *path, char ret[STATE_TYPE_SIZE]);
