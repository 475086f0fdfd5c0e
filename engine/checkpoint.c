/* Checkpoints as safetensors (github.com/huggingface/safetensors), little endian:
 *
 *   0      8 bytes  u64 h: bytes of the header; 8 + h is a multiple of 64 in what is written here
 *   8      h bytes  JSON: {"__metadata__": {"format": "mulund-1", "step": "1000", "config": "{..}"},
 *                   "params/NAME": {"dtype": "F32", "shape": [3, 3, 4, 8], "data_offsets": [0, 1152]}, ..}, then spaces
 *   8 + h  rest     float32 values, row-major; a tensor's offsets count from here
 *
 * Valid: the four sections (params, ema, m, v) of every parameter and nothing else, each F32 with its shape; offsets
 * that tile the data from 0 to the file's end in any order; a step written without sign or leading zeros; no key
 * twice; a header no larger than header_max. Written: sections in order, parameters in the order of struct params,
 * without the padding that the parameter buffer has between them.
 *
 * Values go through one piece of 4 MiB, whatever the model's size. A file is read through one descriptor, so renaming
 * another into its place changes nothing; that nobody alters it in place between the digest and the values is assumed.
 */
#include "engine/checkpoint.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#define FORMAT "mulund-1"
#define PIECE_VALUES ((int64_t)1 << 20)
#define PIECE_BYTES ((size_t)PIECE_VALUES * sizeof(float))
#define ALIGN 64
#define TENSOR_NAME_MAX (PARAM_NAME_MAX + 8)
#define PARAMS_MAX 16384 /* of the largest model that is listed: 256 blocks have 6,000 */

static_assert(__BYTE_ORDER == __LITTLE_ENDIAN && sizeof(float) == 4, "values are copied as they are");

const char *const section_names[] = {"params", "ema", "m", "v"};
static_assert(ARRAY_LEN(section_names) == SECTION_N, "a name a section");

/* Several times what a whole header of this model takes (NULL: of any); bounds what a hostile one makes us allocate. */
static size_t header_max(const struct params *p)
{
        return ((size_t)1 << 20) + SECTION_N * (p ? p->n : PARAMS_MAX) * (TENSOR_NAME_MAX + 256);
}

static void tensor_name(enum section s, const struct param *q, char ret[TENSOR_NAME_MAX])
{
        (void)snprintf(ret, TENSOR_NAME_MAX, "%s/%s", section_names[s], q->name);
}

/* ---- writing */

static int add_metadata(json_t *root, const struct config *c, int64_t step, const char *state, const char *path,
                        struct error *err)
{
        _cleanup_json_ json_t *config = config_to_json(c);
        _cleanup_(freep) char *text = config ? json_to_text(config) : NULL;
        char digits[24];

        (void)snprintf(digits, sizeof digits, "%" PRId64, step);
        if (!text || json_object_set_new(root, "__metadata__",
                                         json_pack("{s:s, s:s, s:s, s:s*}", "format", FORMAT, "step", digits, "config",
                                                   text, "state", state)) < 0)
                return error_set(err, -ENOMEM, path, "no memory for its header");
        return 0;
}

static int add_tensor(json_t *root, enum section s, const struct param *q, int64_t begin, const char *path,
                      struct error *err)
{
        json_t *shape = json_array();
        char name[TENSOR_NAME_MAX];
        int r = shape ? 0 : -1;

        for (int i = 0; i < q->n_dims && r == 0; i++)
                r = json_array_append_new(shape, json_integer(q->shape[i]));
        tensor_name(s, q, name);
        if (r < 0 ||
            json_object_set_new(root, name,
                                json_pack("{s:s, s:O, s:[I, I]}", "dtype", "F32", "shape", shape, "data_offsets",
                                          (json_int_t)begin, (json_int_t)(begin + 4 * q->size))) < 0)
                r = error_set(err, -ENOMEM, path, "no memory for its header");
        json_decref(shape);
        return r;
}

