/* From the body of POST /v1/jobs to a submission, all errors collected. The fuzzer's door. */
#pragma once

#include "api/control.h"
#include "api/problem.h"

extern const char *const submit_keys[]; /* every member that some kind takes */

/* The body's members are known (submit_keys). -EINVAL with errs->n > 0 and *ret_problem: PROBLEM_REQUEST_INVALID, its
 * pointers into the body; or PROBLEM_CONFIG_INVALID, its pointers into the merged configuration. */
int submission_from_json(const json_t *body, const char *configs_folder, struct submission **ret,
                         enum problem *ret_problem, struct errors *errs);

/* The same from the body of POST /v1/datasets, whose members are known (import_keys): an import. The path is not looked
 * at. -EINVAL with errs: pointers into the body. */
extern const char *const import_keys[];
int import_submission_from_json(const json_t *body, struct submission **ret, struct errors *errs);

DEFINE_CLEANUP(struct submission *, submission_free);
