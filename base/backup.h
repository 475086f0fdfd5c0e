/* Backups of a state folder: a folder NAME is whole or absent; NAME.partial is what was being made when somebody was
 * killed. Large files that are never changed in place (checkpoints, images, data sets: replaced by a rename,
 * base/file.h) are linked where that can be, so that a backup beside its state costs little; the others are copied. */
#pragma once

#include "base/error.h"

#include <limits.h>
#include <stdatomic.h>

/* In a whole one: "mulund", the version that made it, and "made", when. */
#define BACKUP_MANIFEST "backup.json"
#define BACKUP_PARTIAL ".partial"

/* FOLDER.partial; -ENAMETOOLONG. */
int backup_partial(const char *folder, char ret[PATH_MAX], struct error *err);

/* Makes the folder `to` with all that is below `from`, on disk when it returns; folders and regular files alone, with
 * their owners where this user may give them; directly below `from` also what links lead to. A missing `from` is
 * success. cancelled: NULL, or looked at now and then, from any thread: -ECANCELED. What is there on failure is the
 * caller's to remove. */
int backup_copy(const char *from, const char *to, const atomic_bool *cancelled, struct error *err);
