/* The values of settings: from text, by their kinds. */
#pragma once

#include "daemon/settings.h"

/* value: NAME=VALUE where any name is a key. from_file: paths must be absolute there, since nobody knows where the
 * daemon begins. -EINVAL: err->text says what was expected, err->path is "". */
int setting_parse(const struct setting *row, const char *value, bool from_file, struct settings *s, struct error *err);
/* What is not given and depends on where we are: state, worker, web, configs. */
int settings_complete(struct settings *s, struct error *err);
