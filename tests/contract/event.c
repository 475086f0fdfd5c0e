/* Events, commands, assignments: what is written is read back, what is hostile is refused. */
#include "contract/event.h"
#include "contract/text.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Every line of the protocol, one a type and its corners. */
static const char *const lines[] = {
        "{\"type\":\"hello\",\"protocol\":1,\"job\":3,\"attempt\":7,\"pid\":123}",
        "{\"type\":\"start\",\"seq\":1,\"step\":0,\"steps\":3000,\"memory_bytes\":1,\"parameters\":1,\"backend\":"
        "\"cpu\",\"threads\":2}",
        "{\"type\":\"progress\",\"seq\":2,\"step\":10,\"steps\":3000,\"images_per_second\":11.5,\"seconds_left\":2000."
        "0}",
        "{\"type\":\"progress\",\"seq\":2,\"step\":10,\"steps\":3000,\"images_per_second\":null,\"seconds_left\":null}",
        "{\"type\":\"scalars\",\"seq\":3,\"step\":[1,2],\"time_ms\":[5,6],\"columns\":{\"train/bpd\":[9.1,\"NaN\"],"
        "\"caf\xc3\xa9 loss\":[\"-Infinity\",\"Infinity\"]}}",
        "{\"type\":\"artifact\",\"seq\":4,\"kind\":\"checkpoint\",\"step\":1000,\"name\":\"step-1000.safetensors\","
        "\"bytes\":1,"
        "\"xxh128\":\"0123456789abcdef0123456789abcdef\",\"metric\":7.25}",
        "{\"type\":\"artifact\",\"seq\":4,\"kind\":\"image\",\"step\":1000,\"name\":\"a.png\",\"bytes\":0,"
        "\"xxh128\":\"0123456789abcdef0123456789abcdef\",\"metric\":null}",
        "{\"type\":\"done\",\"seq\":5,\"result\":{\"bpd\":3.21,\"parts\":{\"recon\":0.01}}}",
        "{\"type\":\"done\",\"seq\":5,\"result\":null}",
        "{\"type\":\"stopped\",\"seq\":6,\"step\":1200}",
        "{\"type\":\"error\",\"seq\":7,\"class\":\"numeric\",\"detail\":\"loss is NaN\\nat step 17\",\"step\":17}",
        "{\"type\":\"hello\",\"protocol\":1,\"job\":3,\"attempt\":7,\"pid\":123,\"identity\":"
        "\"0123456789abcdef0123456789abcdef\"}",
        "{\"type\":\"hello\",\"protocol\":2,\"protocol_min\":1,\"job\":3,\"attempt\":7,\"pid\":123}",
};

/* What came as JSON and what came packed. */
static void assert_same_columns(const struct event *a, const struct event *b)
{
        assert_true(a->type == b->type && a->seq == b->seq && a->step == b->step);
        assert_true(a->n_rows == b->n_rows && a->n_columns == b->n_columns);
        for (size_t i = 0; i < a->n_rows; i++)
                assert_true(a->row_step[i] == b->row_step[i] && a->row_time_ms[i] == b->row_time_ms[i]);
        for (size_t c = 0; c < a->n_columns; c++) {
                assert_string_equal(a->column_name[c], b->column_name[c]);
                assert_memory_equal(a->column[c], b->column[c], a->n_rows * sizeof **a->column);
        }
}

static void every_line_comes_back_as_it_was(void **state _unused_)
{
        for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
                _cleanup_(event_done) struct event e = {0}, again = {0};
                _cleanup_(buf_done) struct buf b = BUF_INIT(2 * EVENT_LINE_MAX), b2 = BUF_INIT(2 * EVENT_LINE_MAX);
                _cleanup_json_ json_t *in = NULL, *out = NULL;
                struct error err;

                if (event_decode(lines[i], strlen(lines[i]), &e, &err) < 0)
                        fail_msg("%s: %s %s", lines[i], err.path, err.text);
                assert_int_equal(event_encode(&e, &b, &err), 0);
                assert_int_equal(b.data[b.size - 1], '\n');
                assert_null(memchr(b.data, '\n', b.size - 1));
                assert_int_equal(json_parse(lines[i], strlen(lines[i]), &in, NULL), 0);
                assert_int_equal(json_parse(b.data, b.size, &out, NULL), e.type == EVENT_SCALARS ? -EINVAL : 0);
                if (out && !json_equal(in, out))
                        fail_msg("%s came back as %s", lines[i], b.data);
                assert_int_equal(event_decode(b.data, b.size - 1, &again, &err), 0);
                assert_same_columns(&e, &again);
                assert_int_equal(event_encode(&again, &b2, &err), 0);
                assert_int_equal(b.size, b2.size);
                assert_memory_equal(b.data, b2.data, b.size);
        }
}

