/* The API over a real store, with a control that writes jobs straight into it and fails or waits when told.
 *
 *   test_server STATE WEB CONFIGS [THREADS [PORT [IDLE_MS [RATE]]]]
 *
 * RATE: tokens are needed, and may ask so many times a second (0: as they like); without it there is a single user.
 *
 * prints {"port": N}, then takes commands, a JSON object a line, on stdin and answers each with one:
 *   {"do": "fail", "code": 28, "text": "..", "pointer": ".."}   the next control call fails with -code
 *   {"do": "hold"}  {"do": "release"}                           control calls wait for the release
 *   {"do": "dataset", "name": "..", "train": N, "test": N}
 *   {"do": "start", "job": N}                                   -> {"attempt": N}; the job runs
 *   {"do": "events", "attempt": N, "job": N, "lines": [{..}]}   the worker's events
 *   {"do": "end", "job": N, "state": "succeeded", "result": {..} or "error": {..} or "detail": ".."}
 *   {"do": "disk", "low": "why" or ""}                          what the daemon says of its disk
 *   {"do": "log"}                                               -> {"lines": [..]}; the request log since it was asked
 *   {"do": "rss"}                                               -> {"kib": N, "max_kib": N}
 * End of input ends it. */
#include "api/server.h"
#include "base/clock.h"
#include "contract/config.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

struct held {
        struct held *next;
        control_done *done;
        void *user;
};

struct fake {
        struct control control;
        struct store *store;
        pthread_mutex_t lock;
        struct reader *reader;
        int fail_code;
        char fail_text[200], fail_pointer[160];
        bool hold, stopped;
        json_t *log;
        struct control_status status;
        int64_t resting_job;
        struct held *held;
};

static void answer(control_done *done, void *user, int r, int64_t id, enum job_state state, const char *pointer,
                   const char *text)
{
        struct errors errs = {0};

        if (text && *text)
                (void)errors_add(&errs, r, pointer, "%s", text);
        done(user, &(struct control_answer){.r = r, .id = id, .state = state, .errs = &errs});
}

/* Whether the call was dealt with: failed or held. */
static bool intercepted(struct fake *f, control_done *done, void *user)
{
        char text[200], pointer[160];
        int code;

        (void)pthread_mutex_lock(&f->lock);
        if (f->hold) {
                struct held *h = calloc(1, sizeof *h);

                *h = (struct held){.next = f->held, .done = done, .user = user};
                f->held = h;
                (void)pthread_mutex_unlock(&f->lock);
                return true;
        }
        code = f->fail_code;
        f->fail_code = 0;
        memcpy(text, f->fail_text, sizeof text);
        memcpy(pointer, f->fail_pointer, sizeof pointer);
        (void)pthread_mutex_unlock(&f->lock);
        if (code)
                answer(done, user, -code, 0, JOB_RUNNING, pointer, text);
        return code != 0;
}

struct call {
        control_done *done;
        void *user;
        int64_t id;
};

static void written(struct write *w, int r, const struct error *err)
{
        struct call *call = w->user;
        struct errors errs = {0};
        struct control_answer a = {
                .r = r, .id = call->id ? call->id : w->ret_id, .changed = w->ret_number, .errs = &errs};

        if (r < 0)
                (void)errors_add(&errs, r, "", "%s", err->text);
        else if (w->kind == WRITE_JOB_NEW && w->row.id)
                a.job = &w->row;
        call->done(call->user, &a);
        free(call);
}

static void submit_write(struct fake *f, const struct audit_row *by, struct write *w, int64_t id, control_done *done,
                         void *user)
{
        struct call *call = calloc(1, sizeof *call);

        *call = (struct call){.done = done, .user = user, .id = id};
        w->job = id;
        w->audit = *by;
        w->done = written;
        w->user = call;
        w->time_us = clock_wall_us();
        store_submit(f->store, w);
}

