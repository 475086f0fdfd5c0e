#include "store/internal.h"

#include "contract/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *const job_sort_names[] = {"",
                                      "name",
                                      "kind",
                                      "state",
                                      "progress",
                                      "images_per_second",
                                      "test_bpd",
                                      "train_bpd",
                                      "best_test_bpd",
                                      "best_train_bpd",
                                      "created",
                                      "started",
                                      "ended",
                                      "duration",
                                      "step",
                                      "attempts",
                                      "priority",
                                      "owner",
                                      "devices",
                                      "notes",
                                      "config.KEY",
                                      NULL};
_Static_assert(ARRAY_LEN(job_sort_names) == SORT_N + 1, "a name for each");

struct sort_key sort_key_read(sqlite3_stmt *st, int i, int64_t id)
{
        struct sort_key k = {.type = SORT_NOTHING, .id = id};

        switch (sqlite3_column_type(st, i)) {
        case SQLITE_INTEGER:
        case SQLITE_FLOAT:
                k.type = SORT_NUMBER;
                k.number = sqlite3_column_double(st, i);
                break;
        case SQLITE_TEXT:
                k.type = SORT_TEXT;
                (void)strncpy(k.text, (const char *)sqlite3_column_text(st, i), sizeof k.text - 1);
                k.text[text_valid_utf8(k.text, strlen(k.text))] = 0; /* not half a letter */
                break;
        default:
                break;
        }
        return k;
}

/* Negative: a comes first. */
static int compare(const struct sort_key *a, const struct sort_key *b, bool descending)
{
        int r = 0;

        if (a->type != b->type)
                return a->type < b->type ? -1 : 1;
        if (a->type == SORT_NUMBER)
                r = (a->number > b->number) - (a->number < b->number);
        else if (a->type == SORT_TEXT)
                r = strcasecmp(a->text, b->text);
        if (r)
                return descending ? -r : r;
        return (a->id < b->id) - (a->id > b->id);
}

static int compare_in(const void *a, const void *b, void *descending)
{
        return compare(a, b, *(bool *)descending);
}

int sort_begin(struct sort *s, size_t limit, bool descending, const struct sort_key *behind)
{
        *s = (struct sort){.limit = limit, .descending = descending, .behind = behind};
        s->keys = calloc(limit, sizeof *s->keys);
        return s->keys ? 0 : -ENOMEM;
}

/* The keys are a heap, the last of them on top. */
static void sink(struct sort *s, struct sort_key k)
{
        size_t i = 0;

        for (size_t child; (child = 2 * i + 1) < s->n; i = child) {
                if (child + 1 < s->n && compare(&s->keys[child + 1], &s->keys[child], s->descending) > 0)
                        child++;
                if (compare(&k, &s->keys[child], s->descending) >= 0)
                        break;
                s->keys[i] = s->keys[child];
        }
        s->keys[i] = k;
}

static void rise(struct sort *s, struct sort_key k)
{
        size_t i = s->n++;

        for (size_t parent; i > 0 && compare(&k, &s->keys[parent = (i - 1) / 2], s->descending) > 0; i = parent)
                s->keys[i] = s->keys[parent];
        s->keys[i] = k;
}

void sort_add(struct sort *s, const struct sort_key *k)
{
        /* a job that was last and grew since then does not come again */
        if (s->behind && (k->id == s->behind->id || compare(k, s->behind, s->descending) <= 0))
                return;
        if (s->n < s->limit) {
                rise(s, *k);
                return;
        }
        s->more = true;
        if (compare(k, &s->keys[0], s->descending) < 0)
                sink(s, *k);
}

void sort_end(struct sort *s)
{
        qsort_r(s->keys, s->n, sizeof *s->keys, compare_in, &s->descending);
}

void sort_done(struct sort *s)
{
        free(s->keys);
        s->keys = NULL;
}
