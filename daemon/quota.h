/* How many devices one owner's jobs have at once: who shares a machine with others leaves some for them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct daemon;

/* Whether jobs of that owner may have n devices more. One that is not known has no quota. */
bool quota_allows(const struct daemon *d, const char *owner, int64_t n);
/* Whose job has the device; "": nobody's. */
void quota_owner(const struct daemon *d, size_t device, char *ret, size_t size);
