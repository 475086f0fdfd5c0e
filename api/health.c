#include "api/response.h"

#include <errno.h>

/* Alive: this thread runs. Ready: the store answers; whether there is a job 1 does not matter. */
void health_read(struct request *r)
{
        struct reader *reader = request_reader(r);
        struct job_row j;
        struct error err;
        int code;

        if (!reader)
                return;
        code = reader_job(reader, 1, &j, &err);
        if (code >= 0)
                job_row_done(&j);
        if (code < 0 && code != -ENOENT)
                problem(r, PROBLEM_UNAVAILABLE, "the store does not answer: %s", err.text);
        else
                response_json(r, 200, json_pack("{s:s, s:s}", "status", "ok", "version", MULUND_VERSION));
}
