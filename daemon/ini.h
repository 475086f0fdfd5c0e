/* Files of "key = value" lines in [sections]. A line is blank, a comment (# or ; first), a section, or a key, an equals
 * sign and a value to the line's end; blanks around each do not count; there are no quotes, escapes and continued
 * lines. UTF-8 without control characters. Debian's libraries (libinih, iniparser) do not say on which line a key
 * stands, and cut long lines. */
#pragma once

#include "base/buf.h"

struct ini {
        struct buf text;
        char *at, *end;
        int line; /* of what ini_next returned last; 1 is the first */
        char section[64];
};

struct ini_entry {
        const char *section;     /* "": before the first one */
        const char *key, *value; /* key NULL: the section begins here */
};

/* -ENOENT and the like; -EINVAL: not a regular file, of another user than root and this one, or one that everybody may
 * change; -E2BIG. ini_done in any case. */
int ini_open(struct ini *i, const char *path, struct error *err);
/* 1: an entry, valid until ini_done; 0: the end; -EBADMSG: the line is none, which err says; the next call goes on
 * behind it. */
int ini_next(struct ini *i, struct ini_entry *ret, struct error *err);
void ini_done(struct ini *i);
