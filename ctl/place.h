/* Where the server is, and what it is shown: what the command line, the environment and files of this user say. */
#pragma once

#include "ctl/client.h"

/* option, else $MULUND_SERVER, else the Unix socket of this user's own mulund or of the system's, where there is one,
 * else http://127.0.0.1:8700. A path is a Unix socket. With the token of $MULUND_TOKEN, or of
 * $XDG_CONFIG_HOME/mulund/token. */
int place_client(const char *option, struct client **ret, struct error *err);
