/* The dashboard's files. A path is a sequence of plain names below web_folder, without links; what a file is served as
 * is decided by its suffix, and what has none of these is not served. FILE.br and FILE.gz beside a file are its content
 * compressed, for clients that take that. An ETag is the digest of the bytes sent, so each coding has its own, and a
 * browser's copy outlives a new installation of the same. Files in assets/ have a digest in their name and are never
 * asked for again. */
#include "api/response.h"
#include "base/file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char policy[] = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; "
                             "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
                             "frame-ancestors 'none'";

static const char *const types[][2] = {
        {".html", "text/html; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".mjs", "text/javascript; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".svg", "image/svg+xml"},
        {".png", "image/png"},
        {".ico", "image/vnd.microsoft.icon"},
        {".json", "application/json"},
        {".webmanifest", "application/manifest+json"},
        {".woff2", "font/woff2"},
        {".txt", "text/plain; charset=utf-8"},
};

static const char *find_type(const char *name)
{
        const char *suffix = strrchr(name, '.');

        for (size_t i = 0; suffix && i < ARRAY_LEN(types); i++)
                if (!strcmp(suffix, types[i][0]))
                        return types[i][1];
        return NULL;
}

/* The best coding of the file that the client takes and that lies beside it: its descriptor, or -1. */
static int open_encoded(struct request *r, const char *const *segments, size_t n, const char **ret_encoding)
{
        static const char *const codings[][2] = {{"br", ".br"}, {"gzip", ".gz"}};
        const char *accepted = request_header(r, "Accept-Encoding");
        const char *beside[TARGET_SEGMENTS_MAX];
        char name[NAME_MAX + 1];
        struct error err;
        int fd;

        memcpy(beside, segments, n * sizeof *beside);
        beside[n - 1] = name;
        for (size_t i = 0; accepted && i < ARRAY_LEN(codings); i++) {
                int length = snprintf(name, sizeof name, "%s%s", segments[n - 1], codings[i][1]);

                if (length >= (int)sizeof name || !coding_accepted(accepted, codings[i][0]) ||
                    open_beneath(request_settings(r)->web_folder, beside, n, &fd, &err) < 0)
                        continue;
                *ret_encoding = codings[i][0];
                return fd;
        }
        return -1;
}

void static_read(struct request *r)
{
        static const char *const index[] = {"index.html"};
        const char *const *segments = r->target.n_segments ? r->target.segments : index;
        size_t n = MAX(r->target.n_segments, (size_t)1);
        struct file_answer f = {
                .fd = -1, .type = find_type(segments[n - 1]), .size = -1, .policy = policy, .varies = true};
        char digest[DIGEST_SIZE], etag[DIGEST_SIZE + 2];
        struct error err;
        int code = 0;

        if (f.type)
                f.fd = open_encoded(r, segments, n, &f.encoding);
        if (f.type && f.fd < 0)
                code = open_beneath(request_settings(r)->web_folder, segments, n, &f.fd, &err);
        if (code < 0 && code != -ENOENT) {
                problem_failed(r, "a file cannot be read", code, &err);
                return;
        }
        if (!f.type || code < 0) {
                problem(r, PROBLEM_NOT_FOUND, "no resource has this path");
                return;
        }
        code = file_digest_fd(f.fd, NULL, digest, NULL, &err);
        if (code < 0) {
                (void)close(f.fd);
                problem_failed(r, "a file cannot be read", code, &err);
                return;
        }
        (void)snprintf(etag, sizeof etag, "\"%s\"", digest);
        f.etag = etag;
        if (n > 1 && !strcmp(segments[0], "assets"))
                f.cache = "max-age=31536000, immutable";
        response_file(r, &f);
}
