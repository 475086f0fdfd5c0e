#include "engine/formats/flax.h"

#include "base/array.h"
#include "base/file.h"
#include "engine/formats/msgpack.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define KEYS_MAX ((size_t)16 << 20)
#define DTYPE_NAME_MAX 16
#define CONVERTED 4096 /* values at once that are not float32 in the file */
#define PATH_SHOWN 200

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are copied as they are");

const char *const flax_dtype_names[] = {"bool",     "int8",    "int16",   "int32",     "int64",
                                        "uint8",    "uint16",  "uint32",  "uint64",    "float16",
                                        "bfloat16", "float32", "float64", "complex64", "complex128"};
static const int dtype_bytes[] = {1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 2, 4, 8, 8, 16};
static_assert(ARRAY_LEN(flax_dtype_names) == FLAX_N_DTYPES && ARRAY_LEN(dtype_bytes) == FLAX_N_DTYPES, "a row a dtype");

/* Values of an array that lie together in the file. */
struct piece {
        int64_t at, n;
};

struct flax_file {
        char *path;
        int fd;
        struct piece *pieces;
        size_t n_pieces, pieces_room, nodes_room;
        struct key_block *keys;
        size_t keys_bytes;
        struct msgpack_reader *reader; /* while the tree is read */
};

/* Keys lie in blocks, so that they stay where they are. */
struct key_block {
        struct key_block *next;
        size_t used;
        char bytes[1 << 15];
};

/* ---- the path of a value, for errors */

/* What is quoted from a file is no text yet. */
static void make_printable(char *s)
{
        for (; *s; s++)
                *s = *s < ' ' || *s > '~' ? '?' : *s;
}

void flax_path(const struct flax *f, const struct flax_node *n, char *ret, size_t size)
{
        const struct flax_node *chain[FLAX_DEPTH_MAX + 2];
        int depth = 0, used = 0;

        ret[0] = 0;
        for (; n != f->nodes && depth < (int)ARRAY_LEN(chain); n = &f->nodes[n->parent])
                chain[depth++] = n;
        while (depth-- && used < (int)size)
                used += snprintf(ret + used, size - (size_t)used, "/%s", chain[depth]->key);
        make_printable(ret);
}

/* At a value: its path and offset before what is wrong. */
static int wrong(const struct flax *f, size_t node, int64_t at, struct error *err, const char *fmt, ...) _printf_(5, 6);
static int wrong(const struct flax *f, size_t node, int64_t at, struct error *err, const char *fmt, ...)
{
        char where[PATH_SHOWN], text[sizeof err->text];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        flax_path(f, &f->nodes[node], where, sizeof where);
        make_printable(text);
        return error_set(err, -EBADMSG, f->file->path, "%s%sbyte %" PRId64 ": %.150s", where, where[0] ? ", " : "", at,
                         text);
}

static int no_memory(const struct flax *f, struct error *err)
{
        return error_set(err, -ENOMEM, f->file->path, "no memory for its tree");
}

/* What the parser says, at this value. */
static int inside(const struct flax *f, size_t node, int r, const struct error *inner, struct error *err)
{
        char where[PATH_SHOWN];

        flax_path(f, &f->nodes[node], where, sizeof where);
        return error_set(err, r, f->file->path, "%s%s%.150s", where, where[0] ? ", " : "", inner->text);
}

static int next(struct flax *f, size_t node, struct msgpack_token *t, struct error *err)
{
        struct error inner;
        int r = msgpack_next(f->file->reader, t, &inner);

        return r < 0 ? inside(f, node, r, &inner, err) : 0;
}

static int bytes(struct flax *f, size_t node, void *ret, size_t n, struct error *err)
{
        struct error inner;
        int r = msgpack_bytes(f->file->reader, ret, n, &inner);

        return r < 0 ? inside(f, node, r, &inner, err) : 0;
}

/* ---- the tree */

static char *keep_key(struct flax_file *x, size_t n)
{
        struct key_block *b = x->keys;
        char *at;

        if (!b || b->used + n > sizeof b->bytes) {
                b = malloc(sizeof *b);
                if (!b)
                        return NULL;
                b->next = x->keys;
                b->used = 0;
                x->keys = b;
        }
        at = b->bytes + b->used;
        b->used += n;
        x->keys_bytes += n;
        return at;
}

