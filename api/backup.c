/* Backups of the state, made by the daemon while it runs. */
#include "api/response.h"

#include <limits.h>
#include <stdio.h>

static void made(struct request *r)
{
        char folder[PATH_MAX];

        if (r->answer.r < 0) {
                request_refused(r, PROBLEM_REQUEST_INVALID);
                return;
        }
        (void)snprintf(folder, sizeof folder, "%.*s/backups/%s", PATH_MAX - 128, request_settings(r)->state_folder,
                       r->name);
        response_json(r, 201, json_pack("{s:s, s:s}", "name", r->name, "folder", folder));
}

void backups_make(struct request *r)
{
        static const char *const none[] = {NULL};
        struct control *control = request_settings(r)->control;
        _cleanup_json_ json_t *body = NULL;
        struct pending *pending = request_body(r, none, true, &body) ? request_ask(r, made) : NULL;

        if (pending)
                control->backup(control, &r->by, r->name, request_done, pending);
}