static void members_are_where_they_belong(void **state _unused_)
{
        _cleanup_(event_done) struct event e = {0};

        assert_int_equal(event_decode(lines[4], strlen(lines[4]), &e, NULL), 0);
        assert_int_equal(e.type, EVENT_SCALARS);
        assert_int_equal(e.seq, 3);
        assert_int_equal(e.step, 1);
        assert_int_equal(e.n_rows, 2);
        assert_int_equal(e.n_columns, 2);
        assert_string_equal(e.column_name[0], "train/bpd");
        assert_true(e.column[0][0] == 9.1 && isnan(e.column[0][1]) && e.column[1][0] == -INFINITY);
        event_done(&e);
        assert_int_equal(event_decode(lines[3], strlen(lines[3]), &e, NULL), 0);
        assert_true(isnan(e.images_per_second) && isnan(e.seconds_left));
}

/* Each member left out, and of the wrong type. */
static void a_member_too_few_or_of_another_type_is_refused(void **state _unused_)
{
        for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
                _cleanup_json_ json_t *whole = NULL;
                const char *key;
                json_t *v;

                assert_int_equal(json_parse(lines[i], strlen(lines[i]), &whole, NULL), 0);
                json_object_foreach(whole, key, v)
                {
                        for (int how = strcmp(key, "identity") && strcmp(key, "protocol_min") ? 0 : 1; how < 2;
                             how++) { /* it may be absent */
                                _cleanup_json_ json_t *o = json_copy(whole);
                                _cleanup_(freep) char *text = NULL;
                                struct event e;
                                struct error err;
                                char pointer[100] = "/";

                                strcat(pointer, key);
                                if (how == 0)
                                        json_object_del(o, key);
                                else
                                        json_object_set_new(o, key, json_true());
                                text = json_to_text(o);
                                assert_int_equal(event_decode(text, strlen(text), &e, &err), -EINVAL);
                                if (strcmp(key, "type"))
                                        assert_string_equal(err.path, pointer);
                        }
                }
        }
}

/* What a newer worker says more costs nothing of what both know. */
static void strange_members_are_ignored(void **state _unused_)
{
        for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
                _cleanup_(event_done) struct event e = {0};
                _cleanup_(buf_done) struct buf b = BUF_INIT(EVENT_LINE_MAX);
                _cleanup_json_ json_t *o = NULL, *out = NULL;
                _cleanup_(freep) char *text = NULL;

                assert_int_equal(json_parse(lines[i], strlen(lines[i]), &o, NULL), 0);
                assert_int_equal(json_object_set_new(o, "strange", json_true()), 0);
                text = json_to_text(o);
                assert_int_equal(event_decode(text, strlen(text), &e, NULL), 0);
                assert_int_equal(json_object_del(o, "strange"), 0);
                if (e.type == EVENT_SCALARS)
                        continue; /* they are packed */
                assert_int_equal(event_encode(&e, &b, NULL), 0);
                assert_int_equal(json_parse(b.data, b.size, &out, NULL), 0);
                assert_true(json_equal(o, out));
        }
}

/* Every byte of a packed line, altered in every way that a bit can be, and every length: refused, or an event that is
 * what an event may be. What of it has a number keeps that. */
