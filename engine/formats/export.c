#include "engine/formats/export.h"

#include "base/array.h"
#include "engine/formats/msgpack.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LITERALS_MAX ((size_t)64 << 20)

const char *const export_format_names[] = {"flax", "ema", "params", NULL};
static_assert(ARRAY_LEN(export_format_names) == EXPORT_N + 1, "a name a format");

/* A stretch of the file that is exported. */
struct stretch {
        int64_t at, n;
        int64_t from; /* in the literals, or in the checkpoint */
        bool literal;
};

struct export
{
        int fd;
        char *path;
        int64_t chunk_bytes, bytes;
        struct checkpoint_list list;
        const struct checkpoint_tensor **sorted[SECTION_N]; /* [n_params], by name as Python sorts nested maps */
        size_t n_params;
        struct buf literals;
        int64_t literals_placed;
        struct stretch *stretches;
        size_t n_stretches, stretches_room;
};

static int no_memory(const struct export *e, struct error *err)
{
        return error_set(err, -ENOMEM, e->path, "no memory to export it");
}

/* ---- stretches */

static int add_stretch(struct export *e, int64_t n, int64_t from, bool literal, struct error *err)
{
        if (!array_grow(&e->stretches, e->n_stretches, &e->stretches_room, sizeof *e->stretches))
                return no_memory(e, err);
        e->stretches[e->n_stretches++] = (struct stretch){e->bytes, n, from, literal};
        e->bytes += n;
        return 0;
}

/* What was written to the literals since the last stretch. */
static int place_literals(struct export *e, struct error *err)
{
        int64_t n = (int64_t)e->literals.size - e->literals_placed;
        int r = n ? add_stretch(e, n, e->literals_placed, true, err) : 0;

        e->literals_placed += n;
        return r;
}

/* Bytes of the checkpoint. */
static int put_values(struct export *e, int64_t from, int64_t n, struct error *err)
{
        int r = place_literals(e, err);

        return r < 0 ? r : add_stretch(e, n, from, false, err);
}

/* ---- the list of tensors */

/* The name without its section. */
static const char *name_of(const struct checkpoint_tensor *t)
{
        return strchr(t->name, '/') + 1;
}

/* Component by component: what ends, or goes on below, comes before what is longer. */
static int by_name(const void *a, const void *b)
{
        const unsigned char *x = (const unsigned char *)name_of(*(const struct checkpoint_tensor *const *)a);
        const unsigned char *y = (const unsigned char *)name_of(*(const struct checkpoint_tensor *const *)b);

        for (; *x && *x == *y; x++, y++)
                ;
        int p = *x == '/' ? 1 : *x ? *x + 1 : 0, q = *y == '/' ? 1 : *y ? *y + 1 : 0;

        return p - q;
}

static int section_of(const struct checkpoint_tensor *t)
{
        for (int s = 0; s < SECTION_N; s++) {
                size_t n = strlen(section_names[s]);

                if (!strncmp(t->name, section_names[s], n) && t->name[n] == '/')
                        return s;
        }
        return -1;
}

static bool same_tensor(const struct checkpoint_tensor *a, const struct checkpoint_tensor *b)
{
        return !strcmp(name_of(a), name_of(b)) && a->n_dims == b->n_dims &&
               !memcmp(a->shape, b->shape, sizeof a->shape);
}

/* Each section sorted, all of the same tensors. */
static int sort_tensors(struct export *e, struct error *err)
{
        size_t n[SECTION_N] = {0};

        e->n_params = e->list.n / SECTION_N;
        for (int s = 0; s < SECTION_N; s++)
                if (!(e->sorted[s] = calloc(e->list.n + 1, sizeof *e->sorted[s])))
                        return no_memory(e, err);
        for (size_t i = 0; i < e->list.n; i++) {
                int s = section_of(&e->list.items[i]);

                if (s < 0)
                        return error_set(err, -EBADMSG, e->path, "has a tensor that is of no section of a checkpoint");
                e->sorted[s][n[s]++] = &e->list.items[i];
        }
        for (int s = 0; s < SECTION_N; s++) {
                qsort(e->sorted[s], n[s], sizeof *e->sorted[s], by_name);
                if (n[s] != e->n_params || !e->n_params)
                        return error_set(err, -EBADMSG, e->path, "has %zu tensors of section %s, %zu of params", n[s],
                                         section_names[s], n[0]);
                for (size_t i = 0; i < n[s]; i++)
                        if (!same_tensor(e->sorted[s][i], e->sorted[0][i]))
                                return error_set(err, -EBADMSG, e->path, "has no tensor %s/%s of params' shape",
                                                 section_names[s], name_of(e->sorted[0][i]));
        }
        return 0;
}

