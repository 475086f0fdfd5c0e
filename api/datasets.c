#include "api/response.h"
#include "api/submit.h"

#include <errno.h>

/* Where a data set lies on this machine is nobody's business outside. */
static json_t *dataset_to_json(const struct dataset_row *d)
{
        return json_pack("{s:s, s:s, s:s, s:I, s:I, s:[f,f,f], s:s, s:s?}", "name", d->name, "format", d->format,
                         "digest", d->digest, "train", (json_int_t)d->n_train, "test", (json_int_t)d->n_test, "mean",
                         d->mean[0], d->mean[1], d->mean[2], "origin", d->imported ? "imported" : "command line",
                         "source_format", d->source[0] ? d->source : NULL);
}

static int add_dataset(const struct dataset_row *d, void *user)
{
        return json_array_append_new(user, dataset_to_json(d)) < 0 ? -ENOMEM : 0;
}

void datasets_list(struct request *r)
{
        struct reader *reader = request_reader(r);
        _cleanup_json_ json_t *list = json_array();
        struct error err;
        int code;

        if (!reader)
                return;
        code = reader_datasets(reader, add_dataset, list, &err);
        if (code < 0)
                problem_failed(r, "the data sets cannot be read", code, &err);
        else
                response_json(r, 200, json_pack("{s:O}", "datasets", list));
}

void datasets_read(struct request *r)
{
        struct reader *reader = request_reader(r);
        struct dataset_row d;
        struct error err;
        int code = reader ? reader_dataset(reader, r->name, &d, &err) : 0;

        if (!reader)
                return;
        if (code == -ENOENT)
                problem(r, PROBLEM_NOT_FOUND, "there is no data set %s", r->name);
        else if (code < 0)
                problem_failed(r, "the data set cannot be read", code, &err);
        else
                response_json(r, 200, dataset_to_json(&d));
}

static void submitted(struct request *r)
{
        if (r->answer.r < 0)
                request_refused(r, PROBLEM_REQUEST_INVALID);
        else
                jobs_submitted(r);
}

void datasets_import(struct request *r)
{
        struct control *control = request_settings(r)->control;
        _cleanup_(submission_freep) struct submission *s = NULL;
        _cleanup_json_ json_t *body = NULL;
        struct errors errs = {0};
        struct pending *pending;

        if (!request_body(r, import_keys, false, &body))
                return;
        if (import_submission_from_json(body, &s, &errs) < 0) {
                problem_errors(r, PROBLEM_REQUEST_INVALID, &errs);
                return;
        }
        if (!request_read_key(r, &s->key))
                return;
        pending = request_ask(r, submitted);
        if (pending)
                control->submit(control, &r->by, TAKE_PTR(s), request_done, pending);
}

void datasets_remove(struct request *r)
{
        struct control *control = request_settings(r)->control;
        struct pending *pending = request_ask(r, answer_removed);

        if (pending)
                control->remove_dataset(control, &r->by, r->name, request_done, pending);
}