static void a_damaged_packed_line_is_refused_or_valid(void **state _unused_)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(EVENT_LINE_MAX);
        _cleanup_(event_done) struct event e = {0};
        struct event damaged;
        int refused = 0;

        assert_int_equal(event_decode(lines[4], strlen(lines[4]), &e, NULL), 0);
        assert_int_equal(event_encode(&e, &b, NULL), 0);
        for (size_t i = 1; i < b.size - 1; i++)
                for (int bit = 0; bit < 8; bit++) {
                        b.data[i] ^= (char)(1 << bit);
                        if (b.data[i] != '\n' && event_decode(b.data, b.size - 1, &damaged, NULL) == 0) {
                                assert_true(damaged.n_rows == 2 && damaged.n_columns == 2 && damaged.seq > 0);
                                assert_true(text_is_printable(damaged.column_name[1], EVENT_NAME_MAX));
                                assert_true(damaged.row_step[1] >= 0 && damaged.row_time_ms[1] >= 0);
                                event_done(&damaged);
                        } else {
                                refused++;
                                if (event_decode_unknown(b.data, b.size - 1, &damaged, NULL) == 0)
                                        assert_true(damaged.type == EVENT_UNKNOWN && damaged.seq > 0);
                        }
                        b.data[i] ^= (char)(1 << bit);
                }
        assert_true(refused > 100);
        for (size_t n = 1; n < b.size - 1; n++)
                assert_int_equal(event_decode(b.data, n, &damaged, NULL), -EINVAL);
        assert_int_equal(event_decode_unknown(b.data, b.size - 4, &damaged, NULL), -EINVAL); /* torn, as JSON may be */
}

/* What the head says and the rest is not. */
static void a_hostile_packed_line_is_refused(void **state _unused_)
{
        int64_t steps[2] = {1, 2}, above[2] = {1, INT64_C(1) << 53}, below[2] = {1, -1};
        double values[2] = {1, 2};
        const struct {
                size_t n_rows, n_columns;
                int64_t seq, *step, *time_ms;
                const char *names[2];
                int expected;
        } rows[] = {
                {2, 2, 1, steps, steps, {"a", "b"}, 0},
                {0, 2, 1, steps, steps, {"a", "b"}, -EINVAL},
                {2, 0, 1, steps, steps, {"a", "b"}, -EINVAL},
                {2, 2, 0, steps, steps, {"a", "b"}, -EINVAL},
                {2, 2, -1, steps, steps, {"a", "b"}, -EINVAL},
                {2, 2, INT64_C(1) << 53, steps, steps, {"a", "b"}, -EINVAL},
                {2, 2, 1, above, steps, {"a", "b"}, -EINVAL},
                {2, 2, 1, steps, above, {"a", "b"}, -EINVAL},
                {2, 2, 1, below, steps, {"a", "b"}, -EINVAL},
                {2, 2, 1, steps, steps, {"a", "a"}, -EINVAL},
                {2, 2, 1, steps, steps, {"", "b"}, -EINVAL},
                {2, 2, 1, steps, steps, {"a", "b\x7f"}, -EINVAL},
                {2, 2, 1, steps, steps, {"a", "\xff"}, -EINVAL},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                _cleanup_(buf_done) struct buf b = BUF_INIT(EVENT_LINE_MAX);
                struct event e = {.type = EVENT_SCALARS,
                                  .seq = rows[i].seq,
                                  .n_rows = rows[i].n_rows,
                                  .n_columns = rows[i].n_columns,
                                  .row_step = rows[i].step,
                                  .row_time_ms = rows[i].time_ms,
                                  .column_name = {(char *)rows[i].names[0], (char *)rows[i].names[1]},
                                  .column = {values, values}},
                             back;

                assert_int_equal(event_encode(&e, &b, NULL), 0);
                if (event_decode(b.data, b.size - 1, &back, NULL) != rows[i].expected)
                        fail_msg("row %zu", i);
                if (!rows[i].expected)
                        event_done(&back);
                assert_int_equal(event_decode_unknown(b.data, b.size - 1, &back, NULL), rows[i].seq == 1 ? 0 : -EINVAL);
                assert_int_equal(rows[i].seq == 1 ? back.seq : 1, 1);
        }
}

