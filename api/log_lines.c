#include "api/log_lines.h"

#include "base/clock.h"
#include "base/json.h"
#include "contract/text.h"

#include <errno.h>
#include <string.h>

#define MS_MAX INT64_C(253402300799000) /* the year 9999 */

void log_lines_init(struct log_lines *l, int64_t offset, bool json, int times_fd)
{
        *l = (struct log_lines){
                .fold = FOLD_INIT, .text = BUF_INIT(4 * FOLD_LINE_MAX), .begin = -1, .end = offset, .json = json};
        log_times_open(&l->times, times_fd);
}

void log_lines_done(struct log_lines *l)
{
        fold_done(&l->fold);
        buf_done(&l->text);
        log_times_close(&l->times);
}

/* Whatever is no UTF-8 as U+FFFD, a byte each. */
static json_t *text_of(const struct buf *b, struct error *err)
{
        _cleanup_(buf_done) struct buf valid = BUF_INIT(16 * FOLD_LINE_MAX);
        size_t at = 0;
        json_t *text;
        int r = buf_append(&valid, "", 0, err);

        while (r >= 0 && at < b->size) {
                size_t n = text_valid_utf8(b->data + at, b->size - at);

                r = buf_append(&valid, b->data + at, n, err);
                at += n;
                if (r >= 0 && at < b->size)
                        r = buf_append(&valid, "\xef\xbf\xbd", 3, err), at++;
        }
        text = r < 0 ? NULL : json_stringn(valid.data ? valid.data : "", valid.size);
        if (!text && r >= 0)
                (void)error_set(err, -ENOMEM, NULL, "no memory for a line");
        return text;
}

static int write_json(const struct log_lines *l, int64_t time_us, struct buf *out, struct error *err)
{
        _cleanup_json_ json_t *line = NULL;
        json_t *text = text_of(&l->text, err);
        int r;

        if (!text)
                return err->code;
        line = json_pack("{s:I, s:o, s:o}", "offset", (json_int_t)l->begin, "time", json_from_time(time_us), "text",
                         text);
        r = line ? json_write(line, out) : -ENOMEM;
        return r < 0 ? error_set(err, r, NULL, "no room for a line") : r;
}

static int write_timed(const struct log_lines *l, int64_t time_us, struct buf *out, struct error *err)
{
        char time[RFC3339_SIZE];
        int r = buf_printf(out, err, "%s ", time_us ? clock_rfc3339(time_us, time) : "-");

        return r < 0 ? r : buf_append(out, l->text.data, l->text.size, err);
}

/* end: behind it, newline included. */
static int emit(struct log_lines *l, int64_t end, struct buf *out, struct error *err)
{
        int64_t ms;
        int r = fold_end(&l->fold, &l->text, err);

        if (r < 0)
                return r;
        ms = log_times_of(&l->times, end);
        ms = ms > 0 && ms <= MS_MAX ? ms : 0;
        r = l->json ? write_json(l, ms * US_PER_MS, out, err) : write_timed(l, ms * US_PER_MS, out, err);
        buf_clear(&l->text);
        l->begin = -1;
        return r < 0 ? r : buf_append(out, "\n", 1, err);
}

/* A part of a line, without its newline. */
static int add_part(struct log_lines *l, int64_t offset, const char *text, size_t size, struct buf *out,
                    struct error *err)
{
        int r = 0;

        if (l->begin < 0)
                l->begin = offset;
        if (size)
                r = fold_text(&l->fold, text, size, &l->text, err);
        return r >= 0 && l->text.size ? emit(l, offset + (int64_t)size, out, err) : r;
}

int log_lines_add(struct log_lines *l, int64_t offset, const char *text, size_t size, struct buf *out,
                  struct error *err)
{
        int r = offset != l->end ? log_lines_end(l, out, err) : 0;

        while (r >= 0 && size) {
                const char *newline = memchr(text, '\n', size);
                size_t n = newline ? (size_t)(newline - text) : size;

                r = add_part(l, offset, text, n, out, err);
                if (r >= 0 && newline && l->begin >= 0)
                        r = emit(l, offset + (int64_t)n + 1, out, err);
                n += newline != NULL;
                offset += (int64_t)n;
                text += n;
                size -= n;
        }
        l->end = offset;
        return r;
}

int log_lines_end(struct log_lines *l, struct buf *out, struct error *err)
{
        return l->begin >= 0 ? emit(l, l->end, out, err) : 0;
}
