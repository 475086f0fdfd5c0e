/* An attempt's spool, read line by line after its worker ended: FOLDER/attempt-N.events. */
#pragma once

#include "base/buf.h"

struct spool;

/* -ENOENT where there is none. */
int spool_open(const char *path, struct spool **ret, struct error *err);
/* 1: a line without its newline, borrowed until the next call; 0: the end. A last line without newline was torn: it is
 * left out. -EMSGSIZE: a line that is too long; the next call goes on after it. Other errors: of reading. */
int spool_next(struct spool *s, const char **ret, size_t *ret_size, struct error *err);
struct spool *spool_close(struct spool *s);

/* Gives the spool, with all that its worker still appends, a second name in its folder, durably. One that is there
 * already stays: success. */
int spool_keep(const char *path, const char *kept, struct error *err);
