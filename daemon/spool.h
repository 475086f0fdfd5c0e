/* An attempt's spool, read line by line after its worker ended: FOLDER/attempt-N.events. */
#pragma once

#include "base/buf.h"

struct spool;

/* -ENOENT where there is none. */
int spool_open(const char *path, struct spool **ret, struct error *err);
/* 1: a line without its newline, borrowed until the next call; 0: the end. A last line without newline was torn: it is
 * left out. A line that is too long is skipped. */
int spool_next(struct spool *s, const char **ret, size_t *ret_size, struct error *err);
struct spool *spool_close(struct spool *s);
