/* What other programs read, to a file: streamed to a temporary name beside it, which becomes the file's when it is
 * whole. */
#include "ctl/command.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int find_output(const char *output, char ret[PATH_MAX])
{
        struct stat st;

        if (snprintf(ret, PATH_MAX, "%s", output) >= PATH_MAX)
                return fail("the file's name is too long");
        if (stat(output, &st) < 0)
                return 0;
        if (S_ISDIR(st.st_mode))
                return fail("%s is a folder: give the name of a file", output);
        if (!S_ISREG(st.st_mode))
                return -ENXIO;
        return realpath(output, ret) ? 0 : fail("%s cannot be written: %s", output, strerror(errno));
}

/* Into a pipe or a device, whose name must stay its own. */
static int stream(struct call *c, const char *path, const char *output)
{
        _cleanup_(buf_done) struct buf text = BUF_INIT(1 << 16);
        FILE *to = fopen(output, "wbe");
        int r;

        if (!to)
                return fail("%s cannot be written: %s", output, strerror(errno));
        r = client_download(c->client, path, to, &text);
        if (fclose(to) && r >= 0)
                return fail("%s cannot be written: %s", output, strerror(errno));
        return r < 0 ? fail("%s", text.data) : EXIT_OK;
}

/* -o's file by way of a temporary one, or standard output. */
static int download(struct call *c, const char *path)
{
        _cleanup_(buf_done) struct buf text = BUF_INIT(1 << 16);
        const char *output = c->options[OPTION_OUTPUT];
        char temporary[PATH_MAX], found[PATH_MAX];
        FILE *to = stdout;
        int r, fd;

        if (output) {
                r = find_output(output, found);
                if (r)
                        return r == -ENXIO ? stream(c, path, output) : r;
                output = found;
                if (snprintf(temporary, sizeof temporary, "%s.XXXXXX", output) >= (int)sizeof temporary)
                        return fail("the file's name is too long");
                fd = mkstemp(temporary);
                if (fd >= 0)
                        (void)fchmod(fd, 0644);
                to = fd < 0 ? NULL : fdopen(fd, "wb");
                if (!to)
                        return fail("%s cannot be written: %s", output, strerror(errno));
        }
        r = client_download(c->client, path, to, &text);
        if (!output)
                return r < 0 ? fail("%s", text.data) : EXIT_OK;
        if (fclose(to) && r >= 0) {
                r = -errno;
                (void)buf_printf(&text, NULL, "%s cannot be written: %s", output, strerror(errno));
        }
        if (r >= 0 && rename(temporary, output) < 0) {
                r = -errno;
                (void)buf_printf(&text, NULL, "%s cannot be written: %s", output, strerror(errno));
        }
        if (r >= 0)
                return EXIT_OK;
        (void)unlink(temporary);
        return fail("%s", text.data);
}

int command_export(struct call *c)
{
        const char *format = c->options[OPTION_FORMAT] ? c->options[OPTION_FORMAT] : "csv";
        _cleanup_(freep) char *names = client_escape_list((const char *const *)c->args + 1, (size_t)c->n_args - 1);
        _cleanup_(freep) char *escaped = client_escape(format);
        _cleanup_(buf_done) struct buf path = BUF_INIT(1 << 20);
        int64_t id = job_id(c->args[0]);

        if (!id)
                return EXIT_USAGE;
        if (!escaped || !names ||
            buf_printf(&path, NULL, "/v1/jobs/%" PRId64 "/export?format=%s%s%s", id, escaped,
                       c->n_args > 1 ? "&names=" : "", names) < 0)
                return fail("no memory");
        return download(c, path.data);
}

/* Newest first, as the server lists them; 0: none is the one that is asked for. */
static int64_t find_checkpoint(const json_t *artifacts, const char *which)
{
        double best = INFINITY;
        int64_t found = 0;
        const json_t *a;
        size_t i;

        json_array_foreach(artifacts, i, a)
        {
                int64_t id = json_integer_value(json_object_get(a, "id"));
                double metric = real_of(a, "metric");

                if (!strcmp(which, "latest"))
                        return id;
                if (!strcmp(which, "best")) {
                        found = metric < best ? id : found;
                        best = metric < best ? metric : best;
                } else if (strtoll(which, NULL, 10) == json_integer_value(json_object_get(a, "step"))) {
                        return id;
                }
        }
        return found;
}

static int keep(struct call *c, int64_t artifact, bool pinned)
{
        _cleanup_json_ json_t *body = json_pack("{s:b}", "pinned", pinned);
        _cleanup_(reply_done) struct reply reply = {0};
        char path[64];

        (void)snprintf(path, sizeof path, "/v1/artifacts/%" PRId64, artifact);
        if (ask(c, "PATCH", path, body, &reply) < 0)
                return EXIT_NO;
        (void)printf("%s is %s\n", text_of(reply.document, "name"),
                     pinned ? "kept until it is unpinned" : "kept no longer than others");
        return EXIT_OK;
}

int command_checkpoint(struct call *c)
{
        const char *format = c->options[OPTION_FORMAT] ? c->options[OPTION_FORMAT] : "flax";
        const char *which = c->options[OPTION_CHECKPOINT] ? c->options[OPTION_CHECKPOINT] : "latest";
        _cleanup_(freep) char *escaped = client_escape(format);
        _cleanup_(reply_done) struct reply reply = {0};
        int64_t id, artifact;
        char path[200];

        bool export = !strcmp(c->args[0], "export"), pin = !strcmp(c->args[0], "pin");

        if (!export && !pin && strcmp(c->args[0], "unpin") != 0)
                return usage_error("checkpoint takes export, pin or unpin, and a job");
        if (strcmp(which, "latest") != 0 && strcmp(which, "best") != 0 && strspn(which, "0123456789") != strlen(which))
                return usage_error("--checkpoint takes latest, best or a step");
        id = job_id(c->args[1]);
        if (!id)
                return EXIT_USAGE;
        (void)snprintf(path, sizeof path, "/v1/jobs/%" PRId64 "/artifacts?kind=checkpoint", id);
        if (ask(c, "GET", path, NULL, &reply) < 0)
                return EXIT_NO;
        artifact = find_checkpoint(json_object_get(reply.document, "artifacts"), which);
        if (!artifact)
                return fail("job %" PRId64 " has no such checkpoint", id);
        if (!export)
                return keep(c, artifact, pin);
        if (!escaped ||
            snprintf(path, sizeof path, "/v1/artifacts/%" PRId64 "?format=%s", artifact, escaped) >= (int)sizeof path)
                return usage_error("--format takes flax, ema or params");
        return download(c, path);
}
