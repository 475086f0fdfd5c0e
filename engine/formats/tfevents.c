/* The fields that are read, by number (tensorflow/core/util/event.proto and framework/{summary,tensor}.proto):
 *
 *   Event     1 wall_time double   2 step int64   3 file_version text   5 summary; the others: graphs, logs
 *   Summary   1 value, repeated
 *   Value     1 tag text   2 simple_value float   3, 5 histograms   4 image   6 audio   8 tensor   9 metadata
 *   Image     4 encoded_image_string bytes
 *   Metadata  1 plugin_data: 1 plugin_name text   2 content bytes
 *   Tensor    1 dtype   2 shape: 2 dimension, repeated: 1 size   4 tensor_content bytes   8 string_val bytes, repeated
 *             5 float_val  6 double_val  7 int_val  10 int64_val  11 bool_val  13 half_val  16 uint32_val  17
 * uint64_val
 *
 * Written: simple values, since TensorBoard's loader takes no scalar but float32 (data_compat.rs: a tensor of DT_DOUBLE
 * is "data loss"). Where that rounds, the metadata, which it ignores for simple values, hold the double: a plugin of
 * ours whose content are its 8 bytes.
 *
 * Not by protobuf-c: it copies every field, unknown ones too (a graph has megabytes), with an allocation each, and an
 * event of a scalar has 50 bytes; read in place, a file goes through at the speed of its checksums. */
#include "engine/formats/tfevents.h"

#include "engine/formats/records.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define EVENT_MAX ((size_t)256 << 20)
#define VERSION "brain.Event:2"
#define EXACT_PLUGIN "mulund.double"

/* ---- the wire */

enum wire { WIRE_VARINT, WIRE_64, WIRE_BYTES, WIRE_START, WIRE_END, WIRE_32 };

struct message {
        const uint8_t *at, *end;
};

struct field {
        uint32_t number;
        enum wire wire;
        uint64_t value; /* VARINT, 64, 32 */
        struct message body;
};

static bool read_varint(struct message *m, uint64_t *ret)
{
        uint64_t v = 0;

        for (int shift = 0; m->at < m->end && shift < 64; shift += 7) {
                uint8_t byte = *m->at++;

                v |= (uint64_t)(byte & 127) << shift;
                if (byte < 128) {
                        *ret = v;
                        return true;
                }
        }
        return false;
}

static bool read_fixed(struct message *m, size_t n, uint64_t *ret)
{
        if ((size_t)(m->end - m->at) < n)
                return false;
        *ret = 0;
        memcpy(ret, m->at, n);
        m->at += n;
        return true;
}

/* 1: a field; 0: the message is over; -1: it is none. */
static int next_field(struct message *m, struct field *ret)
{
        uint64_t key, n;

        if (m->at == m->end)
                return 0;
        if (!read_varint(m, &key) || key >> 3 == 0 || key >> 3 > UINT32_MAX >> 3)
                return -1;
        ret->number = (uint32_t)(key >> 3);
        ret->wire = (enum wire)(key & 7);
        switch (ret->wire) {
        case WIRE_VARINT:
                return read_varint(m, &ret->value) ? 1 : -1;
        case WIRE_64:
                return read_fixed(m, 8, &ret->value) ? 1 : -1;
        case WIRE_32:
                return read_fixed(m, 4, &ret->value) ? 1 : -1;
        case WIRE_BYTES:
                if (!read_varint(m, &n) || n > (uint64_t)(m->end - m->at))
                        return -1;
                ret->body = (struct message){m->at, m->at + n};
                m->at += n;
                return 1;
        default:
                return -1;
        }
}

static double as_double(uint64_t bits)
{
        double v;

        memcpy(&v, &bits, sizeof v);
        return v;
}

static double as_float(uint64_t bits)
{
        uint32_t low = (uint32_t)bits;
        float v;

        memcpy(&v, &low, sizeof v);
        return (double)v;
}

static bool is_text(const struct message *m, const char *s)
{
        return (size_t)(m->end - m->at) == strlen(s) && !memcmp(m->at, s, strlen(s));
}

