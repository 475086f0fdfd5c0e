/* Pictures and tables of what a model makes of the images that it is evaluated on. */
#include "engine/inspect.h"
#include "worker/task.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define IMAGES_MAX 256 /* whose latents and schedules are summed up */
#define MAPS_MAX 8     /* whose schedules are shown */
#define RANKED_MAX 32  /* best and worst images */
#define TIMES 21
#define COLUMNS (1 + (TIMES + 1) / 2) /* of the maps: the image, then every second time */

/* ---- images by their bits per dimension */

struct ranked {
        double bpd;
        int64_t image;
};

static int by_bpd(const void *a, const void *b)
{
        const struct ranked *x = a, *y = b;

        return x->bpd != y->bpd ? (x->bpd > y->bpd) - (x->bpd < y->bpd) : (x->image > y->image) - (x->image < y->image);
}

static int show_ranked(struct task *t, const char *name, const struct ranked *ranked, int64_t n, struct error *err)
{
        uint8_t images[RANKED_MAX * IMAGE_BYTES];

        for (int64_t i = 0; i < n; i++)
                dataset_image(t->dataset, t->config.evaluation_split, ranked[i].image, images + i * IMAGE_BYTES);
        return task_write_picture(t, name, images, n, 8, err);
}

/* The table in order, the first and the last of it as pictures, the worst image first. */
static int rank(struct task *t, const double *bpd, int64_t n, struct error *err)
{
        _cleanup_(freep) struct ranked *ranked = calloc((size_t)n, sizeof *ranked);
        _cleanup_(buf_done) struct buf b = BUF_INIT((size_t)1 << 31);
        int64_t shown = MIN(n, RANKED_MAX);
        int r;

        if (!ranked)
                return error_set(err, -ENOMEM, NULL, "no memory for %lld images", (long long)n);
        for (int64_t i = 0; i < n; i++)
                ranked[i] = (struct ranked){bpd[i], i};
        qsort(ranked, (size_t)n, sizeof *ranked, by_bpd);
        r = buf_printf(&b, err, "rank,image,bpd\n");
        for (int64_t i = 0; i < n && r >= 0; i++)
                r = buf_printf(&b, err, "%lld,%lld,%.9g\n", (long long)i + 1, (long long)ranked[i].image,
                               ranked[i].bpd);
        if (r >= 0)
                r = task_write_table(t, "bpd-ranked.csv", &b, err);
        if (r >= 0)
                r = show_ranked(t, "images-least-bpd.png", ranked, shown, err);
        for (int64_t i = 0; i < n / 2; i++) {
                struct ranked x = ranked[i];

                ranked[i] = ranked[n - 1 - i];
                ranked[n - 1 - i] = x;
        }
        return r < 0 ? r : show_ranked(t, "images-most-bpd.png", ranked, shown, err);
}

/* ---- schedules and latents */

/* Red above 0, blue below, white at it; x in -1 .. 1. */
static void colour(double x, uint8_t ret[3])
{
        uint8_t faded = (uint8_t)lround(255 * (1 - fmin(fabs(x), 1)));

        ret[0] = x < 0 ? faded : 255;
        ret[1] = faded;
        ret[2] = x > 0 ? faded : 255;
}

/* A smaller distance is rounding: at its ends a schedule may be the same everywhere. */
#define DISTANCE_MIN 1e-3

/* How far gamma of each pixel, its colours' mean, is from the mean of the image, in units of the largest such distance
 * of all images at this time. */
static void draw_map(const float *gamma, double mean, double scale, uint8_t ret[IMAGE_BYTES])
{
        for (int i = 0; i < IMAGE_PIXELS; i++)
                colour(scale > DISTANCE_MIN
                               ? (((double)gamma[3 * i] + gamma[3 * i + 1] + gamma[3 * i + 2]) / 3 - mean) / scale
                               : 0,
                       ret + 3 * i);
}

static int show_maps(struct task *t, const struct inspection *what, struct error *err)
{
        int64_t n = what->n_maps;
        _cleanup_(freep) uint8_t *cells = malloc((size_t)(n * COLUMNS) * IMAGE_BYTES);

        if (!cells)
                return error_set(err, -ENOMEM, NULL, "no memory for the maps");
        for (int64_t i = 0; i < n; i++)
                dataset_image(t->dataset, what->split, i, cells + i * COLUMNS * IMAGE_BYTES);
        for (int64_t column = 1; column < COLUMNS; column++) {
                int64_t time = 2 * (column - 1);
                double scale = 0;

                for (int64_t i = 0; i < n; i++) {
                        const struct gamma_moments *m = &what->moments[i * TIMES + time];

                        scale = fmax(scale, fmax(m->most - m->mean, m->mean - m->least));
                }
                for (int64_t i = 0; i < n; i++)
                        draw_map(what->maps + (i * TIMES + time) * DIMENSIONS, what->moments[i * TIMES + time].mean,
                                 scale, cells + (i * COLUMNS + column) * IMAGE_BYTES);
        }
        return task_write_picture(t, "gamma-maps.png", cells, n * COLUMNS, COLUMNS, err);
}

