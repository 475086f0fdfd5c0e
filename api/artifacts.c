#include "api/kept.h"
#include "api/response.h"
#include "engine/formats/export.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What a file is served as: by its kind, a table's also by its name. */
static const struct {
        enum artifact_kind kind;
        const char *suffix, *type, *disposition;
} types[] = {
        {ARTIFACT_CHECKPOINT, "", "application/octet-stream", "attachment"},
        {ARTIFACT_IMAGE, ".png", "image/png", "inline"},
        {ARTIFACT_TABLE, ".csv", "text/csv; charset=utf-8", "attachment"},
        {ARTIFACT_TABLE, ".json", "application/json", "attachment"},
        {ARTIFACT_TABLE, ".npy", "application/octet-stream", "attachment"},
};

static json_t *artifact_to_json(const struct artifact_row *a)
{
        return json_pack("{s:I, s:I, s:s, s:I, s:s, s:I, s:s, s:o, s:o, s:b, s:b}", "id", (json_int_t)a->id, "job",
                         (json_int_t)a->job, "kind", artifact_kind_names[a->kind], "step", (json_int_t)a->step, "name",
                         a->name, "bytes", (json_int_t)a->bytes, "xxh128", a->digest, "metric",
                         json_real_or_null(a->metric), "created", json_from_time(a->created_us), "pinned", a->pinned,
                         "bad", artifact_is_bad(a));
}

static int add_artifact(const struct artifact_row *a, void *user)
{
        return json_array_append_new(user, artifact_to_json(a)) < 0 ? -ENOMEM : 0;
}

static void list_artifacts(struct request *r)
{
        struct reader *reader = request_reader(r);
        _cleanup_json_ json_t *list = json_array();
        _cleanup_(job_row_done) struct job_row j = {0};
        struct error err;
        int kind = -1, code;

        if (!reader)
                return;
        if (request_query_choice(r, "kind", artifact_kind_names, &kind) < 0) {
                problem_errors(r, PROBLEM_QUERY_INVALID, &r->errs);
                return;
        }
        kept_begin(r);
        if (request_job(r, reader, r->id, &j) < 0)
                return;
        code = reader_artifacts(reader, r->id, kind, add_artifact, list, &err);
        if (code < 0)
                problem_failed(r, "the artifacts cannot be read", code, &err);
        else
                response_json(r, 200, json_pack("{s:O}", "artifacts", list));
}

void artifacts_list(struct request *r)
{
        request_apart(r, list_artifacts, false);
}

/* ---- what a person says of a checkpoint */

static bool find_artifact(struct request *r, struct artifact_row *ret)
{
        struct reader *reader = request_reader(r);
        struct error err;
        int code = reader ? reader_artifact(reader, r->id, ret, &err) : 0;

        if (code < 0)
                problem(r, code == -ENOENT ? PROBLEM_NOT_FOUND : PROBLEM_INTERNAL, "%s",
                        code == -ENOENT ? "there is no such artifact" : err.text);
        return reader && code >= 0;
}

static void changed(struct request *r)
{
        struct artifact_row a;

        if (r->answer.r < 0)
                request_refused(r, PROBLEM_REQUEST_INVALID);
        else if (find_artifact(r, &a))
                response_json(r, 200, artifact_to_json(&a));
}

static void read_checkpoint_change(const json_t *body, struct checkpoint_changing *c, struct errors *errs)
{
        struct {
                const char *key;
                bool *to;
                enum job_change change;
        } members[] = {{"pinned", &c->pinned, CHANGE_PINNED}, {"bad", &c->bad, CHANGE_FAILED_STARTS}};
        struct error err;

        for (size_t i = 0; i < ARRAY_LEN(members); i++) {
                if (!json_object_get(body, members[i].key))
                        continue;
                c->change |= members[i].change;
                if (json_get_bool(body, "", members[i].key, members[i].to, &err) < 0)
                        (void)errors_add(errs, -EINVAL, err.path, "%s", err.text);
        }
        if (!c->change)
                (void)errors_add(errs, -EINVAL, "", "expected {\"pinned\": true}, or {\"bad\": false}");
}

void artifacts_change(struct request *r)
{
        static const char *const keys[] = {"pinned", "bad", NULL};
        struct control *control = request_settings(r)->control;
        struct checkpoint_changing c = {0};
        _cleanup_json_ json_t *body = NULL;
        struct errors errs = {0};
        struct pending *pending;
        struct artifact_row a;

        if (!request_body(r, keys, false, &body) || !find_artifact(r, &a))
                return;
        read_checkpoint_change(body, &c, &errs);
        if (a.kind != ARTIFACT_CHECKPOINT)
                (void)errors_add(&errs, -EINVAL, "", "%s is no checkpoint: others are kept as long as their job",
                                 a.name);
        if (errs.n) {
                problem_errors(r, PROBLEM_REQUEST_INVALID, &errs);
                return;
        }
        r->by.job = c.job = a.job; /* the path names the file */
        c.artifact = a.id;
        pending = request_ask(r, changed);
        if (pending)
                control->change_checkpoint(control, &r->by, &c, request_done, pending);
}

