#include "daemon/daemon.h"
#include "daemon/webhook.h"

#include <errno.h>

static void on_loop(struct post *p)
{
        struct commit *c = (struct commit *)p; /* its first member */

        c->daemon->commits--;
        daemon_note_write(c->daemon, c->r, &c->err);
        if (c->r >= 0 && c->daemon->server)
                server_changed(c->daemon->server);
        if (c->r >= 0)
                webhooks_changed(c->daemon->webhooks);
        if (c->done)
                c->done(c->daemon, c, c->user);
        if (c->daemon->draining && !c->daemon->commits)
                loop_quit(c->daemon->loop);
        if (c->row)
                job_row_done(c->row);
        free(c->row);
        free(c);
}

/* On the writer's thread. */
static void on_writer(struct write *w, int r, const struct error *err)
{
        struct commit *c = w->user;

        c->r = r;
        if (err)
                c->err = *err;
        c->ret_id = w->ret_id;
        c->ret_number = w->ret_number;
        if (r >= 0 && w->kind == WRITE_JOB_NEW && w->row.id) {
                c->row = malloc(sizeof *c->row);
                if (c->row) {
                        *c->row = w->row;
                        w->row = (struct job_row){0};
                }
        }
        loop_post(c->daemon->loop, &c->post, on_loop);
}

void commit_submit(struct daemon *d, struct write *w,
                   void (*done)(struct daemon *d, const struct commit *c, void *user), void *user)
{
        struct commit *c = w ? calloc(1, sizeof *c) : NULL;

        if (!c) {
                struct commit failed = {.daemon = d};

                failed.r = error_set(&failed.err, -ENOMEM, NULL, "no memory for a write");
                log_warning("there was no memory for a write: whatever it was for is told, or tries again");
                (void)write_free(w);
                if (done)
                        done(d, &failed, user);
                return;
        }
        *c = (struct commit){.daemon = d, .done = done, .user = user};
        w->done = on_writer;
        w->user = c;
        d->commits++;
        store_submit(d->store, w);
}
