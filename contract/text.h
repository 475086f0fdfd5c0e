/* What a text from outside may hold before it becomes a name: of a file, of a series, of a job. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* A file name that cannot leave its folder: 1 to max_bytes letters, digits, '.', '-', '_', not beginning with '.'. */
bool text_is_plain_name(const char *s, size_t max_bytes);

/* 1 to max_bytes of valid UTF-8 without control characters (C0, DEL, C1), line separators and direction overrides. */
bool text_is_printable(const char *s, size_t max_bytes);
/* Whether it holds a control character of ASCII (C0, DEL) but those that are allowed. */
bool text_has_control(const char *s, size_t size, const char *allowed);
/* In place: what no name may hold (as above) becomes '?', but for characters of ASCII that are allowed; so does what is
 * no UTF-8. For texts from outside that a person reads on a terminal, where ESC gives orders. */
void text_make_plain(char *s, const char *allowed);
/* Nothing to see in it: empty, or spaces, U+200B and their like alone. */
bool text_is_blank(const char *s);

/* The name of a list (NULL-terminated) that is most like s, or NULL: none is so like it that somebody may have meant it
 * (more than two letters, or a third of them, other, too many or missing). */
const char *text_nearest(const char *const *names, const char *s);
/* Whether s is more like a name than *best letters, which then becomes how many are other: for lists that are no array.
 */
bool text_is_nearer(const char *name, const char *s, size_t *best);

/* 32 lower-case hexadecimal digits: an XXH128 digest. */
bool text_is_digest(const char *s);

/* Length of the longest start of s that is valid UTF-8: a text that was cut to size may end inside a character. */
size_t text_valid_utf8(const char *s, size_t size);
