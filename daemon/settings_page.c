/* What people read of the settings, from their table:
 *     settings-page example          mulund.conf with every key, each commented out
 *     settings-page TEMPLATE         a page of the manual: its lines @SETTINGS@ and @OPTIONS@ are replaced
 * To standard output. */
#include "base/file.h"
#include "daemon/settings.h"

#include <stdio.h>
#include <string.h>

static const char preface[] =
        "# Settings of mulund, the daemon that trains diffusion models; see mulund.conf(5).\n"
        "# Every key is here, with an example of its value behind a #; without it holds what stands in brackets.\n"
        "# mulund --check-config FILE says what is wrong in a file.\n";

/* " (1m; from 1ms to 1d)": what holds without it. */
static void print_default(const struct setting *row, const char *before, const char *after)
{
        if (row->default_value && row->default_value[0])
                printf("%s%s%s", before, row->default_value, after);
}

static void print_example(void)
{
        const struct setting *table, *row;
        const char *section = "";
        size_t n;

        printf("%s", preface);
        table = settings_table(&n);
        for (row = table; row < table + n; row++) {
                if (strcmp(section, row->section) != 0)
                        printf("\n[%s]\n", row->section);
                section = row->section;
                printf("\n# %s", row->text);
                print_default(row, " (", ")");
                printf("\n#%s = %s\n", setting_takes_any_name(row) ? "name" : row->key, row->example);
        }
}

/* As roff: no character of it is a request, a hyphen is one. */
static void print_text(const char *s)
{
        for (; *s; s++)
                if (*s == '\\')
                        printf("\\e");
                else if (*s == '-')
                        printf("\\-");
                else
                        putchar(*s);
}

static void print_meaning(const struct setting *row)
{
        printf("\\&"); /* a line may begin with a dot */
        print_text(row->text);
        if (setting_is_list(row))
                printf("; may be given many times");
        if (row->default_value && row->default_value[0]) {
                printf(". Default: ");
                print_text(row->default_value);
        }
        printf(".\n");
}

static void print_settings(void)
{
        const struct setting *table, *row;
        const char *section = "";
        size_t n;

        table = settings_table(&n);
        for (row = table; row < table + n; row++) {
                if (strcmp(section, row->section) != 0)
                        printf(".SS [%s]\n", row->section);
                section = row->section;
                printf(".TP\n");
                if (setting_takes_any_name(row))
                        printf(".IR NAME \" = \" ");
                else {
                        printf(".BI \"");
                        print_text(row->key);
                        printf(" = \" ");
                }
                printf("%s\n", row->argument);
                print_meaning(row);
                if (row->when == SETTING_NOW)
                        printf("A reload takes a new value over.\n");
        }
}

static void print_options(void)
{
        const struct setting *table, *row;
        size_t n;

        table = settings_table(&n);
        for (row = table; row < table + n; row++) {
                printf(".TP\n.BI \\-\\-");
                print_text(row->option);
                printf(" \" \" %s%s\n", setting_takes_any_name(row) ? "NAME=" : "", row->argument);
                print_meaning(row);
        }
}

static int print_page(const char *path)
{
        _cleanup_(buf_done) struct buf page = BUF_INIT((size_t)1 << 20);
        struct error err;

        if (file_read(path, &page, &err) < 0) {
                fprintf(stderr, "settings-page: %s: %s\n", err.path, err.text);
                return EXIT_FAILURE;
        }
        for (char *line = page.data, *end; line && *line; line = end) {
                end = strchrnul(line, '\n');
                end += *end != 0;
                if (!strncmp(line, "@SETTINGS@\n", 11))
                        print_settings();
                else if (!strncmp(line, "@OPTIONS@\n", 10))
                        print_options();
                else
                        printf("%.*s", (int)(end - line), line);
        }
        return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
        if (argc != 2) {
                fprintf(stderr, "Usage: settings-page example | settings-page TEMPLATE\n");
                return 2;
        }
        if (strcmp(argv[1], "example") != 0)
                return print_page(argv[1]);
        print_example();
        return EXIT_SUCCESS;
}
