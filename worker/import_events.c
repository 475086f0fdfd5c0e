/* Points are gathered by tag, some hundred to an event; a tag that is no name of a series here is left over, as is what
 * is neither a scalar nor a PNG image, and a point whose step is below 0. A file that ends within an event was cut off
 * by the death of its writer, or is still written: what came before is taken, and the result says so. */
#include "worker/import.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/log.h"
#include "contract/text.h"
#include "engine/formats/tfevents.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FILES_MAX 4096
#define TAGS_MAX 4096
#define TAG_BYTES_MAX 1024
#define ROWS 512 /* points of a tag at once; of all tags 50 MB */
#define IMAGES_MAX 10000
#define IMAGE_BYTES_MAX ((size_t)64 << 20)
#define STEP_MAX (((int64_t)1 << 53) - 1)
#define VALUES_BETWEEN 4096

struct tag {
        char name[TAG_BYTES_MAX + 1]; /* as in the file, cut */
        size_t bytes;
        bool is_name; /* of a series here */
        const char *what;
        int64_t n_points, n_images, n_left_over;
        size_t n;
        int64_t step[ROWS], time_ms[ROWS];
        double value[ROWS];
};

struct import_of_events {
        struct task *task;
        struct task_progress *progress;
        struct tag **tags;
        size_t n_tags, room, last; /* last: of the value before; values come in turns */
        int64_t n_values, n_images, n_events, bytes_before, bytes;
        bool cut;
};

static void import_of_events_done(struct import_of_events *x)
{
        for (size_t i = 0; i < x->n_tags; i++)
                free(x->tags[i]);
        free(x->tags);
}

static bool is_tag(const struct tag *g, const struct tfevents_value *v)
{
        return g->bytes == v->tag_bytes && !memcmp(g->name, v->tag, MIN(v->tag_bytes, (size_t)TAG_BYTES_MAX));
}

static int add_tag(struct import_of_events *x, const struct tfevents_value *v, struct tag **ret, struct error *err)
{
        struct tag *g;

        if (x->n_tags == TAGS_MAX)
                return error_set(err, -E2BIG, NULL, "there are more than %d tags", TAGS_MAX);
        g = calloc(1, sizeof *g);
        if (!g || !array_grow(&x->tags, x->n_tags, &x->room, sizeof(*x->tags))) {
                free(g);
                return error_set(err, -ENOMEM, NULL, "no memory for a tag");
        }
        memcpy(g->name, v->tag, MIN(v->tag_bytes, (size_t)TAG_BYTES_MAX));
        g->bytes = v->tag_bytes;
        g->is_name = strlen(g->name) == g->bytes && text_is_printable(g->name, EVENT_NAME_MAX);
        x->last = x->n_tags;
        x->tags[x->n_tags++] = *ret = g;
        return 0;
}

static int find_tag(struct import_of_events *x, const struct tfevents_value *v, struct tag **ret, struct error *err)
{
        for (size_t i = 0; i < x->n_tags; i++) {
                size_t at = (x->last + 1 + i) % x->n_tags;

                if (!is_tag(x->tags[at], v))
                        continue;
                x->last = at;
                *ret = x->tags[at];
                return 0;
        }
        return add_tag(x, v, ret, err);
}

static int flush(struct import_of_events *x, struct tag *g, struct error *err)
{
        int r = g->n ? reporter_points(x->task->reporter, g->name, g->n, g->step, g->time_ms, g->value, err) : 0;

        g->n = 0;
        return r;
}

static int64_t milliseconds(double wall)
{
        double ms = wall * 1000;

        return ms > 0 && ms < (double)STEP_MAX ? (int64_t)(ms + 0.5) : 0;
}

static int take_point(struct import_of_events *x, struct tag *g, const struct tfevents_value *v, struct error *err)
{
        g->n_points++;
        g->step[g->n] = v->step;
        g->time_ms[g->n] = milliseconds(v->wall);
        g->value[g->n] = v->scalar;
        return ++g->n == ROWS ? flush(x, g, err) : 0;
}

static bool is_png(const struct tfevents_value *v)
{
        static const uint8_t signature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

        return v->image_bytes > sizeof signature && v->image_bytes <= IMAGE_BYTES_MAX &&
               !memcmp(v->image, signature, sizeof signature);
}

/* A plain name: the tag where it is plain, the step, the image's number of all. */
static void image_name(const struct import_of_events *x, const struct tag *g, int64_t step, char *ret, size_t size)
{
        char plain[100];
        size_t n = 0;

        for (; g->name[n] && n + 1 < sizeof plain; n++)
                plain[n] = (char)(isalnum((unsigned char)g->name[n]) && g->name[n] > 0 ? g->name[n] : '-');
        plain[n] = 0;
        (void)snprintf(ret, size, "%s-step-%lld-%lld.png", n ? plain : "image", (long long)step,
                       (long long)x->n_images);
}

static int take_image(struct import_of_events *x, struct tag *g, const struct tfevents_value *v, struct error *err)
{
        char name[200], path[PATH_MAX], digest[DIGEST_SIZE];
        int r;

        g->n_images++;
        image_name(x, g, v->step, name, sizeof name);
        x->n_images++;
        task_path(x->task, name, path, sizeof path);
        r = file_write_atomic(path, v->image, v->image_bytes, digest, err);
        return r < 0 ? r
                     : reporter_artifact(x->task->reporter, ARTIFACT_IMAGE, v->step, name, (int64_t)v->image_bytes,
                                         digest, NAN, err);
}

