/* A job's curves for other programs, every point of them: as an event file for TensorBoard (its images, too), as CSV,
 * as JSON lines, as NumPy's array. Made while it is sent, some thousand points at a time, series by series: as many
 * points as there were when it began, whatever is logged or superseded meanwhile. A number has as many digits as bring
 * it back. */
#include "api/names.h"
#include "api/response.h"
#include "base/array.h"
#include "base/clock.h"
#include "engine/formats/npy.h"
#include "engine/formats/tfevents.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define POINTS_AT_ONCE 2048 /* a millisecond or two */
#define LINE_MAX (6 * EVENT_NAME_MAX + 128)

enum format { FORMAT_TFEVENTS, FORMAT_CSV, FORMAT_NDJSON, FORMAT_NPY, FORMAT_N };
static const char *const format_names[] = {"tfevents", "csv", "ndjson", "npy", NULL};
static_assert(EVENT_NAME_MAX <= NPY_NAME_CHARS_MAX, "a series' name has no more characters than bytes");

struct series {
        char name[EVENT_NAME_MAX + 1];
        int64_t points;
};

/* A file of the job, for event files. */
struct image {
        char name[EVENT_NAME_MAX + 1];
        int64_t step, created_us;
};

struct series_export {
        const char *state_folder; /* the server's */
        struct job_row job;       /* id and identity alone */
        int64_t created_us;
        struct image *images; /* newest first */
        size_t n_images, images_room;
        enum format format;
        const struct names *only; /* of these series alone; empty: of all. While they are listed */
        bool found[NAMES_MAX];    /* which of them there are */
        struct series *series;
        size_t n_series, room, at;
        int64_t left; /* points of the series at hand */
        struct point_place place;
        int64_t as_of; /* number of the attempt that was the newest */
        bool begun;
        char quoted[LINE_MAX]; /* the series' name as the format has it */
        size_t name_chars;     /* of the longest name */
        struct npy_name npy_name;
        struct point points[POINTS_AT_ONCE];
};

static void export_free(void *user)
{
        struct series_export *x = user;

        free(x->series);
        free(x->images);
        free(x);
}

static int add_series(const struct series_row *s, void *user)
{
        struct series_export *x = user;
        struct series *to;

        if (x->only->n) {
                int i = names_find(x->only, s->name);

                if (i < 0)
                        return 0;
                x->found[i] = true;
        }
        if (!array_grow(&x->series, x->n_series, &x->room, sizeof *x->series))
                return -ENOMEM;
        to = &x->series[x->n_series++];
        to->points = s->points;
        (void)snprintf(to->name, sizeof to->name, "%s", s->name);
        x->as_of = s->as_of;
        x->name_chars = MAX(x->name_chars, npy_chars(s->name));
        return 0;
}

static int add_image(const struct artifact_row *a, void *user)
{
        struct series_export *x = user;
        struct image *i;

        if (!array_grow(&x->images, x->n_images, &x->images_room, sizeof *x->images))
                return -ENOMEM;
        i = &x->images[x->n_images++];
        *i = (struct image){.step = a->step, .created_us = a->created_us};
        (void)snprintf(i->name, sizeof i->name, "%s", a->name);
        return 0;
}

/* RFC 4180: in quotes, which are doubled. */
static void quote_csv(const char *s, char *ret)
{
        *ret++ = '"';
        for (; *s; s++) {
                if (*s == '"')
                        *ret++ = '"';
                *ret++ = *s;
        }
        *ret++ = '"';
        *ret = 0;
}

static int quote_json(const char *s, char *ret)
{
        _cleanup_json_ json_t *v = json_string(s);
        _cleanup_(freep) char *text = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;

        if (!text)
                return -ENOMEM;
        (void)snprintf(ret, LINE_MAX, "%s", text);
        return 0;
}

static int begin_series(struct series_export *x)
{
        const char *name = x->series[x->at].name;

        x->left = x->series[x->at].points;
        x->place = POINTS_BEGIN;
        x->place.as_of = x->as_of;
        if (x->format == FORMAT_CSV)
                quote_csv(name, x->quoted);
        if (x->format == FORMAT_NPY)
                npy_name_init(&x->npy_name, name, x->name_chars);
        return x->format == FORMAT_NDJSON ? quote_json(name, x->quoted) : 0;
}

