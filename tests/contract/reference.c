/* The reference page of the configuration, docs/configuration.md, from the table of keys: prints it, or with a file's
 * name compares it with what is there. */
#include "base/file.h"
#include "contract/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char beginning[] = "# The configuration of a job\n\n"
                                "Every key, from the same table that reads them (`contract/config.def`); `GET "
                                "/v1/configs/schema` has the same as\n"
                                "JSON Schema. A key that is left out has its default; one that is not here is an "
                                "error. Overrides are dotted paths:\n"
                                "`{\"overrides\": {\"model.sm_n_embd\": 64}}`. This page is made by "
                                "`build/tests/contract/contract-reference`; a test\n"
                                "fails where it is old.\n";

static struct buf page = BUF_INIT((size_t)1 << 20);

static void print(const char *fmt, ...) _printf_(1, 2);
static void print(const char *fmt, ...)
{
        char line[2000];
        struct error err;
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(line, sizeof line, fmt, ap);
        va_end(ap);
        (void)buf_printf(&page, &err, "%s", line);
}

static void print_values(const json_t *row)
{
        const json_t *names = json_object_get(row, "enum"), *least = json_object_get(row, "minimum");
        const char *unit = json_string_value(json_object_get(row, "x-unit"));

        for (size_t i = 0; i < json_array_size(names); i++)
                print("%s`%s`", i ? ", " : "", json_string_value(json_array_get(names, i)));
        if (least)
                print("%.10g to %.10g", json_number_value(least), json_number_value(json_object_get(row, "maximum")));
        else if (!names)
                print("%s", json_object_get(row, "maxLength") ? "text" : "`true`, `false`");
        if (json_is_array(json_object_get(row, "type")))
                print(" or `null`");
        if (unit)
                print(" %s", unit);
}

static void print_row(const char *path, const json_t *row)
{
        char *value = json_dumps(json_object_get(row, "default"), JSON_ENCODE_ANY | JSON_REAL_PRECISION(10));

        print("| `%s` | `%s` | ", path, value);
        print_values(row);
        print(" | %s |\n", json_string_value(json_object_get(row, "description")));
        free(value);
}

/* The rows of a section, then the sections in it. */
static void print_section(const char *path, const json_t *schema)
{
        json_t *properties = json_object_get(schema, "properties"), *s;
        const char *key;
        bool first = true;
        char below[200];

        json_object_foreach(properties, key, s)
        {
                if (json_object_get(s, "properties"))
                        continue;
                if (first)
                        print("\n## %s\n\n| key | default | values | |\n|---|---|---|---|\n",
                              *path ? path : "The model's kind");
                first = false;
                (void)snprintf(below, sizeof below, "%s%s%s", path, *path ? "." : "", key);
                print_row(below, s);
        }
        json_object_foreach(properties, key, s)
        {
                (void)snprintf(below, sizeof below, "%s%s%s", path, *path ? "." : "", key);
                if (json_object_get(s, "properties"))
                        print_section(below, s);
        }
}

int main(int argc, char **argv)
{
        _cleanup_json_ json_t *schema = config_schema();
        _cleanup_(buf_done) struct buf there = BUF_INIT((size_t)1 << 20);
        struct error err;

        print("%s", beginning);
        print_section("", schema);
        if (argc == 1)
                return fwrite(page.data, 1, page.size, stdout) != page.size;
        if (file_read(argv[1], &there, &err) < 0 || there.size != page.size ||
            memcmp(there.data, page.data, page.size) != 0) {
                printf("%s is not what the table of keys says; make it anew: contract-reference > %s\n", argv[1],
                       argv[1]);
                return 1;
        }
        buf_done(&page);
        return 0;
}
