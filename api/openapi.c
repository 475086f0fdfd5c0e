/* GET /openapi.json: the API's description (OpenAPI 3.1), made of the tables that route, and of those that say what
 * parameters, bodies and answers look like. */
#include "api/response.h"
#include "api/sessions.h"

#include <stdio.h>
#include <string.h>

static const struct field {
        const char *object, *member, *type, *text;
} fields[] = {
#define F(object, member, type, text) {#object, member, type, text},
#include "api/schemas.def"
#undef F
};

static const struct {
        const char *name, *type, *text;
} params[] = {
#define P(name, type, text) {#name, type, text},
#include "api/params.def"
#undef P
};

/* ---- types */

static json_t *reference(const char *name, size_t n)
{
        char path[96];

        (void)snprintf(path, sizeof path, "#/components/schemas/%.*s", (int)n, name);
        return json_pack("{s:s}", "$ref", path);
}

static json_t *one_of_texts(const char *type, size_t n)
{
        json_t *list = json_array();

        for (size_t i = 0; i < n;) {
                size_t k = 0;

                while (i + k < n && type[i + k] != '|')
                        k++;
                (void)json_array_append_new(list, json_stringn(type + i, k));
                i += k + 1;
        }
        return json_pack("{s:s, s:o}", "type", "string", "enum", list);
}

static json_t *primitive(const char *type, size_t n)
{
        static const struct {
                const char *name, *schema;
        } primitives[] = {
                {"text", "{\"type\": \"string\"}"},
                {"int", "{\"type\": \"integer\"}"},
                {"bool", "{\"type\": \"boolean\"}"},
                {"time", "{\"type\": \"string\", \"format\": \"date-time\"}"},
                {"object", "{\"type\": \"object\"}"},
                {"any", "{}"},
                {"real", "{\"anyOf\": [{\"type\": \"number\"}, {\"enum\": [\"NaN\", \"Infinity\", \"-Infinity\"]}]}"},
        };

        for (size_t i = 0; i < ARRAY_LEN(primitives); i++)
                if (strlen(primitives[i].name) == n && !memcmp(primitives[i].name, type, n))
                        return json_loads(primitives[i].schema, 0, NULL);
        return reference(type, n);
}

/* A type of schemas.def, of n letters. New reference. */
static json_t *type_to_json(const char *type, size_t n)
{
        if (type[n - 1] == '?')
                return json_pack("{s:[o, {s:s}]}", "anyOf", type_to_json(type, n - 1), "type", "null");
        if (type[0] == '[')
                return json_pack("{s:s, s:o}", "type", "array", "items", type_to_json(type + 1, n - 2));
        return memchr(type, '|', n) ? one_of_texts(type, n) : primitive(type, n);
}

static json_t *described(const char *type, const char *text)
{
        json_t *o = type_to_json(type, strlen(type));

        (void)json_object_set_new(o, "description", json_string(text));
        return o;
}

/* Whether an object is the body of some request: its members may be left out. */
static bool is_request(const char *object)
{
        size_t n = strlen(object);

        for (size_t i = 0; i < n_routes; i++)
                if (!strncmp(routes[i].request, object, n) && (!routes[i].request[n] || routes[i].request[n] == '?'))
                        return true;
        return false;
}

static json_t *schemas_to_json(void)
{
        json_t *all = json_object();

        for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
                const struct field *f = &fields[i];
                json_t *o = json_object_get(all, f->object);

                if (!o) {
                        o = json_pack("{s:s, s:{}, s:[]}", "type", "object", "properties", "required");
                        (void)json_object_set_new(all, f->object, o);
                }
                if (!f->member)
                        continue;
                (void)json_object_set_new(json_object_get(o, "properties"), f->member, described(f->type, f->text));
                if (!is_request(f->object) && strncmp(f->text, "perhaps", 7) != 0)
                        (void)json_array_append_new(json_object_get(o, "required"), json_string(f->member));
        }
        return all;
}

/* ---- routes */

static json_t *parameter(const char *name, const char *in, const char *type, const char *text)
{
        return json_pack("{s:s, s:s, s:b, s:s, s:o}", "name", name, "in", in, "required", !strcmp(in, "path"),
                         "description", text, "schema", type_to_json(type, strlen(type)));
}

