/* Checkpoints as flax.serialization and clu.checkpoint write them: a tree of maps whose leaves are arrays, read from a
 * file without its values. The values stay in the file and are handed out in pieces, so that reading takes the memory
 * of the tree alone.
 *
 * An array is a MessagePack extension of type 1 (a NumPy scalar: 3) whose body is a list of shape, name of its dtype
 * and bytes, C order, little endian; a complex number one of type 2, a list of two reals. Above 1 GiB flax writes a map
 * {"__msgpack_chunked_array__": true, "shape": {"0": .., ..}, "chunks": {"0": array, ..}} instead, which is read as the
 * array that it stands for.
 *
 * Refused, with the offset and the path of keys: what is cut, sizes that do not agree, bytes behind the value, a key
 * twice in a map, keys that are no texts, nesting beyond FLAX_DEPTH_MAX, more than FLAX_NODES_MAX values. */
#pragma once

#include "base/error.h"

#define FLAX_DEPTH_MAX 64
#define FLAX_NODES_MAX ((size_t)1 << 18)
#define FLAX_DIMS_MAX 8
#define FLAX_KEY_MAX 512
#define FLAX_CHUNK_BYTES ((int64_t)1 << 30) /* flax's own limit of an array in one piece */
#define FLAX_CHUNKED "__msgpack_chunked_array__"

enum flax_ext { FLAX_EXT_ARRAY = 1, FLAX_EXT_COMPLEX = 2, FLAX_EXT_SCALAR = 3 };

enum flax_type { FLAX_MAP, FLAX_LIST, FLAX_ARRAY, FLAX_VALUE };

enum flax_dtype {
        FLAX_BOOL,
        FLAX_INT8,
        FLAX_INT16,
        FLAX_INT32,
        FLAX_INT64,
        FLAX_UINT8,
        FLAX_UINT16,
        FLAX_UINT32,
        FLAX_UINT64,
        FLAX_FLOAT16,
        FLAX_BFLOAT16,
        FLAX_FLOAT32,
        FLAX_FLOAT64,
        FLAX_COMPLEX64,
        FLAX_COMPLEX128,
        FLAX_N_DTYPES
};
extern const char *const flax_dtype_names[]; /* as NumPy's */

struct flax_node {
        const char *key; /* in its map; in a list its decimal number; "" for the root */
        enum flax_type type;
        int64_t at;               /* where its token begins in the file */
        size_t parent, next;      /* numbers of nodes; next of the same parent, 0: none */
        size_t first, n_children; /* of MAP and LIST */
        bool hidden;              /* part of a chunked array, which stands for it */
        /* of ARRAY */
        enum flax_dtype dtype;
        int n_dims;
        int64_t shape[FLAX_DIMS_MAX];
        int64_t size; /* values */
        size_t first_piece, n_pieces;
        /* of VALUE: nil, a truth value, a number, a text or bytes, of which only integers are kept */
        bool is_integer;
        int64_t integer;
};

struct flax {
        size_t n_nodes;
        struct flax_node *nodes; /* [n_nodes] in the order of the file; nodes[0] is the root */
        struct flax_file *file;
};

/* The tree of a file; it stays open for the values. -EBADMSG for what is no such file. */
int flax_open(const char *path, struct flax **ret, struct error *err);
struct flax *flax_close(struct flax *f);
const char *flax_file_name(const struct flax *f); /* the path that it was opened by */

/* What stands at a path of keys with slashes below a node, or NULL. Borrowed. */
const struct flax_node *flax_find(const struct flax *f, const struct flax_node *below, const char *path);
/* "/params/score_model/conv_in/kernel", cut to size; of the keys all but printable ASCII becomes '?'. */
void flax_path(const struct flax *f, const struct flax_node *n, char *ret, size_t size);

/* Whether the array's values are reals: float16, bfloat16, float32 or float64. */
bool flax_is_real(const struct flax_node *n);
/* Values [first, first + n) of such an array as float32, rounded to nearest. */
int flax_reals(const struct flax *f, const struct flax_node *array, int64_t first, int64_t n, float *ret,
               struct error *err);
/* The number that an integer, or an array of one integer, is. -EINVAL: it is none. */
int flax_integer(const struct flax *f, const struct flax_node *n, int64_t *ret, struct error *err);

DEFINE_CLEANUP(struct flax *, flax_close);
