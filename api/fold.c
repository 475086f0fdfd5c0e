#include "api/fold.h"

#include <string.h>

void fold_done(struct fold *f)
{
        buf_done(&f->state);
}

int fold_end(struct fold *f, struct buf *out, struct error *err)
{
        int r = buf_append(out, f->state.data, f->state.size, err);

        buf_clear(&f->state);
        f->returned = false;
        return r;
}

/* A part without returns and newlines. */
static int add(struct fold *f, const char *text, size_t size, struct buf *out, struct error *err)
{
        int r = 0;

        if (f->returned)
                buf_clear(&f->state);
        f->returned = false;
        if (f->state.size + size > FOLD_LINE_MAX) {
                r = fold_end(f, out, err);
                return r < 0 ? r : buf_append(out, text, size, err);
        }
        return buf_append(&f->state, text, size, err);
}

int fold_text(struct fold *f, const char *text, size_t size, struct buf *out, struct error *err)
{
        const char *end = text + size, *newline = NULL; /* the next one, or the end */
        int r = 0;

        while (r >= 0 && text < end) {
                const char *back, *until;

                if (!newline || newline < text) { /* not anew for each return: there may be thousands before it */
                        newline = memchr(text, '\n', (size_t)(end - text));
                        newline = newline ? newline : end;
                }
                back = memchr(text, '\r', (size_t)(newline - text));
                until = back ? back : newline;
                if (until > text)
                        r = add(f, text, (size_t)(until - text), out, err);
                text = until;
                if (r < 0 || text == end)
                        continue;
                text++;
                if (back) {
                        f->returned = true;
                        continue;
                }
                r = fold_end(f, out, err); /* a return before a newline is a line's end of another system */
                r = r < 0 ? r : buf_append(out, "\n", 1, err);
        }
        return r;
}
