/* Content codings of what is made here (files of the dashboard lie on the disk compressed). */
#pragma once

#include "base/buf.h"

/* The coding of an Accept-Encoding header (or NULL) that is worth most here: "zstd", "gzip", or NULL: none. */
const char *encoding_choose(const char *accepted);
/* What b holds, in that coding, to *ret, whose ceiling bounds it: -E2BIG when it would not get smaller than that. */
int encoding_apply(const char *coding, const struct buf *b, struct buf *ret);
