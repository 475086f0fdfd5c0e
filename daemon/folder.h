/* A job's folder, STATE/jobs/ID. It says itself whose it is, in the file `identity`: the job's random identity and a
 * newline. Whatever else has the name of one, of a database that was moved away or of a backup's other future, is
 * somebody's data: it is set aside, said in the log, and nothing of it is read. */
#pragma once

#include "base/error.h"

struct daemon;
struct job;

/* Makes the folder, or finds it as the job's; a foreign one is set aside before. */
int folder_claim(const struct daemon *d, const struct job *j, struct error *err);
/* Whether there is one, and it is the job's. Nothing changes. */
bool folder_is_ours(const struct daemon *d, const struct job *j);
/* Spools that have the name of an attempt's that has not begun yet are set aside. */
int folder_clear_attempt(const struct daemon *d, const struct job *j, int64_t attempt, struct error *err);
/* The highest id that a folder has; 0: there is none. */
int folder_highest_job(const struct daemon *d, int64_t *ret, struct error *err);
