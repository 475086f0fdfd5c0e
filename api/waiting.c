/* Why a queued job is not running: what holds it up, asked when somebody wants to know. The
 * checks are a table; the first that applies is the answer. */
#include "api/job_json.h"

#include "base/clock.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define POSITION_MAX 1000
#define BLOCKED_MAX CONTROL_DEVICES_MAX

struct waiting {
        char detail[240];
        int64_t blocked_by[BLOCKED_MAX];
        size_t n_blocked;
        int64_t before;      /* others that come before it in the queue */
        int64_t earliest_us; /* wall; 0: unknown */
};
_Static_assert(AFTER_MAX <= BLOCKED_MAX, "all of them");

static int64_t wall_of(int64_t monotonic_us)
{
        return clock_wall_us() + monotonic_us - clock_monotonic_us();
}

static bool disk_low(const struct job_view *v, struct waiting *w)
{
        (void)snprintf(w->detail, sizeof w->detail, "%s", v->status->disk_waiting);
        return v->status->disk_low;
}

static void describe_dependency(const struct job_view *v, int64_t id, struct waiting *w)
{
        struct job_row other;

        if (reader_job(v->reader, id, &other, NULL) < 0) {
                (void)snprintf(w->detail, sizeof w->detail, "job %lld was removed: it will never succeed",
                               (long long)id);
                return;
        }
        (void)snprintf(w->detail, sizeof w->detail,
                       other.state == JOB_FAILED || other.state == JOB_CANCELLED
                               ? "job %lld is %s: retry it, or cancel this one"
                               : "job %lld is %s: it is to succeed before",
                       (long long)id, job_state_names[other.state]);
        job_row_done(&other);
}

static bool dependency(const struct job_view *v, struct waiting *w)
{
        int64_t ids[AFTER_MAX];

        if (!v->row->unmet || reader_unmet(v->reader, v->row->id, ids, &w->n_blocked, NULL) < 0 || !w->n_blocked)
                return false;
        memcpy(w->blocked_by, ids, w->n_blocked * sizeof *ids);
        describe_dependency(v, ids[0], w);
        return true;
}

static bool retry(const struct job_view *v, struct waiting *w)
{
        int64_t until_us = v->control->rests(v->control, v->row->id, w->detail, sizeof w->detail);

        if (until_us <= clock_monotonic_us())
                return false;
        w->earliest_us = wall_of(until_us);
        if (!w->detail[0])
                (void)snprintf(w->detail, sizeof w->detail, "%s",
                               *v->row->moved_why ? v->row->moved_why : "it could not be started");
        return true;
}

static bool dataset(const struct job_view *v, struct waiting *w)
{
        struct dataset_row d;

        if (v->row->kind == JOB_IMPORT || reader_dataset(v->reader, v->row->dataset, &d, NULL) != -ENOENT)
                return false;
        (void)snprintf(w->detail, sizeof w->detail, "this server has no data set %s", v->row->dataset);
        return true;
}

static bool is_mine(const struct job_view *v, const struct control_device *d)
{
        return d->gpu == v->row->gpu;
}

static bool alike(const struct control_device *a, const struct control_device *b)
{
        return a->gpu == b->gpu && (!a->gpu || !strcmp(a->model, b->model));
}

/* How many are like that one; of several slots of a GPU one counts. in_service: of those that are. */
static int count_alike(const struct control_status *s, const struct control_device *like, bool in_service)
{
        const struct control_device *counted[CONTROL_DEVICES_MAX];
        int n = 0;

        for (size_t i = 0; i < s->n_devices; i++) {
                const struct control_device *d = &s->devices[i];
                int k = 0;

                if (!alike(like, d) || (in_service && d->out))
                        continue;
                while (k < n && (!d->gpu || !d->uuid[0] || strcmp(counted[k]->uuid, d->uuid) != 0))
                        k++;
                if (k == n)
                        counted[n++] = d;
        }
        return n;
}

/* The most of its devices that are alike; in_service: of those that are. */
static int most_alike(const struct job_view *v, bool in_service)
{
        const struct control_status *s = v->status;
        int most = 0;

        for (size_t i = 0; i < s->n_devices; i++)
                if (is_mine(v, &s->devices[i]))
                        most = MAX(most, count_alike(s, &s->devices[i], in_service));
        return most;
}

static bool device_constraint(const struct job_view *v, struct waiting *w)
{
        int n = most_alike(v, false), want = (int)v->row->devices;

        if (n)
                (void)snprintf(w->detail, sizeof w->detail,
                               "it runs on %d devices at once (machine.devices), this server has %d of its kind", want,
                               n);
        else
                (void)snprintf(w->detail, sizeof w->detail, "this server has no %s",
                               v->row->gpu ? "GPU" : "device on the processor");
        return n < want;
}