/* ---- tensors */

/* What a type's numbers are in tensor_content, and in which field they are else. */
enum content { CONTENT_FLOAT, CONTENT_INT, CONTENT_UINT, CONTENT_HALF, CONTENT_BFLOAT };
static const struct tensor_type {
        unsigned dtype, bytes, list;
        enum content content;
} tensor_types[] = {
        {1, 4, 5, CONTENT_FLOAT},    {2, 8, 6, CONTENT_FLOAT}, {3, 4, 7, CONTENT_INT},    {4, 1, 7, CONTENT_UINT},
        {5, 2, 7, CONTENT_INT},      {6, 1, 7, CONTENT_INT},   {9, 8, 10, CONTENT_INT},   {10, 1, 11, CONTENT_UINT},
        {14, 2, 13, CONTENT_BFLOAT}, {17, 2, 7, CONTENT_UINT}, {19, 2, 13, CONTENT_HALF}, {22, 4, 16, CONTENT_UINT},
        {23, 8, 17, CONTENT_UINT},
};
#define DTYPE_STRING 7

struct tensor {
        uint64_t dtype;
        int64_t size; /* by its shape */
        bool shaped;
        struct message content;
        bool has_content;
        uint64_t n_numbers, first; /* of the list: how many, the first one's bits */
        unsigned list;             /* the field that it is in */
        uint64_t n_strings;
        struct message strings; /* the whole tensor: its strings are found again */
};

static bool read_dimension(struct message m, int64_t *ret)
{
        struct field f;
        int r;

        *ret = 0; /* what is 0 is left out */
        while ((r = next_field(&m, &f)) > 0)
                if (f.number == 1 && f.wire == WIRE_VARINT)
                        *ret = (int64_t)f.value;
        return r == 0;
}

static bool read_tensor_shape(struct message m, struct tensor *t)
{
        struct field f;
        int64_t d;
        int r;

        t->size = 1;
        t->shaped = true;
        while ((r = next_field(&m, &f)) > 0) {
                if (f.number != 2 || f.wire != WIRE_BYTES)
                        continue;
                if (!read_dimension(f.body, &d) || d < 0 || __builtin_mul_overflow(t->size, d, &t->size))
                        return false;
        }
        return r == 0;
}

/* Numbers of a list, packed or one a field. */
static bool read_numbers(const struct field *f, struct tensor *t)
{
        unsigned width = f->number == 5 ? 4 : f->number == 6 ? 8 : 0;
        struct message m = f->body;
        uint64_t v = f->value, n = 1;
        bool packed = f->wire == WIRE_BYTES;

        if (packed && width) {
                n = (uint64_t)(m.end - m.at) / width;
                if ((uint64_t)(m.end - m.at) % width || (n && !read_fixed(&m, width, &v)))
                        return false;
        } else if (packed) {
                uint64_t other;

                for (n = 0; m.at < m.end; n++)
                        if (!read_varint(&m, n ? &other : &v))
                                return false;
        }
        if (t->n_numbers == 0) {
                t->first = v;
                t->list = f->number;
        }
        t->n_numbers += n;
        return true;
}

static bool read_tensor(struct message m, struct tensor *t)
{
        struct field f;
        int r;

        *t = (struct tensor){.strings = m};
        while ((r = next_field(&m, &f)) > 0) {
                bool good = true;

                if (f.number == 1 && f.wire == WIRE_VARINT) {
                        t->dtype = f.value;
                } else if (f.number == 2 && f.wire == WIRE_BYTES) {
                        good = read_tensor_shape(f.body, t);
                } else if (f.number == 4 && f.wire == WIRE_BYTES) {
                        t->content = f.body;
                        t->has_content = f.body.end > f.body.at;
                } else if (f.number == 8 && f.wire == WIRE_BYTES) {
                        t->n_strings++;
                } else if ((f.number >= 5 && f.number <= 17 && f.number != 9 && f.number != 12)) {
                        good = read_numbers(&f, t);
                }
                if (!good)
                        return false;
        }
        return r == 0;
}

