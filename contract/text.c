#include "contract/text.h"

#include "base/macros.h"

#include <stdint.h>
#include <string.h>

bool text_is_plain_name(const char *s, size_t max_bytes)
{
        size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_");

        return n && n <= max_bytes && !s[n] && s[0] != '.';
}

bool text_is_digest(const char *s)
{
        return strspn(s, "0123456789abcdef") == 32 && !s[32];
}

/* Decodes one character of valid UTF-8 (RFC 3629: shortest form, no surrogates, at most U+10FFFF); 0: it is not. */
static size_t decode(const unsigned char *s, size_t size, uint32_t *ret)
{
        static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
        size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc0 ? 2 : 0;
        uint32_t c = n == 1 ? s[0] : s[0] & (0x7fU >> n);

        if (!n || n > size || s[0] > 0xf4)
                return 0;
        for (size_t i = 1; i < n; i++) {
                if ((s[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (s[i] & 0x3f);
        }
        if (c < smallest[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return 0;
        *ret = c;
        return n;
}

size_t text_valid_utf8(const char *s, size_t size)
{
        size_t at = 0, n;
        uint32_t c;

        while (at < size && (n = decode((const unsigned char *)s + at, size - at, &c)))
                at += n;
        return at;
}

bool text_has_control(const char *s, size_t size, const char *allowed)
{
        for (size_t i = 0; i < size; i++)
                if (((unsigned char)s[i] < ' ' || s[i] == 0x7f) && (!s[i] || !strchr(allowed, s[i])))
                        return true;
        return false;
}

static bool is_invisible(uint32_t c)
{
        static const struct {
                uint32_t from, to;
        } ranges[] = {
                {0, 0x1f}, {0x7f, 0x9f}, {0x200e, 0x200f}, {0x2028, 0x202e}, {0x2066, 0x2069}, {0xfeff, 0xfeff},
        };

        for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
                if (c >= ranges[i].from && c <= ranges[i].to)
                        return true;
        return false;
}

/* Spaces, and what takes no ink: Unicode's White_Space and Default_Ignorable_Code_Point, and the empty Braille cell. */
static bool is_blank(uint32_t c)
{
        static const struct {
                uint32_t from, to;
        } ranges[] = {
                {0x20, 0x20},       {0xa0, 0xa0},       {0xad, 0xad},     {0x34f, 0x34f},   {0x61c, 0x61c},
                {0x115f, 0x1160},   {0x1680, 0x1680},   {0x17b4, 0x17b5}, {0x180b, 0x180f}, {0x2000, 0x200f},
                {0x2028, 0x202f},   {0x205f, 0x206f},   {0x2800, 0x2800}, {0x3000, 0x3000}, {0x3164, 0x3164},
                {0xfe00, 0xfe0f},   {0xfeff, 0xfeff},   {0xffa0, 0xffa0}, {0xfff0, 0xfff8}, {0x1bca0, 0x1bca3},
                {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff},
        };

        for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
                if (c >= ranges[i].from && c <= ranges[i].to)
                        return true;
        return false;
}

bool text_is_blank(const char *s)
{
        size_t size = strlen(s), n;
        uint32_t c;

        for (size_t at = 0; at < size; at += n) {
                n = decode((const unsigned char *)s + at, size - at, &c);
                if (!n || !is_blank(c))
                        return false;
        }
        return true;
}

bool text_is_printable(const char *s, size_t max_bytes)
{
        size_t size = strlen(s), at = 0, n;
        uint32_t c;

        if (!size || size > max_bytes)
                return false;
        for (; at < size; at += n) {
                n = decode((const unsigned char *)s + at, size - at, &c);
                if (!n || is_invisible(c))
                        return false;
        }
        return true;
}

void text_make_plain(char *s, const char *allowed)
{
        size_t size = strlen(s), n, to = 0;
        uint32_t c;

        for (size_t at = 0; at < size; at += n) {
                n = decode((const unsigned char *)s + at, size - at, &c);
                if (!n || (is_invisible(c) && !(c < 0x80 && strchr(allowed, (char)c)))) {
                        s[to++] = '?';
                        n = MAX(n, (size_t)1);
                        continue;
                }
                memmove(s + to, s + at, n);
                to += n;
        }
        s[to] = 0;
}

#define NEAR_MAX 64 /* longer names are not compared */

/* How many letters are to be changed, taken out or put in (Levenshtein), by rows. */
static size_t distance(const char *a, const char *b)
{
        size_t n = strlen(a), m = strlen(b), row[NEAR_MAX + 1];

        for (size_t k = 0; k <= m; k++)
                row[k] = k;
        for (size_t i = 1; i <= n; i++) {
                size_t before = row[0];

                row[0] = i;
                for (size_t k = 1; k <= m; k++) {
                        size_t change = before + (a[i - 1] != b[k - 1]);

                        before = row[k];
                        row[k] = MIN(MIN(row[k], row[k - 1]) + 1, change);
                }
        }
        return row[m];
}

bool text_is_nearer(const char *name, const char *s, size_t *best)
{
        size_t n = strlen(name), m = strlen(s), d;

        if (!m || n > NEAR_MAX || m > NEAR_MAX)
                return false;
        d = distance(name, s);
        if (d >= *best || (d > 2 && 3 * d > m) || 2 * d > m)
                return false;
        *best = d;
        return true;
}

const char *text_nearest(const char *const *names, const char *s)
{
        const char *nearest = NULL;
        size_t best = SIZE_MAX;

        for (; *names; names++)
                if (text_is_nearer(*names, s, &best))
                        nearest = *names;
        return nearest;
}
