#include "worker/reporter.h"

#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <string.h>

#define ROWS_MAX 256
#define COLUMNS_MAX 16
#define FLUSH_US (200 * US_PER_MS)
#define PROGRESS_US (500 * US_PER_MS)

struct reporter {
        struct channel *channel;
        bool stop;
        /* the batch of scalars */
        int64_t row_step[ROWS_MAX], row_time_ms[ROWS_MAX], oldest_us;
        const char *column[COLUMNS_MAX]; /* static names */
        double value[COLUMNS_MAX][ROWS_MAX];
        size_t n_rows, n_columns;
        /* progress */
        struct event progress;
        bool progress_due;
        int64_t progress_us;
};

static volatile sig_atomic_t terminated;

static void on_terminate(int signal)
{
        (void)signal;
        terminated = 1;
}

int reporter_new(const struct assignment *a, enum channel_part part, struct reporter **ret, struct error *err)
{
        _cleanup_(reporter_freep) struct reporter *r = calloc(1, sizeof *r);
        struct sigaction action = {.sa_handler = a ? on_terminate : SIG_IGN, .sa_flags = SA_RESTART};
        int e;

        if (!r)
                return error_set(err, -ENOMEM, NULL, "no memory for the reporter");
        e = a ? channel_open(a, part, &r->channel, err) : 0;
        if (e < 0)
                return e;
        (void)sigaction(SIGTERM, &action, NULL);
        (void)sigaction(SIGINT, &action, NULL);
        *ret = TAKE_PTR(r);
        return 0;
}

struct reporter *reporter_free(struct reporter *r)
{
        if (!r)
                return NULL;
        (void)channel_close(r->channel);
        free(r);
        return NULL;
}

static int send_now(struct reporter *r, struct event *e, bool sync, struct error *err)
{
        return r->channel ? channel_send(r->channel, e, sync, err) : 0;
}

static int flush_scalars(struct reporter *r, struct error *err)
{
        struct event e = {.type = EVENT_SCALARS, .n_rows = r->n_rows, .n_columns = r->n_columns};
        int result;

        if (!r->n_rows)
                return 0;
        e.row_step = r->row_step;
        e.row_time_ms = r->row_time_ms;
        for (size_t i = 0; i < r->n_columns; i++) {
                e.column_name[i] = (char *)r->column[i];
                e.column[i] = r->value[i];
        }
        result = send_now(r, &e, false, err);
        if (result >= 0)
                r->n_rows = r->n_columns = 0;
        return result;
}

static int send_event(struct reporter *r, struct event *e, bool sync, struct error *err)
{
        int result = flush_scalars(r, err);

        return result < 0 ? result : send_now(r, e, sync, err);
}

int reporter_start(struct reporter *r, int64_t step, int64_t steps, int64_t memory_bytes, int64_t parameters,
                   const char *backend, int threads, struct error *err)
{
        struct event e = {.type = EVENT_START,
                          .step = step,
                          .steps = steps,
                          .memory_bytes = memory_bytes,
                          .parameters = parameters,
                          .backend = (char *)backend,
                          .threads = threads};

        return send_event(r, &e, false, err);
}

/* A batch has every column in every row: a row of another set of columns begins another batch. */
int reporter_scalar(struct reporter *r, int64_t step, const char *name, double value, struct error *err)
{
        size_t row = r->n_rows, column = 0;
        int result;

        while (column < r->n_columns && strcmp(r->column[column], name))
                column++;
        if (row && r->row_step[row - 1] == step && row == 1 && column == r->n_columns && column < COLUMNS_MAX) {
                r->column[r->n_columns++] = name; /* the first row is still growing */
                r->value[column][0] = value;
                return 0;
        }
        if (row && r->row_step[row - 1] == step && column < r->n_columns && column > 0) {
                r->value[column][row - 1] = value; /* the next column of the row that began with column 0 */
                return 0;
        }
        if (row == ROWS_MAX || (row && column != 0)) {
                result = flush_scalars(r, err);
                if (result < 0)
                        return result;
                row = column = 0;
        }
        if (!row) {
                r->oldest_us = clock_monotonic_us();
                r->column[0] = name;
                r->n_columns = 1;
        }
        r->row_step[row] = step;
        r->row_time_ms[row] = clock_wall_us() / US_PER_MS;
        r->value[0][row] = value;
        r->n_rows = row + 1;
        return 0;
}

