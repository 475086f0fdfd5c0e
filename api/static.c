/* The dashboard's files. A path is a sequence of plain names below web_folder, without links; what a file is served as
 * is decided by its suffix, and what has none of these is not served. */
#include "api/response.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char policy[] = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
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

void static_read(struct request *r)
{
        static const char *const index[] = {"index.html"};
        const char *const *segments = r->target.n_segments ? r->target.segments : index;
        size_t n = MAX(r->target.n_segments, (size_t)1);
        const char *type = find_type(segments[n - 1]);
        struct error err;
        struct stat st;
        char etag[64];
        int fd;

        if (!type || open_beneath(request_settings(r)->web_folder, segments, n, &fd, &err) < 0) {
                problem(r, PROBLEM_NOT_FOUND, "no resource has this path");
                return;
        }
        if (fstat(fd, &st) < 0) {
                (void)close(fd);
                problem(r, PROBLEM_INTERNAL, "a file cannot be read");
                return;
        }
        (void)snprintf(etag, sizeof etag, "\"%llx-%llx-%llx\"", (unsigned long long)st.st_size,
                       (unsigned long long)st.st_mtim.tv_sec, (unsigned long long)st.st_mtim.tv_nsec);
        response_file(r, &(struct file_answer){.fd = fd, .type = type, .etag = etag, .size = -1, .policy = policy});
}
