/* Tokens: NAME.SECRET, of which the store knows the name and a salted hash. A secret has 256 random bits, so that one
 * round of SHA-256 is enough: nobody can guess his way through it. */
#pragma once

#include "api/access.h"

/* Whether it is one, of which *who gets name and role. */
bool token_check(struct reader *reader, const char *text, struct asker *who);
/* What a token of this name may now; false: there is none. */
bool token_role(struct reader *reader, const char *name, enum role *ret);
