#include "api/response.h"

#include <errno.h>

/* Alive: this thread runs. Ready: the store answers; whether there is a job 1 does not matter. */
void health_read(struct request *r)
{
        struct reader *reader = request_reader(r);
        struct control *control = request_settings(r)->control;
        struct control_status status;
        struct job_row j;
        struct error err;
        int code;

        if (!reader)
                return;
        control->status(control, &status);
        code = reader_job_without(reader, 1, WITHOUT_CONFIG | WITHOUT_OUTCOME, &j, &err);
        if (code >= 0)
                job_row_done(&j);
        if (code < 0 && code != -ENOENT)
                problem(r, PROBLEM_UNAVAILABLE, "the store does not answer: %s", err.text);
        else
                response_json(r, 200,
                              json_pack("{s:s, s:s, s:{s:s, s:I, s:I}}", "status", "ok", "version", MULUND_VERSION,
                                        "disk", "state", status.disk_low ? "low" : "ok", "free_bytes",
                                        (json_int_t)status.disk_free_bytes, "reserve_bytes",
                                        (json_int_t)status.disk_reserve_bytes));
}