/* Lengths about the block of the stuffing, with and without what it is for. */
static void packed_columns_of_any_length_come_back(void **state _unused_)
{
        static int64_t steps[EVENT_ROWS_MAX];
        static double values[EVENT_ROWS_MAX];

        for (size_t n = 1; n <= 300; n++) {
                _cleanup_(buf_done) struct buf b = BUF_INIT(EVENT_LINE_MAX);
                _cleanup_(event_done) struct event back = {0};
                struct event e = {.type = EVENT_SCALARS,
                                  .seq = 0x0a0a0a0a0a,
                                  .step = 0,
                                  .n_rows = n,
                                  .n_columns = 1,
                                  .row_step = steps,
                                  .row_time_ms = steps,
                                  .column_name = {(char *)"a"},
                                  .column = {values}};

                memset(values, n & 1 ? '\n' : 'x', n * sizeof *values);
                for (size_t i = 0; i < n; i++)
                        steps[i] = (int64_t)i * 10 % 77;
                assert_int_equal(event_encode(&e, &b, NULL), 0);
                assert_ptr_equal(memchr(b.data, '\n', b.size), b.data + b.size - 1);
                assert_int_equal(event_decode(b.data, b.size - 1, &back, NULL), 0);
                assert_same_columns(&e, &back);
        }
}

static void the_highest_protocol_of_both_is_spoken(void **state _unused_)
{
        static const struct {
                int64_t lowest, highest;
                int chosen;
        } rows[] = {{0, 1, 1}, {1, 1, 1}, {1, 2, 2}, {2, 2, 2}, {2, 9, 2}, {0, 2, 2}, {3, 9, -EPROTO}, {0, 3, -EPROTO}};
        struct error err;

        for (size_t i = 0; i < ARRAY_LEN(rows); i++)
                assert_int_equal(
                        event_choose_protocol(
                                &(struct event){.protocol = rows[i].highest, .protocol_min = rows[i].lowest}, &err),
                        rows[i].chosen);
}

static void what_is_not_understood_keeps_its_number(void **state _unused_)
{
        static const char *const known_by_number[] = {"{\"type\":\"cosmic\",\"seq\":12}",
                                                      "{\"type\":\"done\",\"seq\":12,\"result\":[]}",
                                                      "{\"type\":\"unknown\",\"seq\":12}"};
        static const char *const garbage[] = {
                "{\"seq\":1}", "{\"type\":\"cosmic\"}", "{\"type\":\"cosmic\",\"seq\":0}", "{\"type\":7,\"seq\":1}",
                "[]",          "what is this"};
        struct event e;

        for (size_t i = 0; i < ARRAY_LEN(known_by_number); i++) {
                assert_int_equal(event_decode(known_by_number[i], strlen(known_by_number[i]), &e, NULL), -EINVAL);
                assert_int_equal(event_decode_unknown(known_by_number[i], strlen(known_by_number[i]), &e, NULL), 0);
                assert_true(e.type == EVENT_UNKNOWN && e.seq == 12);
        }
        for (size_t i = 0; i < ARRAY_LEN(garbage); i++)
                assert_int_equal(event_decode_unknown(garbage[i], strlen(garbage[i]), &e, NULL), -EINVAL);
}

