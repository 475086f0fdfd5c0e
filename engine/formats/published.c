#include "engine/formats/published.h"

#include "base/array.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define STEP_MAX ((int64_t)1 << 53)
#define SHOWN 200

const char *const published_status_names[] = {"matched", "missing", "left-over"};
static_assert(ARRAY_LEN(published_status_names) == PUBLISHED_N, "a name a status");

static const char *const places[] = {"params", "ema_params", "opt_state", "opt_state"};
static const char *const moments[] = {[SECTION_M] = "mu", [SECTION_V] = "nu"};

/* ---- matching */

struct matching {
        struct published *x;
        const char *path;
        size_t rows_room;
        bool *used;                            /* [n_nodes] */
        const struct flax_node *optimizers[8]; /* maps with count, mu and nu */
        size_t n_optimizers, n_wrong;
        struct error *err; /* the first of what is wrong */
};

static int no_memory(const struct matching *m, struct error *err)
{
        return error_set(err, -ENOMEM, m->path, "no memory to match its tensors");
}

static int add_row(struct matching *m, struct published_row row, struct error *err)
{
        if (!array_grow(&m->x->rows, m->x->n_rows, &m->rows_room, sizeof *m->x->rows))
                return no_memory(m, err);
        m->x->rows[m->x->n_rows++] = row;
        m->x->n[row.status]++;
        return 0;
}

static void shape_text(const int64_t *shape, int n_dims, char *ret, size_t size)
{
        int n = snprintf(ret, size, "[");

        for (int i = 0; i < n_dims && n < (int)size; i++)
                n += snprintf(ret + n, size - (size_t)n, "%s%" PRId64, i ? "," : "", shape[i]);
        if (n < (int)size)
                (void)snprintf(ret + n, size - (size_t)n, "]");
}

/* Keeps the first, counts all. */
static void wrong(struct matching *m, const struct flax_node *n, const char *fmt, ...) _printf_(3, 4);
static void wrong(struct matching *m, const struct flax_node *n, const char *fmt, ...)
{
        char where[SHOWN], text[SHOWN];
        va_list ap;

        if (m->n_wrong++)
                return;
        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        flax_path(m->x->tree, n, where, sizeof where);
        (void)error_set(m->err, -EBADMSG, m->path, "%s %s", where, text);
}

static bool fits(struct matching *m, const struct flax_node *n, const struct param *q)
{
        char found[SHOWN / 2], expected[SHOWN / 2];

        if (!flax_is_real(n)) {
                wrong(m, n, "is no array of reals");
                return false;
        }
        if (n->n_dims == q->n_dims && !memcmp(n->shape, q->shape, (size_t)n->n_dims * sizeof *n->shape))
                return true;
        shape_text(n->shape, n->n_dims, found, sizeof found);
        shape_text(q->shape, q->n_dims, expected, sizeof expected);
        wrong(m, n, "has shape %s, the configuration has %s", found, expected);
        return false;
}

/* Optimizer states below opt_state, which may be nested in chains and masks. */
static void find_optimizers(struct matching *m)
{
        const struct flax *f = m->x->tree;
        const struct flax_node *root = flax_find(f, f->nodes, "opt_state");

        for (size_t i = 0; root && i < f->n_nodes; i++) {
                const struct flax_node *n = &f->nodes[i], *above = n;

                while (above != root && above != f->nodes)
                        above = &f->nodes[above->parent];
                if (above != root || n->type != FLAX_MAP || n->hidden || !flax_find(f, n, "mu") ||
                    !flax_find(f, n, "nu"))
                        continue;
                if (m->n_optimizers < ARRAY_LEN(m->optimizers))
                        m->optimizers[m->n_optimizers++] = n;
                else
                        wrong(m, n, "is one optimizer's state too many");
        }
}

