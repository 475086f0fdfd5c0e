#include "api/response.h"

#include <errno.h>

/* Where a data set lies on this machine is nobody's business outside. */
static int add_dataset(const struct dataset_row *d, void *user)
{
        return json_array_append_new(user, json_pack("{s:s, s:s, s:s, s:I, s:I}", "name", d->name, "format", d->format,
                                                     "digest", d->digest, "train", (json_int_t)d->n_train, "test",
                                                     (json_int_t)d->n_test)) < 0
                       ? -ENOMEM
                       : 0;
}

void datasets_list(struct request *r)
{
        struct reader *reader = request_reader(r);
        _cleanup_json_ json_t *list = json_array();
        struct error err;

        if (!reader)
                return;
        if (reader_datasets(reader, add_dataset, list, &err) < 0)
                problem(r, PROBLEM_INTERNAL, "the data sets cannot be read");
        else
                response_json(r, 200, json_pack("{s:O}", "datasets", list));
}