static void hostile_lines_are_refused(void **state _unused_)
{
#define ARTIFACT(name)                                                                                                 \
        "{\"type\":\"artifact\",\"seq\":4,\"kind\":\"image\",\"step\":1,\"name\":\"" name                              \
        "\",\"bytes\":1,\"xxh128\":\"0123456789abcdef0123456789abcdef\",\"metric\":null}"
#define SCALARS(step, time, columns)                                                                                   \
        "{\"type\":\"scalars\",\"seq\":3,\"step\":" step ",\"time_ms\":" time ",\"columns\":" columns "}"
        static const char *const hostile[] = {
                "",
                "null",
                "[]",
                "{}",
                "{\"type\":\"bye\",\"seq\":1}",
                "{\"type\":\"done\",\"seq\":0,\"result\":null}",
                "{\"type\":\"done\",\"seq\":-1,\"result\":null}",
                "{\"type\":\"done\",\"seq\":9007199254740992,\"result\":null}",
                "{\"type\":\"done\",\"seq\":1.0,\"result\":null}",
                "{\"type\":\"done\",\"seq\":1,\"result\":[]}",
                "{\"type\":\"done\",\"seq\":1,\"result\":null} x",
                "{\"type\":\"done\\u0000\",\"seq\":1,\"result\":null}",
                "{\"type\":\"hello\",\"protocol\":1,\"job\":0,\"attempt\":7,\"pid\":123}",
                "{\"type\":\"hello\",\"protocol\":1,\"job\":1,\"attempt\":7,\"pid\":123,\"identity\":\"1\"}",
                "{\"type\":\"hello\",\"protocol\":1,\"job\":1,\"attempt\":7,\"pid\":123,\"identity\":null}",
                "{\"type\":\"progress\",\"seq\":2,\"step\":1,\"steps\":3,\"images_per_second\":\"Infinity\",\"seconds_"
                "left\":1}",
                ARTIFACT(""),
                ARTIFACT("."),
                ARTIFACT(".."),
                ARTIFACT(".hidden"),
                ARTIFACT("../x"),
                ARTIFACT("a/b"),
                ARTIFACT("a\\\\b"),
                ARTIFACT("a b"),
                ARTIFACT("caf\xc3\xa9"),
                ARTIFACT("a\\u0000b"),
                SCALARS("[]", "[]", "{\"a\":[]}"),
                SCALARS("[1]", "[1]", "{}"),
                SCALARS("[1]", "[1]", "[]"),
                SCALARS("[1,2]", "[1]", "{\"a\":[1,2]}"),
                SCALARS("[1]", "[1]", "{\"a\":[1,2]}"),
                SCALARS("[1]", "[1]", "{\"a\":[null]}"),
                SCALARS("[1]", "[1]", "{\"a\":[\"nan\"]}"),
                SCALARS("[1]", "[1]", "{\"a\":1}"),
                SCALARS("[-1]", "[1]", "{\"a\":[1]}"),
                SCALARS("[1.5]", "[1]", "{\"a\":[1]}"),
                SCALARS("[1]", "[-1]", "{\"a\":[1]}"),
                SCALARS("[1]", "[1]", "{\"\":[1]}"),
                SCALARS("[1]", "[1]", "{\"a\\nb\":[1]}"),
                SCALARS("[1]", "[1]", "{\"\\u202e\":[1]}"),
                SCALARS("[1]", "[1]", "{\"a\xff\":[1]}"),
                "{\"type\":\"error\",\"seq\":7,\"class\":\"cosmic\",\"detail\":\"\",\"step\":17}",
        };

        for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
                struct event e;
                struct error err;

                if (event_decode(hostile[i], strlen(hostile[i]), &e, &err) != -EINVAL)
                        fail_msg("taken: %s", hostile[i]);
        }
}

static void sizes_are_bounded(void **state _unused_)
{
        _cleanup_(freep) char *big = calloc(1, EVENT_LINE_MAX + 2);
        _cleanup_(buf_done) struct buf b = BUF_INIT(2 * EVENT_LINE_MAX);
        struct event e;
        struct error err;

        memset(big, ' ', EVENT_LINE_MAX + 1);
        memcpy(big, lines[9], strlen(lines[9]));
        assert_int_equal(event_decode(big, EVENT_LINE_MAX + 1, &e, &err), -EINVAL);
        assert_int_equal(event_decode(big, EVENT_LINE_MAX, &e, &err), 0);
        event_done(&e);

        /* rows and columns at their limits and one above */
        for (int over = 0; over < 4; over++) {
                int n_rows = over & 2 ? 1 : EVENT_ROWS_MAX + (over & 1),
                    n_columns = over & 2 ? EVENT_COLUMNS_MAX + (over & 1) : 1;

                buf_clear(&b);
                assert_int_equal(buf_printf(&b, NULL, "{\"type\":\"scalars\",\"seq\":3,\"step\":[0"), 0);
                for (int i = 1; i < n_rows; i++)
                        assert_int_equal(buf_printf(&b, NULL, ",%d", i), 0);
                assert_int_equal(buf_printf(&b, NULL, "],\"time_ms\":[0"), 0);
                for (int i = 1; i < n_rows; i++)
                        assert_int_equal(buf_printf(&b, NULL, ",%d", i), 0);
                assert_int_equal(buf_printf(&b, NULL, "],\"columns\":{"), 0);
                for (int c = 0; c < n_columns; c++) {
                        assert_int_equal(buf_printf(&b, NULL, "%s\"c%d\":[0", c ? "," : "", c), 0);
                        for (int i = 1; i < n_rows; i++)
                                assert_int_equal(buf_printf(&b, NULL, ",%d", i), 0);
                        assert_int_equal(buf_printf(&b, NULL, "]"), 0);
                }
                assert_int_equal(buf_printf(&b, NULL, "}}"), 0);
                assert_int_equal(event_decode(b.data, b.size, &e, &err), over & 1 ? -EINVAL : 0);
                if (!(over & 1))
                        event_done(&e);
        }

        /* what is too long for a line is not written */
        e = (struct event){.type = EVENT_ERROR, .seq = 1, .detail = big};
        memset(big, 'x', EVENT_LINE_MAX + 1);
        buf_clear(&b);
        assert_int_equal(event_encode(&e, &b, &err), -E2BIG);
        assert_int_equal(b.size, 0);
}