static json_t *parameters_of(const struct route *r)
{
        json_t *list = json_array();

        if (strstr(r->pattern, "{id}"))
                (void)json_array_append_new(list, parameter("id", "path", "int", "its number"));
        if (strstr(r->pattern, "{name}"))
                (void)json_array_append_new(list, parameter("name", "path", "text", "its name"));
        for (size_t i = 0; i < ARRAY_LEN(params); i++)
                if (route_takes_param(r, params[i].name))
                        (void)json_array_append_new(list,
                                                    parameter(params[i].name, "query", params[i].type, params[i].text));
        return list;
}

static json_t *content(const char *type, json_t *schema)
{
        return json_pack("{s:{s:o}}", type, "schema", schema);
}

static json_t *answers_of(const struct route *r)
{
        json_t *success = json_pack("{s:s}", "description", r->summary), *all;
        char status[8];

        if (strchr(r->answer, '/'))
                (void)json_object_set_new(success, "content", content(r->answer, json_object()));
        else if (*r->answer)
                (void)json_object_set_new(success, "content",
                                          content("application/json", reference(r->answer, strlen(r->answer))));
        (void)snprintf(status, sizeof status, "%d", r->status);
        all = json_pack("{s:o}", status, success);
        if (route_takes_param(r, "dry_run"))
                (void)json_object_set_new(all, "200",
                                          json_pack("{s:s, s:o}", "description", "What it would need: of a dry run",
                                                    "content", content("application/json", reference("DryRun", 6))));
        for (size_t i = 0; i < 2; i++)
                (void)json_object_set_new(all, i ? "default" : "4XX",
                                          json_pack("{s:s, s:o}", "description", "A problem (RFC 9457)", "content",
                                                    content("application/problem+json", reference("Problem", 7))));
        return all;
}

/* What whoever asks shows; a peer on the Unix socket needs neither. */
static json_t *security_of(const struct route *r)
{
        return r->role == ROLE_NONE ? json_array() : json_pack("[{s:[]}, {s:[]}]", "token", "session");
}

static json_t *security_schemes(void)
{
        return json_pack("{s:{s:s, s:s, s:s}, s:{s:s, s:s, s:s}}", "token", "type", "http", "scheme", "bearer",
                         "description", "mulunctl token add", "session", "type", "apiKey", "in", "cookie", "name",
                         SESSION_COOKIE);
}

/* "get_v1_jobs_id" */
static void name_operation(const char *method, const char *pattern, char *ret, size_t size)
{
        size_t n = (size_t)snprintf(ret, size, "%s", method);

        for (const char *p = pattern; *p && n + 1 < size; p++)
                if (*p != '{' && *p != '}')
                        ret[n++] = *p == '/' || *p == '.' ? '_' : *p;
        ret[n] = 0;
}

static json_t *operation(const struct route *r, const char *method)
{
        size_t n = strcspn(r->request, "?");
        char id[96];
        json_t *o;

        name_operation(method, r->pattern, id, sizeof id);
        o = json_pack("{s:s, s:s, s:s, s:o, s:o, s:o}", "operationId", id, "summary", r->summary, "x-role",
                      role_names[r->role], "security", security_of(r), "parameters", parameters_of(r), "responses",
                      answers_of(r));

        if (n)
                (void)json_object_set_new(o, "requestBody",
                                          json_pack("{s:b, s:o}", "required", r->request[n] != '?', "content",
                                                    content("application/json", reference(r->request, n))));
        return o;
}

static json_t *paths_to_json(void)
{
        static const char *const methods[] = {
                [METHOD_GET] = "get", [METHOD_POST] = "post", [METHOD_PATCH] = "patch", [METHOD_DELETE] = "delete"};
        json_t *all = json_object();

        for (size_t i = 0; i < n_routes; i++) {
                json_t *path = json_object_get(all, routes[i].pattern);

                if (!path) {
                        path = json_object();
                        (void)json_object_set_new(all, routes[i].pattern, path);
                }
                (void)json_object_set_new(path, methods[routes[i].method],
                                          operation(&routes[i], methods[routes[i].method]));
        }
        return all;
}

void openapi_read(struct request *r)
{
        response_json(r, 200,
                      json_pack("{s:s, s:[{s:s}], s:{s:s, s:s, s:s}, s:o, s:{s:o, s:o}}", "openapi", "3.1.0", "servers",
                                "url", *request_settings(r)->prefix ? request_settings(r)->prefix : "/", "info",
                                "title", "mulund", "version", MULUND_VERSION, "description",
                                "Trains likelihood-based diffusion models: jobs, their curves and files.", "paths",
                                paths_to_json(), "components", "schemas", schemas_to_json(), "securitySchemes",
                                security_schemes()));
}
