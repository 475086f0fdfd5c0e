/* What a client says: lines of URL, Host, Origin, Range, If-None-Match, Content-Type, then a body as a submission. */
#include "api/routes.h"
#include "api/submit.h"
#include "contract/text.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool what)
{
        if (!what)
                abort();
}

static void as_target(const char *url)
{
        struct target t;
        struct route_match m;
        char allow[64];

        if (target_parse(url, &t, NULL) < 0)
                return;
        require(url[0] == '/' && strlen(url) <= TARGET_BYTES_MAX);
        for (size_t i = 0; i < t.n_segments; i++) {
                require(*t.segments[i] || i + 1 == t.n_segments);
                require(strcmp(t.segments[i], ".") && strcmp(t.segments[i], "..") && !strpbrk(t.segments[i], "/\\%"));
        }
        for (int method = 0; method < METHOD_N; method++) {
                route_find((enum method)method, &t, &m);
                require(!m.route || m.methods >> method & 1);
                require(!m.name || text_is_plain_name(m.name, 64));
                (void)methods_text(m.methods, allow);
        }
        target_done(&t);
}

static void as_range(const char *s)
{
        static const int64_t sizes[] = {0, 1, 1000, INT64_MAX};
        int64_t first, last;

        for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
                if (range_parse(s, sizes[i], &first, &last) == RANGE_OK)
                        require(first >= 0 && first <= last && last < sizes[i]);
}

static void as_submission(const char *s, size_t size)
{
        struct submission *submission = NULL;
        _cleanup_json_ json_t *body = NULL;
        struct errors errs = {0};
        enum problem p;

        if (json_parse(s, size, &body, NULL) < 0 || !json_is_object(body))
                return;
        if (submission_from_json(body, "/nonexistent", &submission, &p, &errs) < 0) {
                json_t *document = problem_to_json(p, "detail", &errs);

                require(errs.n > 0 && !submission && document);
                json_decref(document);
                return;
        }
        require(errs.n == 0 && submission->name && submission->config_name && json_is_array(submission->tags));
        require((submission->kind == JOB_IMPORT) == (submission->import != NULL));
        if (submission->kind != JOB_IMPORT)
                require((submission->source_job == 0) == (submission->config != NULL));
        require(submission->kind == JOB_TRAIN || submission->kind == JOB_IMPORT || submission->config == NULL);
        (void)submission_free(submission);
}

static void as_import(const char *s, size_t size)
{
        struct submission *submission = NULL;
        _cleanup_json_ json_t *body = NULL;
        struct errors errs = {0};
        struct assignment_import i;

        if (json_parse(s, size, &body, NULL) < 0 || !json_is_object(body))
                return;
        if (import_submission_from_json(body, &submission, &errs) < 0) {
                require(errs.n > 0 && !submission);
                return;
        }
        require(errs.n == 0 && submission->kind == JOB_IMPORT && !submission->config);
        require(import_from_json(submission->import, "", &i, NULL) == 0); /* as the daemon reads it later */
        require(i.path[0] == '/' && !strchr(i.name, '/') && i.name[0] != '.' && i.test_share >= 0 && i.test_share < 1);
        import_done(&i);
        (void)submission_free(submission);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char *text = malloc(size + 1), *line = text, *next;

        if (!text)
                return 0;
        if (size)
                memcpy(text, data, size);
        text[size] = 0;
        for (int i = 0; line && i < 6; i++, line = next) {
                next = memchr(line, '\n', size - (size_t)(line - text));
                if (next)
                        *next++ = 0;
                switch (i) {
                case 0:
                        as_target(line);
                        break;
                case 1:
                        (void)host_is_allowed(line, "lab.example");
                        (void)origin_is_allowed(line, "lab.example");
                        break;
                case 2:
                        (void)origin_is_host(line, "localhost:8700");
                        break;
                case 3:
                        as_range(line);
                        break;
                case 4:
                        (void)etag_listed(line, "\"0123\"");
                        (void)coding_accepted(line, "gzip");
                        break;
                default:
                        (void)media_type_is_json(line);
                        break;
                }
        }
        if (line) {
                as_submission(line, size - (size_t)(line - text));
                as_import(line, size - (size_t)(line - text));
        }
        free(text);
        return 0;
}