static void commands_come_back_and_the_rest_is_refused(void **state _unused_)
{
        static const char *const good[] = {"{\"ack\":6}\n", "{\"ack\":0}\n", "{\"command\":\"checkpoint\"}\n",
                                           "{\"command\":\"stop\"}\n", "{\"ack\":7,\"protocol\":2}\n"};
        static const char *const bad[] = {
                "{}", "{\"ack\":-1}", "{\"command\":\"\"}", "{\"command\":1}", "[]", "{\"ack\":\"1\"}", "6"};

        for (size_t i = 0; i < ARRAY_LEN(good); i++) {
                _cleanup_(buf_done) struct buf b = BUF_INIT(1000);
                struct command c;

                assert_int_equal(command_decode(good[i], strlen(good[i]), &c, NULL), 0);
                assert_int_equal(command_encode(&c, &b, NULL), 0);
                assert_string_equal(b.data, good[i]);
        }
        static const char newer[] = "{\"command\":\"jump\",\"height\":3}";
        struct command unknown;

        assert_int_equal(command_decode(newer, strlen(newer), &unknown, NULL), 0);
        assert_int_equal(unknown.type, COMMAND_UNKNOWN);
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                struct command c;
                struct error err;

                if (command_decode(bad[i], strlen(bad[i]), &c, &err) != -EINVAL)
                        fail_msg("taken: %s", bad[i]);
        }
}

static void assignments_come_back_and_are_strict(void **state _unused_)
{
        static const char text[] = "{\"job\":3,\"attempt\":7,\"kind\":\"evaluate\",\"config\":{\"a\":1},\"dataset\":{"
                                   "\"name\":\"photos32\",\"path\":\"/x\","
                                   "\"digest\":\"00\"},\"identity\":\"00112233445566778899aabbccddeeff\","
                                   "\"accept_changed_data\":true,\"folder\":\"/state/jobs/3\",\"socket\":\"/state/"
                                   "worker.sock\",\"plans\":\"/state/plans\",\"checkpoints\":[{\"path\":\"/y\","
                                   "\"xxh128\":\"0123456789abcdef0123456789abcdef\",\"step\":1000,"
                                   "\"identity\":\"ffeeddccbbaa99887766554433221100\"},{\"path\":\"/z\","
                                   "\"xxh128\":\"0123456789abcdef0123456789abcdef\",\"step\":0}]}";
        static const char *const paths[] = {"job", "attempt", "kind", "config", "dataset", "folder", "checkpoints"};
        _cleanup_json_ json_t *in = NULL, *out = NULL;
        struct assignment a;
        struct error err;

        assert_int_equal(json_parse(text, strlen(text), &in, NULL), 0);
        if (assignment_from_json(in, &a, &err) < 0)
                fail_msg("%s %s", err.path, err.text);
        assert_int_equal(a.kind, JOB_EVALUATE);
        assert_int_equal(a.n_checkpoints, 2);
        assert_true(a.accept_changed_data);
        assert_string_equal(a.identity, "00112233445566778899aabbccddeeff");
        assert_string_equal(a.checkpoints[0].identity, "ffeeddccbbaa99887766554433221100");
        assert_string_equal(a.checkpoints[1].identity, "");
        assert_string_equal(a.plans, "/state/plans");
        out = assignment_to_json(&a);
        assignment_done(&a);
        assert_true(json_equal(in, out));
        for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
                _cleanup_json_ json_t *o = json_copy(in);

                json_object_del(o, paths[i]);
                assert_int_equal(assignment_from_json(o, &a, &err), -EINVAL);
                json_object_set_new(o, paths[i], json_true());
                assert_int_equal(assignment_from_json(o, &a, &err), -EINVAL);
        }
        json_object_set_new(json_array_get(json_object_get(in, "checkpoints"), 1), "xxh128", json_string("0"));
        assert_int_equal(assignment_from_json(in, &a, &err), -EINVAL);
        assert_string_equal(err.path, "/checkpoints/1/xxh128");
}