static int read_job(struct fake *f, int64_t id, struct job_row *ret)
{
        struct error err;
        int r;

        (void)pthread_mutex_lock(&f->lock);
        r = reader_job(f->reader, id, ret, &err);
        (void)pthread_mutex_unlock(&f->lock);
        return r;
}

static void fake_submit(struct control *control, const struct audit_row *by, struct submission *s, control_done *done,
                        void *user)
{
        struct fake *f = (struct fake *)control;
        struct write *w;
        struct job_row source = {0};
        _cleanup_json_ json_t *whole = NULL;
        _cleanup_(freep) char *text = NULL;
        struct config c;
        struct errors errs = {0};
        struct error err;
        const char *path;
        json_t *v;

        if (intercepted(f, done, user)) {
                (void)submission_free(s);
                return;
        }
        if (s->source_job && read_job(f, s->source_job, &source) < 0) {
                answer(done, user, -ENOENT, 0, JOB_QUEUED, s->kind == JOB_TRAIN ? "/start_from/job" : "/checkpoint/job",
                       "there is no such job");
                (void)submission_free(s);
                return;
        }
        w = write_new(WRITE_JOB_NEW);
        w->row = (struct job_row){.kind = s->kind,
                                  .name = TAKE_PTR(s->name),
                                  .config_name = TAKE_PTR(s->config_name),
                                  .tags = TAKE_PTR(s->tags),
                                  .notes = TAKE_PTR(s->notes),
                                  .priority = s->priority,
                                  .limits = s->limits,
                                  .n_after = s->n_after,
                                  .import = TAKE_PTR(s->import),
                                  .config = s->source_job ? json_deep_copy(source.config) : TAKE_PTR(s->config),
                                  .accept_changed_data = s->accept_changed_data,
                                  .source_job = s->source_job,
                                  .source_step = MAX(s->source_step, 0),
                                  .created_us = clock_wall_us(),
                                  .images_per_second = __builtin_nan(""),
                                  .seconds_left = __builtin_nan("")};
        memcpy(w->row.after, s->after, sizeof s->after);
        w->key = s->key;
        json_object_foreach(s->overrides, path, v)
        {
                (void)config_override(w->row.config, path, v, &errs);
        }
        if (s->dry) {
                w->row.memory_bytes = 1000;
                w->row.steps = 100;
                done(user, &(struct control_answer){.job = &w->row, .errs = &errs});
                job_row_done(&source);
                (void)write_free(w);
                (void)submission_free(s);
                return;
        }
        if (s->kind == JOB_IMPORT) {
                (void)submission_free(s);
                submit_write(f, by, w, 0, done, user);
                return;
        }
        text = json_to_text(w->row.config);
        if (json_parse(text, strlen(text), &whole, &err) < 0 || config_from_json(whole, &c, &errs) < 0)
                abort(); /* what the API let through is a valid configuration */
        w->row.steps = c.num_steps_train;
        (void)snprintf(w->row.dataset, sizeof w->row.dataset, "%s", c.dataset);
        job_row_done(&source);
        (void)submission_free(s);
        if (!strcmp(c.dataset, "no-such")) {
                (void)write_free(w);
                answer(done, user, -EINVAL, 0, JOB_QUEUED, "/data/dataset", "this server has no such data set");
                return;
        }
        submit_write(f, by, w, 0, done, user);
}

/* Whether the job is there; the state is its. Answered if not. */
static bool find(struct fake *f, int64_t job, enum job_state *ret_state, enum job_kind *ret_kind, control_done *done,
                 void *user)
{
        struct job_row row;

        if (intercepted(f, done, user))
                return false;
        if (read_job(f, job, &row) < 0) {
                answer(done, user, -ENOENT, 0, JOB_QUEUED, "", "there is no such job");
                return false;
        }
        *ret_state = row.state;
        *ret_kind = row.kind;
        job_row_done(&row);
        return true;
}

