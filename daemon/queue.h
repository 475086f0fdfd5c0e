/* The jobs with which something is going on, by id. It is changed under the daemon's control_lock, since HTTP threads
 * look for one in it. */
#pragma once

#include "daemon/job.h"

struct queue {
        struct job **jobs;
        size_t n, room;
};

/* Takes the job. */
int queue_add(struct queue *q, struct job *j, struct error *err);
struct job *queue_find(const struct queue *q, int64_t id);
/* Hands it back. */
struct job *queue_take(struct queue *q, int64_t id);
void queue_done(struct queue *q); /* frees the jobs too */