static void assignments_of_imports_have_no_configuration(void **state _unused_)
{
        static const char text[] = "{\"job\":4,\"attempt\":8,\"kind\":\"import\",\"import\":{\"what\":\"dataset\","
                                   "\"name\":\"mine\",\"path\":\"/data/mine\",\"test_path\":\"/data/test\","
                                   "\"format\":\"folder\",\"test_share\":0.25,\"target\":\"/state/datasets/"
                                   "mine.images\"},\"accept_changed_data\":false,\"folder\":\"/state/jobs/4\","
                                   "\"socket\":\"/state/worker.sock\",\"checkpoints\":[]}";
        static const struct {
                const char *key, *bad;
        } members[] = {{"what", "photographs"}, {"name", "../x"}, {"path", ""}};
        _cleanup_json_ json_t *in = NULL, *out = NULL;
        struct assignment a;
        struct error err;

        assert_int_equal(json_parse(text, strlen(text), &in, NULL), 0);
        assert_int_equal(assignment_from_json(in, &a, &err), 0);
        assert_int_equal(a.kind, JOB_IMPORT);
        assert_null(a.config);
        assert_string_equal(a.import.test_path, "/data/test");
        assert_true(a.import.test_share == 0.25);
        out = assignment_to_json(&a);
        assignment_done(&a);
        assert_true(json_equal(in, out));
        for (size_t i = 0; i < ARRAY_LEN(members); i++) {
                _cleanup_json_ json_t *o = json_deep_copy(in);

                json_object_set_new(json_object_get(o, "import"), members[i].key, json_string(members[i].bad));
                assert_int_equal(assignment_from_json(o, &a, &err), -EINVAL);
                json_object_del(json_object_get(o, "import"), members[i].key);
                assert_int_equal(assignment_from_json(o, &a, &err), -EINVAL);
        }
        json_object_del(json_object_get(in, "import"), "test_path");
        json_object_del(json_object_get(in, "import"), "test_share");
        assert_int_equal(assignment_from_json(in, &a, &err), 0);
        assert_null(a.import.test_path);
        assert_true(a.import.test_share == 0);
        assignment_done(&a);
        json_object_del(in, "import");
        assert_int_equal(assignment_from_json(in, &a, &err), -EINVAL);
        assert_string_equal(err.path, "/import");
}