/* A node with a key of n bytes and a NUL, to be filled in. */
static int add_node(struct flax *f, size_t parent, size_t key_bytes, int64_t at, size_t *ret, char **ret_key,
                    struct error *err)
{
        char *key;

        if (f->n_nodes == FLAX_NODES_MAX || f->file->keys_bytes + key_bytes >= KEYS_MAX)
                return wrong(f, parent, at, err, "more values than the %zu of any checkpoint", FLAX_NODES_MAX);
        key = keep_key(f->file, key_bytes + 1);
        if (!key || !array_grow(&f->nodes, f->n_nodes, &f->file->nodes_room, sizeof *f->nodes))
                return no_memory(f, err);
        memset(key, 0, key_bytes + 1);
        f->nodes[f->n_nodes] = (struct flax_node){.key = key, .parent = parent, .at = at};
        *ret = f->n_nodes++;
        *ret_key = key;
        return 0;
}

static int add_piece(struct flax *f, int64_t at, int64_t n, struct error *err)
{
        struct flax_file *x = f->file;

        if (!array_grow(&x->pieces, x->n_pieces, &x->pieces_room, sizeof *x->pieces))
                return no_memory(f, err);
        x->pieces[x->n_pieces++] = (struct piece){at, n};
        return 0;
}

/* Takes a dimension into the shape; false where the number of values passes what a file can hold. */
static bool add_dimension(struct flax_node *q, int64_t d)
{
        if (d < 0 || q->n_dims == FLAX_DIMS_MAX || __builtin_mul_overflow(q->size, d, &q->size))
                return false;
        q->shape[q->n_dims++] = d;
        return true;
}

static int read_shape(struct flax *f, size_t node, struct error *err)
{
        struct msgpack_token t;
        int r = next(f, node, &t, err);
        int64_t n = t.size;

        if (r < 0)
                return r;
        if (t.type != MSGPACK_LIST)
                return wrong(f, node, t.at, err, "an array's shape is %s", msgpack_type_names[t.type]);
        f->nodes[node].size = 1;
        for (int64_t i = 0; i < n; i++) {
                r = next(f, node, &t, err);
                if (r < 0)
                        return r;
                if (t.type != MSGPACK_INT || !add_dimension(&f->nodes[node], t.integer))
                        return wrong(f, node, t.at, err, "an array's shape is none");
        }
        return 0;
}

static int read_dtype(struct flax *f, size_t node, struct error *err)
{
        char name[DTYPE_NAME_MAX + 1] = "";
        struct msgpack_token t;
        int r = next(f, node, &t, err);

        if (r < 0)
                return r;
        if ((t.type != MSGPACK_TEXT && t.type != MSGPACK_BYTES) || t.size > DTYPE_NAME_MAX)
                return wrong(f, node, t.at, err, "an array's dtype is no name");
        r = bytes(f, node, name, (size_t)t.size, err);
        for (int i = 0; i < FLAX_N_DTYPES && r >= 0; i++)
                if (strlen(name) == (size_t)t.size && !strcmp(name, flax_dtype_names[i])) {
                        f->nodes[node].dtype = (enum flax_dtype)i;
                        return 0;
                }
        return r < 0 ? r : wrong(f, node, t.at, err, "its dtype %s is not known", name);
}

/* The body of an extension of type 1 or 3. */
static int read_array(struct flax *f, size_t node, struct error *err)
{
        struct flax_node *q;
        struct msgpack_token t;
        int64_t expected;
        int r = next(f, node, &t, err);

        if (r >= 0 && (t.type != MSGPACK_LIST || t.size != 3))
                return wrong(f, node, t.at, err, "an array is %s, expected shape, dtype and bytes",
                             msgpack_type_names[t.type]);
        if (r >= 0)
                r = read_shape(f, node, err);
        if (r >= 0)
                r = read_dtype(f, node, err);
        if (r >= 0)
                r = next(f, node, &t, err);
        if (r < 0)
                return r;
        q = &f->nodes[node];
        if (t.type != MSGPACK_BYTES && t.type != MSGPACK_TEXT)
                return wrong(f, node, t.at, err, "an array's values are %s", msgpack_type_names[t.type]);
        if (__builtin_mul_overflow(q->size, (int64_t)dtype_bytes[q->dtype], &expected) || expected != t.size)
                return wrong(f, node, t.at, err,
                             "its values have %" PRId64 " bytes, which its shape and dtype %s do not", t.size,
                             flax_dtype_names[q->dtype]);
        q->type = FLAX_ARRAY;
        q->first_piece = f->file->n_pieces;
        q->n_pieces = 1;
        r = add_piece(f, f->file->reader->at, q->size, err);
        msgpack_pass(f->file->reader, t.size);
        return r;
}