/* ---- flax */

static int put_name(struct export *e, const char *s, struct error *err)
{
        return msgpack_put_text(&e->literals, s, strlen(s), err);
}

static int put_number_key(struct export *e, int64_t i, struct error *err)
{
        char key[24];

        return msgpack_put_text(&e->literals, key, (size_t)snprintf(key, sizeof key, "%lld", (long long)i), err);
}

/* All of an array but its values: the extension's head and the list of shape, dtype and bytes. */
static int put_array_head(struct export *e, const int64_t *shape, int n_dims, const char *dtype, int64_t bytes,
                          struct error *err)
{
        _cleanup_(buf_done) struct buf head = BUF_INIT(256);
        int r = msgpack_put_list(&head, 3, err);

        if (r >= 0)
                r = msgpack_put_list(&head, (uint32_t)n_dims, err);
        for (int i = 0; i < n_dims && r >= 0; i++)
                r = msgpack_put_int(&head, shape[i], err);
        if (r >= 0)
                r = msgpack_put_text(&head, dtype, strlen(dtype), err);
        if (r >= 0)
                r = msgpack_put_bytes_head(&head, (uint32_t)bytes, err);
        if (r >= 0)
                r = msgpack_put_ext_head(&e->literals, FLAX_EXT_ARRAY, (uint32_t)(head.size + (size_t)bytes), err);
        return r < 0 ? r : buf_append(&e->literals, head.data, head.size, err);
}

static int put_vector(struct export *e, const struct checkpoint_tensor *t, int64_t first, int64_t n, struct error *err)
{
        int r = put_array_head(e, &n, 1, "float32", 4 * n, err);

        return r < 0 ? r : put_values(e, t->at + 4 * first, 4 * n, err);
}

/* flax's _chunk. */
static int put_chunked(struct export *e, const struct checkpoint_tensor *t, struct error *err)
{
        int64_t values = MAX(e->chunk_bytes / 4, (int64_t)1), n_chunks = (t->size + values - 1) / values;
        int r = msgpack_put_map(&e->literals, 3, err);

        if (r >= 0)
                r = put_name(e, FLAX_CHUNKED, err);
        if (r >= 0)
                r = msgpack_put_true(&e->literals, err);
        if (r >= 0)
                r = put_name(e, "shape", err);
        if (r >= 0)
                r = msgpack_put_map(&e->literals, (uint32_t)t->n_dims, err);
        for (int i = 0; i < t->n_dims && r >= 0; i++) {
                r = put_number_key(e, i, err);
                if (r >= 0)
                        r = msgpack_put_int(&e->literals, t->shape[i], err);
        }
        if (r >= 0)
                r = put_name(e, "chunks", err);
        if (r >= 0)
                r = msgpack_put_map(&e->literals, (uint32_t)n_chunks, err);
        for (int64_t i = 0; i < n_chunks && r >= 0; i++) {
                r = put_number_key(e, i, err);
                if (r >= 0)
                        r = put_vector(e, t, i * values, MIN(values, t->size - i * values), err);
        }
        return r;
}

static int put_tensor(struct export *e, const struct checkpoint_tensor *t, struct error *err)
{
        int r;

        if (4 * t->size > e->chunk_bytes)
                return put_chunked(e, t, err);
        r = put_array_head(e, t->shape, t->n_dims, "float32", 4 * t->size, err);
        return r < 0 ? r : put_values(e, t->at, 4 * t->size, err);
}

/* Which leaves a mask of the published optimizer leaves: the others are empty maps. */
enum mask { MASK_NONE, MASK_SCORE, MASK_REST };

static bool kept(const char *name, enum mask mask)
{
        bool score = !strncmp(name, "score_model/", 12);

        return mask == MASK_NONE || score == (mask == MASK_SCORE);
}

static bool same_component(const char *a, const char *b)
{
        size_t n = strcspn(a, "/");

        return n == strcspn(b, "/") && !memcmp(a, b, n);
}