/* A checkpoint has a configuration, events have none, neither has a name. */
static void assignments_of_other_imports_have_no_name(void **state _unused_)
{
        static const char *const imports[] = {
                "\"import\":{\"what\":\"checkpoint\",\"path\":\"/data/c.flax\"},\"config\":{\"model\":{}}",
                "\"import\":{\"what\":\"events\",\"path\":\"/data/logs\"}"};

        for (size_t i = 0; i < ARRAY_LEN(imports); i++) {
                _cleanup_json_ json_t *in = NULL, *out = NULL;
                struct assignment a;
                struct error err;
                char *text;

                assert_true(asprintf(&text,
                                     "{\"job\":4,\"attempt\":8,\"kind\":\"import\",%s,\"accept_changed_data\":false,"
                                     "\"folder\":\"/f\",\"socket\":\"/s\",\"checkpoints\":[]}",
                                     imports[i]) > 0);
                assert_int_equal(json_parse(text, strlen(text), &in, NULL), 0);
                free(text);
                assert_int_equal(assignment_from_json(in, &a, &err), 0);
                assert_int_equal(a.import.what, i ? IMPORT_EVENTS : IMPORT_CHECKPOINT);
                assert_true((a.config != NULL) == (i == 0) && !a.import.name);
                out = assignment_to_json(&a);
                assignment_done(&a);
                (void)json_object_del(json_object_get(out, "import"), "test_share"); /* 0: none */
                assert_true(json_equal(in, out));
                json_object_set_new(json_object_get(in, "import"), "name", json_string("x"));
                assert_int_equal(assignment_from_json(in, &a, &err), -EINVAL);
                assert_string_equal(err.path, "/import/name");
        }
}

static void texts_are_told_apart(void **state _unused_)
{
        assert_true(text_is_plain_name("step-1_000.png", 20));
        assert_false(text_is_plain_name("step-1000.png", 5));
        assert_true(text_is_printable("\xf0\x9f\x98\x80 ok", 10));
        assert_false(text_is_printable("\xc0\x80", 10));         /* not the shortest form */
        assert_false(text_is_printable("\xed\xa0\x80", 10));     /* a surrogate */
        assert_false(text_is_printable("\xf4\x90\x80\x80", 10)); /* above U+10FFFF */
        assert_false(text_is_printable("\xc2\x85", 10));         /* a C1 control */
        assert_true(text_is_blank("") && text_is_blank("  ") && text_is_blank(" \xe2\x80\x8b\xc2\xa0"));
        assert_false(text_is_blank(" a") || text_is_blank("\xff"));
        assert_int_equal(text_valid_utf8("ab\xc3", 3), 2);
        assert_int_equal(text_valid_utf8("ab\xc3\xa9", 4), 4);
        assert_false(text_is_digest("0123456789ABCDEF0123456789ABCDEF"));
}

static void what_a_terminal_would_obey_is_replaced(void **state _unused_)
{
        char text[] = "a\x1b[2J\n\x7f+\xc2\x9b+\xe2\x80\xae+\xc3\xa9\xff\xc3", same[] = "\xf0\x9f\x98\x80\tok",
             none[] = "";

        text_make_plain(text, "\n");
        assert_string_equal(text, "a?[2J\n?+?+?+\xc3\xa9\?\?");
        text_make_plain(same, "\t");
        assert_string_equal(same, "\xf0\x9f\x98\x80\tok");
        text_make_plain(none, "\t"); /* the NUL is none of those that are allowed */
        assert_string_equal(none, "");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_line_comes_back_as_it_was),
                cmocka_unit_test(members_are_where_they_belong),
                cmocka_unit_test(a_member_too_few_or_of_another_type_is_refused),
                cmocka_unit_test(strange_members_are_ignored),
                cmocka_unit_test(what_is_not_understood_keeps_its_number),
                cmocka_unit_test(a_damaged_packed_line_is_refused_or_valid),
                cmocka_unit_test(a_hostile_packed_line_is_refused),
                cmocka_unit_test(packed_columns_of_any_length_come_back),
                cmocka_unit_test(the_highest_protocol_of_both_is_spoken),
                cmocka_unit_test(hostile_lines_are_refused),
                cmocka_unit_test(sizes_are_bounded),
                cmocka_unit_test(commands_come_back_and_the_rest_is_refused),
                cmocka_unit_test(assignments_come_back_and_are_strict),
                cmocka_unit_test(assignments_of_imports_have_no_configuration),
                cmocka_unit_test(assignments_of_other_imports_have_no_name),
                cmocka_unit_test(texts_are_told_apart),
                cmocka_unit_test(what_a_terminal_would_obey_is_replaced),
        };

        return cmocka_run_group_tests_name("event", tests, NULL, NULL);
}
