/* A line as an event, a command, an assignment: what is decoded is encoded to a line that decodes to the same. */
#include "contract/event.h"
#include "contract/text.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool what)
{
        if (!what)
                abort();
}

static void as_event(const char *line, size_t size)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(16 * EVENT_LINE_MAX), b2 = BUF_INIT(16 * EVENT_LINE_MAX);
        _cleanup_(event_done) struct event e = {0}, again = {0};

        if (event_decode(line, size, &e, NULL) < 0) {
                if (event_decode_unknown(line, size, &again, NULL) == 0)
                        require(again.type == EVENT_UNKNOWN && again.seq > 0);
                return;
        }
        require(e.type == EVENT_HELLO || e.seq > 0);
        require(!e.name || (text_is_plain_name(e.name, EVENT_NAME_MAX) && !strchr(e.name, '/')));
        require(e.n_columns <= EVENT_COLUMNS_MAX && e.n_rows <= EVENT_ROWS_MAX);
        /* 17 digits of each number may be more than a line: that is an error, not a longer line */
        if (event_encode(&e, &b, NULL) < 0)
                return;
        require(b.size && b.data[b.size - 1] == '\n' && !memchr(b.data, '\n', b.size - 1));
        require(event_decode(b.data, b.size - 1, &again, NULL) == 0);
        require(event_encode(&again, &b2, NULL) == 0 && b.size == b2.size && !memcmp(b.data, b2.data, b.size));
}

static void as_command(const char *line, size_t size)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(1000);
        struct command c, again;

        if (command_decode(line, size, &c, NULL) < 0 || c.type == COMMAND_UNKNOWN)
                return;
        require(command_encode(&c, &b, NULL) == 0 && command_decode(b.data, b.size - 1, &again, NULL) == 0);
        require(c.type == again.type && c.ack == again.ack);
}

static void as_assignment(const char *line, size_t size)
{
        _cleanup_json_ json_t *document = NULL, *out = NULL, *again = NULL;
        struct assignment a;

        if (json_parse(line, size, &document, NULL) < 0 || assignment_from_json(document, &a, NULL) < 0)
                return;
        out = assignment_to_json(&a);
        assignment_done(&a);
        /* without the members that nobody knows it comes back as it is */
        require(assignment_from_json(out, &a, NULL) == 0);
        again = assignment_to_json(&a);
        assignment_done(&a);
        require(json_equal(out, again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        as_event((const char *)data, size);
        as_command((const char *)data, size);
        as_assignment((const char *)data, size);
        return 0;
}
