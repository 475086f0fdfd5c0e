#include "api/routes.h"

#include "contract/text.h"

#include <string.h>

const struct route routes[] = {
#define R(method_, pattern_, handler_, role_, params_, request_, status_, answer_, summary_)                           \
        {METHOD_##method_, pattern_, handler_, ROLE_##role_, params_, request_, answer_, summary_, status_},
#include "api/routes.def"
#undef R
};
const size_t n_routes = ARRAY_LEN(routes);

static const struct route static_route = {.method = METHOD_GET, .pattern = "/*", .handler = static_read, .params = ""};

enum method method_parse(const char *s)
{
        static const struct {
                const char *name;
                enum method method;
        } names[] = {{"GET", METHOD_GET},
                     {"HEAD", METHOD_GET},
                     {"POST", METHOD_POST},
                     {"PATCH", METHOD_PATCH},
                     {"DELETE", METHOD_DELETE}};

        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                if (!strcmp(names[i].name, s))
                        return names[i].method;
        return METHOD_OTHER;
}

/* Whether one segment of the path fits the one at *pattern, which is moved behind it. */
static bool segment_fits(const char **pattern, const char *segment, struct route_match *m)
{
        const char *p = *pattern;

        if (*p == '{') {
                *pattern = strchr(p, '}') + 1;
                if (!strncmp(p, "{id}", 4))
                        return int_parse(segment, 1, INT64_MAX, &m->id);
                m->name = segment;
                return text_is_plain_name(segment, 64);
        }
        while (*p && *p != '/' && *p == *segment)
                p++, segment++;
        *pattern = p;
        return !*segment && (!*p || *p == '/');
}

static bool pattern_fits(const char *pattern, const struct target *t, struct route_match *m)
{
        size_t i = 0;

        while (*pattern == '/') {
                pattern++;
                if (i == t->n_segments || !segment_fits(&pattern, t->segments[i++], m))
                        return false;
        }
        return i == t->n_segments;
}

void route_find(enum method method, const struct target *t, struct route_match *ret)
{
        *ret = (struct route_match){0};
        for (size_t i = 0; i < n_routes; i++) {
                struct route_match m = {0};

                if (!pattern_fits(routes[i].pattern, t, &m))
                        continue;
                ret->methods |= 1U << routes[i].method;
                if (routes[i].method == method && !ret->route) {
                        ret->route = &routes[i];
                        ret->id = m.id;
                        ret->name = m.name;
                }
        }
        if (ret->methods || (t->n_segments && !strcmp(t->segments[0], "v1")))
                return;
        ret->methods = 1U << METHOD_GET;
        ret->route = method == METHOD_GET ? &static_route : NULL;
}

const char *methods_text(unsigned methods, char buf[64])
{
        static const char *const names[] = {[METHOD_GET] = "GET, HEAD",
                                            [METHOD_POST] = "POST",
                                            [METHOD_PATCH] = "PATCH",
                                            [METHOD_DELETE] = "DELETE"};

        buf[0] = 0;
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                if (methods >> i & 1) {
                        if (*buf)
                                strcat(buf, ", ");
                        strcat(buf, names[i]);
                }
        return buf;
}

bool route_takes_param(const struct route *route, const char *name)
{
        size_t n = strlen(name);

        for (const char *p = route->params; *p; p += strspn(p, " ")) {
                size_t length = strcspn(p, " ");

                if (length == n && !memcmp(p, name, n))
                        return true;
                p += length;
        }
        return false;
}