/* The size, the JSON text and its padding. */
static int make_header(const struct params *p, const struct config *c, int64_t step, const char *state,
                       const char *path, struct buf *ret, struct error *err)
{
        _cleanup_json_ json_t *root = json_object();
        _cleanup_(freep) char *text = NULL;
        static const char spaces[ALIGN + 1] = "                                                                ";
        int64_t begin = 0;
        uint64_t size, le;
        struct error inner;
        int r;

        if (!root)
                return error_set(err, -ENOMEM, path, "no memory for its header");
        r = add_metadata(root, c, step, state, path, err);
        for (int s = 0; s < SECTION_N && r >= 0; s++)
                for (size_t i = 0; i < p->n && r >= 0; i++) {
                        r = add_tensor(root, (enum section)s, &p->items[i], begin, path, err);
                        begin += 4 * p->items[i].size;
                }
        if (r < 0)
                return r;
        text = json_to_text(root);
        if (!text)
                return error_set(err, -ENOMEM, path, "no memory for its header");
        size = (8 + strlen(text) + ALIGN - 1) / ALIGN * ALIGN - 8;
        le = htole64(size);
        r = buf_append(ret, &le, sizeof le, &inner);
        if (r >= 0)
                r = buf_append(ret, text, strlen(text), &inner);
        if (r >= 0)
                r = buf_append(ret, spaces, size - strlen(text), &inner);
        return r < 0 ? error_set(err, r, path, "its header: %s", inner.text) : 0;
}

int checkpoint_write(const char *path, const struct params *p, const struct config *c, int64_t step, const char *state,
                     const struct checkpoint_io *io, char ret_digest[DIGEST_SIZE], int64_t *ret_bytes,
                     struct error *err)
{
        _cleanup_(buf_done) struct buf header = BUF_INIT(header_max(p) + 8);
        _cleanup_(freep) float *piece = malloc(PIECE_BYTES);
        _cleanup_(file_writer_freep) struct file_writer *w = NULL;
        int r;

        assert(step >= 0);
        if (!piece)
                return error_set(err, -ENOMEM, path, "no memory to write it");
        r = make_header(p, c, step, state, path, &header, err);
        if (r >= 0)
                r = file_writer_new(path, &w, err);
        if (r >= 0)
                r = file_writer_append(w, header.data, header.size, err);
        for (int s = 0; s < SECTION_N && r >= 0; s++)
                for (size_t i = 0; i < p->n && r >= 0; i++) {
                        const struct param *q = &p->items[i];

                        for (int64_t done = 0, n; done < q->size && r >= 0; done += n) {
                                n = MIN(PIECE_VALUES, q->size - done);
                                r = io->read(io->user, (enum section)s, q->offset + done, n, piece, err);
                                if (r >= 0)
                                        r = file_writer_append(w, piece, (size_t)n * sizeof *piece, err);
                        }
                }
        return r < 0 ? r : file_writer_commit(w, ret_digest, ret_bytes, err);
}

/* ---- reading */

struct reader {
        const char *path;
        int fd;
        int64_t file_bytes, data_start;
        const struct params *p;
        int64_t *begin; /* [SECTION_N, p->n], bytes from data_start */
        float *piece;
};

static void reader_done(struct reader *x)
{
        closep(&x->fd);
        free(x->begin);
        free(x->piece);
}

/* What is quoted from the file is no text yet: all but printable ASCII becomes '?'. */
static int altered(const struct reader *x, struct error *err, const char *fmt, ...) _printf_(3, 4);
static int altered(const struct reader *x, struct error *err, const char *fmt, ...)
{
        char text[sizeof err->text];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        for (char *c = text; *c; c++)
                if (*c < ' ' || *c > '~')
                        *c = '?';
        return error_set(err, -EBADMSG, x->path, "%s", text);
}

/* The size of what x->fd is, which must be a file. */
static int reader_stat(struct reader *x, struct error *err)
{
        struct stat st;

        if (fstat(x->fd, &st) < 0)
                return error_set(err, -errno, x->path, "cannot be read: %s", strerror(errno));
        if (!S_ISREG(st.st_mode))
                return altered(x, err, "is not a regular file; expected a checkpoint");
        x->file_bytes = st.st_size;
        return 0;
}