static void fake_halt(struct control *control, const struct audit_row *by, int64_t job, enum stop_reason reason,
                      control_done *done, void *user)
{
        struct fake *f = (struct fake *)control;
        enum job_state state;
        enum job_kind kind;
        struct write *w;

        if (!find(f, job, &state, &kind, done, user))
                return;
        if (job_state_is_final(state)) {
                answer(done, user, -EBUSY, 0, state, "", NULL);
                return;
        }
        w = write_new(state == JOB_RUNNING ? WRITE_JOB_STOP : WRITE_JOB_TRANSITION);
        w->from = state;
        w->to = reason == STOP_CANCEL ? JOB_CANCELLED : JOB_PAUSED;
        w->trigger = state == JOB_RUNNING ? NULL : stop_reason_names[reason];
        w->row.stop_requested = reason;
        w->row.ended_us = reason == STOP_CANCEL ? clock_wall_us() : 0;
        submit_write(f, by, w, job, done, user);
}

static void fake_halt_many(struct control *control, const struct audit_row *by, const int64_t *ids, size_t n,
                           enum stop_reason reason, control_done *done, void *user)
{
        struct fake *f = (struct fake *)control;
        struct write *w;

        if (intercepted(f, done, user))
                return;
        w = write_new(WRITE_JOBS_MOVE);
        w->ids = malloc(n * sizeof *ids);
        memcpy(w->ids, ids, n * sizeof *ids);
        w->n_ids = n;
        w->to = reason == STOP_PAUSE ? JOB_PAUSED : JOB_CANCELLED;
        w->trigger = reason == STOP_PAUSE ? "pause" : "cancel";
        submit_write(f, by, w, 0, done, user);
}

static void fake_change(struct control *control, const struct audit_row *by, int64_t job, struct changing *what,
                        control_done *done, void *user)
{
        struct fake *f = (struct fake *)control;
        struct write *w = write_new(WRITE_JOB_SET);

        w->change = what->change;
        w->row.version = what->version;
        w->row.name = TAKE_PTR(what->name);
        w->row.notes = TAKE_PTR(what->notes);
        w->row.tags = TAKE_PTR(what->tags);
        w->row.priority = what->priority;
        w->row.limits = what->limits;
        submit_write(f, by, w, job, done, user);
}

static void fake_change_checkpoint(struct control *control, const struct audit_row *by,
                                   const struct checkpoint_changing *what, control_done *done, void *user)
{
        struct fake *f = (struct fake *)control;
        struct write *w;

        if (intercepted(f, done, user))
                return;
        w = write_new(WRITE_ARTIFACT_SET);
        w->artifact = what->artifact;
        w->change = what->change;
        w->artifact_row.pinned = what->pinned;
        w->artifact_row.failed_starts = what->bad ? FAILED_STARTS_BAD : 0;
        submit_write(f, by, w, what->job, done, user);
}

static void fake_reopen(struct control *control, const struct audit_row *by, int64_t job, const struct reopening *how,
                        control_done *done, void *user)
{
        int64_t steps = how->steps;
        struct fake *f = (struct fake *)control;
        enum job_state state;
        enum job_kind kind;
        struct job_row row;
        struct write *w;

        if (!find(f, job, &state, &kind, done, user))
                return;
        if (how->retry ? state != JOB_FAILED && state != JOB_CANCELLED
                       : state != JOB_PAUSED && (!job_state_is_final(state) || kind != JOB_TRAIN)) {
                answer(done, user, -EBUSY, 0, state, "", "only a training job that is over goes on");
                return;
        }
        if (read_job(f, job, &row) < 0)
                abort();
        if (steps && steps <= row.step) {
                job_row_done(&row);
                answer(done, user, -EINVAL, 0, state, "/steps", "is not above the last checkpoint's step");
                return;
        }
        w = write_new(WRITE_JOB_REOPEN);
        w->from = state;
        w->row.accept_changed_data = how->accept_changed_data;
        w->change = how->change;
        w->row.limits = how->limits;
        w->row.steps = steps ? steps : row.steps;
        w->row.config = json_deep_copy(row.config);
        (void)json_object_set_new(json_object_get(w->row.config, "training"), "num_steps_train",
                                  json_integer(w->row.steps));
        job_row_done(&row);
        submit_write(f, by, w, job, done, user);
}

