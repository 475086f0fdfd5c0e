#include "api/response.h"

static void stopped(struct request *r)
{
        if (r->answer.r < 0)
                request_refused(r, PROBLEM_REQUEST_INVALID);
        else
                response_json(r, 202, json_pack("{s:b}", "stopping", 1));
}

void server_stop(struct request *r)
{
        static const char *const none[] = {NULL};
        struct control *control = request_settings(r)->control;
        _cleanup_json_ json_t *body = NULL;
        struct pending *pending = request_body(r, none, true, &body) ? request_ask(r, stopped) : NULL;

        if (pending)
                control->stop(control, &r->by, request_done, pending);
}