static double half_to_double(uint16_t h)
{
        int exponent = h >> 10 & 31, mantissa = h & 1023;
        double v = exponent ? __builtin_ldexp(1024 + mantissa, exponent - 25) : __builtin_ldexp(mantissa, -24);

        if (exponent == 31)
                v = mantissa ? __builtin_nan("") : __builtin_inf();
        return h & 0x8000 ? -v : v;
}

static double number_of(const struct tensor_type *type, uint64_t bits, unsigned bytes)
{
        unsigned shift = 64 - 8 * bytes;

        switch (type->content) {
        case CONTENT_FLOAT:
                return type->bytes == 8 ? as_double(bits) : as_float(bits);
        case CONTENT_INT:
                return (double)((int64_t)(bits << shift) >> shift);
        case CONTENT_HALF:
                return half_to_double((uint16_t)bits);
        case CONTENT_BFLOAT:
                return as_float(bits << 16);
        default:
                return (double)bits;
        }
}

/* Whether the tensor is one number, and which. */
static bool tensor_scalar(const struct tensor *t, double *ret)
{
        for (size_t i = 0; i < ARRAY_LEN(tensor_types); i++) {
                const struct tensor_type *type = &tensor_types[i];
                uint64_t bits = 0;

                if (type->dtype != t->dtype || (t->shaped && t->size != 1))
                        continue;
                if (t->has_content) {
                        if ((size_t)(t->content.end - t->content.at) != type->bytes)
                                return false;
                        memcpy(&bits, t->content.at, type->bytes);
                        *ret = number_of(type, bits, type->bytes);
                        return true;
                }
                if (t->n_numbers > 1 || (t->n_numbers == 1 && t->list != type->list))
                        return false;
                /* an empty list of a shape of one is a 0 that was left out; a varint has all its bits */
                *ret = t->n_numbers ? number_of(type, t->first, type->content == CONTENT_INT ? 8 : type->bytes) : 0;
                return t->n_numbers == 1 || t->shaped;
        }
        return false;
}

/* ---- events */

struct tfevents {
        struct records *records;
        char *path;
        char version[32];
        double wall;
        int64_t step;
        struct message event, summary; /* what is left of the record's, of the summary's values */
        struct message strings;        /* of a tensor of images: what is left of it */
        struct tfevents_value image;   /* the value that they have in common */
};

static int no_event(const struct tfevents *t, struct error *err)
{
        return error_set(err, -EBADMSG, t->path, "record %lld, which ends at byte %lld, is no event of TensorBoard",
                         (long long)records_count(t->records) - 1, (long long)records_bytes_done(t->records));
}