static int read_complex(struct flax *f, size_t node, struct error *err)
{
        struct msgpack_token t;
        int r = next(f, node, &t, err);

        if (r >= 0 && (t.type != MSGPACK_LIST || t.size != 2))
                return wrong(f, node, t.at, err, "a complex number is no list of two");
        for (int i = 0; i < 2 && r >= 0; i++) {
                r = next(f, node, &t, err);
                if (r >= 0 && t.type != MSGPACK_REAL && t.type != MSGPACK_INT)
                        return wrong(f, node, t.at, err, "a part of a complex number is %s",
                                     msgpack_type_names[t.type]);
        }
        return r;
}

static int read_ext(struct flax *f, size_t node, const struct msgpack_token *t, struct error *err)
{
        struct msgpack_reader *reader = f->file->reader;
        int64_t end = reader->end;
        int r;

        reader->end = reader->at + t->size;
        if (t->ext == FLAX_EXT_ARRAY || t->ext == FLAX_EXT_SCALAR)
                r = read_array(f, node, err);
        else if (t->ext == FLAX_EXT_COMPLEX)
                r = read_complex(f, node, err);
        else
                return wrong(f, node, t->at, err, "an extension of type %d is none of flax", t->ext);
        if (r >= 0 && reader->at != reader->end)
                r = wrong(f, node, reader->at, err, "an extension has bytes behind its value");
        reader->end = end;
        return r;
}

static int read_value(struct flax *f, size_t node, int depth, struct error *err);

/* A child of `parent` is linked behind the one before it. */
static void link_child(struct flax *f, size_t parent, size_t previous, size_t child)
{
        if (previous)
                f->nodes[previous].next = child;
        else
                f->nodes[parent].first = child;
        f->nodes[parent].n_children++;
}

static int read_key(struct flax *f, size_t parent, size_t *ret, struct error *err)
{
        struct msgpack_token t;
        char *key;
        int r = next(f, parent, &t, err);

        if (r < 0)
                return r;
        if (t.type != MSGPACK_TEXT || t.size > FLAX_KEY_MAX)
                return wrong(f, parent, t.at, err, "a key is %s%s", msgpack_type_names[t.type],
                             t.type == MSGPACK_TEXT ? " longer than any" : "; expected a text");
        r = add_node(f, parent, (size_t)t.size, t.at, ret, &key, err);
        if (r >= 0)
                r = bytes(f, parent, key, (size_t)t.size, err);
        if (r >= 0 && strlen(key) != (size_t)t.size)
                r = wrong(f, parent, t.at, err, "a key holds a NUL");
        return r;
}

static int by_key(const void *a, const void *b)
{
        const struct flax_node *const *x = a, *const *y = b;

        return strcmp((*x)->key, (*y)->key);
}

static int check_keys(const struct flax *f, size_t parent, struct error *err)
{
        size_t n = f->nodes[parent].n_children, i = 0;
        _cleanup_(freep) const struct flax_node **sorted = calloc(n + 1, sizeof *sorted);

        if (!sorted)
                return no_memory(f, err);
        for (size_t child = f->nodes[parent].first; child; child = f->nodes[child].next)
                sorted[i++] = &f->nodes[child];
        qsort(sorted, n, sizeof *sorted, by_key);
        for (i = 1; i < n; i++)
                if (!strcmp(sorted[i - 1]->key, sorted[i]->key))
                        return wrong(f, (size_t)(sorted[i] - f->nodes), MAX(sorted[i]->at, sorted[i - 1]->at), err,
                                     "this key occurs twice");
        return 0;
}