static void blocked_by_one(struct waiting *w, int64_t job)
{
        for (size_t i = 0; i < w->n_blocked; i++)
                if (w->blocked_by[i] == job)
                        return;
        w->blocked_by[w->n_blocked++] = job;
}

/* Its owner's other jobs have what he may have. */
static bool quota(const struct job_view *v, struct waiting *w)
{
        int64_t most = v->status->devices_per_owner, n = 0;

        for (size_t i = 0; i < v->status->n_devices && v->row->owner[0]; i++) {
                const struct control_device *d = &v->status->devices[i];

                if (!d->job || d->job == v->row->id || strcmp(d->owner, v->row->owner) != 0)
                        continue;
                n++;
                blocked_by_one(w, d->job);
        }
        if (!most || !v->row->owner[0] || n + v->row->devices <= most)
                return false;
        (void)snprintf(w->detail, sizeof w->detail,
                       "%s may have %lld %s at once: jobs of that owner have %lld, this one takes %lld", v->row->owner,
                       (long long)most, most == 1 ? "device" : "devices", (long long)n, (long long)v->row->devices);
        return true;
}

static bool drained(const struct job_view *v, struct waiting *w)
{
        int n = most_alike(v, true), want = (int)v->row->devices;

        if (n)
                (void)snprintf(w->detail, sizeof w->detail,
                               "%d of the %d devices that it runs on at once are in service", n, want);
        else
                (void)snprintf(w->detail, sizeof w->detail, "every device that it could run on is out of service");
        return n < want;
}

/* Something is free, and held for one before it that wants more. */
static bool reservation(const struct job_view *v, struct waiting *w)
{
        const struct control_reservation *held = &v->status->reserved[v->row->gpu];
        bool some_free = false;

        for (size_t i = 0; i < v->status->n_devices; i++)
                some_free |= is_mine(v, &v->status->devices[i]) &&
                             control_device_is_free(&v->status->devices[i], clock_monotonic_us());
        if (!held->job || held->job == v->row->id || !some_free)
                return false;
        w->blocked_by[w->n_blocked++] = held->job;
        (void)snprintf(
                w->detail, sizeof w->detail,
                "what is free is held for job %lld, which wants several devices; it would have to be over before "
                "that has them",
                (long long)held->job);
        return true;
}

static bool priority(const struct job_view *v, struct waiting *w)
{
        if (reader_ready_before(v->reader, v->row, POSITION_MAX, &w->before, NULL) < 0 || !w->before ||
            reader_ready_first(v->reader, v->row->gpu, &w->blocked_by[0], NULL) < 0)
                return false;
        w->n_blocked = 1;
        (void)snprintf(w->detail, sizeof w->detail, "%s%lld %s before it in the queue",
                       w->before == POSITION_MAX ? "more than " : "", (long long)w->before,
                       w->before == 1 ? "job is" : "jobs are");
        return true;
}

/* A job that runs on several devices is one. The job itself may have been given some since its row was read. */
static void blocked_by_runners(const struct job_view *v, struct waiting *w)
{
        for (size_t i = 0; i < v->status->n_devices; i++) {
                int64_t job = v->status->devices[i].job;

                if (is_mine(v, &v->status->devices[i]) && job && job != v->row->id)
                        blocked_by_one(w, job);
        }
}

static bool too_little_memory(const struct job_view *v, struct waiting *w)
{
        int64_t used = 0, total = INT64_MAX;
        bool some_free = false;

        for (size_t i = 0; !v->row->gpu && i < v->status->n_devices; i++) {
                const struct control_device *d = &v->status->devices[i];

                if (d->gpu)
                        continue;
                used += d->job_bytes;
                total = d->memory_bytes;
                some_free |= control_device_is_free(d, clock_monotonic_us());
        }
        if (!some_free || !used || v->row->memory_bytes <= total - used)
                return false;
        blocked_by_runners(v, w);
        (void)snprintf(w->detail, sizeof w->detail, "it needs %.1f GiB beside jobs that need %.1f of %.1f GiB",
                       (double)v->row->memory_bytes / 0x1p30, (double)used / 0x1p30, (double)total / 0x1p30);
        return true;
}

