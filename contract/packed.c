#include "contract/packed.h"

#include "contract/text.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "payloads are the processor's own bytes");

#define BLOCK 254 /* bytes of the payload that a block has at most */
#define STEP_MAX ((INT64_C(1) << 53) - 1)

struct head {
        uint64_t seq;
        uint32_t n_rows, n_columns;
};

/* ---- stuffing: a code c > 0 says that c - 1 bytes follow, and then, unless c is 255 or the end is there, a '\n'.
 * Codes and bytes are exchanged by an XOR with '\n', so that the byte which never occurs is '\n' and not 0. */

static char code_of(size_t n)
{
        return (char)((unsigned char)(n + 1) ^ (unsigned char)'\n');
}

/* ret: room for size + size / BLOCK + 1 bytes. */
static size_t stuff(const char *data, size_t size, char *ret)
{
        size_t at = 0, out = 0;

        for (;;) {
                size_t n = MIN(size - at, (size_t)BLOCK);
                const char *newline = memchr(data + at, '\n', n);
                bool ends = newline != NULL;

                n = ends ? (size_t)(newline - (data + at)) : n;
                ret[out++] = code_of(n);
                memcpy(ret + out, data + at, n);
                out += n;
                at += n;
                if (ends)
                        at++;
                else if (at == size)
                        return out;
        }
}

/* ret: room for size bytes. False: it is not stuffed. */
static bool unstuff(const char *data, size_t size, char *ret, size_t *ret_size)
{
        size_t at = 0, out = 0;

        while (at < size) {
                size_t code = (unsigned char)data[at++] ^ (unsigned char)'\n';

                if (!code || code - 1 > size - at)
                        return false;
                memcpy(ret + out, data + at, code - 1);
                out += code - 1;
                at += code - 1;
                if (code <= BLOCK && at < size)
                        ret[out++] = '\n';
        }
        *ret_size = out;
        return size > 0;
}

/* ---- the payload */

static size_t size_of_numbers(size_t n_rows, size_t n_columns)
{
        return sizeof(struct head) + n_rows * (n_columns + 2) * 8;
}

int packed_encode(const struct event *e, struct buf *b, struct error *err)
{
        _cleanup_(buf_done) struct buf payload = BUF_INIT(EVENT_LINE_MAX);
        struct head head = {(uint64_t)e->seq, (uint32_t)e->n_rows, (uint32_t)e->n_columns};
        int r = buf_append(&payload, &head, sizeof head, err);

        if (r >= 0)
                r = buf_append(&payload, e->row_step, e->n_rows * 8, err);
        if (r >= 0)
                r = buf_append(&payload, e->row_time_ms, e->n_rows * 8, err);
        for (size_t c = 0; r >= 0 && c < e->n_columns; c++)
                r = buf_append(&payload, e->column[c], e->n_rows * 8, err);
        for (size_t c = 0; r >= 0 && c < e->n_columns; c++)
                r = buf_append(&payload, e->column_name[c], strlen(e->column_name[c]) + 1, err);
        if (r >= 0 && payload.size + payload.size / BLOCK + 3 > EVENT_LINE_MAX)
                r = error_set(err, -E2BIG, NULL, "a line of more than %zu bytes", EVENT_LINE_MAX);
        if (r >= 0)
                r = buf_reserve(b, payload.size + payload.size / BLOCK + 3, err);
        if (r < 0)
                return r;
        b->data[b->size++] = PACKED_MARK;
        b->size += stuff(payload.data, payload.size, b->data + b->size);
        return buf_append(b, "\n", 1, err);
}

static bool are_exact(const int64_t *values, size_t n)
{
        uint64_t all = 0;

        for (size_t i = 0; i < n; i++)
                all |= (uint64_t)values[i];
        return all <= (uint64_t)STEP_MAX;
}

/* The names behind the numbers, each with its end. */
static int read_names(struct event *e, char *at, const char *end, struct error *err)
{
        for (size_t c = 0; c < e->n_columns; c++) {
                char *nul = memchr(at, 0, (size_t)(end - at));

                if (!nul || !text_is_printable(at, EVENT_NAME_MAX))
                        return error_set(err, -EINVAL, "/columns", "a name is not 1..%d bytes of printable UTF-8",
                                         EVENT_NAME_MAX);
                for (size_t before = 0; before < c; before++)
                        if (!strcmp(e->column_name[before], at))
                                return error_set(err, -EINVAL, "/columns", "two columns have one name");
                e->column_name[c] = at;
                at = nul + 1;
        }
        return at == end ? 0 : error_set(err, -EINVAL, "/columns", "there are bytes behind the last name");
}

static int read_payload(struct event *e, size_t size, struct error *err)
{
        const struct head *head = e->packed;
        size_t numbers;
        int64_t *at = (int64_t *)e->packed + sizeof *head / 8;

        if (!head->n_rows || head->n_rows > EVENT_ROWS_MAX)
                return error_set(err, -EINVAL, "/step", "expected 1..%d steps", EVENT_ROWS_MAX);
        if (!head->n_columns || head->n_columns > EVENT_COLUMNS_MAX)
                return error_set(err, -EINVAL, "/columns", "expected 1..%d columns", EVENT_COLUMNS_MAX);
        numbers = size_of_numbers(head->n_rows, head->n_columns);
        if (numbers > size)
                return error_set(err, -EINVAL, "/columns", "it is shorter than it says");
        e->n_rows = head->n_rows;
        e->n_columns = head->n_columns;
        e->row_step = at;
        e->row_time_ms = at + e->n_rows;
        for (size_t c = 0; c < e->n_columns; c++)
                e->column[c] = (double *)(at + (c + 2) * e->n_rows);
        if (!are_exact(e->row_step, e->n_rows) || !are_exact(e->row_time_ms, e->n_rows))
                return error_set(err, -EINVAL, "/step", "steps and times are integers in 0..9007199254740991");
        e->step = e->row_step[0];
        return read_names(e, (char *)e->packed + numbers, (char *)e->packed + size, err);
}

int packed_decode(const char *line, size_t size, struct event *ret, int64_t *ret_seq, struct error *err)
{
        _cleanup_(event_done) struct event e = {
                .type = EVENT_SCALARS, .images_per_second = NAN, .seconds_left = NAN, .metric = NAN};
        size_t n;
        int r;

        *ret_seq = 0;
        if (size > EVENT_LINE_MAX)
                return error_set(err, -EINVAL, NULL, "a line of more than %zu bytes", EVENT_LINE_MAX);
        e.packed = malloc(size);
        if (!e.packed)
                return error_set(err, -ENOMEM, NULL, "no memory for columns");
        if (!unstuff(line + 1, size - 1, e.packed, &n) || n < sizeof(struct head))
                return error_set(err, -EINVAL, NULL, "not packed columns");
        e.seq = (int64_t) * (uint64_t *)e.packed;
        if (e.seq < 1 || e.seq > STEP_MAX)
                return error_set(err, -EINVAL, "/seq", "expected an integer in 1..9007199254740991");
        *ret_seq = e.seq;
        r = read_payload(&e, n, err);
        if (r < 0)
                return r;
        *ret = e;
        e = (struct event){0}; /* ret owns it now */
        return 0;
}