static int read_children(struct flax *f, size_t node, int64_t n, int depth, struct error *err)
{
        bool list = f->nodes[node].type == FLAX_LIST;
        size_t previous = 0, child;
        int r = 0;

        for (int64_t i = 0; i < n && r >= 0; i++, previous = child) {
                char number[24], *key;

                if (list) {
                        int digits = snprintf(number, sizeof number, "%" PRId64, i);

                        r = add_node(f, node, (size_t)digits, f->file->reader->at, &child, &key, err);
                        if (r >= 0)
                                memcpy(key, number, (size_t)digits);
                } else {
                        r = read_key(f, node, &child, err);
                }
                if (r < 0)
                        return r;
                link_child(f, node, previous, child);
                r = read_value(f, child, depth + 1, err);
        }
        return r < 0 || list ? r : check_keys(f, node, err);
}

static const struct flax_node *child_of(const struct flax *f, const struct flax_node *n, const char *key, size_t size)
{
        for (size_t child = n->first; child; child = f->nodes[child].next)
                if (strlen(f->nodes[child].key) == size && !memcmp(f->nodes[child].key, key, size))
                        return &f->nodes[child];
        return NULL;
}

/* The children of a map whose keys are 0 to n - 1, by their numbers, whatever their order; *ret is the caller's to
 * free. -EINVAL: they are others. */
static int number_children(const struct flax *f, const struct flax_node *n, const struct flax_node ***ret)
{
        _cleanup_(freep) const struct flax_node **by_number = calloc(n->n_children + 1, sizeof *by_number);

        if (!by_number)
                return -ENOMEM;
        for (size_t child = n->first; child; child = f->nodes[child].next) {
                const char *key = f->nodes[child].key;
                size_t i = strtoull(key, NULL, 10);
                char digits[24];

                (void)snprintf(digits, sizeof digits, "%zu", i);
                if (i >= n->n_children || strcmp(digits, key) != 0)
                        return -EINVAL;
                by_number[i] = &f->nodes[child]; /* no key is there twice, so that all are filled */
        }
        *ret = TAKE_PTR(by_number);
        return 0;
}

static void hide(struct flax *f, size_t node)
{
        for (size_t child = f->nodes[node].first; child; child = f->nodes[child].next) {
                f->nodes[child].hidden = true;
                hide(f, child);
        }
}

static int join_shape(struct flax *f, size_t node, const struct flax_node *shape, struct error *err)
{
        _cleanup_(freep) const struct flax_node **dimensions = NULL;
        struct flax_node *q = &f->nodes[node];
        int r = number_children(f, shape, &dimensions);

        q->size = 1;
        for (size_t i = 0; i < shape->n_children && r >= 0; i++)
                if (!dimensions[i]->is_integer || !add_dimension(q, dimensions[i]->integer))
                        r = -EINVAL;
        if (r == -ENOMEM)
                return no_memory(f, err);
        return r < 0 ? wrong(f, node, shape->at, err, "a chunked array's shape is none") : 0;
}

/* The chunks' places in the file as the array's pieces. */
static int join_pieces(struct flax *f, size_t node, const struct flax_node *chunks, struct error *err)
{
        _cleanup_(freep) const struct flax_node **numbered = NULL;
        struct flax_node *q = &f->nodes[node];
        int64_t size = 0;
        int r = number_children(f, chunks, &numbered);

        if (r < 0)
                return r == -ENOMEM ? no_memory(f, err)
                                    : wrong(f, node, chunks->at, err, "its chunks are not numbered from 0");
        q->first_piece = f->file->n_pieces;
        q->n_pieces = chunks->n_children;
        for (size_t i = 0; i < chunks->n_children && r >= 0; i++) {
                const struct flax_node *c = numbered[i];

                if (c->type != FLAX_ARRAY || c->n_dims != 1 || c->n_pieces != 1 || (i && c->dtype != q->dtype))
                        return wrong(f, node, c->at, err, "chunk %zu is no vector of the first chunk's dtype", i);
                q->dtype = c->dtype;
                size += c->size;
                r = add_piece(f, f->file->pieces[c->first_piece].at, c->size, err);
        }
        if (r >= 0 && size != q->size)
                r = wrong(f, node, q->at, err, "its chunks hold %" PRId64 " values, its shape %" PRId64, size, q->size);
        return r;
}

