/* A log as lines, each with when it came, as JSON also with its place in the file: of text in any pieces. */
#pragma once

#include "api/fold.h"
#include "contract/log_times.h"

struct log_lines {
        struct fold fold; /* of a line that was drawn over by returns the last state stands */
        struct buf text;  /* of the line that has not ended */
        int64_t begin;    /* where it began; -1: none has */
        int64_t end;      /* of what was taken */
        bool json;
        struct log_times times;
};

/* What begins at an offset. Takes times_fd (contract/log_times.h); -1: when a line came is not known. */
void log_lines_init(struct log_lines *l, int64_t offset, bool json, int times_fd);
void log_lines_done(struct log_lines *l);

/* Text that begins at offset; where that is not the end of what came before, what lies between is a hole. Appends
 * {"offset", "time" or null, "text"} of each line that is whole to out, or TIME LINE (or "-" for the time); a line of
 * more than FOLD_LINE_MAX bytes comes in several, each with its own place. -ENOMEM, -E2BIG (out). */
int log_lines_add(struct log_lines *l, int64_t offset, const char *text, size_t size, struct buf *out,
                  struct error *err);
/* What is left, a line without its end. */
int log_lines_end(struct log_lines *l, struct buf *out, struct error *err);