/* Where the file has this parameter of the section, or NULL. A mask leaves an empty map in its place. */
static const struct flax_node *find_tensor(struct matching *m, enum section s, const struct param *q)
{
        const struct flax *f = m->x->tree;
        const struct flax_node *found = NULL;

        if (s == SECTION_PARAMS || s == SECTION_EMA) {
                const struct flax_node *top = flax_find(f, f->nodes, places[s]);

                return top ? flax_find(f, top, q->name) : NULL;
        }
        for (size_t i = 0; i < m->n_optimizers; i++) {
                const struct flax_node *n = flax_find(f, flax_find(f, m->optimizers[i], moments[s]), q->name);

                if (!n || (n->type == FLAX_MAP && n->n_children == 0))
                        continue;
                if (found)
                        wrong(m, n, "is there twice");
                found = n;
        }
        return found;
}

static int match_section(struct matching *m, enum section s, struct error *err)
{
        const struct params *p = m->x->params;
        const struct flax_node *found = NULL;
        const struct param *missing = NULL;
        size_t n_missing = 0;
        int r = 0;

        for (size_t i = 0; i < p->n && r >= 0; i++) {
                const struct param *q = &p->items[i];
                const struct flax_node *n = find_tensor(m, s, q);

                if (n && fits(m, n, q))
                        m->used[n - m->x->tree->nodes] = true;
                if (n)
                        found = n;
                else if (n_missing++ == 0)
                        missing = q;
                r = add_row(m, (struct published_row){n ? PUBLISHED_MATCHED : PUBLISHED_MISSING, s, q, n}, err);
        }
        if (r >= 0 && found && missing) {
                wrong(m, found, "has others beside it, but not %s", missing->name);
                m->n_wrong += n_missing - 1;
        }
        return r;
}

/* The step, and the optimizer's count of its updates. */
static int match_counters(struct matching *m, struct error *err)
{
        const struct flax *f = m->x->tree;
        const struct flax_node *step = flax_find(f, f->nodes, "step");
        int r = 0;

        m->x->updates = -1;
        for (size_t i = 0; i < m->n_optimizers && r >= 0; i++) {
                const struct flax_node *count = flax_find(f, m->optimizers[i], "count");
                int64_t n;

                if (!count)
                        continue;
                r = flax_integer(f, count, &n, err);
                if (r >= 0)
                        m->x->updates = MAX(m->x->updates, n);
                m->used[count - f->nodes] = true;
        }
        if (r < 0)
                return r == -EINVAL ? error_set(err, -EBADMSG, m->path, "an optimizer's count is no integer") : r;
        m->x->step = MAX(m->x->updates, 0);
        if (!step)
                return 0;
        m->used[step - f->nodes] = true;
        r = flax_integer(f, step, &m->x->step, err);
        if (r == -EINVAL || (r >= 0 && (m->x->step < 0 || m->x->step > STEP_MAX)))
                return error_set(err, -EBADMSG, m->path, "/step is no number of steps");
        return r;
}

static int match_rest(struct matching *m, struct error *err)
{
        const struct flax *f = m->x->tree;
        int r = 0;

        for (size_t i = 1; i < f->n_nodes && r >= 0; i++) {
                const struct flax_node *n = &f->nodes[i];

                if (!m->used[i] && !n->hidden && (n->type == FLAX_ARRAY || n->type == FLAX_VALUE))
                        r = add_row(m, (struct published_row){.status = PUBLISHED_LEFT_OVER, .node = n}, err);
        }
        return r;
}

static int match(struct matching *m, struct error *err)
{
        struct error first = {0};
        int r;

        m->err = &first;
        m->used = calloc(m->x->tree->n_nodes, sizeof *m->used);
        if (!m->used)
                return no_memory(m, err);
        find_optimizers(m);
        r = match_counters(m, err);
        for (int s = 0; s < SECTION_N && r >= 0; s++)
                r = match_section(m, (enum section)s, err);
        if (r >= 0)
                r = match_rest(m, err);
        if (r < 0)
                return r;
        if (m->n_wrong > 1)
                return error_set(err, first.code, first.path, "%s (and %zu more that do not fit)", first.text,
                                 m->n_wrong - 1);
        if (m->n_wrong)
                return error_set(err, first.code, first.path, "%s", first.text);
        if (m->x->rows[0].status != PUBLISHED_MATCHED && m->x->rows[m->x->params->n].status != PUBLISHED_MATCHED)
                return error_set(err, -EBADMSG, m->path, "has neither /params nor /ema_params of the configuration: %s",
                                 m->x->params->items[0].name);
        return 0;
}

