/* The files of a folder that a source reads, in an order that depends on their names alone. */
#pragma once

#include "base/error.h"

struct files {
        size_t n, room;
        char **paths; /* below the folder, sorted by strverscmp: batch_2 before batch_10 */
};

/* Regular files whose names wanted says; deep: also those of folders below, to 16 levels. Links are refused by name
 * (what they lead to was not asked for), other kinds and names are left out. */
int files_list(const char *folder, bool deep, bool (*wanted)(const char *name), struct files *ret, struct error *err);
void files_done(struct files *f);

/* 1: the folder has such a file itself; 0: not, or it is no folder; negative: it cannot be looked at. */
int files_any(const char *folder, bool (*wanted)(const char *name), struct error *err);

/* name ends with suffix, whatever the case. */
bool files_has_suffix(const char *name, const char *suffix);