static void fake_remove(struct control *control, const struct audit_row *by, int64_t job, control_done *done,
                        void *user)
{
        struct fake *f = (struct fake *)control;
        enum job_state state;
        enum job_kind kind;

        if (!find(f, job, &state, &kind, done, user))
                return;
        if (!job_state_is_final(state)) {
                answer(done, user, -EBUSY, 0, state, "", NULL);
                return;
        }
        submit_write(f, by, write_new(WRITE_JOB_REMOVE), job, done, user);
}

static void fake_remove_dataset(struct control *control, const struct audit_row *by, const char *name,
                                control_done *done, void *user)
{
        struct fake *f = (struct fake *)control;
        struct write *w;

        if (intercepted(f, done, user))
                return;
        w = write_new(WRITE_DATASET_REMOVE);
        (void)snprintf(w->dataset.name, sizeof w->dataset.name, "%s", name);
        submit_write(f, by, w, 0, done, user);
}

static void fake_service(struct control *control, const struct audit_row *by _unused_, const char *name, bool out,
                         bool preempt _unused_, control_done *done, void *user)
{
        struct fake *f = (struct fake *)control;
        bool found;

        if (intercepted(f, done, user))
                return;
        (void)pthread_mutex_lock(&f->lock);
        found = !strcmp(f->status.devices[0].name, name);
        if (found)
                f->status.devices[0].out = out;
        (void)pthread_mutex_unlock(&f->lock);
        answer(done, user, found ? 0 : -ENOENT, 0, JOB_QUEUED, "", found ? NULL : "there is no such device");
}

static void fake_token(struct control *control, const struct audit_row *by, const struct token_row *t, bool remove,
                       control_done *done, void *user)
{
        struct fake *f = (struct fake *)control;
        struct write *w;

        if (intercepted(f, done, user))
                return;
        w = write_new(WRITE_TOKEN);
        w->token = *t;
        w->out = remove;
        submit_write(f, by, w, 0, done, user);
}

static void fake_session(struct control *control, const struct audit_row *by, const struct session_row *s, bool end,
                         control_done *done, void *user)
{
        struct fake *f = (struct fake *)control;
        struct write *w;

        if (intercepted(f, done, user))
                return;
        w = write_new(WRITE_SESSION);
        w->session = *s;
        w->out = end;
        submit_write(f, by, w, 0, done, user);
}

static void fake_webhook_send(struct control *control, const struct audit_row *by _unused_, const char *name,
                              int64_t event _unused_, control_done *done, void *user)
{
        bool found = !strcmp(name, "lab");

        if (!intercepted((struct fake *)control, done, user))
                answer(done, user, found ? 0 : -ENOENT, 0, JOB_QUEUED, "", found ? NULL : "there is no such webhook");
}

static size_t fake_webhooks(struct control *control _unused_, struct control_webhook ret[CONTROL_WEBHOOKS_MAX])
{
        ret[0] = (struct control_webhook){.name = "lab", .url = "http://127.0.0.1:1/", .failed = 2, .next_us = 1000000};
        return 1;
}

static void fake_backup(struct control *control, const struct audit_row *by _unused_, const char *name _unused_,
                        control_done *done, void *user)
{
        if (!intercepted((struct fake *)control, done, user))
                answer(done, user, 0, 0, JOB_QUEUED, "", NULL);
}

static void fake_stop(struct control *control, const struct audit_row *by _unused_, control_done *done, void *user)
{
        struct fake *f = (struct fake *)control;

        if (intercepted(f, done, user))
                return;
        f->stopped = true;
        answer(done, user, 0, 0, JOB_QUEUED, "", NULL);
}

static void fake_status(struct control *control, struct control_status *ret)
{
        struct fake *f = (struct fake *)control;

        (void)pthread_mutex_lock(&f->lock);
        *ret = f->status;
        (void)pthread_mutex_unlock(&f->lock);
}