int tfevents_open(const char *path, struct tfevents **ret, struct error *err)
{
        _cleanup_(tfevents_closep) struct tfevents *t = calloc(1, sizeof *t);
        int r;

        if (!t || !(t->path = strdup(path)))
                return error_set(err, -ENOMEM, path, "no memory to read it");
        r = records_open(path, EVENT_MAX, &t->records, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}

struct tfevents *tfevents_close(struct tfevents *t)
{
        if (!t)
                return NULL;
        (void)records_free(t->records);
        free(t->path);
        free(t);
        return NULL;
}

int64_t tfevents_events(const struct tfevents *t)
{
        return records_count(t->records);
}

int64_t tfevents_bytes_done(const struct tfevents *t)
{
        return records_bytes_done(t->records);
}

int64_t tfevents_bytes(const struct tfevents *t)
{
        return records_bytes(t->records);
}

const char *tfevents_version(const struct tfevents *t)
{
        return t->version;
}

/* Time and step may stand behind the summary: they are read first. */
static int begin_event(struct tfevents *t, struct error *err)
{
        struct message m = t->event;
        struct field f;
        int r;

        t->wall = 0;
        t->step = 0;
        while ((r = next_field(&m, &f)) > 0)
                if (f.number == 1 && f.wire == WIRE_64)
                        t->wall = as_double(f.value);
                else if (f.number == 2 && f.wire == WIRE_VARINT)
                        t->step = (int64_t)f.value;
                else if (f.number == 3 && f.wire == WIRE_BYTES)
                        (void)snprintf(t->version, sizeof t->version, "%.*s",
                                       (int)MIN((size_t)(f.body.end - f.body.at), sizeof t->version),
                                       (const char *)f.body.at);
        return r < 0 ? no_event(t, err) : 0;
}

/* The plugin of a value's metadata: its name and content. */
struct plugin {
        struct message name, content;
};

static bool read_plugin(struct message metadata, struct plugin *ret)
{
        struct field f, g;
        int r, q = 0;

        while ((r = next_field(&metadata, &f)) > 0) {
                if (f.number != 1 || f.wire != WIRE_BYTES)
                        continue;
                while ((q = next_field(&f.body, &g)) > 0) {
                        if (g.number == 1 && g.wire == WIRE_BYTES)
                                ret->name = g.body;
                        else if (g.number == 2 && g.wire == WIRE_BYTES)
                                ret->content = g.body;
                }
        }
        return r == 0 && q == 0;
}

/* What a simple value was before it was rounded to float32, where we wrote it. */
static void take_exact(const struct plugin *p, struct tfevents_value *v)
{
        double exact;

        if (!is_text(&p->name, EXACT_PLUGIN) || p->content.end - p->content.at != sizeof exact)
                return;
        memcpy(&exact, p->content.at, sizeof exact);
        if ((double)(float)exact == v->scalar)
                v->scalar = exact;
}

static bool read_image(struct message m, struct tfevents_value *v)
{
        struct field f;
        int r;

        v->kind = TFEVENTS_IMAGE;
        while ((r = next_field(&m, &f)) > 0)
                if (f.number == 4 && f.wire == WIRE_BYTES) {
                        v->image = f.body.at;
                        v->image_bytes = (size_t)(f.body.end - f.body.at);
                }
        return r == 0;
}

/* The next image of a tensor of them; the first two strings are its width and height. */
static bool next_image(struct tfevents *t, struct tfevents_value *ret)
{
        struct field f;

        while (next_field(&t->strings, &f) > 0) {
                if (f.number != 8 || f.wire != WIRE_BYTES || t->image.number++ < 2)
                        continue;
                *ret = t->image;
                ret->number = t->image.number - 3;
                ret->image = f.body.at;
                ret->image_bytes = (size_t)(f.body.end - f.body.at);
                return true;
        }
        t->strings = (struct message){0};
        return false;
}

/* What a tensor is, with its plugin known. */
static bool take_tensor(struct tfevents *t, struct message m, const struct plugin *plugin, struct tfevents_value *v)
{
        struct tensor x;

        if (!read_tensor(m, &x))
                return false;
        if (tensor_scalar(&x, &v->scalar)) {
                v->kind = TFEVENTS_SCALAR;
        } else if (x.dtype == DTYPE_STRING && x.n_strings > 2 && is_text(&plugin->name, "images")) {
                v->kind = TFEVENTS_IMAGE;
                t->image = *v;
                t->strings = m;
        } else {
                v->what = x.dtype == DTYPE_STRING ? "a tensor of strings" : "a tensor of numbers";
        }
        return true;
}

/* A value of a summary. A kind that occurs twice is the last, as protocol buffers have it. */
static bool read_value(struct tfevents *t, struct message m, struct tfevents_value *v)
{
        struct message tensor = {0};
        struct plugin plugin = {0};
        struct field f;
        int r;

        *v = (struct tfevents_value){
                .kind = TFEVENTS_OTHER, .tag = "", .step = t->step, .wall = t->wall, .what = "a value of no kind"};
        while ((r = next_field(&m, &f)) > 0) {
                bool good = true, bytes = f.wire == WIRE_BYTES;

                if (f.number == 1 && bytes) {
                        v->tag = (const char *)f.body.at;
                        v->tag_bytes = (size_t)(f.body.end - f.body.at);
                } else if (f.number == 2 && f.wire == WIRE_32) {
                        v->kind = TFEVENTS_SCALAR;
                        v->scalar = as_float(f.value);
                } else if (f.number == 4 && bytes) {
                        good = read_image(f.body, v);
                } else if ((f.number == 3 || f.number == 5) && bytes) {
                        v->what = "a histogram";
                } else if (f.number == 6 && bytes) {
                        v->what = "audio";
                } else if (f.number == 8 && bytes) {
                        tensor = f.body;
                } else if (f.number == 9 && bytes) {
                        good = read_plugin(f.body, &plugin);
                }
                if (!good)
                        return false;
        }
        if (r == 0 && v->kind == TFEVENTS_SCALAR)
                take_exact(&plugin, v);
        return r == 0 && (!tensor.at || take_tensor(t, tensor, &plugin, v));
}

/* The next value of the event that is read: 1, 0 when it has no more. */
static int next_value(struct tfevents *t, struct tfevents_value *ret, struct error *err)
{
        struct field f;
        int r = 0;

        for (;;) {
                while ((r = next_field(&t->summary, &f)) > 0) {
                        if (f.number != 1 || f.wire != WIRE_BYTES)
                                continue;
                        if (!read_value(t, f.body, ret))
                                return no_event(t, err);
                        if (!t->strings.at || next_image(t, ret))
                                return 1;
                }
                if (r < 0)
                        return no_event(t, err);
                do
                        r = next_field(&t->event, &f);
                while (r > 0 && (f.number != 5 || f.wire != WIRE_BYTES));
                if (r <= 0)
                        return r < 0 ? no_event(t, err) : 0;
                t->summary = f.body;
        }
}

int tfevents_next(struct tfevents *t, struct tfevents_value *ret, struct error *err)
{
        const uint8_t *data;
        size_t size;
        int r;

        if (t->strings.at && next_image(t, ret))
                return 1;
        while ((r = next_value(t, ret, err)) == 0) {
                r = records_next(t->records, &data, &size, err);
                if (r <= 0)
                        return r;
                t->event = (struct message){data, data + size};
                r = begin_event(t, err);
                if (r < 0)
                        return r;
        }
        return r;
}

/* ---- writing */

#define SCALAR_BYTES_MAX 80 /* of an event, beside its tag */

struct writing {
        uint8_t *at;
};

static void put_varint(struct writing *w, uint64_t v)
{
        while (v >= 128) {
                *w->at++ = (uint8_t)(v | 128);
                v >>= 7;
        }
        *w->at++ = (uint8_t)v;
}

static void put_fixed(struct writing *w, unsigned key, const void *v, size_t n)
{
        *w->at++ = (uint8_t)key;
        memcpy(w->at, v, n);
        w->at += n;
}

static void put_bytes(struct writing *w, unsigned key, const void *v, size_t n)
{
        *w->at++ = (uint8_t)key;
        put_varint(w, n);
        memcpy(w->at, v, n);
        w->at += n;
}

static unsigned key_of(unsigned field, enum wire wire)
{
        return field << 3 | wire;
}

static size_t varint_bytes(uint64_t v)
{
        size_t n = 1;

        while (v >>= 7)
                n++;
        return n;
}

static void put_number(struct writing *w, unsigned field, uint64_t v)
{
        *w->at++ = (uint8_t)key_of(field, WIRE_VARINT);
        put_varint(w, v);
}

static void put_head(struct writing *w, unsigned field, size_t n)
{
        *w->at++ = (uint8_t)key_of(field, WIRE_BYTES);
        put_varint(w, n);
}

static size_t headed(size_t n)
{
        return 1 + varint_bytes(n) + n;
}

/* Frames what was made. */
static int put_record(struct buf *b, const uint8_t *event, size_t n, struct error *err)
{
        uint8_t head[RECORD_HEAD_BYTES], foot[RECORD_FOOT_BYTES];
        int r = buf_reserve(b, sizeof head + n + sizeof foot, err);

        if (r < 0)
                return r;
        records_frame(event, n, head, foot);
        (void)buf_append(b, head, sizeof head, err);
        (void)buf_append(b, event, n, err);
        return buf_append(b, foot, sizeof foot, err);
}

int tfevents_put_version(struct buf *b, double wall, struct error *err)
{
        uint8_t event[64];
        struct writing w = {event};

        put_fixed(&w, key_of(1, WIRE_64), &wall, sizeof wall);
        put_bytes(&w, key_of(3, WIRE_BYTES), VERSION, strlen(VERSION));
        return put_record(b, event, (size_t)(w.at - event), err);
}

int tfevents_put_scalar(struct buf *b, double wall, int64_t step, const char *tag, double value, struct error *err)
{
        /* Value.metadata: plugin_data: plugin_name, content */
        static const uint8_t head_of_exact[] = {0x4a, 27,  0x0a, 25,  0x0a, 13,  'm', 'u', 'l',  'u', 'n',
                                                'd',  '.', 'd',  'o', 'u',  'b', 'l', 'e', 0x12, 8};
        size_t n_tag = MIN(strlen(tag), (size_t)1024), n_value;
        float single = (float)value;
        bool fits = (double)single == value || value != value;
        uint8_t event[1024 + SCALAR_BYTES_MAX];
        struct writing w = {event};

        n_value = headed(n_tag) + 5 + (fits ? 0 : sizeof head_of_exact + sizeof value);
        put_fixed(&w, key_of(1, WIRE_64), &wall, sizeof wall);
        put_number(&w, 2, (uint64_t)step);
        put_head(&w, 5, headed(n_value));
        put_head(&w, 1, n_value);
        put_bytes(&w, key_of(1, WIRE_BYTES), tag, n_tag);
        put_fixed(&w, key_of(2, WIRE_32), &single, sizeof single);
        if (!fits) {
                memcpy(w.at, head_of_exact, sizeof head_of_exact);
                memcpy(w.at + sizeof head_of_exact, &value, sizeof value);
                w.at += sizeof head_of_exact + sizeof value;
        }
        return put_record(b, event, (size_t)(w.at - event), err);
}

static uint64_t big_endian(const uint8_t *b)
{
        return (uint64_t)b[0] << 24 | (uint64_t)b[1] << 16 | (uint64_t)b[2] << 8 | b[3];
}

/* Image: 1 height, 2 width, 3 colorspace (RGB), 4 the file. Its sizes stand in the PNG's first chunk. */
int tfevents_put_image(struct buf *b, double wall, int64_t step, const char *tag, const uint8_t *png, size_t n,
                       struct error *err)
{
        static const uint8_t start[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n', 0, 0, 0, 13, 'I', 'H', 'D', 'R'};
        size_t n_tag = MIN(strlen(tag), (size_t)1024), n_image, n_value;
        _cleanup_(freep) uint8_t *event = NULL;
        uint64_t width, height;
        struct writing w;

        if (n < sizeof start + 8 || n > TFEVENTS_IMAGE_MAX || memcmp(png, start, sizeof start) != 0)
                return error_set(err, -EINVAL, tag, "is no PNG file of at most %zu bytes", TFEVENTS_IMAGE_MAX);
        width = big_endian(png + sizeof start);
        height = big_endian(png + sizeof start + 4);
        n_image = 3 + varint_bytes(height) + varint_bytes(width) + 1 + headed(n); /* three keys, three numbers */
        n_value = headed(n_tag) + headed(n_image);
        event = malloc(n + n_tag + 200);
        if (!event)
                return error_set(err, -ENOMEM, tag, "no memory for an image");
        w.at = event;
        put_fixed(&w, key_of(1, WIRE_64), &wall, sizeof wall);
        put_number(&w, 2, (uint64_t)step);
        put_head(&w, 5, headed(n_value));
        put_head(&w, 1, n_value);
        put_bytes(&w, key_of(1, WIRE_BYTES), tag, n_tag);
        put_head(&w, 4, n_image);
        put_number(&w, 1, height);
        put_number(&w, 2, width);
        put_number(&w, 3, 3);
        put_bytes(&w, key_of(4, WIRE_BYTES), png, n);
        return put_record(b, event, (size_t)(w.at - event), err);
}
