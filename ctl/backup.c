/* backup: the daemon makes it, while it runs. restore: a copy, without a daemon. */
#include "ctl/command.h"

#include "base/backup.h"
#include "base/clock.h"
#include "base/file.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* "2026-11-28T01-02-03Z": a name of files of any system. */
static const char *name_by_time(char buf[RFC3339_SIZE])
{
        (void)clock_rfc3339(clock_wall_us(), buf);
        (void)snprintf(buf + 19, RFC3339_SIZE - 19, "Z");
        buf[13] = buf[16] = '-';
        return buf;
}

int command_backup(struct call *c)
{
        char now[RFC3339_SIZE], path[128];
        const char *name = c->n_args ? c->args[0] : name_by_time(now);
        _cleanup_(reply_done) struct reply reply = {0};

        if (!is_name(name, "a backup"))
                return EXIT_USAGE;
        (void)snprintf(path, sizeof path, "/v1/backups/%s", name);
        client_set_patience(c->client, 0);
        if (ask(c, "POST", path, NULL, &reply) < 0)
                return EXIT_NO;
        if (c->options[OPTION_JSON])
                print_json(reply.document);
        else
                (void)printf("%s\n", text_of(reply.document, "folder"));
        return EXIT_OK;
}

/* A folder that a daemon made whole. */
static int check_backup(const char *folder, struct error *err)
{
        _cleanup_(buf_done) struct buf text = BUF_INIT(65536);
        _cleanup_json_ json_t *manifest = NULL;
        char path[PATH_MAX];
        int r;

        if (snprintf(path, sizeof path, "%s/" BACKUP_MANIFEST, folder) >= (int)sizeof path)
                return error_set(err, -ENAMETOOLONG, folder, "the path is too long");
        r = file_read(path, &text, err);
        if (r < 0)
                return error_set(err, r, folder, "is no whole backup: there is no " BACKUP_MANIFEST);
        r = json_parse(text.data ? text.data : "", text.size, &manifest, err);
        if (r < 0 || !json_is_string(json_object_get(manifest, "mulund")))
                return error_set(err, -EINVAL, path, "is not what mulund writes");
        return 0;
}

/* Nothing, or an empty folder, which goes. */
static int check_target(const char *state, struct error *err)
{
        struct stat st;

        if (lstat(state, &st) < 0)
                return errno == ENOENT ? 0 : error_set(err, -errno, state, "%s", strerror(errno));
        if (S_ISLNK(st.st_mode))
                return error_set(err, -EEXIST, state, "is a link: give the folder that it should lead to");
        if (S_ISDIR(st.st_mode) && rmdir(state) == 0)
                return 0;
        if (S_ISDIR(st.st_mode) && errno == EBUSY)
                return error_set(err, -EBUSY, state,
                                 "is a mount point: give a folder in it that is not there, and mulund that as --state");
        if (S_ISDIR(st.st_mode) && errno != ENOTEMPTY && errno != EEXIST)
                return error_set(err, -errno, state, "cannot be replaced: %s", strerror(errno));
        return error_set(err, -EEXIST, state, "there is something already: give a folder that is not there");
}

/* A copy within itself has no end. */
static int check_apart(const char *folder, const char *state, struct error *err)
{
        char from[PATH_MAX], copy[PATH_MAX], parent[PATH_MAX];

        (void)snprintf(copy, sizeof copy, "%s", state);
        if (realpath(folder, from) && realpath(dirname(copy), parent) && file_below(parent, from))
                return error_set(err, -EINVAL, state, "lies in the backup itself: give a folder elsewhere");
        return 0;
}

static int restore(const char *folder, const char *state, struct error *err)
{
        char partial[PATH_MAX], manifest[PATH_MAX + 16];
        int r = check_backup(folder, err);

        if (r >= 0)
                r = check_apart(folder, state, err);
        if (r >= 0)
                r = check_target(state, err);
        if (r >= 0)
                r = backup_partial(state, partial, err);
        if (r >= 0)
                r = file_remove_tree(partial, err);
        if (r < 0)
                return r;
        r = backup_copy(folder, partial, NULL, err);
        if (r >= 0) {
                (void)snprintf(manifest, sizeof manifest, "%s/" BACKUP_MANIFEST, partial);
                (void)unlink(manifest);
                r = file_move(partial, state, err);
        }
        if (r < 0)
                (void)file_remove_tree(partial, NULL);
        return r;
}

int command_restore(struct call *c)
{
        char state[PATH_MAX];
        struct error err;
        size_t n;

        if (!*c->args[1] || snprintf(state, sizeof state, "%s", c->args[1]) >= (int)sizeof state)
                return usage_error("the folder's path is empty or too long");
        for (n = strlen(state); n > 1 && state[n - 1] == '/'; n--) /* STATE/.partial would lie inside */
                state[n - 1] = 0;
        if (restore(c->args[0], state, &err) < 0)
                return fail("%s%s%s", err.path, err.path[0] ? ": " : "", err.text);
        (void)printf("%s\n", state);
        return EXIT_OK;
}