static void fake_log(struct control *control, const char *line)
{
        struct fake *f = (struct fake *)control;

        (void)pthread_mutex_lock(&f->lock);
        (void)json_array_append_new(f->log, json_string(line));
        (void)pthread_mutex_unlock(&f->lock);
}

static int64_t fake_rests(struct control *control, int64_t job, char *ret_why, size_t size _unused_)
{
        struct fake *f = (struct fake *)control;
        int64_t until_us;

        (void)pthread_mutex_lock(&f->lock);
        ret_why[0] = 0;
        until_us = f->resting_job == job ? clock_monotonic_us() + 3600 * US_PER_S : 0;
        (void)pthread_mutex_unlock(&f->lock);
        return until_us;
}

/* ---- commands */

static int64_t int_of(const json_t *o, const char *key)
{
        return json_integer_value(json_object_get(o, key));
}

static const char *text_of(const json_t *o, const char *key)
{
        const char *s = json_string_value(json_object_get(o, key));

        return s ? s : "";
}

static json_t *ok_or(int r, const struct error *err)
{
        return r < 0 ? json_pack("{s:s}", "error", err->text) : json_pack("{s:b}", "ok", 1);
}

static json_t *do_fail(struct fake *f, const json_t *o)
{
        (void)pthread_mutex_lock(&f->lock);
        f->fail_code = (int)int_of(o, "code");
        (void)snprintf(f->fail_text, sizeof f->fail_text, "%s", text_of(o, "text"));
        (void)snprintf(f->fail_pointer, sizeof f->fail_pointer, "%s", text_of(o, "pointer"));
        (void)pthread_mutex_unlock(&f->lock);
        return json_pack("{s:b}", "ok", 1);
}

static json_t *do_disk(struct fake *f, const json_t *o)
{
        (void)pthread_mutex_lock(&f->lock);
        f->status =
                (struct control_status){.disk_low = *text_of(o, "low"), .disk_free_bytes = 5, .disk_reserve_bytes = 7};
        (void)snprintf(f->status.disk_waiting, sizeof f->status.disk_waiting, "%s", text_of(o, "low"));
        (void)pthread_mutex_unlock(&f->lock);
        if (!json_is_true(json_object_get(o, "unsaid")))
                f->control.causes++;
        return json_pack("{s:b}", "ok", 1);
}

/* A job that rests, and a device with the job that runs there. */
static json_t *do_devices(struct fake *f, const json_t *o)
{
        (void)pthread_mutex_lock(&f->lock);
        f->resting_job = int_of(o, "resting");
        f->status.n_devices = 1;
        f->status.devices[0] = (struct control_device){.name = "cpu", .job = int_of(o, "runs")};
        (void)pthread_mutex_unlock(&f->lock);
        f->control.causes++;
        return json_pack("{s:b}", "ok", 1);
}

static json_t *do_hold(struct fake *f, const json_t *o _unused_)
{
        (void)pthread_mutex_lock(&f->lock);
        f->hold = true;
        (void)pthread_mutex_unlock(&f->lock);
        return json_pack("{s:b}", "ok", 1);
}

static void release(struct fake *f)
{
        struct held *list;

        (void)pthread_mutex_lock(&f->lock);
        f->hold = false;
        list = TAKE_PTR(f->held);
        (void)pthread_mutex_unlock(&f->lock);
        for (struct held *h = list, *next; h; h = next) {
                next = h->next;
                answer(h->done, h->user, -ENOENT, 0, JOB_QUEUED, "", "released");
                free(h);
        }
}

static json_t *do_release(struct fake *f, const json_t *o _unused_)
{
        release(f);
        return json_pack("{s:b}", "ok", 1);
}

