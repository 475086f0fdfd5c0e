#include "daemon/ini.h"

#include "base/file.h"
#include "contract/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX ((size_t)1 << 20)

int ini_open(struct ini *i, const char *path, struct error *err)
{
        struct stat st;
        int r;

        *i = (struct ini){.text = BUF_INIT(FILE_MAX)};
        if (stat(path, &st) < 0)
                return error_set(err, -errno, path, "cannot be found: %s", strerror(errno));
        if (!S_ISREG(st.st_mode))
                return error_set(err, -EINVAL, path, "is not a regular file");
        if ((st.st_uid && st.st_uid != geteuid()) || st.st_mode & S_IWOTH)
                return error_set(err, -EINVAL, path,
                                 "others may change it (user %u, mode %04o): it must be root's or your own, chmod o-w",
                                 (unsigned)st.st_uid, (unsigned)st.st_mode & 07777);
        r = file_read(path, &i->text, err);
        i->at = i->text.data;
        i->end = i->text.data ? i->text.data + i->text.size : NULL;
        return r;
}

void ini_done(struct ini *i)
{
        buf_done(&i->text);
}

static char *trim(char *s)
{
        size_t n;

        s += strspn(s, " \t");
        n = strlen(s);
        while (n && strchr(" \t\r", s[n - 1]))
                s[--n] = 0;
        return s;
}

static int wrong(struct error *err, const char *text)
{
        return error_set(err, -EBADMSG, NULL, "%s", text);
}

static int begin_section(struct ini *i, char *s, struct error *err)
{
        size_t n = strlen(s);

        if (s[n - 1] != ']')
                return wrong(err, "a section is written [NAME]");
        s[n - 1] = 0;
        s = trim(s + 1);
        if (!text_is_plain_name(s, sizeof i->section - 1))
                return wrong(err, "a section's name has letters, digits and '-'");
        (void)snprintf(i->section, sizeof i->section, "%s", s);
        return 1;
}

/* The line without its end; it is cut out of the text. */
static int take_line(struct ini *i, char **ret, struct error *err)
{
        char *line = i->at, *newline = memchr(line, '\n', (size_t)(i->end - line));
        size_t n = (size_t)((newline ? newline : i->end) - line);

        i->at = newline ? newline + 1 : i->end;
        i->line++;
        line[n] = 0; /* a buffer has a NUL behind its data */
        if (n && line[n - 1] == '\r')
                line[--n] = 0;
        if (text_valid_utf8(line, n) != n)
                return wrong(err, "the line is not UTF-8");
        if (text_has_control(line, n, "\t"))
                return wrong(err, "a control character");
        *ret = trim(line);
        return 0;
}

int ini_next(struct ini *i, struct ini_entry *ret, struct error *err)
{
        while (i->at && i->at < i->end) {
                char *line = NULL, *equals;
                int r = take_line(i, &line, err);

                if (r < 0)
                        return r;
                if (!*line || *line == '#' || *line == ';')
                        continue;
                if (*line == '[') {
                        r = begin_section(i, line, err);
                        if (r > 0)
                                *ret = (struct ini_entry){.section = i->section};
                        return r;
                }
                equals = strchr(line, '=');
                if (!equals || equals == line)
                        return wrong(err, "expected KEY = VALUE, [SECTION], or a comment that begins with #");
                *equals = 0;
                *ret = (struct ini_entry){i->section, trim(line), trim(equals + 1)};
                return 1;
        }
        return 0;
}
