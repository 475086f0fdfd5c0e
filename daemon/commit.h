/* A write to the store whose completion runs on the loop's thread. */
#pragma once

#include "daemon/loop.h"
#include "store/store.h"

struct daemon;

struct commit {
        struct post post;
        struct daemon *daemon;
        int r;
        struct error err;
        int64_t ret_id, ret_number;
        struct job_row *row; /* of a new job: as it is stored; done may take what it holds. NULL: it is to be read */
        void (*done)(struct daemon *d, const struct commit *c, void *user);
        void *user;
};

/* Takes w (NULL: there was no memory for it). done is called once, later, on the loop's thread; without memory for the
 * node itself: at once. NULL: nobody asks. */
void commit_submit(struct daemon *d, struct write *w,
                   void (*done)(struct daemon *d, const struct commit *c, void *user), void *user);
