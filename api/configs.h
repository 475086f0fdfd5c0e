/* The configurations that this server offers by name: NAME.json of a folder. */
#pragma once

#include "base/json.h"

/* The document as it stands in the file. -ENOENT when there is none of that name. */
int config_template(const char *folder, const char *name, json_t **ret, struct error *err);
