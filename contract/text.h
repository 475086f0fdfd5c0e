/* What a text from outside may hold before it becomes a name: of a file, of a series, of a job. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* A file name that cannot leave its folder: 1 to max_bytes letters, digits, '.', '-', '_', not beginning with '.'. */
bool text_is_plain_name(const char *s, size_t max_bytes);

/* 1 to max_bytes of valid UTF-8 without control characters (C0, DEL, C1), line separators and direction overrides. */
bool text_is_printable(const char *s, size_t max_bytes);
/* Nothing to see in it: empty, or spaces, U+200B and their like alone. */
bool text_is_blank(const char *s);

/* 32 lower-case hexadecimal digits: an XXH128 digest. */
bool text_is_digest(const char *s);

/* Length of the longest start of s that is valid UTF-8: a text that was cut to size may end inside a character. */
size_t text_valid_utf8(const char *s, size_t size);
