/* Every file of configs/ is a whole and valid configuration, and its text is what JSON is: templates FILE... */
#include "contract/config.h"

#include <stdio.h>

int main(int argc, char **argv)
{
        int bad = 0;

        for (int i = 1; i < argc; i++) {
                _cleanup_json_ json_t *document = NULL;
                struct errors errs = {0};
                struct error err;
                struct config c;

                if (json_parse_file(argv[i], 65536, &document, &err) < 0) {
                        printf("%s: %s\n", argv[i], err.text);
                        bad++;
                } else if (config_from_json(document, &c, &errs) < 0) {
                        for (size_t k = 0; k < errors_kept(&errs); k++)
                                printf("%s: %s: %s\n", argv[i], errs.items[k].path, errs.items[k].text);
                        bad++;
                }
        }
        printf("%d files, %d bad\n", argc - 1, bad);
        return bad || argc == 1;
}
