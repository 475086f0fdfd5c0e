/* A job as JSON: a table of its members. */
#pragma once

#include "api/request.h"

/* What the members are made of. The reader is asked for what a row does not hold; control and status say how the daemon
 * is. All are borrowed. */
struct job_view {
        const struct job_row *row;
        struct reader *reader;
        struct control *control;
        const struct control_status *status;
        const char *prefix; /* of links */
};

/* New reference, NULL without memory. members: bits, by the table's order; JOB_ALL: all of them. */
#define JOB_ALL UINT64_MAX
json_t *job_to_json(const struct job_view *v, uint64_t members);
/* The bits of names that are separated by commas; what a row is read without for them (enum job_without). -EINVAL: one
 * is none, err names it. */
int job_members(const char *names, uint64_t *ret, unsigned *ret_without, struct error *err);

/* Parts of it, and what belongs to jobs: new references. */
json_t *job_progress_to_json(const struct job_row *row);
json_t *job_counts_to_json(const struct job_counts *c);
json_t *job_event_to_json(const struct job_event_row *e);

/* Why a queued job is not running; null of others. New reference. */
json_t *waiting_to_json(const struct job_view *v);

/* dry_run.c: whether a submission is only to be checked; its answer, of what the daemon made of it. */
bool request_is_dry(struct request *r);
void jobs_checked(struct request *r);

/* Answers with a job as it is now; row: that is known already, else NULL. */
void answer_job(struct request *r, int64_t id, const struct job_row *row, unsigned status);