/* ---- files */

static size_t find_type(const struct artifact_row *a)
{
        size_t n = strlen(a->name);

        for (size_t i = 0; i < ARRAY_LEN(types); i++) {
                size_t m = strlen(types[i].suffix);

                if (types[i].kind == a->kind && n >= m && !strcmp(a->name + n - m, types[i].suffix))
                        return i;
        }
        return 0;
}

/* ---- a checkpoint for other programs */

/* A part of it at a time; its connection's thread waits for the disk no longer than it does for a file. */
#define EXPORT_PIECE ((int64_t)256 << 10)

struct checkpoint_export {
        struct export *export;
        int fd;
        int64_t at;
};

static void checkpoint_export_free(void *user)
{
        struct checkpoint_export *x = user;

        x->export = export_close(x->export);
        closep(&x->fd);
        free(x);
}

/* stream_answer's next. */
static int next_part(void *user, struct reader *reader _unused_, struct buf *piece, struct error *err)
{
        struct checkpoint_export *x = user;
        size_t n = (size_t)MIN(export_bytes(x->export) - x->at, EXPORT_PIECE);
        int r = buf_reserve(piece, n, err);

        if (r >= 0)
                r = export_read(x->export, x->at, piece->data, n, err);
        if (r < 0)
                return r;
        piece->size += n;
        x->at += (int64_t)n;
        return 0;
}

/* fd is taken. */
static void export_checkpoint(struct request *r, const struct artifact_row *a, int fd, enum export_format format)
{
        static const char *const suffixes[EXPORT_N] = {"flax", "ema.safetensors", "params.safetensors"};
        struct checkpoint_export *x = calloc(1, sizeof *x);
        char disposition[EVENT_NAME_MAX + 60];
        struct error err;

        if (!x) {
                (void)close(fd);
                problem(r, PROBLEM_INTERNAL, "no memory");
                return;
        }
        x->fd = fd;
        if (a->kind != ARTIFACT_CHECKPOINT ||
            export_open(fd, a->name, format, FLAX_CHUNK_BYTES, &x->export, &err) < 0) {
                problem(r, PROBLEM_NOT_EXPORTABLE, "%s %s", a->name,
                        a->kind == ARTIFACT_CHECKPOINT ? err.text : "is no checkpoint");
                checkpoint_export_free(x);
                return;
        }
        (void)snprintf(disposition, sizeof disposition, "attachment; filename=\"job-%lld-step-%lld.%s\"",
                       (long long)a->job, (long long)a->step, suffixes[format]);
        response_stream(r, &(struct stream_answer){.type = "application/octet-stream",
                                                   .disposition = disposition,
                                                   .bytes = export_bytes(x->export),
                                                   .next = next_part,
                                                   .free = checkpoint_export_free,
                                                   .user = x});
}

/* The file is found by the row's id and its plain name: nothing of the request reaches the file system. */
static void read_artifact(struct request *r)
{
        struct reader *reader = request_reader(r);
        _cleanup_(job_row_done) struct job_row j = {0};
        struct artifact_row a;
        struct error err;
        char etag[40], disposition[EVENT_NAME_MAX + 40];
        int fd, code, format = -1;
        size_t i;

        if (!reader)
                return;
        if (request_query_choice(r, "format", export_format_names, &format) < 0) {
                problem_errors(r, PROBLEM_QUERY_INVALID, &r->errs);
                return;
        }
        if (!find_artifact(r, &a))
                return;
        code = reader_job(reader, a.job, &j, &err);
        if (code < 0) {
                problem_failed(r, "its job cannot be read", code, &err);
                return;
        }
        code = open_job_file(request_settings(r)->state_folder, &j, a.name, &fd, &err);
        if (code < 0) {
                problem(r, code == -ENOENT ? PROBLEM_NOT_FOUND : PROBLEM_INTERNAL, "%s",
                        code == -ENOENT ? "the artifact's file is not there any more" : err.text);
                return;
        }
        if (format >= 0) {
                export_checkpoint(r, &a, fd, (enum export_format)format);
                return;
        }
        i = find_type(&a);
        (void)snprintf(etag, sizeof etag, "\"%s\"", a.digest);
        (void)snprintf(disposition, sizeof disposition, "%s; filename=\"%s\"", types[i].disposition, a.name);
        response_file(r, &(struct file_answer){.fd = fd, .type = types[i].type, .etag = etag, .size = -1});
        if (r->status == 200 || r->status == 206)
                response_header(r, "Content-Disposition", disposition);
}

/* Another form needs the whole header of a checkpoint, thousands of tensors. */
void artifacts_read(struct request *r)
{
        if (target_param(&r->target, "format"))
                request_apart(r, read_artifact, false);
        else
                read_artifact(r);
}