static int begin_file(struct series_export *x, struct buf *b, struct error *err)
{
        int64_t points = 0;

        x->begun = true;
        for (size_t i = 0; i < x->n_series; i++)
                points += x->series[i].points;
        if (x->format == FORMAT_NPY)
                return npy_put_header(b, x->name_chars, points, err);
        if (x->format == FORMAT_TFEVENTS)
                return tfevents_put_version(b, (double)x->created_us / US_PER_S, err);
        return x->format == FORMAT_CSV ? buf_printf(b, err, "series,step,time_ms,value\n") : 0;
}

/* As in all of the API's JSON: what is not finite is a string. */
static void value_text(double v, bool quotes, char ret[40])
{
        const char *q = quotes ? "\"" : "";

        if (isfinite(v))
                (void)json_real_text(v, ret);
        else
                (void)snprintf(ret, 40, "%s%s%s", q, isnan(v) ? "NaN" : v > 0 ? "Infinity" : "-Infinity", q);
}

/* The numbers of a line are printed here and not by way of a JSON document, which would take longer than reading them.
 */
static int put_point(struct series_export *x, const struct point *p, struct buf *b, struct error *err)
{
        char line[LINE_MAX + 128], value[40];
        int n;

        if (x->format == FORMAT_TFEVENTS)
                return tfevents_put_scalar(b, (double)p->time_ms / 1000, p->step, x->series[x->at].name, p->value, err);
        if (x->format == FORMAT_NPY)
                return npy_put_point(b, &x->npy_name, p->step, p->time_ms, p->value, err);
        value_text(p->value, x->format == FORMAT_NDJSON, value);
        if (x->format == FORMAT_CSV)
                n = snprintf(line, sizeof line, "%s,%" PRId64 ",%" PRId64 ",%s\n", x->quoted, p->step, p->time_ms,
                             value);
        else
                n = snprintf(line, sizeof line,
                             "{\"series\":%s,\"step\":%" PRId64 ",\"time_ms\":%" PRId64 ",\"value\":%s}\n", x->quoted,
                             p->step, p->time_ms, value);
        return buf_append(b, line, (size_t)n, err);
}

static int read_image(const struct series_export *x, const struct image *i, struct buf *ret, struct error *err)
{
        _cleanup_(closep) int fd = -1;
        struct stat st;
        int r = open_job_file(x->state_folder, &x->job, i->name, &fd, err);

        if (r < 0)
                return r;
        if (fstat(fd, &st) < 0 || st.st_size > (off_t)TFEVENTS_IMAGE_MAX)
                return error_set(err, -EINVAL, i->name, "is too large");
        r = buf_reserve(ret, (size_t)st.st_size, err);
        if (r >= 0)
                r = file_read_at(fd, i->name, 0, ret->data, (size_t)st.st_size, err);
        if (r >= 0)
                ret->size = (size_t)st.st_size;
        return r;
}

/* The next of the job's images under its name up to "-step-", oldest first. One that is not there any more, or no PNG,
 * is passed over. */
static int put_image(struct series_export *x, struct buf *b, struct error *err)
{
        const struct image *i = &x->images[--x->n_images];
        _cleanup_(buf_done) struct buf png = BUF_INIT(TFEVENTS_IMAGE_MAX);
        const char *end = strstr(i->name, "-step-");
        char tag[sizeof i->name];
        int r = read_image(x, i, &png, err);

        (void)snprintf(tag, sizeof tag, "%.*s", end ? (int)(end - i->name) : (int)sizeof tag - 1, i->name);
        if (r >= 0)
                r = tfevents_put_image(b, (double)i->created_us / US_PER_S, i->step, tag, (const uint8_t *)png.data,
                                       png.size, err);
        return r == -ENOMEM ? r : 0;
}

/* Some of the points of the series at hand; what there was is there. */
static int put_points(struct series_export *x, struct reader *reader, struct buf *b, struct error *err)
{
        const size_t want = (size_t)MIN(x->left, POINTS_AT_ONCE);
        size_t n = 0;
        int r = reader_points_behind(reader, x->job.id, x->series[x->at].name, &x->place, want, x->points, &n, err);

        if (r >= 0 && n < want)
                return error_set(err, -EBADMSG, x->series[x->at].name, "has fewer points than it had");
        for (size_t i = 0; i < n && r >= 0; i++)
                r = put_point(x, &x->points[i], b, err);
        x->left -= (int64_t)n;
        return r;
}

