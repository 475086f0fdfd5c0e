/* A job's folder, STATE/jobs/ID. It says itself whose it is, in the file `identity`: the job's random identity and a
 * newline. Whatever else has the name of one, of a database that was moved away or of a backup's other future, is
 * somebody's data: it is set aside, said in the log, and nothing of it is read. */
#pragma once

#include "base/error.h"

struct daemon;
struct job;

/* Makes the folder, or finds it as the job's; a foreign one is set aside before. What cannot be read is
 * not foreign: an error, and nothing changes. */
int folder_claim(const struct daemon *d, const struct job *j, struct error *err);
/* 1: there is one, and it is the job's; 0: there is none, or it is somebody else's; negative: it cannot be told now.
 * Nothing changes. */
int folder_is_ours(const struct daemon *d, const struct job *j, struct error *err);
/* Removes the folder of a job that was removed, and what a daemon that was killed while it made one left of it. That
 * there is none is a success. */
int folder_remove(const struct daemon *d, int64_t job, struct error *err);
/* Spools that have the name of an attempt's that has not begun yet are set aside. */
int folder_clear_attempt(const struct daemon *d, const struct job *j, int64_t attempt, struct error *err);
/* The highest id that a folder has; 0: there is none. */
int folder_highest_job(const struct daemon *d, int64_t *ret, struct error *err);
