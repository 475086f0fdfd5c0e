#include "api/names.h"

#include "contract/text.h"

#include <errno.h>
#include <string.h>

int names_find(const struct names *n, const char *name)
{
        for (size_t i = 0; i < n->n; i++)
                if (!strcmp(n->items[i], name))
                        return (int)i;
        return -1;
}

char *names_take(char **list)
{
        char *name = *list, *to = name;
        const bool quoted = *name == '"';
        char *from = name + quoted;

        while (*from && (quoted || *from != ',')) {
                if (quoted && *from == '"' && from[1] != '"')
                        break;
                from += quoted && *from == '"';
                *to++ = *from++;
        }
        if (quoted && *from++ != '"')
                return NULL;
        if (*from && *from != ',')
                return NULL;
        *list = *from ? from + 1 : NULL;
        *to = 0;
        return name;
}

static int add_name(struct request *r, struct names *n, const char *name)
{
        if (!name || !text_is_printable(name, EVENT_NAME_MAX))
                return errors_add(&r->errs, -EINVAL, "names",
                                  "expected names of series, separated by commas; one with a comma in quotes");
        if (names_find(n, name) >= 0)
                return 0;
        if (n->n == NAMES_MAX)
                return errors_add(&r->errs, -EINVAL, "names", "at most %d names at once", NAMES_MAX);
        n->items[n->n++] = name;
        return 0;
}

int request_query_names(struct request *r, struct names *ret)
{
        const char *text = NULL;
        struct names n = {0};
        int found = request_query_text(r, "names", TARGET_BYTES_MAX, &text), x = 0;
        char *list;

        if (found <= 0)
                return found;
        list = n.memory = strdup(text);
        if (!list)
                return errors_add(&r->errs, -ENOMEM, "names", "no memory");
        while (list && x >= 0)
                x = add_name(r, &n, names_take(&list));
        if (x < 0) {
                names_done(&n);
                return x;
        }
        *ret = n;
        return 1;
}

void names_done(struct names *n)
{
        free(n->memory);
        *n = (struct names){0};
}