static bool device_rests(const struct job_view *v, struct waiting *w)
{
        int64_t now_us = clock_monotonic_us(), until_us = INT64_MAX;

        for (size_t i = 0; i < v->status->n_devices; i++) {
                const struct control_device *d = &v->status->devices[i];

                if (!is_mine(v, d) || d->job || d->out || d->suspect || d->n_others)
                        continue;
                if (d->rests_until_us <= now_us)
                        return false;
                until_us = MIN(until_us, d->rests_until_us);
        }
        if (until_us == INT64_MAX)
                return false;
        w->earliest_us = wall_of(until_us);
        (void)snprintf(w->detail, sizeof w->detail, "after a failure that was the host's or the device's");
        return true;
}

/* When a running job says that it will be over; 0: it does not. */
static int64_t end_of(const struct job_view *v, int64_t id)
{
        struct job_row other;
        int64_t end_us = 0;

        if (reader_job(v->reader, id, &other, NULL) < 0)
                return 0;
        if (isfinite(other.seconds_left) && other.seconds_left < 1e9)
                end_us = clock_wall_us() + (int64_t)(other.seconds_left * 1e6);
        job_row_done(&other);
        return end_us;
}

/* What keeps a device from being used, though no job runs there; the first of them. */
static const char *hindrance(const struct job_view *v, char *ret, size_t size)
{
        for (size_t i = 0; i < v->status->n_devices; i++) {
                const struct control_device *d = &v->status->devices[i];

                if (!is_mine(v, d) || d->out || d->job)
                        continue;
                if (d->suspect)
                        (void)snprintf(ret, size, "%s: %s", d->name, d->why);
                else if (d->n_others)
                        (void)snprintf(ret, size, "%s is occupied by process %lld%s%s", d->name,
                                       (long long)d->others[0].pid, d->others[0].user[0] ? " of user " : "",
                                       d->others[0].user);
                else
                        continue;
                return ret;
        }
        return NULL;
}

static bool no_free_device(const struct job_view *v, struct waiting *w)
{
        int n = (int)v->row->devices;
        char text[200];
        const char *why = hindrance(v, text, sizeof text);

        blocked_by_runners(v, w);
        for (size_t i = 0; i < w->n_blocked; i++) {
                int64_t end_us = end_of(v, w->blocked_by[i]);

                if (end_us && (!w->earliest_us || end_us < w->earliest_us))
                        w->earliest_us = end_us;
        }
        (void)snprintf(w->detail, sizeof w->detail, "%s",
                       w->n_blocked ? "it is the next, as soon as a device is free" : "it is about to start");
        if (n > 1 && v->status->reserved[v->row->gpu].job == v->row->id &&
            v->status->reserved[v->row->gpu].from_us < INT64_MAX)
                w->earliest_us = wall_of(v->status->reserved[v->row->gpu].from_us);
        if (w->n_blocked && n > 1)
                (void)snprintf(w->detail, sizeof w->detail,
                               "it is the next, as soon as %d devices are free; those that are, are held for it", n);
        else if (why)
                (void)snprintf(w->detail, sizeof w->detail, "%s%s", w->n_blocked ? "it is the next; " : "", why);
        return true;
}

static const struct {
        const char *reason;
        bool (*applies)(const struct job_view *v, struct waiting *w);
} checks[] = {
#define C(name)                                                                                                        \
        {                                                                                                              \
#name, name                                                                                            \
        }
        C(disk_low), C(dependency),  C(retry),    C(dataset),           C(device_constraint), C(drained),
        C(quota),    C(reservation), C(priority), C(too_little_memory), C(device_rests),      C(no_free_device),
#undef C
};

json_t *waiting_to_json(const struct job_view *v)
{
        struct waiting w = {0};
        json_t *blocked_by;
        size_t i = 0;
        bool in_line;

        if (v->row->state != JOB_QUEUED)
                return json_null();
        while (i < ARRAY_LEN(checks) - 1 && !checks[i].applies(v, &w))
                w = (struct waiting){0}, i++;
        if (i == ARRAY_LEN(checks) - 1)
                (void)checks[i].applies(v, &w); /* the last always does */
        in_line = !v->row->unmet &&
                  (w.before || reader_ready_before(v->reader, v->row, POSITION_MAX, &w.before, NULL) >= 0) &&
                  w.before < POSITION_MAX;
        blocked_by = json_array();
        for (size_t k = 0; k < w.n_blocked; k++)
                (void)json_array_append_new(blocked_by, json_integer(w.blocked_by[k]));
        return json_pack("{s:s, s:s, s:o, s:o, s:o}", "reason", checks[i].reason, "detail", w.detail, "blocked_by",
                         blocked_by, "position", in_line ? json_integer(w.before + 1) : json_null(), "earliest_start",
                         json_from_time(w.earliest_us));
}