static json_t *do_dataset(struct fake *f, const json_t *o)
{
        struct write *w = write_new(WRITE_DATASET);
        struct error err;
        int r;

        (void)snprintf(w->dataset.name, sizeof w->dataset.name, "%s", text_of(o, "name"));
        (void)snprintf(w->dataset.path, sizeof w->dataset.path, "/data/%s", text_of(o, "name"));
        (void)snprintf(w->dataset.format, sizeof w->dataset.format, "cifar10");
        (void)snprintf(w->dataset.digest, sizeof w->dataset.digest, "00112233445566778899aabbccddeeff");
        (void)snprintf(w->dataset.source, sizeof w->dataset.source, "%s", text_of(o, "source"));
        w->dataset.imported = *text_of(o, "source");
        w->dataset.mean[1] = 127.5;
        w->dataset.n_train = int_of(o, "train");
        w->dataset.n_test = int_of(o, "test");
        r = store_write(f->store, w, NULL, &err);
        return ok_or(r, &err);
}

static json_t *do_start(struct fake *f, const json_t *o)
{
        struct write *w = write_new(WRITE_ATTEMPT_NEW);
        struct error err;
        int64_t id = 0;
        int r;

        w->job = int_of(o, "job");
        w->attempt_row = (struct attempt_row){.job = w->job, .first_step = 0, .started_us = clock_wall_us()};
        w->from = JOB_QUEUED;
        w->to = JOB_RUNNING;
        w->trigger = "start";
        w->time_us = w->row.started_us = clock_wall_us();
        r = store_write(f->store, w, &id, &err);
        return r < 0 ? ok_or(r, &err) : json_pack("{s:I}", "attempt", (json_int_t)id);
}

static json_t *do_events(struct fake *f, const json_t *o)
{
        json_t *lines = json_object_get(o, "lines");
        struct write *w = write_new(WRITE_EVENTS);
        struct error err;
        int r = 0;

        w->job = int_of(o, "job");
        w->attempt = int_of(o, "attempt");
        w->time_us = clock_wall_us();
        w->events = calloc(json_array_size(lines), sizeof *w->events);
        for (size_t i = 0; r >= 0 && i < json_array_size(lines); i++) {
                _cleanup_(freep) char *text = json_to_text(json_array_get(lines, i));

                r = event_decode(text, strlen(text), &w->events[i], &err);
                w->n_events += r >= 0;
        }
        if (r < 0)
                (void)write_free(w);
        else
                r = store_write(f->store, w, NULL, &err);
        return ok_or(r, &err);
}

static json_t *do_end(struct fake *f, const json_t *o)
{
        struct write *w = write_new(WRITE_JOB_TRANSITION);
        struct error err;
        int r;

        w->job = int_of(o, "job");
        w->from = JOB_RUNNING;
        while (strcmp(job_state_names[w->to], text_of(o, "state")) != 0)
                w->to++;
        w->trigger = "end";
        w->detail = json_is_string(json_object_get(o, "detail")) ? strdup(text_of(o, "detail")) : NULL;
        w->row.result = json_deep_copy(json_object_get(o, "result")); /* nothing is shared with the writer */
        w->row.error = json_deep_copy(json_object_get(o, "error"));
        w->time_us = w->row.ended_us = clock_wall_us();
        r = store_write(f->store, w, NULL, &err);
        return ok_or(r, &err);
}

static json_t *do_rss(struct fake *f _unused_, const json_t *o _unused_)
{
        struct rusage u;
        long pages = 0, resident = 0;
        FILE *file = fopen("/proc/self/statm", "r");

        if (file && fscanf(file, "%ld %ld", &pages, &resident) != 2)
                resident = 0;
        if (file)
                (void)fclose(file);
        (void)getrusage(RUSAGE_SELF, &u);
        return json_pack("{s:I, s:I}", "kib", (json_int_t)(resident * (sysconf(_SC_PAGESIZE) / 1024)), "max_kib",
                         (json_int_t)u.ru_maxrss);
}

static json_t *do_log(struct fake *f, const json_t *o _unused_)
{
        json_t *lines;

        (void)pthread_mutex_lock(&f->lock);
        lines = f->log;
        f->log = json_array();
        (void)pthread_mutex_unlock(&f->lock);
        return json_pack("{s:o}", "lines", lines);
}

