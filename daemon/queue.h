/* The jobs that are not over, by id, which is the order of their submission. */
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