/* A map with the mark of a chunked array becomes that array. */
static int join_chunks(struct flax *f, size_t node, struct error *err)
{
        struct flax_node *q = &f->nodes[node];
        const struct flax_node *shape = child_of(f, q, "shape", 5), *chunks = child_of(f, q, "chunks", 6);
        int r;

        if (!shape || !chunks || q->n_children != 3 || shape->type != FLAX_MAP || chunks->type != FLAX_MAP ||
            !chunks->n_children)
                return wrong(f, node, q->at, err, "a chunked array has no shape or no chunks");
        r = join_shape(f, node, shape, err);
        if (r >= 0)
                r = join_pieces(f, node, chunks, err);
        if (r < 0)
                return r;
        hide(f, node);
        q->type = FLAX_ARRAY;
        q->first = q->n_children = 0;
        return 0;
}

/* At the token of a value whose node is there. */
static int read_value(struct flax *f, size_t node, int depth, struct error *err)
{
        struct msgpack_token t;
        int r = next(f, node, &t, err);

        if (r < 0)
                return r;
        if (depth > FLAX_DEPTH_MAX)
                return wrong(f, node, t.at, err, "nested deeper than %d", FLAX_DEPTH_MAX);
        f->nodes[node].at = t.at;
        f->nodes[node].type = FLAX_VALUE;
        switch (t.type) {
        case MSGPACK_MAP:
        case MSGPACK_LIST:
                f->nodes[node].type = t.type == MSGPACK_MAP ? FLAX_MAP : FLAX_LIST;
                r = read_children(f, node, t.size, depth, err);
                return r >= 0 && child_of(f, &f->nodes[node], FLAX_CHUNKED, strlen(FLAX_CHUNKED))
                               ? join_chunks(f, node, err)
                               : r;
        case MSGPACK_EXT:
                return read_ext(f, node, &t, err);
        case MSGPACK_TEXT:
        case MSGPACK_BYTES:
                msgpack_pass(f->file->reader, t.size);
                return 0;
        default:
                f->nodes[node].is_integer = t.type == MSGPACK_INT;
                f->nodes[node].integer = t.integer;
                return 0;
        }
}

static int open_file(struct flax_file *x, const char *path, int64_t *ret_bytes, struct error *err)
{
        struct stat st;

        x->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (x->fd < 0)
                return error_set(err, -errno, path, "cannot be opened: %s", strerror(errno));
        if (fstat(x->fd, &st) < 0)
                return error_set(err, -errno, path, "cannot be read: %s", strerror(errno));
        if (!S_ISREG(st.st_mode))
                return error_set(err, -EBADMSG, path, "is not a regular file; expected a checkpoint of flax");
        *ret_bytes = st.st_size;
        x->path = strdup(path);
        return x->path ? 0 : error_set(err, -ENOMEM, path, "no memory to read it");
}

static int read_tree(struct flax *f, int64_t file_bytes, struct error *err)
{
        _cleanup_(freep) struct msgpack_reader *reader = calloc(1, sizeof *reader);
        size_t root;
        char *key;
        int r;

        if (!reader)
                return no_memory(f, err);
        reader->fd = f->file->fd;
        reader->path = f->file->path;
        reader->end = file_bytes;
        f->file->reader = reader;
        r = add_node(f, 0, 0, 0, &root, &key, err);
        if (r >= 0)
                r = read_value(f, root, 0, err);
        if (r >= 0 && f->nodes[0].type != FLAX_MAP)
                r = wrong(f, 0, 0, err, "no checkpoint of flax, which is a map");
        if (r >= 0 && reader->at != file_bytes)
                r = wrong(f, 0, reader->at, err, "the checkpoint ends here, the file has %" PRId64 " bytes",
                          file_bytes);
        f->file->reader = NULL;
        return r;
}