/* stream_answer's next. -ENOENT: the job was removed. */
static int next(void *user, struct reader *reader, struct buf *b, struct error *err)
{
        struct series_export *x = user;
        int r = x->begun ? 0 : begin_file(x, b, err);

        while (r >= 0 && !b->size && x->at < x->n_series) {
                if (x->place.step == INT64_MIN)
                        r = begin_series(x);
                if (r >= 0 && x->left)
                        r = put_points(x, reader, b, err);
                if (r >= 0 && !x->left) {
                        x->at++;
                        x->place = POINTS_BEGIN;
                }
        }
        while (r >= 0 && !b->size && x->n_images)
                r = put_image(x, b, err);
        return r;
}

/* Whether the job has all series that were asked for, or answered. */
static bool has_all(struct request *r, const struct series_export *x)
{
        for (size_t i = 0; i < x->only->n; i++)
                if (!x->found[i])
                        (void)errors_add(&r->errs, -ENOENT, "names", "the job has no series of name %zu of the list",
                                         i + 1);
        if (r->errs.n)
                problem_errors(r, PROBLEM_QUERY_INVALID, &r->errs);
        return !r->errs.n;
}

/* 0, or answered. */
static int prepare(struct request *r, struct series_export *x)
{
        struct reader *reader = request_reader(r);
        struct job_row j;
        struct error err;
        int code;

        if (!reader)
                return -EIO;
        code = reader_job(reader, r->id, &j, &err);
        if (code == -ENOENT) {
                problem(r, PROBLEM_NOT_FOUND, "there is no job %lld", (long long)r->id);
                return code;
        }
        if (code >= 0) {
                x->state_folder = request_settings(r)->state_folder;
                x->job.id = j.id;
                memcpy(x->job.identity, j.identity, sizeof j.identity);
                x->place = POINTS_BEGIN;
                x->created_us = j.created_us;
                job_row_done(&j);
                code = reader_series(reader, r->id, add_series, x, &err);
        }
        if (code >= 0 && x->format == FORMAT_TFEVENTS && !x->only->n)
                code = reader_artifacts(reader, r->id, ARTIFACT_IMAGE, add_image, x, &err);
        if (code < 0)
                problem_failed(r, "the series cannot be read", code, &err);
        return code < 0 || has_all(r, x) ? code : -ENOENT;
}

/* What a file of it is called; TensorBoard takes what has "tfevents" in its name. */
static void file_name(const struct series_export *x, char *ret, size_t size)
{
        if (x->format == FORMAT_TFEVENTS)
                (void)snprintf(ret, size, "attachment; filename=\"events.out.tfevents.%lld.mulund-%lld\"",
                               (long long)(x->created_us / US_PER_S), (long long)x->job.id);
        else
                (void)snprintf(ret, size, "attachment; filename=\"job-%lld.%s\"", (long long)x->job.id,
                               format_names[x->format]);
}

/* format's, and the names. False: the query was answered with a problem. */
static bool read_query(struct request *r, int *ret_format, struct names *ret)
{
        if (request_query_choice(r, "format", format_names, ret_format) == 0)
                (void)errors_add(&r->errs, -EINVAL, "format", "expected one of tfevents, csv, ndjson, npy");
        (void)request_query_names(r, ret);
        if (r->errs.n)
                problem_errors(r, PROBLEM_QUERY_INVALID, &r->errs);
        return !r->errs.n;
}

static void export_apart(struct request *r)
{
        static const char *const types[FORMAT_N] = {"application/octet-stream", "text/csv; charset=utf-8",
                                                    "application/x-ndjson", "application/octet-stream"};
        _cleanup_(names_done) struct names only = {0};
        struct series_export *x;
        char disposition[120];
        int format = 0;

        if (!read_query(r, &format, &only))
                return;
        x = calloc(1, sizeof *x);
        if (!x) {
                problem(r, PROBLEM_INTERNAL, "no memory");
                return;
        }
        x->format = (enum format)format;
        x->only = &only;
        if (prepare(r, x) < 0) {
                export_free(x);
                return;
        }
        x->only = NULL;
        file_name(x, disposition, sizeof disposition);
        response_stream(r, &(struct stream_answer){.type = types[format],
                                                   .disposition = disposition,
                                                   .bytes = -1,
                                                   .next = next,
                                                   .free = export_free,
                                                   .user = x});
}

void export_series(struct request *r)
{
        _cleanup_(names_done) struct names only = {0};
        int format;

        if (read_query(r, &format, &only))
                request_apart(r, export_apart, false);
}