static int reader_open(struct reader *x, struct error *err)
{
        int r;

        x->fd = open(x->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (x->fd < 0)
                return error_set(err, -errno, x->path, "cannot be opened: %s", strerror(errno));
        r = reader_stat(x, err);
        if (r < 0)
                return r;
        x->begin = calloc(SECTION_N * x->p->n + 1, sizeof *x->begin);
        x->piece = malloc((size_t)MIN((int64_t)PIECE_BYTES, x->file_bytes) + 1); /* no piece is longer than the file */
        return x->begin && x->piece ? 0 : error_set(err, -ENOMEM, x->path, "no memory to read it");
}

static int check_digest(const struct reader *x, const char *digest, struct error *err)
{
        XXH3_state_t *state = XXH3_createState();
        char found[DIGEST_SIZE];
        XXH128_hash_t h;
        int r = 0;

        if (!state)
                return error_set(err, -ENOMEM, x->path, "no memory to read it");
        (void)XXH3_128bits_reset(state);
        for (int64_t at = 0, n; at < x->file_bytes && r >= 0; at += n) {
                n = MIN((int64_t)PIECE_BYTES, x->file_bytes - at);
                r = file_read_at(x->fd, x->path, at, x->piece, (size_t)n, err);
                if (r >= 0)
                        (void)XXH3_128bits_update(state, x->piece, (size_t)n);
        }
        h = XXH3_128bits_digest(state);
        (void)XXH3_freeState(state);
        if (r < 0)
                return r;
        (void)snprintf(found, sizeof found, "%016" PRIx64 "%016" PRIx64, (uint64_t)h.high64, (uint64_t)h.low64);
        if (strcmp(found, digest))
                return altered(x, err, "its XXH128 is %s, expected %s: it was altered or cut", found, digest);
        return 0;
}

static int read_header(struct reader *x, json_t **ret, struct error *err)
{
        _cleanup_(freep) char *text = NULL;
        json_error_t je;
        uint64_t le, size;
        int r;

        if (x->file_bytes < 8)
                return altered(x, err, "has %" PRId64 " bytes; expected at least the 8 of a header's size",
                               x->file_bytes);
        r = file_read_at(x->fd, x->path, 0, &le, sizeof le, err);
        if (r < 0)
                return r;
        size = le64toh(le);
        if (size > (uint64_t)x->file_bytes - 8)
                return altered(x, err, "its header should have %" PRIu64 " bytes, but the file has %" PRId64 " in all",
                               size, x->file_bytes);
        if (size > header_max(x->p))
                return altered(x, err, "its header has %" PRIu64 " bytes; expected at most %zu", size,
                               header_max(x->p));
        text = malloc((size_t)size + 1);
        if (!text)
                return error_set(err, -ENOMEM, x->path, "no memory to read it");
        r = file_read_at(x->fd, x->path, 8, text, (size_t)size, err);
        if (r < 0)
                return r;
        /* not json_parse: a name twice must not hide the first */
        if (memchr(text, 0, (size_t)size))
                return altered(x, err, "its header holds a NUL byte");
        *ret = json_loadb(text, (size_t)size, JSON_REJECT_DUPLICATES, &je);
        if (!*ret)
                return altered(x, err, "its header is not JSON: line %d, column %d: %s", je.line, je.column, je.text);
        x->data_start = 8 + (int64_t)size;
        return json_is_object(*ret) ? 0 : altered(x, err, "its header is not a JSON object");
}

/* ret_config may be NULL: then it is checked alone. */
static int take_metadata(const struct reader *x, json_t *root, int64_t *ret_step, char **ret_state, json_t **ret_config,
                         struct error *err)
{
        static const char *const keys[] = {"format", "step", "config", "state", NULL};
        const char *value[3], *state = NULL, *where = "/__metadata__";
        _cleanup_json_ json_t *config = NULL;
        char digits[24];
        struct error inner;
        long long step;
        json_t *m;
        int r = json_get_container(root, "", "__metadata__", JSON_OBJECT, &m, &inner);

        if (r == 0)
                return altered(x, err, "its header has no __metadata__");
        if (r > 0)
                r = json_only_keys(m, where, keys, &inner);
        for (size_t i = 0; i < 3 && r >= 0; i++) {
                r = json_get_string(m, where, keys[i], header_max(x->p), &value[i], &inner);
                if (r == 0)
                        return altered(x, err, "its header has no %s/%s", where, keys[i]);
        }
        if (r >= 0)
                r = json_get_string(m, where, "state", header_max(x->p), &state, &inner);
        if (r < 0)
                return altered(x, err, "its header: %s: %s", inner.path, inner.text);
        if (strcmp(value[0], FORMAT))
                return altered(x, err, "its format is \"%.40s\", expected \"" FORMAT "\"", value[0]);
        step = strtoll(value[1], NULL, 10);
        (void)snprintf(digits, sizeof digits, "%lld", step);
        if (step < 0 || strcmp(digits, value[1]))
                return altered(x, err, "its step is \"%.40s\", expected a number of steps", value[1]);
        if (json_parse(value[2], strlen(value[2]), &config, NULL) < 0 || !json_is_object(config))
                return altered(x, err, "its configuration is no JSON object");
        *ret_state = state ? strdup(state) : NULL;
        if (state && !*ret_state)
                return error_set(err, -ENOMEM, x->path, "no memory for its state");
        *ret_step = step;
        if (ret_config)
                *ret_config = TAKE_PTR(config);
        return json_object_del(root, "__metadata__");
}

static bool shape_is(const json_t *shape, const struct param *q)
{
        if (json_array_size(shape) != (size_t)q->n_dims)
                return false;
        for (int i = 0; i < q->n_dims; i++) {
                const json_t *v = json_array_get(shape, (size_t)i);

                if (!json_is_integer(v) || json_integer_value(v) != q->shape[i])
                        return false;
        }
        return true;
}

static int shape_wrong(const struct reader *x, const char *name, const json_t *shape, const struct param *q,
                       struct error *err)
{
        _cleanup_(freep) char *found = json_to_text(shape);
        char expected[4 * 21 + 1] = "";

        for (int i = 0, n = 0; i < q->n_dims; i++)
                n += snprintf(expected + n, sizeof expected - (size_t)n, "%s%" PRId64, i ? "," : "", q->shape[i]);
        return altered(x, err, "%s has shape %.80s, expected [%s]", name, found ? found : "?", expected);
}

/* A tensor of the header: borrowed from root. */
static int find_tensor(const struct reader *x, const json_t *root, const char *name, json_t **ret_shape,
                       json_t **ret_offsets, struct error *err)
{
        static const char *const keys[] = {"dtype", "shape", "data_offsets", NULL};
        char where[TENSOR_NAME_MAX + 16];
        const char *dtype = "";
        struct error inner = {0};
        json_t *t;
        int r;

        (void)snprintf(where, sizeof where, "%s", name);
        *ret_shape = *ret_offsets = NULL;
        r = json_get_container(root, "", name, JSON_OBJECT, &t, &inner);
        if (r == 0)
                return altered(x, err, "has no tensor %s", name);
        if (r > 0)
                r = json_only_keys(t, where, keys, &inner);
        if (r >= 0)
                r = json_get_string(t, where, "dtype", 16, &dtype, &inner);
        if (r >= 0)
                r = json_get_container(t, where, "shape", JSON_ARRAY, ret_shape, &inner);
        if (r >= 0)
                r = json_get_container(t, where, "data_offsets", JSON_ARRAY, ret_offsets, &inner);
        if (r < 0)
                return altered(x, err, "its header: %s: %s", inner.path, inner.text);
        return strcmp(dtype, "F32") ? altered(x, err, "%s has dtype \"%s\", expected F32", name, dtype) : 0;
}

/* Where its values begin, which are `size`. */
static int take_offsets(const struct reader *x, const char *name, const json_t *offsets, int64_t size,
                        int64_t *ret_begin, struct error *err)
{
        int64_t begin, end;

        if (json_array_size(offsets) != 2 || !json_is_integer(json_array_get(offsets, 0)) ||
            !json_is_integer(json_array_get(offsets, 1)))
                return altered(x, err, "%s has no two data_offsets", name);
        begin = json_integer_value(json_array_get(offsets, 0));
        end = json_integer_value(json_array_get(offsets, 1));
        if (begin < 0 || end < begin || end - begin != 4 * size)
                return altered(x, err, "%s has data_offsets [%" PRId64 ", %" PRId64 "], expected %" PRId64 " bytes",
                               name, begin, end, 4 * size);
        if (end > x->file_bytes - x->data_start)
                return altered(x, err,
                               "%s ends at byte %" PRId64 " of the data, which has %" PRId64 ": the file is cut", name,
                               end, x->file_bytes - x->data_start);
        *ret_begin = begin;
        return 0;
}

/* Takes the tensor's entry out of root. */
static int take_tensor(const struct reader *x, json_t *root, enum section s, const struct param *q, int64_t *ret_begin,
                       struct error *err)
{
        char name[TENSOR_NAME_MAX];
        json_t *shape, *offsets;
        int r;

        tensor_name(s, q, name);
        r = find_tensor(x, root, name, &shape, &offsets, err);
        if (r >= 0 && (!shape || !shape_is(shape, q)))
                r = shape_wrong(x, name, shape, q, err);
        if (r >= 0)
                r = take_offsets(x, name, offsets, q->size, ret_begin, err);
        return r < 0 ? r : json_object_del(root, name);
}

struct extent {
        int64_t begin, end;
};

static int by_begin(const void *a, const void *b)
{
        const struct extent *x = a, *y = b;

        if (x->begin != y->begin)
                return x->begin < y->begin ? -1 : 1;
        return (x->end > y->end) - (x->end < y->end); /* what is empty comes before what begins there */
}

/* Every byte of the data belongs to one of the n tensors, which are sorted for it. */
static int check_tiling(const struct reader *x, struct extent *extents, size_t n, struct error *err)
{
        int64_t at = 0, data_bytes = x->file_bytes - x->data_start;

        qsort(extents, n, sizeof *extents, by_begin);
        for (size_t i = 0; i < n; i++) {
                if (extents[i].begin != at)
                        return altered(x, err, "its tensors %s at byte %" PRId64 " of the data",
                                       extents[i].begin < at ? "overlap" : "leave a gap", MIN(at, extents[i].begin));
                at = extents[i].end;
        }
        if (at != data_bytes)
                return altered(x, err, "has %" PRId64 " bytes of data, expected %" PRId64, data_bytes, at);
        return 0;
}

static int check_model_tiling(const struct reader *x, struct error *err)
{
        size_t n = SECTION_N * x->p->n;
        _cleanup_(freep) struct extent *extents = calloc(n + 1, sizeof *extents);

        if (!extents)
                return error_set(err, -ENOMEM, x->path, "no memory to read it");
        for (size_t i = 0; i < n; i++)
                extents[i] = (struct extent){x->begin[i], x->begin[i] + 4 * x->p->items[i % x->p->n].size};
        return check_tiling(x, extents, n, err);
}

static int check_header(struct reader *x, int64_t *ret_step, char **ret_state, struct error *err)
{
        _cleanup_json_ json_t *root = NULL;
        const char *key;
        int r = read_header(x, &root, err);

        if (r >= 0)
                r = take_metadata(x, root, ret_step, ret_state, NULL, err);
        for (int s = 0; s < SECTION_N && r >= 0; s++)
                for (size_t i = 0; i < x->p->n && r >= 0; i++)
                        r = take_tensor(x, root, (enum section)s, &x->p->items[i], &x->begin[(size_t)s * x->p->n + i],
                                        err);
        if (r < 0)
                return r;
        /* what nobody took */
        key = json_object_iter_key(json_object_iter(root));
        if (key)
                return altered(x, err, "has a tensor %.100s, which the model has not", key);
        return check_model_tiling(x, err);
}

int checkpoint_peek(const char *path, const struct params *p, int64_t *ret_step, char **ret_state, struct error *err)
{
        _cleanup_(reader_done) struct reader x = {.path = path, .fd = -1, .p = p};
        _cleanup_json_ json_t *root = NULL;
        int r = reader_open(&x, err);

        if (r >= 0)
                r = read_header(&x, &root, err);
        return r < 0 ? r : take_metadata(&x, root, ret_step, ret_state, NULL, err);
}

int checkpoint_read(const char *path, const char *digest, const struct params *p, unsigned sections,
                    const struct checkpoint_io *io, int64_t *ret_step, char **ret_state, struct error *err)
{
        _cleanup_(freep) char *state = NULL;
        _cleanup_(reader_done) struct reader x = {.path = path, .fd = -1, .p = p};
        int64_t step = 0;
        int r = reader_open(&x, err);

        if (r >= 0 && digest[0])
                r = check_digest(&x, digest, err);
        if (r >= 0)
                r = check_header(&x, &step, &state, err);
        for (int s = 0; s < SECTION_N && r >= 0; s++)
                for (size_t i = 0; i < p->n && r >= 0 && sections >> s & 1; i++) {
                        const struct param *q = &p->items[i];
                        int64_t from = x.data_start + x.begin[(size_t)s * p->n + i];

                        for (int64_t done = 0, n; done < q->size && r >= 0; done += n) {
                                n = MIN(PIECE_VALUES, q->size - done);
                                r = file_read_at(x.fd, path, from + 4 * done, x.piece, (size_t)n * sizeof *x.piece,
                                                 err);
                                if (r >= 0)
                                        r = io->write(io->user, (enum section)s, q->offset + done, n, x.piece, err);
                        }
                }
        if (r < 0)
                return r;
        *ret_step = step;
        if (ret_state)
                *ret_state = TAKE_PTR(state);
        return 0;
}

/* ---- listing */

void checkpoint_list_done(struct checkpoint_list *l)
{
        free(l->items);
        json_decref(l->config);
        *l = (struct checkpoint_list){0};
}

/* The tensor's name, shape and place from the header. */
static int list_tensor(const struct reader *x, const json_t *root, const char *name, struct checkpoint_tensor *ret,
                       struct extent *ret_extent, struct error *err)
{
        json_t *shape, *offsets, *v;
        size_t i;
        int r = find_tensor(x, root, name, &shape, &offsets, err);

        if (r < 0)
                return r;
        ret->size = 1;
        ret->n_dims = (int)json_array_size(shape);
        if (!shape || json_array_size(shape) > ARRAY_LEN(ret->shape) || strlen(name) >= sizeof ret->name)
                return altered(x, err, "%.100s is no tensor of a checkpoint", name);
        json_array_foreach(shape, i, v)
        {
                ret->shape[i] = json_integer_value(v);
                if (!json_is_integer(v) || ret->shape[i] < 1 ||
                    __builtin_mul_overflow(ret->size, ret->shape[i], &ret->size) || ret->size > x->file_bytes)
                        return altered(x, err, "%s has no shape", name);
        }
        (void)snprintf(ret->name, sizeof ret->name, "%s", name);
        r = take_offsets(x, name, offsets, ret->size, &ret->at, err);
        *ret_extent = (struct extent){ret->at, ret->at + 4 * ret->size};
        ret->at += x->data_start;
        return r;
}

static int list_tensors(const struct reader *x, json_t *root, struct checkpoint_list *l, struct error *err)
{
        size_t n = json_object_size(root);
        _cleanup_(freep) struct extent *extents = calloc(n + 1, sizeof *extents);
        const char *key;
        json_t *value;

        l->items = calloc(n + 1, sizeof *l->items);
        if (!extents || !l->items)
                return error_set(err, -ENOMEM, x->path, "no memory to read it");
        json_object_foreach(root, key, value)
        {
                int r = list_tensor(x, root, key, &l->items[l->n], &extents[l->n], err);

                if (r < 0)
                        return r;
                l->n++;
        }
        return check_tiling(x, extents, n, err);
}

int checkpoint_list(int fd, const char *path, struct checkpoint_list *ret, struct error *err)
{
        _cleanup_(checkpoint_list_done) struct checkpoint_list l = {0};
        _cleanup_(freep) char *state = NULL;
        _cleanup_json_ json_t *root = NULL;
        struct reader x = {.path = path, .fd = fd};
        int r = reader_stat(&x, err);

        if (r >= 0)
                r = read_header(&x, &root, err);
        if (r < 0)
                return r;
        r = take_metadata(&x, root, &l.step, &state, &l.config, err);
        if (r >= 0)
                r = list_tensors(&x, root, &l, err);
        if (r < 0)
                return r;
        *ret = l;
        l = (struct checkpoint_list){0};
        return 0;
}