/* A row for each of the images shown, and "all": the mean over images, of the moments too. As series, against 1000 t.
 */
static int tell_gamma(struct task *t, const struct inspection *what, struct error *err)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT((size_t)1 << 24);
        int r = buf_printf(&b, err, "image,t,mean,spread,least,most\n");

        for (int64_t i = 0; i < what->n_maps * TIMES && r >= 0; i++) {
                const struct gamma_moments *m = &what->moments[i];

                r = buf_printf(&b, err, "%lld,%.9g,%.9g,%.9g,%.9g,%.9g\n", (long long)(i / TIMES),
                               what->times[i % TIMES], m->mean, m->spread, m->least, m->most);
        }
        for (int64_t time = 0; time < TIMES && r >= 0; time++) {
                struct gamma_moments all = {.least = HUGE_VAL, .most = -HUGE_VAL};

                for (int64_t i = 0; i < what->n_images; i++) {
                        const struct gamma_moments *m = &what->moments[i * TIMES + time];

                        all.mean += m->mean / (double)what->n_images;
                        all.spread += m->spread / (double)what->n_images;
                        all.least = fmin(all.least, m->least);
                        all.most = fmax(all.most, m->most);
                }
                r = buf_printf(&b, err, "all,%.9g,%.9g,%.9g,%.9g,%.9g\n", what->times[time], all.mean, all.spread,
                               all.least, all.most);
                if (r >= 0)
                        r = reporter_scalar(t->reporter, lround(1000 * what->times[time]), "time/gamma_mean", all.mean,
                                            err);
                if (r >= 0)
                        r = reporter_scalar(t->reporter, lround(1000 * what->times[time]), "time/gamma_spread",
                                            all.spread, err);
        }
        return r < 0 ? r : task_write_table(t, "gamma-over-time.csv", &b, err);
}

/* Of each entry of e: its mean over the images (the share that has it, but for gaussian) and its spread. */
static int tell_latents(struct task *t, const struct inspection *what, struct error *err)
{
        int64_t n = t->config.latent_size;
        _cleanup_(buf_done) struct buf b = BUF_INIT((size_t)1 << 24);
        int r = buf_printf(&b, err, "entry,mean,spread\n");

        for (int64_t j = 0; j < n && r >= 0; j++) {
                double mean = 0, squares = 0;

                for (int64_t i = 0; i < what->n_images; i++)
                        mean += what->latents[i * n + j] / (double)what->n_images;
                for (int64_t i = 0; i < what->n_images; i++)
                        squares += pow(what->latents[i * n + j] - mean, 2) / (double)what->n_images;
                r = buf_printf(&b, err, "%lld,%.9g,%.9g\n", (long long)j, mean, sqrt(squares));
        }
        return r < 0 ? r : task_write_table(t, "latent-usage.csv", &b, err);
}

int task_inspect(struct task *t, struct inspector *v, const double *bpd, int64_t n, struct error *err)
{
        const struct config *c = &t->config;
        double times[TIMES];
        struct inspection what = {.split = c->evaluation_split,
                                  .weights = c->evaluation_weights,
                                  .n_images = MIN(n, IMAGES_MAX),
                                  .n_maps = MIN(n, MAPS_MAX),
                                  .n_times = TIMES,
                                  .times = times};
        int r = rank(t, bpd, n, err);

        for (int i = 0; i < TIMES; i++)
                times[i] = (double)i / (TIMES - 1);
        what.latents = calloc((size_t)(what.n_images * c->latent_size), sizeof *what.latents);
        what.kl = calloc((size_t)what.n_images, sizeof *what.kl);
        what.moments = calloc((size_t)(what.n_images * TIMES), sizeof *what.moments);
        what.maps = malloc((size_t)(what.n_maps * TIMES * DIMENSIONS) * sizeof *what.maps);
        if (r >= 0 && (!what.latents || !what.kl || !what.moments || !what.maps))
                r = error_set(err, -ENOMEM, NULL, "no memory for the inspection");
        if (r >= 0)
                r = inspector_run(v, t->dataset, &what, err);
        if (r >= 0)
                r = tell_gamma(t, &what, err);
        if (r >= 0 && c->vdm_type != VDM_VDM) {
                r = show_maps(t, &what, err);
                if (r >= 0)
                        r = tell_latents(t, &what, err);
        }
        free(what.latents);
        free(what.kl);
        free(what.moments);
        free(what.maps);
        return r;
}

int task_tell_times(struct task *t, const double *diff_at, int64_t n, struct error *err)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT((size_t)1 << 24);
        int r = buf_printf(&b, err, "t_from,t_to,diff\n");

        for (int64_t i = 0; i < n && r >= 0; i++) {
                double from = (double)i / (double)n, to = (double)(i + 1) / (double)n;

                if (isnan(diff_at[i]))
                        continue;
                r = buf_printf(&b, err, "%.9g,%.9g,%.9g\n", from, to, diff_at[i]);
                if (r >= 0)
                        r = reporter_scalar(t->reporter, lround(500 * (from + to)), "time/diff", diff_at[i], err);
        }
        return r < 0 ? r : task_write_table(t, "diff-over-time.csv", &b, err);
}
