#include "api/cursor.h"

#include "base/array.h"
#include "base/file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cursor_done(struct cursor *c)
{
        free(c->items);
        *c = (struct cursor){0};
}

/* Of the question and the items' text. */
static int digest_of(const char *question, const char *items, char ret[DIGEST_SIZE])
{
        _cleanup_(freep) char *both = NULL;
        int n = asprintf(&both, "%s\n%s", question, items);

        if (n < 0) {
                both = NULL;
                return -ENOMEM;
        }
        memory_digest(both, (size_t)n, ret);
        return 0;
}

/* Hexadecimal digits up to the letter `end`, behind which *s is then. */
static bool take_number(const char **s, char end, uint64_t *ret)
{
        static const char digits[] = "0123456789abcdef";
        const size_t n = strspn(*s, digits);

        if (n == 0 || n > 16 || (*s)[n] != end)
                return false;
        for (*ret = 0; **s != end; (*s)++)
                *ret = *ret << 4 | (uint64_t)(strchr(digits, **s) - digits);
        *s += end != 0;
        return true;
}

static bool take_item(const char *text, struct cursor_item *ret)
{
        return take_number(&text, '-', &ret->index) && take_number(&text, '-', &ret->shift) &&
               take_number(&text, '-', &ret->edge) && take_number(&text, '-', &ret->below) &&
               take_number(&text, '-', &ret->last) && take_number(&text, 0, &ret->view);
}

static int take_items(char *text, struct cursor *c)
{
        char *rest;

        for (char *item = strtok_r(text, ".", &rest); item; item = strtok_r(NULL, ".", &rest)) {
                struct cursor_item i;

                if (!take_item(item, &i) || (c->n && i.index <= c->items[c->n - 1].index))
                        return -EINVAL;
                if (cursor_add(c, &i) < 0)
                        return -ENOMEM;
        }
        return 0;
}

int cursor_parse(const char *text, const char *question, struct cursor *ret)
{
        _cleanup_(freep) char *items = NULL;
        char digest[DIGEST_SIZE];
        struct cursor c = {0};
        int r;

        if (strlen(text) < DIGEST_SIZE - 1)
                return -EINVAL;
        items = strdup(text + DIGEST_SIZE - 1);
        if (!items)
                return -ENOMEM;
        r = digest_of(question, items, digest);
        if (r < 0)
                return r;
        if (memcmp(digest, text, DIGEST_SIZE - 1) != 0)
                return -EINVAL;
        r = take_items(items, &c);
        if (r < 0)
                cursor_done(&c);
        else
                *ret = c;
        return r;
}

const struct cursor_item *cursor_find(const struct cursor *c, uint64_t index)
{
        for (size_t i = 0; i < c->n; i++)
                if (c->items[i].index == index)
                        return &c->items[i];
        return NULL;
}

int cursor_add(struct cursor *c, const struct cursor_item *item)
{
        if (!array_grow(&c->items, c->n, &c->room, sizeof *c->items))
                return -ENOMEM;
        c->items[c->n++] = *item;
        return 0;
}

int cursor_print(const struct cursor *c, const char *question, struct buf *ret)
{
        _cleanup_(buf_done) struct buf items = BUF_INIT(CURSOR_BYTES_MAX - DIGEST_SIZE);
        char digest[DIGEST_SIZE];
        int r = buf_reserve(&items, 1, NULL); /* none: an empty text */

        for (size_t i = 0; i < c->n && r >= 0; i++) {
                const struct cursor_item *x = &c->items[i];

                r = buf_printf(&items, NULL, ".%" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%" PRIx64,
                               x->index, x->shift, x->edge, x->below, x->last, x->view);
        }
        if (r >= 0)
                r = digest_of(question, items.data, digest);
        return r < 0 ? r : buf_printf(ret, NULL, "%s%s", digest, items.data);
}