int reporter_points(struct reporter *r, const char *name, size_t n, const int64_t *steps, const int64_t *times_ms,
                    const double *values, struct error *err)
{
        struct event e = {.type = EVENT_SCALARS,
                          .n_rows = n,
                          .n_columns = 1,
                          .row_step = (int64_t *)steps,
                          .row_time_ms = (int64_t *)times_ms,
                          .column_name[0] = (char *)name,
                          .column[0] = (double *)values};

        return send_event(r, &e, false, err);
}

void reporter_progress(struct reporter *r, int64_t step, int64_t steps, double images_per_second, double seconds_left)
{
        r->progress = (struct event){.type = EVENT_PROGRESS,
                                     .step = step,
                                     .steps = steps,
                                     .images_per_second = images_per_second,
                                     .seconds_left = seconds_left};
        r->progress_due = true;
}

static int send_progress(struct reporter *r, struct error *err)
{
        struct event e = r->progress;

        if (!r->progress_due)
                return 0;
        r->progress_due = false;
        r->progress_us = clock_monotonic_us();
        return send_event(r, &e, false, err);
}

int reporter_artifact(struct reporter *r, enum artifact_kind kind, int64_t step, const char *name, int64_t bytes,
                      const char *digest, double metric, struct error *err)
{
        struct event e = {.type = EVENT_ARTIFACT,
                          .kind = kind,
                          .step = step,
                          .name = (char *)name,
                          .bytes = bytes,
                          .metric = metric};

        (void)strncpy(e.digest, digest, sizeof e.digest - 1);
        return send_event(r, &e, true, err);
}

int reporter_done(struct reporter *r, const json_t *result, struct error *err)
{
        struct event e = {.type = EVENT_DONE, .result = (json_t *)result};
        int x = send_progress(r, err);

        return x < 0 ? x : send_event(r, &e, true, err);
}

int reporter_stopped(struct reporter *r, int64_t step, struct error *err)
{
        struct event e = {.type = EVENT_STOPPED, .step = step};
        int x = send_progress(r, err);

        return x < 0 ? x : send_event(r, &e, true, err);
}

enum error_class reporter_class(int code)
{
        switch (code) {
        case -EDOM:
                return ERROR_NUMERIC;
        case -ENOMEM:
                return ERROR_MEMORY;
        case REPORTER_DATA:
                return ERROR_DATA;
        case -ENODEV: /* there is none, or it has failed */
                return ERROR_DEVICE;
        case -EBADMSG: /* data or checkpoints that are there and are not what they should be */
        case -EINVAL:
        case -ENOTSUP:
                return ERROR_CONFIGURATION;
        default:
                return ERROR_HOST;
        }
}

int reporter_error(struct reporter *r, enum error_class class, const char *detail, int64_t step, struct error *err)
{
        struct event e = {.type = EVENT_ERROR, .error_class = class, .detail = (char *)detail, .step = step};

        return send_event(r, &e, true, err);
}

int reporter_poll(struct reporter *r, bool *ret_checkpoint, struct error *err)
{
        struct channel_commands commands = {0};
        int64_t now = clock_monotonic_us();
        int result = 0;

        if (r->n_rows && now - r->oldest_us >= FLUSH_US)
                result = flush_scalars(r, err);
        if (result >= 0 && now - r->progress_us >= PROGRESS_US)
                result = send_progress(r, err);
        if (result >= 0 && r->channel)
                result = channel_poll(r->channel, 0, &commands, err);
        r->stop |= commands.stop || terminated;
        if (ret_checkpoint)
                *ret_checkpoint |= commands.checkpoint;
        return result;
}

bool reporter_stopping(const struct reporter *r)
{
        return r->stop || terminated;
}

void reporter_drain(struct reporter *r, int timeout_ms)
{
        /* what is not acknowledged in time is in the spool, where the daemon finds it */
        if (r->channel)
                (void)channel_drain(r->channel, timeout_ms, NULL);
}
