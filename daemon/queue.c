#include "daemon/queue.h"

#include "base/array.h"

#include <errno.h>
#include <string.h>

/* Index of the first job whose id is not below. */
static size_t lower_bound(const struct queue *q, int64_t id)
{
        size_t lo = 0, hi = q->n;

        while (lo < hi) {
                size_t mid = (lo + hi) / 2;

                if (q->jobs[mid]->id < id)
                        lo = mid + 1;
                else
                        hi = mid;
        }
        return lo;
}

int queue_add(struct queue *q, struct job *j, struct error *err)
{
        size_t at;

        if (!array_grow(&q->jobs, q->n, &q->room, sizeof(struct job *)))
                return error_set(err, -ENOMEM, NULL, "no memory for a queue of more than %zu jobs", q->n);
        at = lower_bound(q, j->id);
        memmove(q->jobs + at + 1, q->jobs + at, (q->n - at) * sizeof(struct job *));
        q->jobs[at] = j;
        q->n++;
        return 0;
}

struct job *queue_find(const struct queue *q, int64_t id)
{
        size_t at = lower_bound(q, id);

        return at < q->n && q->jobs[at]->id == id ? q->jobs[at] : NULL;
}

struct job *queue_take(struct queue *q, int64_t id)
{
        size_t at = lower_bound(q, id);
        struct job *j;

        if (at == q->n || q->jobs[at]->id != id)
                return NULL;
        j = q->jobs[at];
        q->n--;
        memmove(q->jobs + at, q->jobs + at + 1, (q->n - at) * sizeof(struct job *));
        return j;
}

void queue_done(struct queue *q)
{
        for (size_t i = 0; i < q->n; i++)
                (void)job_free(q->jobs[i]);
        free(q->jobs);
        *q = (struct queue){0};
}