/* The map of sorted tensors that agree in the first `from` bytes of their names. */
static int put_branch(struct export *e, const struct checkpoint_tensor **t, size_t n, size_t from, enum mask mask,
                      struct error *err)
{
        uint32_t n_keys = 0;
        int r;

        for (size_t i = 0; i < n; i++)
                n_keys += i == 0 || !same_component(name_of(t[i]) + from, name_of(t[i - 1]) + from);
        r = msgpack_put_map(&e->literals, n_keys, err);
        for (size_t i = 0, end; i < n && r >= 0; i = end) {
                const char *key = name_of(t[i]) + from;
                size_t size = strcspn(key, "/");

                for (end = i + 1; end < n && same_component(key, name_of(t[end]) + from);)
                        end++;
                r = msgpack_put_text(&e->literals, key, size, err);
                if (r < 0)
                        return r;
                if (key[size])
                        r = put_branch(e, t + i, end - i, from + size + 1, mask, err);
                else if (end - i > 1)
                        r = error_set(err, -EBADMSG, e->path, "%s is both a tensor and a group of them", name_of(t[i]));
                else
                        r = kept(name_of(t[i]), mask) ? put_tensor(e, t[i], err)
                                                      : msgpack_put_map(&e->literals, 0, err);
        }
        return r;
}

static int put_section(struct export *e, const char *key, enum section s, enum mask mask, struct error *err)
{
        int r = put_name(e, key, err);

        return r < 0 ? r : put_branch(e, e->sorted[s], e->n_params, 0, mask, err);
}

static int put_counter(struct export *e, const char *key, struct error *err)
{
        int32_t step = htole32((int32_t)MIN(e->list.step, (int64_t)INT32_MAX)); /* optax's counts stop there */
        int r = put_name(e, key, err);

        if (r >= 0)
                r = put_array_head(e, NULL, 0, "int32", sizeof step, err);
        return r < 0 ? r : buf_append(&e->literals, &step, sizeof step, err);
}

static int put_key_map(struct export *e, const char *key, uint32_t n, struct error *err)
{
        int r = put_name(e, key, err);

        return r < 0 ? r : msgpack_put_map(&e->literals, n, err);
}

/* optax.masked(adamw) of one part: {"inner_state": {"0": {count, mu, nu}, "1": {"inner_state": {}}, "2": {}}} */
static int put_adam(struct export *e, const char *key, enum mask mask, struct error *err)
{
        int r = put_key_map(e, key, 1, err);

        if (r >= 0)
                r = put_key_map(e, "inner_state", 3, err);
        if (r >= 0)
                r = put_key_map(e, "0", 3, err);
        if (r >= 0)
                r = put_counter(e, "count", err);
        if (r >= 0)
                r = put_section(e, "mu", SECTION_M, mask, err);
        if (r >= 0)
                r = put_section(e, "nu", SECTION_V, mask, err);
        if (r >= 0)
                r = put_key_map(e, "1", 1, err);
        if (r >= 0)
                r = put_key_map(e, "inner_state", 0, err);
        return r < 0 ? r : put_key_map(e, "2", 0, err);
}

/* Clipping is a chain of its own around the published one. */
static int put_optimizer(struct export *e, struct error *err)
{
        const json_t *optimizer = json_object_get(e->list.config, "optimizer");
        bool clips = json_is_number(json_object_get(optimizer, "gradient_clip_norm"));
        int r = put_key_map(e, "opt_state", 2, err);

        if (r >= 0 && clips)
                r = put_key_map(e, "0", 0, err);
        if (r >= 0 && clips)
                r = put_key_map(e, "1", 2, err);
        if (r >= 0)
                r = put_adam(e, "0", MASK_SCORE, err);
        return r < 0 ? r : put_adam(e, "1", MASK_REST, err);
}

static int put_flax(struct export *e, struct error *err)
{
        int r = msgpack_put_map(&e->literals, 4, err);

        if (r >= 0)
                r = put_counter(e, "step", err);
        if (r >= 0)
                r = put_section(e, "params", SECTION_PARAMS, MASK_NONE, err);
        if (r >= 0)
                r = put_section(e, "ema_params", SECTION_EMA, MASK_NONE, err);
        if (r >= 0)
                r = put_optimizer(e, err);
        return r < 0 ? r : place_literals(e, err);
}

/* ---- one section as safetensors (checkpoint.c has the format) */

