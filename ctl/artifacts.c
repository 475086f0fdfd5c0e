/* What a job made: curves as tables, files as they are. */
#include "ctl/command.h"

#include "base/clock.h"
#include "base/units.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define BAR_WIDTH 30
#define DRAW_EVERY_US (200 * US_PER_MS)

static int get(struct call *c, int64_t id, const char *what, struct reply *ret)
{
        char path[96];

        (void)snprintf(path, sizeof path, "/v1/jobs/%" PRId64 "/%s", id, what);
        return ask(c, "GET", path, NULL, ret);
}

/* ---- series */

static int list_series(struct call *c, int64_t id)
{
        _cleanup_(reply_done) struct reply reply = {0};
        const json_t *s;
        size_t i;

        if (get(c, id, "series", &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON])
                print_json(reply.document);
        else
                (void)printf(
                        "NAME                              POINTS      LAST STEP   LAST          MIN           MAX\n");
        json_array_foreach(json_object_get(reply.document, "series"), i, s)
        {
                if (!c->options[OPTION_JSON])
                        (void)printf("%-32s  %-10.0f  %-10.0f  %-12.6g  %-12.6g  %.6g\n", text_of(s, "name"),
                                     real_of(s, "points"), real_of(s, "last_step"), real_of(s, "last"),
                                     real_of(s, "min"), real_of(s, "max"));
        }
        return EXIT_OK;
}

static double item(const json_t *curve, const char *key, size_t i)
{
        double v = NAN;

        (void)json_to_real(json_array_get(json_object_get(curve, key), i), &v);
        return v;
}

/* Reduced to buckets, as a chart would be; export has every point. */
static int print_curve(struct call *c, int64_t id, const char *name)
{
        _cleanup_(freep) char *escaped = client_escape_list(&name, 1);
        _cleanup_(reply_done) struct reply reply = {0};
        const json_t *curve;
        char path[1024];

        if (!escaped || snprintf(path, sizeof path, "/v1/series?jobs=%" PRId64 "&names=%s&points=%s", id, escaped,
                                 c->options[OPTION_POINTS] ? c->options[OPTION_POINTS] : "100") >= (int)sizeof path)
                return usage_error("that is no name of a series; mulunctl series JOB shows them");
        if (ask(c, "GET", path, NULL, &reply) < 0)
                return EXIT_NO;
        curve = json_array_get(json_object_get(reply.document, "series"), 0);
        if (!curve)
                return fail("job %" PRId64 " has no series %s", id, name);
        if (c->options[OPTION_JSON]) {
                print_json(curve);
                return EXIT_OK;
        }
        (void)printf("STEP        POINTS    MEAN          MIN           MAX\n");
        for (size_t i = 0; i < json_array_size(json_object_get(curve, "step")); i++)
                (void)printf("%-10.0f  %-8.0f  %-12.6g  %-12.6g  %.6g\n", item(curve, "step", i),
                             item(curve, "count", i), item(curve, "mean", i), item(curve, "min", i),
                             item(curve, "max", i));
        return EXIT_OK;
}

int command_series(struct call *c)
{
        int64_t id = job_id(c->args[0]);

        if (!id)
                return EXIT_USAGE;
        return c->n_args == 1 ? list_series(c, id) : print_curve(c, id, c->args[1]);
}

/* ---- files */

static const char *metric_of(const json_t *artifact, char buf[32])
{
        const json_t *v = json_object_get(artifact, "metric");

        (void)snprintf(buf, 32, "%.6g", real_of(artifact, "metric"));
        return json_is_null(v) ? "-" : buf;
}

int command_artifacts(struct call *c)
{
        _cleanup_(reply_done) struct reply reply = {0};
        int64_t id = job_id(c->args[0]);
        char size[UNITS_SIZE], metric[32];
        const json_t *a;
        size_t i;

        if (!id)
                return EXIT_USAGE;
        if (get(c, id, "artifacts", &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON])
                print_json(reply.document);
        else
                (void)printf("ID      KIND        STEP        SIZE        METRIC      NAME, HOW IT IS KEPT\n");
        json_array_foreach(json_object_get(reply.document, "artifacts"), i, a)
        {
                if (!c->options[OPTION_JSON])
                        (void)printf("%-6.0f  %-10s  %-10.0f  %-10s  %-10s  %s%s%s\n", real_of(a, "id"),
                                     text_of(a, "kind"), real_of(a, "step"),
                                     units_bytes_text((int64_t)real_of(a, "bytes"), size), metric_of(a, metric),
                                     text_of(a, "name"), json_is_true(json_object_get(a, "pinned")) ? ", pinned" : "",
                                     json_is_true(json_object_get(a, "bad")) ? ", bad" : "");
        }
        return EXIT_OK;
}

struct bar {
        int64_t drawn_us;
        bool terminal;
};

static void draw(void *user, int64_t done, int64_t total)
{
        struct bar *b = user;
        int64_t now_us = clock_monotonic_us();
        int full = total > 0 ? (int)(done * BAR_WIDTH / total) : 0;

        if (!b->terminal || (done < total && now_us - b->drawn_us < DRAW_EVERY_US))
                return;
        b->drawn_us = now_us;
        (void)fprintf(stderr, "\r[");
        for (int i = 0; i < BAR_WIDTH; i++)
                (void)fputc(i < full ? '#' : '.', stderr);
        (void)fprintf(stderr, "] %.1f of %.1f MiB\033[K%s", (double)done / 0x1p20, (double)total / 0x1p20,
                      done == total ? "\n" : "");
}

/* FILE.DIGEST.part: what a download that was cut has left goes on where it ended, and only if it is of the same file.
 */
static int get_to(struct call *c, const char *path, const struct file_head *head, const char *output)
{
        _cleanup_(buf_done) struct buf text = BUF_INIT(1 << 16);
        struct bar bar = {.terminal = isatty(STDERR_FILENO)};
        char part[PATH_MAX], found[PATH_MAX], digest[DIGEST_SIZE];
        struct error err;
        int64_t bytes;
        int r = find_output(output, found);

        if (r)
                return r == -ENXIO ? fail("%s is no regular file, which a download is that can go on", output) : r;
        output = found;
        if (snprintf(part, sizeof part, "%s.%s.part", output, head->digest) >= (int)sizeof part)
                return fail("the file's name is too long");
        r = client_continue(c->client, path, head, part, draw, &bar, &text);
        if (r < 0)
                return fail("%s; the same command goes on where this one ended", text.data);
        if (file_digest(part, digest, &bytes, &err) < 0 || strcmp(digest, head->digest) != 0) {
                (void)unlink(part);
                return fail("what came is not what the server has: get it again");
        }
        if (rename(part, output) < 0)
                return fail("%s cannot be written: %s", output, strerror(errno));
        return EXIT_OK;
}

int command_get(struct call *c)
{
        _cleanup_(buf_done) struct buf text = BUF_INIT(1 << 16);
        int64_t id = job_id(c->args[0]);
        const char *output = c->options[OPTION_OUTPUT];
        struct file_head head;
        char path[64];

        if (!id)
                return EXIT_USAGE;
        (void)snprintf(path, sizeof path, "/v1/artifacts/%" PRId64, id);
        if (client_head(c->client, path, &head, &text) < 0)
                return fail("%s", text.data);
        return get_to(c, path, &head, output ? output : head.name);
}
