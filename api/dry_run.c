/* POST /v1/jobs?dry_run=true: a submission's checks, and what it would need. */
#include "api/job_json.h"
#include "api/response.h"

#include <math.h>
#include <string.h>

bool request_is_dry(struct request *r)
{
        static const char *const choices[] = {"false", "true", NULL};
        int dry = 0;

        (void)request_query_choice(r, "dry_run", choices, &dry);
        return dry;
}

/* Those on which it could run, in service, with memory enough for it alone. */
static json_t *devices_that_fit(const struct control_status *s, const struct job_row *j)
{
        json_t *list = json_array();

        for (size_t i = 0; i < s->n_devices; i++) {
                const struct control_device *d = &s->devices[i];
                bool fits = !d->memory_bytes || d->memory_bytes >= j->memory_bytes; /* 0: not known */

                if (d->gpu == j->gpu && !d->out && fits)
                        (void)json_array_append_new(list, json_string(d->name));
        }
        return list;
}

/* By what a step took in a job that needed as much memory, and so had the same network and batch; NAN: there is none.
 */
static struct step_cost cost_of(struct reader *reader, const struct job_row *j)
{
        struct step_cost cost = {NAN, NAN};

        if (j->steps && j->memory_bytes)
                (void)reader_step_cost(reader, j, &cost, NULL);
        return (struct step_cost){cost.seconds * (double)j->steps, cost.joules * (double)j->steps};
}

void jobs_checked(struct request *r)
{
        const struct job_row *j = r->answer.job;
        struct control *control = request_settings(r)->control;
        struct reader *reader = request_reader(r);
        struct control_status s;
        struct step_cost cost;

        if (!reader)
                return;
        cost = cost_of(reader, j);
        control->status(control, &s);
        response_json(r, 200,
                      json_pack("{s:s, s:O?, s:O?, s:I, s:o, s:o, s:o, s:o}", "kind", job_kind_names[j->kind], "config",
                                json_object_size(j->config) || json_is_verbatim(j->config) ? j->config : NULL, "import",
                                j->import, "steps", (json_int_t)j->steps, "memory_bytes",
                                json_int_or_null(j->memory_bytes), "devices", devices_that_fit(&s, j), "seconds",
                                json_real_or_null(cost.seconds), "energy_j", json_real_or_null(cost.joules)));
}
