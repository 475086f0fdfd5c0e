/* What a task tells the daemon: scalars gathered into batches, progress at most twice a second, files with their
 * digests. It also knows whether a stop was asked for, by the daemon or by SIGTERM. */
#pragma once

#include "worker/channel.h"

struct reporter;

/* Opens the channel of the assignment, which is borrowed; NULL: of a rank that is not the first, which says nothing and
 * is asked nothing. */
int reporter_new(const struct assignment *a, enum channel_part part, struct reporter **ret, struct error *err);
struct reporter *reporter_free(struct reporter *r);

int reporter_start(struct reporter *r, int64_t step, int64_t steps, int64_t memory_bytes, int64_t parameters,
                   const char *backend, int threads, struct error *err);

/* One value of a series at a step, now. Rows of equal step and time go into one batch; it is sent by the next poll that
 * finds it old or full, and before any other event. */
int reporter_scalar(struct reporter *r, int64_t step, const char *name, double value, struct error *err);

/* Points of one series that another program logged, with their own times, as an event of their own; at most
 * EVENT_ROWS_MAX. */
int reporter_points(struct reporter *r, const char *name, size_t n, const int64_t *steps, const int64_t *times_ms,
                    const double *values, struct error *err);

/* Remembers the newest progress; sent at most every 500 ms. NAN where a rate is not known. */
void reporter_progress(struct reporter *r, int64_t step, int64_t steps, double images_per_second, double seconds_left);

int reporter_artifact(struct reporter *r, enum artifact_kind kind, int64_t step, const char *name, int64_t bytes,
                      const char *digest, double metric, struct error *err);

/* The outcome: one of these, last. result is borrowed, or NULL. */
int reporter_done(struct reporter *r, const json_t *result, struct error *err);
int reporter_stopped(struct reporter *r, int64_t step, struct error *err);
int reporter_error(struct reporter *r, enum error_class class, const char *detail, int64_t step, struct error *err);
/* The code of what is wrong with data, not with the machine. No system call has it: ESTALE, which would read so well,
 * is what files on a server say that was started anew. */
#define REPORTER_DATA (-ECHRNG)

/* The class of a task's failure, by its negative errno. */
enum error_class reporter_class(int code);

/* Sends what is due and takes commands. *ret_checkpoint: one was asked for since the last call. */
int reporter_poll(struct reporter *r, bool *ret_checkpoint, struct error *err);
bool reporter_stopping(const struct reporter *r);

/* Waits for the daemon's acknowledgement of everything, at most timeout_ms. */
void reporter_drain(struct reporter *r, int timeout_ms);

DEFINE_CLEANUP(struct reporter *, reporter_free);
