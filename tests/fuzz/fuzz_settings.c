/* A file of settings: every line is an entry, an error that can be printed, or nothing; what is taken is a whole value,
 * and reading it ends. */
#include "daemon/ini.h"
#include "daemon/settings_value.h"

#include "contract/text.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool what)
{
        if (!what)
                abort();
}

static void require_line(const struct error *err)
{
        require(err->code < 0 && err->text[0] && !strchr(err->text, '\n'));
}

/* The value by every row, as if its key stood there. */
static void parse(const char *value, struct settings *s)
{
        const struct setting *table;
        char named[PATH_MAX + 80];
        struct error err;
        size_t n;

        table = settings_table(&n);
        for (const struct setting *row = table; row < table + n; row++) {
                (void)snprintf(named, sizeof named, "%s%s", setting_takes_any_name(row) ? "name=" : "", value);
                if (setting_parse(row, named, true, s, &err) < 0)
                        require_line(&err);
        }
        require(s->n_datasets <= DATASETS_MAX && s->n_devices <= DEVICE_SETTINGS_MAX &&
                s->n_import_roots <= IMPORT_ROOTS_MAX && s->n_webhooks <= WEBHOOKS_MAX && s->keep_checkpoints >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct settings s;
        struct ini file = {.text = BUF_INIT((size_t)1 << 20)};
        struct ini_entry e;
        struct error err;
        int r, lines = 0, values = 0;

        s = (struct settings){0};
        if (buf_append(&file.text, data, size, NULL) < 0)
                return 0;
        file.at = file.text.data;
        file.end = file.text.data ? file.text.data + file.text.size : NULL;
        while ((r = ini_next(&file, &e, &err)) != 0) {
                require(file.line > lines);
                lines = file.line;
                if (r < 0)
                        require_line(&err);
                else if (e.key) {
                        require(text_valid_utf8(e.value, strlen(e.value)) == strlen(e.value));
                        if (values++ < 64)
                                parse(e.value, &s);
                }
        }
        ini_done(&file);
        return 0;
}