int flax_open(const char *path, struct flax **ret, struct error *err)
{
        _cleanup_(flax_closep) struct flax *f = calloc(1, sizeof *f);
        int64_t file_bytes = 0;
        int r;

        if (f)
                f->file = calloc(1, sizeof *f->file);
        if (!f || !f->file)
                return error_set(err, -ENOMEM, path, "no memory to read it");
        r = open_file(f->file, path, &file_bytes, err);
        if (r >= 0)
                r = read_tree(f, file_bytes, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(f);
        return 0;
}

struct flax *flax_close(struct flax *f)
{
        if (!f)
                return NULL;
        if (f->file) {
                closep(&f->file->fd);
                while (f->file->keys) {
                        struct key_block *b = f->file->keys;

                        f->file->keys = b->next;
                        free(b);
                }
                free(f->file->path);
                free(f->file->pieces);
                free(f->file);
        }
        free(f->nodes);
        free(f);
        return NULL;
}

const char *flax_file_name(const struct flax *f)
{
        return f->file->path;
}

const struct flax_node *flax_find(const struct flax *f, const struct flax_node *below, const char *path)
{
        while (below && *path) {
                size_t n = strcspn(path, "/");

                below = child_of(f, below, path, n);
                path += n + (path[n] == '/');
        }
        return below;
}

/* ---- values */

bool flax_is_real(const struct flax_node *n)
{
        return n->type == FLAX_ARRAY && n->dtype >= FLAX_FLOAT16 && n->dtype <= FLAX_FLOAT64;
}

static float from_half(uint16_t h)
{
        uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
        uint32_t bits = sign | 0x7f800000 | mantissa << 13;
        float v;

        if (exponent == 0) {
                v = (float)mantissa * 0x1p-24f;
                return sign ? -v : v;
        }
        if (exponent < 31)
                bits = sign | (exponent + 112) << 23 | mantissa << 13;
        memcpy(&v, &bits, sizeof v);
        return v;
}

static void to_floats(enum flax_dtype dtype, const void *from, int64_t n, float *ret)
{
        const uint16_t *halves = from;
        const double *doubles = from;

        for (int64_t i = 0; i < n; i++) {
                if (dtype == FLAX_FLOAT64) {
                        ret[i] = (float)doubles[i];
                } else if (dtype == FLAX_FLOAT16) {
                        ret[i] = from_half(halves[i]);
                } else {
                        uint32_t bits = (uint32_t)halves[i] << 16;

                        memcpy(&ret[i], &bits, sizeof bits);
                }
        }
}

/* n values of one piece. */
static int read_piece(const struct flax_file *x, enum flax_dtype dtype, int64_t at, int64_t n, float *ret,
                      struct error *err)
{
        _Alignas(8) char raw[CONVERTED * sizeof(double)];
        int r = 0;

        if (dtype == FLAX_FLOAT32)
                return file_read_at(x->fd, x->path, at, ret, (size_t)n * sizeof *ret, err);
        for (int64_t done = 0, some; done < n && r >= 0; done += some) {
                some = MIN(n - done, (int64_t)CONVERTED);
                r = file_read_at(x->fd, x->path, at + done * dtype_bytes[dtype], raw,
                                 (size_t)some * (size_t)dtype_bytes[dtype], err);
                if (r >= 0)
                        to_floats(dtype, raw, some, ret + done);
        }
        return r;
}

int flax_reals(const struct flax *f, const struct flax_node *array, int64_t first, int64_t n, float *ret,
               struct error *err)
{
        const struct flax_file *x = f->file;
        int r = 0;

        assert(flax_is_real(array) && first >= 0 && n >= 0 && n <= array->size - first);
        for (size_t i = 0; i < array->n_pieces && n && r >= 0; i++) {
                const struct piece *p = &x->pieces[array->first_piece + i];
                int64_t some = MIN(n, p->n - first);

                if (some <= 0) {
                        first -= p->n;
                        continue;
                }
                r = read_piece(x, array->dtype, p->at + first * dtype_bytes[array->dtype], some, ret, err);
                ret += some;
                n -= some;
                first = 0;
        }
        return r;
}

int flax_integer(const struct flax *f, const struct flax_node *n, int64_t *ret, struct error *err)
{
        char where[PATH_SHOWN];
        uint64_t bits = 0;
        int shift;

        if (n->type == FLAX_VALUE && n->is_integer) {
                *ret = n->integer;
                return 0;
        }
        if (n->type != FLAX_ARRAY || n->size != 1 || n->dtype < FLAX_INT8 || n->dtype > FLAX_UINT64) {
                flax_path(f, n, where, sizeof where);
                return error_set(err, -EINVAL, f->file->path, "%s is no integer", where);
        }
        int r = file_read_at(f->file->fd, f->file->path, f->file->pieces[n->first_piece].at, &bits,
                             (size_t)dtype_bytes[n->dtype], err);

        if (r < 0)
                return r;
        shift = 64 - 8 * dtype_bytes[n->dtype];
        *ret = n->dtype <= FLAX_INT64 ? (int64_t)(bits << shift) >> shift : (int64_t)MIN(bits, (uint64_t)INT64_MAX);
        return 0;
}
