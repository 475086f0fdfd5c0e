/* Cursors of series (api/cursor.h): a line that is the question, then items, under the digest that is right for them,
 * as anybody can compute it. What is accepted is in order, and comes back the same when it is said again; for another
 * question it is none. */
#include "api/cursor.h"

#include "base/file.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool what)
{
        if (!what)
                abort();
}

static void accepted(const struct cursor *c, const char *question)
{
        _cleanup_(buf_done) struct buf text = BUF_INIT(CURSOR_BYTES_MAX);
        struct cursor again = {0}, other = {0};
        int r = cursor_print(c, question, &text);

        for (size_t i = 0; i < c->n; i++) {
                require(!i || c->items[i].index > c->items[i - 1].index);
                require(cursor_find(c, c->items[i].index) == &c->items[i]);
        }
        if (r == -E2BIG)
                return;
        require(r == 0 && cursor_parse(text.data, question, &again) == 0 && again.n == c->n);
        require(!c->n || !memcmp(again.items, c->items, c->n * sizeof *c->items));
        require(cursor_parse(text.data, "another question", &other) == -EINVAL ||
                !strcmp(question, "another question"));
        text.data[text.size - 1] ^= 1;
        require(cursor_parse(text.data, question, &other) == -EINVAL);
        cursor_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(buf_done) struct buf given = BUF_INIT(size + 1), text = BUF_INIT(size + DIGEST_SIZE + 1);
        char digest[DIGEST_SIZE], *items;
        struct cursor c = {0};

        if (size == 0 || memchr(data, 0, size) || buf_append(&given, data, size, NULL) < 0)
                return 0;
        if (cursor_parse(given.data, "", &c) == 0)
                accepted(&c, "");
        cursor_done(&c);
        memory_digest(given.data, given.size, digest);
        items = strchr(given.data, '\n');
        if (!items)
                return 0;
        *items++ = 0;
        require(buf_printf(&text, NULL, "%s%s", digest, items) >= 0);
        if (cursor_parse(text.data, given.data, &c) == 0)
                accepted(&c, given.data);
        cursor_done(&c);
        return 0;
}