static int add_entry(json_t *root, const struct checkpoint_tensor *t, int64_t begin)
{
        json_t *shape = json_array();
        int r = shape ? 0 : -1;

        for (int i = 0; i < t->n_dims && r == 0; i++)
                r = json_array_append_new(shape, json_integer(t->shape[i]));
        if (r == 0)
                r = json_object_set_new(root, name_of(t),
                                        json_pack("{s:s, s:O, s:[I, I]}", "dtype", "F32", "shape", shape,
                                                  "data_offsets", (json_int_t)begin,
                                                  (json_int_t)(begin + 4 * t->size)));
        json_decref(shape);
        return r;
}

static int put_weights(struct export *e, enum section s, struct error *err)
{
        _cleanup_json_ json_t *root = json_object();
        _cleanup_(freep) char *text = NULL;
        char step[24];
        int64_t begin = 0;
        uint64_t size;
        int r = 0;

        (void)snprintf(step, sizeof step, "%lld", (long long)e->list.step);
        if (!root || json_object_set_new(root, "__metadata__",
                                         json_pack("{s:s, s:s}", "step", step, "weights", section_names[s])) < 0)
                return no_memory(e, err);
        for (size_t i = 0; i < e->n_params && r == 0; i++) {
                r = add_entry(root, e->sorted[s][i], begin);
                begin += 4 * e->sorted[s][i]->size;
        }
        text = r == 0 ? json_to_text(root) : NULL;
        if (!text)
                return no_memory(e, err);
        size = htole64((strlen(text) + 7) / 8 * 8);
        r = buf_append(&e->literals, &size, sizeof size, err);
        if (r >= 0)
                r = buf_append(&e->literals, text, strlen(text), err);
        if (r >= 0)
                r = buf_append(&e->literals, "        ", (size_t)le64toh(size) - strlen(text), err);
        for (size_t i = 0; i < e->n_params && r >= 0; i++)
                r = put_values(e, e->sorted[s][i]->at, 4 * e->sorted[s][i]->size, err);
        return r;
}

/* ---- */

int export_open(int fd, const char *path, enum export_format format, int64_t chunk_bytes, struct export **ret,
                struct error *err)
{
        _cleanup_(export_closep) struct export *e = calloc(1, sizeof *e);
        int r;

        if (!e || !(e->path = strdup(path)))
                return error_set(err, -ENOMEM, path, "no memory to export it");
        e->fd = fd;
        e->chunk_bytes = chunk_bytes;
        e->literals = BUF_INIT(LITERALS_MAX);
        r = checkpoint_list(fd, path, &e->list, err);
        if (r >= 0)
                r = sort_tensors(e, err);
        if (r >= 0 && format == EXPORT_FLAX)
                r = put_flax(e, err);
        else if (r >= 0)
                r = put_weights(e, format == EXPORT_EMA ? SECTION_EMA : SECTION_PARAMS, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(e);
        return 0;
}

struct export *export_close(struct export *e)
{
        if (!e)
                return NULL;
        checkpoint_list_done(&e->list);
        for (int s = 0; s < SECTION_N; s++)
                free(e->sorted[s]);
        buf_done(&e->literals);
        free(e->stretches);
        free(e->path);
        free(e);
        return NULL;
}

int64_t export_bytes(const struct export *e)
{
        return e->bytes;
}

/* The stretch that holds a byte. */
static size_t stretch_at(const struct export *e, int64_t at)
{
        size_t low = 0, high = e->n_stretches;

        while (high - low > 1) {
                size_t middle = (low + high) / 2;

                if (e->stretches[middle].at <= at)
                        low = middle;
                else
                        high = middle;
        }
        return low;
}

int export_read(const struct export *e, int64_t at, void *ret, size_t n, struct error *err)
{
        char *to = ret;

        assert(at >= 0 && (int64_t)n <= e->bytes - at);
        for (size_t i = n ? stretch_at(e, at) : 0; n; i++) {
                const struct stretch *s = &e->stretches[i];
                int64_t from = s->from + (at - s->at);
                size_t some = (size_t)MIN((int64_t)n, s->n - (at - s->at));
                int r = 0;

                if (s->literal)
                        memcpy(to, e->literals.data + from, some);
                else
                        r = file_read_at(e->fd, e->path, from, to, some, err);
                if (r < 0)
                        return r;
                to += some;
                at += (int64_t)some;
                n -= some;
        }
        return 0;
}
