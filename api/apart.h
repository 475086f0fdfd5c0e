/* A small pool of threads for heavy reads, so that the threads of the connections never wait for one. Requests come in
 * suspended and go back resumed, with their answer. Some of the threads take no long work. */
#pragma once

#include "base/error.h"

struct apart;
struct request;

int apart_new(struct apart **ret, struct error *err);
/* Takes the request, whose connection it suspends; false when too many wait already. The caller does not touch it any
 * more when it is true. */
bool apart_submit(struct apart *a, struct request *r);
/* For reader_watch: whether nobody wants the answer any more. user: the request. */
bool apart_cancelled(void *user);
/* Ends what runs, answers what waits, ends the threads. */
void apart_stop(struct apart *a);
struct apart *apart_free(struct apart *a);
