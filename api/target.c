#include "api/target.h"

#include "contract/text.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

static int hex(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        c = (char)tolower((unsigned char)c);
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes percent-encoding in place, once. false: a stray %, a NUL. */
static bool decode(char *s, bool plus_is_space)
{
        char *to = s;

        for (char *p = s; *p; p++) {
                if (*p == '%') {
                        int high = hex(p[1]), low = high < 0 ? -1 : hex(p[2]);

                        if (low < 0 || (high == 0 && low == 0))
                                return false;
                        *to++ = (char)(high << 4 | low);
                        p += 2;
                } else {
                        *to++ = plus_is_space && *p == '+' ? ' ' : *p;
                }
        }
        *to = 0;
        return text_valid_utf8(s, strlen(s)) == strlen(s);
}

static int parse_segment(char *s, bool last, struct target *t, struct error *err)
{
        if (!decode(s, false))
                return error_set(err, -EINVAL, NULL, "the path is not percent-encoded UTF-8");
        /* what is left of a double encoding, and what a file system or a proxy may take for a separator */
        if (text_has_control(s, strlen(s), "") || strpbrk(s, "%/\\"))
                return error_set(err, -EINVAL, NULL, "the path holds an encoded separator, '%%' or control character");
        if (!strcmp(s, ".") || !strcmp(s, "..") || (!*s && !last))
                return error_set(err, -EINVAL, NULL, "the path has an empty, '.' or '..' segment");
        if (t->n_segments == TARGET_SEGMENTS_MAX)
                return error_set(err, -EINVAL, NULL, "the path has more than %d segments", TARGET_SEGMENTS_MAX);
        t->segments[t->n_segments++] = s;
        return 0;
}

static int parse_path(char *path, struct target *t, struct error *err)
{
        char *next;
        int r = 0;

        if (!strcmp(path, "/"))
                return 0;
        for (char *s = path + 1; r >= 0 && s; s = next) {
                next = strchr(s, '/');
                if (next)
                        *next++ = 0;
                r = parse_segment(s, !next, t, err);
        }
        return r;
}

static int parse_query(char *query, struct target *t, struct error *err)
{
        char *next;

        for (char *p = query; p; p = next) {
                char *value;

                next = strchr(p, '&');
                if (next)
                        *next++ = 0;
                if (!*p)
                        continue;
                value = strchr(p, '=');
                if (value)
                        *value++ = 0;
                if (!decode(p, true) || (value && !decode(value, true)))
                        return error_set(err, -EINVAL, NULL, "the query is not percent-encoded UTF-8");
                if (target_param(t, p))
                        return error_set(err, -EINVAL, NULL, "a parameter of the query is given twice");
                if (t->n_params == TARGET_PARAMS_MAX)
                        return error_set(err, -EINVAL, NULL, "the query has more than %d parameters",
                                         TARGET_PARAMS_MAX);
                t->params[t->n_params].name = p;
                t->params[t->n_params++].value = value ? value : "";
        }
        return 0;
}

int target_parse(const char *raw, struct target *ret, struct error *err)
{
        _cleanup_(target_done) struct target t = {0};
        char *query;
        int r;

        if (strlen(raw) > TARGET_BYTES_MAX)
                return error_set(err, -ENAMETOOLONG, NULL, "the URL is longer than %d bytes", TARGET_BYTES_MAX);
        if (raw[0] != '/')
                return error_set(err, -EINVAL, NULL, "the request's target is not a path");
        if (text_has_control(raw, strlen(raw), "") || strpbrk(raw, "#\\ "))
                return error_set(err, -EINVAL, NULL, "the URL holds '#', a backslash, a space or a control character");
        t.memory = strdup(raw);
        if (!t.memory)
                return error_set(err, -ENOMEM, NULL, "no memory for a URL");
        query = strchr(t.memory, '?');
        if (query)
                *query++ = 0;
        r = parse_path(t.memory, &t, err);
        if (r >= 0)
                r = parse_query(query, &t, err);
        if (r < 0)
                return r;
        *ret = t;
        t.memory = NULL; /* ret owns it now */
        return 0;
}

void target_done(struct target *t)
{
        free(t->memory);
        *t = (struct target){0};
}

const char *target_param(const struct target *t, const char *name)
{
        for (size_t i = 0; i < t->n_params; i++)
                if (!strcmp(t->params[i].name, name))
                        return t->params[i].value;
        return NULL;
}

/* Whether a word of the list, which is separated by blanks, is the n bytes of s, letters large or small. */
static bool is_word_of(const char *list, const char *s, size_t n)
{
        while (list && *list) {
                size_t length = strcspn(list, " \t");

                if (length && length == n && !strncasecmp(list, s, n))
                        return true;
                list += length + strspn(list + length, " \t");
        }
        return false;
}

/* How much of "name:port", or "[address]:port", is the name; 0: what follows it is no port. */
static size_t host_name_bytes(const char *s)
{
        size_t n = *s == '[' ? strcspn(s, "]") : strcspn(s, ":");
        int64_t port;

        n += *s == '[' && s[n];
        return !s[n] || (s[n] == ':' && int_parse(s + n + 1, 0, 65535, &port)) ? n : 0;
}

bool host_is_allowed(const char *host, const char *allowed)
{
        size_t n = host_name_bytes(host);

        return is_word_of("127.0.0.1 localhost [::1]", host, n) || is_word_of(allowed, host, n);
}

/* What follows the scheme; NULL: it has another. */
static const char *origin_host(const char *origin)
{
        if (!strncasecmp(origin, "http://", 7))
                return origin + 7;
        return !strncasecmp(origin, "https://", 8) ? origin + 8 : NULL;
}

bool origin_is_host(const char *origin, const char *host)
{
        const char *page = origin_host(origin);

        return page && !strcasecmp(page, host);
}

bool origin_is_allowed(const char *origin, const char *allowed)
{
        const char *page = origin_host(origin);

        return page && is_word_of(allowed, page, host_name_bytes(page));
}

void target_drop_prefix(struct target *t, const char *prefix)
{
        size_t n = 0;

        while (*prefix == '/') {
                size_t length = strcspn(++prefix, "/");

                if (n == t->n_segments || strlen(t->segments[n]) != length ||
                    memcmp(t->segments[n], prefix, length) != 0)
                        return;
                n++;
                prefix += length;
        }
        t->n_segments -= n;
        memmove(t->segments, t->segments + n, t->n_segments * sizeof *t->segments);
        if (t->n_segments == 1 && !*t->segments[0]) /* "/mulund/" is "/" */
                t->n_segments = 0;
}

bool int_parse(const char *s, int64_t min, int64_t max, int64_t *ret)
{
        size_t n = strspn(s, "0123456789");
        int64_t v = 0;

        if (!n || n > 18 || s[n] || (s[0] == '0' && n > 1))
                return false;
        for (; *s; s++)
                v = v * 10 + (*s - '0');
        if (v < min || v > max)
                return false;
        *ret = v;
        return true;
}

/* Digits of a position, which may be too large for any file: then it is. Moves *s behind them; -1: none. */
static int64_t range_digits(const char **s)
{
        int64_t v = -1;

        for (; **s >= '0' && **s <= '9'; (*s)++) {
                v = MAX(v, 0);
                if (v < INT64_C(1) << 56)
                        v = v * 10 + (**s - '0');
        }
        return v;
}

enum range range_parse(const char *header, int64_t size, int64_t *ret_first, int64_t *ret_last)
{
        int64_t first, last;

        if (strncasecmp(header, "bytes=", 6) != 0)
                return RANGE_NONE;
        header += 6;
        header += strspn(header, " \t");
        first = range_digits(&header);
        if (*header++ != '-')
                return RANGE_NONE;
        last = range_digits(&header);
        header += strspn(header, " \t");
        if (*header || (first < 0 && last < 0) || (first >= 0 && last >= 0 && last < first))
                return RANGE_NONE;
        if (first < 0) { /* the last so many bytes */
                if (last == 0 || size == 0)
                        return RANGE_UNSATISFIABLE;
                first = MAX(size - last, 0);
                last = size - 1;
        }
        if (first >= size)
                return RANGE_UNSATISFIABLE;
        *ret_first = first;
        *ret_last = last < 0 ? size - 1 : MIN(last, size - 1);
        return RANGE_OK;
}

bool etag_listed(const char *header, const char *etag)
{
        size_t n;

        if (!strncmp(etag, "W/", 2))
                etag += 2;
        n = strlen(etag);
        while (*header) {
                header += strspn(header, " \t,");
                if (*header == '*')
                        return true;
                if (!strncmp(header, "W/", 2))
                        header += 2;
                if (!strncmp(header, etag, n) && (!header[n] || strchr(" \t,", header[n])))
                        return true;
                header += strcspn(header, ",");
        }
        return false;
}

bool coding_accepted(const char *header, const char *coding)
{
        size_t n = strlen(coding);

        while (*header) {
                header += strspn(header, " \t,");
                if (!strncasecmp(header, coding, n) && (!header[n] || strchr(" \t,;", header[n]))) {
                        const char *weight = header + n + strspn(header + n, " \t;");
                        char rest;

                        if (strncasecmp(weight, "q=0", 3) != 0)
                                return true;
                        rest = weight[3 + strspn(weight + 3, ".0")];
                        return rest >= '1' && rest <= '9'; /* "q=0.05", not "q=0" and "q=0.000" */
                }
                header += strcspn(header, ",");
        }
        return false;
}

bool media_type_is_json(const char *content_type)
{
        size_t n = strcspn(content_type, "; \t");
        const char *p = content_type + n;

        if (n != strlen("application/json") || strncasecmp(content_type, "application/json", n) != 0)
                return false;
        p += strspn(p, "; \t");
        return !*p || !strcasecmp(p, "charset=utf-8") || !strcasecmp(p, "charset=\"utf-8\"");
}
