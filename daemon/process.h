/* Starting programs: own process group, no signal blocked or ignored, no descriptor but its three. */
#pragma once

#include "base/buf.h"

#include <sched.h>
#include <sys/types.h>

struct loop;

/* Where a program is to run: on these cores alone (NULL: all), with this entry of its environment instead of the
 * daemon's (NAME=value; NULL: none). Borrowed for the call. */
struct process_place {
        const cpu_set_t *cores;
        char *entry;
};

/* Names (separated by spaces; a trailing * stands for anything) of what programs get of the daemon's environment beside
 * what the table in process.c names. Kept as a pointer; of the loop's thread. */
void process_pass_on(const char *names);
/* Keeps from all workers (worker/sandbox.h) what is the daemon's own in its state: the database with its tokens' hashes
 * and backups, the keys of webhooks; and the private key of its certificate ("": none). Before there are threads. */
int process_hide(const char *state, const char *key, struct error *err);

/* The program begins in folder.
 * fds: what becomes its 0, 1, 2; they stay the caller's. ret_pidfd is the caller's. */
int process_spawn(const char *path, char *const argv[], const char *folder, const int fds[3],
                  const struct process_place *place, pid_t *ret_pid, int *ret_pidfd, struct error *err);

/* Which process it is, of all that have or had its id: the boot, and when it started. */
struct process_mark {
        char boot[40];
        int64_t start_ticks;
};
/* Of a process that is there; -ESRCH. */
int process_mark_read(int64_t pid, struct process_mark *ret, struct error *err);
/* How long ago that process began; -1 where it is of another boot, or not known. */
int64_t process_mark_age_us(const struct process_mark *mark);
/* A pidfd of the process that has this id, when that is provably the one of the mark and has this log open as its
 * standard output or error, under this very path; else -1. */
int process_find(int64_t pid, const struct process_mark *mark, const char *log);

/* Runs a program with input on its stdin, in a place (NULL: anywhere), until it ends, and hands over what it wrote to
 * stdout (at most max_output bytes). r: 0, or negative with err when it could not run, took too long, or wrote too
 * much; status is waitid's si_status (exit code; negative: the signal that ended it). */
struct helper;
typedef void helper_done(void *user, int r, int status, const struct buf *output, const struct error *err);
int helper_run(struct loop *l, const char *path, char *const argv[], const char *input,
               const struct process_place *place, int64_t timeout_us, size_t max_output, helper_done *done, void *user,
               struct helper **ret, struct error *err);
/* Kills it; done is not called. NULL is fine. */
struct helper *helper_cancel(struct helper *h);
