/* Progress that a program draws over itself by carriage returns, as it would stand on a terminal in the end: of each
 * line the last state. Text comes in any pieces. */
#pragma once

#include "base/buf.h"

#define FOLD_LINE_MAX ((size_t)64 << 10) /* a longer state is passed on as it comes */

struct fold {
        struct buf state; /* of the line that has not ended */
        bool returned;    /* a return stands behind it: whatever comes next begins anew */
};
#define FOLD_INIT ((struct fold){.state = BUF_INIT(2 * FOLD_LINE_MAX)})
void fold_done(struct fold *f);

/* Appends to out what of the text is sure. -ENOMEM, -E2BIG (out). */
int fold_text(struct fold *f, const char *text, size_t size, struct buf *out, struct error *err);
/* The text has ended: what is left. */
int fold_end(struct fold *f, struct buf *out, struct error *err);