static const struct {
        const char *name;
        json_t *(*run)(struct fake *f, const json_t *o);
} commands[] = {
        {"fail", do_fail},   {"hold", do_hold},       {"release", do_release}, {"dataset", do_dataset},
        {"start", do_start}, {"events", do_events},   {"end", do_end},         {"rss", do_rss},
        {"disk", do_disk},   {"devices", do_devices}, {"log", do_log},
};

static void serve(struct fake *f)
{
        _cleanup_(freep) char *line = NULL;
        size_t capacity = 0;
        ssize_t n;

        while ((n = getline(&line, &capacity, stdin)) > 0) {
                _cleanup_json_ json_t *o = NULL, *reply = NULL;
                _cleanup_(freep) char *text = NULL;
                struct error err = {0};

                if (json_parse(line, (size_t)n, &o, &err) < 0)
                        reply = json_pack("{s:s}", "error", err.text);
                for (size_t i = 0; !reply && i < ARRAY_LEN(commands); i++)
                        if (!strcmp(commands[i].name, text_of(o, "do")))
                                reply = commands[i].run(f, o);
                text = json_to_text(reply ? reply : json_null());
                (void)printf("%s\n", text);
                (void)fflush(stdout);
        }
}

int main(int argc, char **argv)
{
        struct fake f = {.control = {.submit = fake_submit,
                                     .halt = fake_halt,
                                     .halt_many = fake_halt_many,
                                     .change = fake_change,
                                     .rests = fake_rests,
                                     .reopen = fake_reopen,
                                     .remove = fake_remove,
                                     .remove_dataset = fake_remove_dataset,
                                     .change_checkpoint = fake_change_checkpoint,
                                     .service = fake_service,
                                     .token = fake_token,
                                     .session = fake_session,
                                     .webhook_send = fake_webhook_send,
                                     .webhooks = fake_webhooks,
                                     .backup = fake_backup,
                                     .stop = fake_stop,
                                     .log = fake_log,
                                     .status = fake_status},
                         .log = json_array()};
        struct server_settings settings = {.n_listeners = 1, .socket_group = (gid_t)-1, .control = &f.control};
        struct server *server;
        char address[32];
        struct error err;

        if (argc < 4) {
                (void)fprintf(stderr, "usage: test_server STATE WEB CONFIGS [THREADS [PORT [IDLE_MS]]]\n");
                return 2;
        }
        (void)pthread_mutex_init(&f.lock, NULL);
        settings.state_folder = argv[1];
        settings.web_folder = argv[2];
        settings.configs_folder = argv[3];
        settings.threads = argc > 4 ? atoi(argv[4]) : 2;
        (void)snprintf(address, sizeof address, "127.0.0.1:%s", argc > 5 ? argv[5] : "0");
        (void)listener_parse(address, &settings.listeners[0], &err);
        settings.single_user = argc <= 7;
        settings.token_rate = argc > 7 ? atof(argv[7]) : 0;
        settings.idle_us = argc > 6 ? atoi(argv[6]) * US_PER_MS : 0;
        if (store_open(argv[1], &f.store, &err) < 0 || reader_open(f.store, &f.reader, &err) < 0) {
                (void)fprintf(stderr, "%s: %s\n", err.path, err.text);
                return 1;
        }
        settings.store = f.store;
        if (server_new(&settings, &server, &err) < 0) {
                (void)fprintf(stderr, "%s: %s\n", err.path, err.text);
                (void)reader_close(f.reader);
                (void)store_close(f.store);
                return 1;
        }
        (void)printf("{\"port\": %d}\n", server_port(server, 0));
        (void)fflush(stdout);
        serve(&f);
        (void)server_free(server);
        release(&f); /* what was held is answered after the server's end: nothing may come of it */
        (void)reader_close(f.reader);
        (void)store_close(f.store);
        (void)pthread_mutex_destroy(&f.lock);
        json_decref(f.log);
        return 0;
}