int published_open(const char *path, const struct params *params, struct published **ret, struct error *err)
{
        _cleanup_(published_closep) struct published *x = calloc(1, sizeof *x);
        struct matching m = {.x = x, .path = path};
        int r;

        if (!x)
                return no_memory(&m, err);
        x->params = params;
        r = flax_open(path, &x->tree, err);
        if (r >= 0)
                r = match(&m, err);
        free(m.used);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(x);
        return 0;
}

struct published *published_close(struct published *x)
{
        if (!x)
                return NULL;
        (void)flax_close(x->tree);
        free(x->rows);
        free(x);
        return NULL;
}

/* ---- writing */

static int check_values(const struct published *x, const struct published_row *row, int64_t first, int64_t n,
                        const float *values, struct error *err)
{
        char where[SHOWN];

        for (int64_t i = 0; i < n; i++)
                if (!isfinite(values[i]) || (row->section == SECTION_V && values[i] < 0)) {
                        flax_path(x->tree, row->node, where, sizeof where);
                        return error_set(err, -EBADMSG, flax_file_name(x->tree),
                                         "%s: value %" PRId64 " is %g, which no %s is", where, first + i,
                                         (double)values[i], row->section == SECTION_V ? "second moment" : "weight");
                }
        return 0;
}

/* checkpoint_io's read: a piece of one parameter, from wherever the file has it. */
static int read_values(void *user, enum section s, int64_t offset, int64_t n, float *ret, struct error *err)
{
        const struct published *x = user;
        const struct params *p = x->params;
        const struct published_row *row;
        size_t i = 0;
        int64_t first;
        int r;

        while (offset < p->items[i].offset || offset >= p->items[i].offset + p->items[i].size)
                i++;
        first = offset - p->items[i].offset;
        row = &x->rows[(size_t)s * p->n + i];
        if (!row->node && s >= SECTION_M) {
                memset(ret, 0, (size_t)n * sizeof *ret);
                return 0;
        }
        if (!row->node)
                row = &x->rows[(s == SECTION_PARAMS ? SECTION_EMA : SECTION_PARAMS) * p->n + i];
        r = flax_reals(x->tree, row->node, first, n, ret, err);
        return r < 0 ? r : check_values(x, row, first, n, ret, err);
}

int published_write(struct published *x, const char *to, const struct config *c, const char *state,
                    char ret_digest[DIGEST_SIZE], int64_t *ret_bytes, struct error *err)
{
        struct checkpoint_io io = {.user = x, .read = read_values};

        return checkpoint_write(to, x->params, c, x->step, state, &io, ret_digest, ret_bytes, err);
}

/* ---- the report */

const char published_headings[] = "status,tensor,path,dtype,shape";

void published_describe(const struct published *x, const struct published_row *row, char *ret, size_t size)
{
        char path[FLAX_KEY_MAX] = "", shape[SHOWN] = "", name[PARAM_NAME_MAX + 8] = "";
        const char *dtype = "";

        if (row->param)
                (void)snprintf(name, sizeof name, "%s/%s", section_names[row->section], row->param->name);
        if (row->node)
                flax_path(x->tree, row->node, path, sizeof path);
        if (row->node && row->node->type == FLAX_ARRAY) {
                dtype = flax_dtype_names[row->node->dtype];
                shape_text(row->node->shape, row->node->n_dims, shape, sizeof shape);
        }
        for (char *c = path; (c = strchr(c, '"'));) /* nothing that ends a cell */
                *c = '?';
        (void)snprintf(ret, size, "%s,%s,\"%s\",%s,\"%s\"", published_status_names[row->status], name, path, dtype,
                       shape);
}
