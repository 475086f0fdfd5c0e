/* From a method and a path to a handler, by the rows of routes.def. */
#pragma once

#include "api/target.h"
#include "store/store.h"

struct request;

enum method { METHOD_GET, METHOD_POST, METHOD_PATCH, METHOD_DELETE, METHOD_OTHER, METHOD_N };

/* Answers the request (response.h, problem.h) or asks the daemon (request_ask), whose answer goes to a continuation. */
typedef void route_handler(struct request *r);

struct route {
        enum method method;
        const char *pattern;
        route_handler *handler;
        enum role role;
        const char *params;
        const char *request, *answer, *summary; /* for openapi.c */
        int status;
};

/* HEAD is GET. */
enum method method_parse(const char *s);

/* What a route's pattern found in the path. name is borrowed from the target. */
struct route_match {
        const struct route *route; /* NULL: no such resource, or not with this method */
        unsigned methods;          /* bit set of the methods that the path has; 0: no such path */
        int64_t id;
        const char *name;
};
void route_find(enum method method, const struct target *t, struct route_match *ret);

/* "GET, HEAD, POST" */
const char *methods_text(unsigned methods, char buf[64]);

bool route_takes_param(const struct route *route, const char *name);

extern const struct route routes[];
extern const size_t n_routes;

#define R(method, pattern, handler, role, params, request, status, answer, summary) route_handler handler;
#include "api/routes.def"
#undef R
route_handler static_read;
