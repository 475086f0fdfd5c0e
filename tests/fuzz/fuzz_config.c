/* A document as a configuration: what is taken is whole, comes back as it was, and stays taken. */
#include "contract/config.h"
#include "contract/text.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool what)
{
        if (!what)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_json_ json_t *document = NULL, *whole = NULL, *again = NULL;
        struct errors errs = {0};
        struct config a, b;
        const char *key;
        json_t *v;

        if (json_parse((const char *)data, size, &document, NULL) < 0)
                return 0;
        if (config_from_json(document, &a, &errs) < 0) {
                require(errs.n > 0);
                for (size_t i = 0; i < errors_kept(&errs); i++)
                        require(errs.items[i].text[0] && !strchr(errs.items[i].text, '\n'));
        } else {
                require(errs.n == 0);
                whole = config_to_json(&a);
                require(whole && config_from_json(whole, &b, &errs) == 0);
                again = config_to_json(&b);
                require(json_equal(whole, again));
        }
        /* its members as overrides of an empty document */
        json_object_foreach(document, key, v)
        {
                _cleanup_json_ json_t *o = json_object();
                struct errors own = {0};

                require((config_override(o, key, v, &own) < 0) == (own.n > 0));
        }
        return 0;
}
