#include "api/configs.h"

#include "api/response.h"
#include "contract/config.h"
#include "contract/text.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TEMPLATE_BYTES_MAX ((size_t)256 << 10)
#define TEMPLATES_MAX 1000
#define NAME_BYTES_MAX 64

int config_template(const char *folder, const char *name, json_t **ret, struct error *err)
{
        char path[4096];
        struct error inner;
        int r;

        if (!text_is_plain_name(name, NAME_BYTES_MAX) ||
            (size_t)snprintf(path, sizeof path, "%s/%s.json", folder, name) >= sizeof path)
                return error_set(err, -ENOENT, NULL,
                                 "there is no configuration of that name; GET /v1/configs lists them");
        r = json_parse_file(path, TEMPLATE_BYTES_MAX, ret, &inner);
        if (r == -ENOENT)
                return error_set(err, -ENOENT, NULL,
                                 "there is no configuration of that name; GET /v1/configs lists them");
        return r < 0 ? error_set(err, r, NULL, "the configuration's file cannot be read: %s", inner.text) : 0;
}

static int is_template(const struct dirent *e)
{
        size_t n = strlen(e->d_name);
        char name[NAME_BYTES_MAX + 1];

        if (n <= 5 || n - 5 >= sizeof name || strcmp(e->d_name + n - 5, ".json") != 0)
                return 0;
        (void)snprintf(name, sizeof name, "%.*s", (int)(n - 5), e->d_name);
        return text_is_plain_name(name, NAME_BYTES_MAX);
}

static json_t *template_to_json(const char *name, json_t *document)
{
        return json_pack("{s:s, s:o}", "name", name, "config", document);
}

void configs_list(struct request *r)
{
        const char *folder = request_settings(r)->configs_folder;
        struct dirent **entries = NULL;
        int n = scandir(folder, &entries, is_template, alphasort);
        json_t *list = json_array();

        for (int i = 0; i < n; i++) {
                char *name = entries[i]->d_name;
                json_t *document;

                name[strlen(name) - 5] = 0;
                /* a file that is broken is left out: naming it in a job tells what is wrong */
                if (i < TEMPLATES_MAX && config_template(folder, name, &document, NULL) >= 0)
                        (void)json_array_append_new(list, template_to_json(name, document));
                free(entries[i]);
        }
        free(entries);
        response_json(r, 200, json_pack("{s:o}", "configs", list));
}

void configs_read(struct request *r)
{
        struct error err;
        json_t *document;
        int code = config_template(request_settings(r)->configs_folder, r->name, &document, &err);

        if (code == -ENOENT)
                problem(r, PROBLEM_NOT_FOUND, "%s", err.text);
        else if (code < 0)
                problem_failed(r, "the template cannot be read", code, &err);
        else
                response_json(r, 200, template_to_json(r->name, document));
}

void configs_schema(struct request *r)
{
        response_json(r, 200, config_schema());
}