static int take_value(struct import_of_events *x, const struct tfevents_value *v, struct error *err)
{
        struct tag *g = NULL;
        bool has_step = v->step >= 0 && v->step <= STEP_MAX;
        int r = find_tag(x, v, &g, err);

        if (r < 0)
                return r;
        if (v->kind == TFEVENTS_SCALAR && has_step && g->is_name)
                return take_point(x, g, v, err);
        if (v->kind == TFEVENTS_IMAGE && has_step && is_png(v) && x->n_images < IMAGES_MAX)
                return take_image(x, g, v, err);
        g->n_left_over++;
        if (v->kind == TFEVENTS_OTHER)
                g->what = v->what;
        else if (v->kind == TFEVENTS_IMAGE)
                g->what = "an image that is no PNG or one too many";
        else
                g->what = has_step ? "a tag that is no name" : "a step that is none";
        return 0;
}

static int read_file(struct import_of_events *x, const char *path, struct error *err)
{
        _cleanup_(tfevents_closep) struct tfevents *t = NULL;
        struct tfevents_value v;
        int r = tfevents_open(path, &t, err);

        while (r >= 0 && (r = tfevents_next(t, &v, err)) > 0) {
                r = take_value(x, &v, err);
                if (r >= 0 && ++x->n_values % VALUES_BETWEEN == 0)
                        r = task_between(x->progress, x->bytes_before + tfevents_bytes_done(t), x->bytes, err);
        }
        if (r == -ENODATA) {
                log_warning("%s: %s: what came before is taken", err->path, err->text);
                x->cut = true;
                r = 0;
        }
        if (r < 0)
                return r;
        x->n_events += tfevents_events(t);
        x->bytes_before += tfevents_bytes(t);
        return 0;
}

/* ---- which files */

struct event_files {
        char *paths[FILES_MAX];
        size_t n;
};

static void event_files_done(struct event_files *f)
{
        while (f->n)
                free(f->paths[--f->n]);
}

static int by_path(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The event files of a folder, in the order of their names, which begin with the time. */
static int list_folder(const char *path, struct event_files *f, struct error *err)
{
        _cleanup_(closedirp) DIR *d = opendir(path);
        struct dirent *e;

        if (!d)
                return error_set(err, -errno, path, "cannot be listed: %s", strerror(errno));
        while ((e = readdir(d))) {
                if (!strstr(e->d_name, "tfevents") || e->d_type == DT_DIR)
                        continue;
                if (f->n == FILES_MAX)
                        return error_set(err, -E2BIG, path, "has more than %d event files", FILES_MAX);
                if (asprintf(&f->paths[f->n], "%s/%s", path, e->d_name) < 0)
                        return error_set(err, -ENOMEM, path, "no memory to list it");
                f->n++;
        }
        qsort(f->paths, f->n, sizeof *f->paths, by_path);
        return f->n ? 0 : error_set(err, -ENOENT, path, "has no event file: a name with \"tfevents\" in it");
}

static int list_files(const char *path, struct event_files *f, struct error *err)
{
        struct stat st;

        if (stat(path, &st) < 0)
                return error_set(err, -errno, path, "cannot be read: %s", strerror(errno));
        if (S_ISDIR(st.st_mode))
                return list_folder(path, f, err);
        f->paths[0] = strdup(path);
        f->n = f->paths[0] != NULL;
        return f->n ? 0 : error_set(err, -ENOMEM, path, "no memory to list it");
}

/* ---- */

static int write_report(struct import_of_events *x, struct error *err)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT((size_t)16 << 20);
        int r = buf_printf(&b, err, "tag,points,images,left_over,what\n");

        for (size_t i = 0; i < x->n_tags && r >= 0; i++) {
                struct tag *g = x->tags[i];

                for (char *c = g->name; *c; c++)
                        *c = (unsigned char)*c < ' ' || *c == '"' || *c == 127 ? '?' : *c;
                g->name[text_valid_utf8(g->name, strlen(g->name))] = 0;
                r = buf_printf(&b, err, "\"%s\",%lld,%lld,%lld,%s\n", g->name, (long long)g->n_points,
                               (long long)g->n_images, (long long)g->n_left_over, g->what ? g->what : "");
        }
        return r < 0 ? r : task_write_table(x->task, IMPORT_REPORT, &b, err);
}

static json_t *result_json(const struct import_of_events *x, size_t n_files)
{
        int64_t series = 0, points = 0, left_over = 0;

        for (size_t i = 0; i < x->n_tags; i++) {
                series += x->tags[i]->n_points > 0;
                points += x->tags[i]->n_points;
                left_over += x->tags[i]->n_left_over;
        }
        return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "what", import_what_names[IMPORT_EVENTS], "files",
                         (json_int_t)n_files, "events", (json_int_t)x->n_events, "series", (json_int_t)series, "points",
                         (json_int_t)points, "images", (json_int_t)x->n_images, "left_over", (json_int_t)left_over,
                         "cut", x->cut);
}

int import_events(struct task *t, struct task_progress *progress, json_t **ret_result, struct error *err)
{
        _cleanup_(import_of_events_done) struct import_of_events x = {.task = t, .progress = progress};
        _cleanup_(event_files_done) struct event_files files = {0};
        struct stat st;
        int r = list_files(t->assignment->import.path, &files, err);

        for (size_t i = 0; i < files.n && r >= 0; i++)
                x.bytes += stat(files.paths[i], &st) < 0 ? 0 : st.st_size;
        for (size_t i = 0; i < files.n && r >= 0; i++)
                r = read_file(&x, files.paths[i], err);
        for (size_t i = 0; i < x.n_tags && r >= 0; i++)
                r = flush(&x, x.tags[i], err);
        if (r >= 0)
                r = write_report(&x, err);
        if (r < 0)
                return r;
        reporter_progress(t->reporter, x.bytes, x.bytes, NAN, NAN);
        *ret_result = result_json(&x, files.n);
        return *ret_result ? 0 : error_set(err, -ENOMEM, NULL, "no memory for the result");
}
