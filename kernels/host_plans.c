/* The file `plans` of a folder: a header line, then a line a shape,
 *
 *     PROCESSOR; ISA; N threads; SHAPE <tab> WAY WAY WAY <newline>
 *
 * of printable characters, the ways of forward, backward data and backward weights. It is valid when it begins with the
 * header and every line is whole. It only grows: a line is appended and synced under an exclusive lock (of the file
 * plans.lock, which is never replaced), after the file has been read again, so that the first writer wins. What is not
 * valid becomes plans.damaged. */
#include "kernels/host_plans.h"

#include "base/buf.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME "plans"
#define LOCK_NAME "plans.lock"
#define DAMAGED_NAME "plans.damaged"
#define HEADER "mulund plans 1\n"
#define FILE_BYTES_MAX ((size_t)1 << 20)
#define KEY_SIZE 384
#define CHOICE_SIZE 96
#define FASTER 0.9 /* of the rule's time, for another way to be taken: less is noise */
#define ROUNDS_MAX 3
#define RUNS_MAX 5
#define RUNS_US 10000 /* after so long a way has been measured often enough */

const char *const plans_type_names[DTYPE_N] = {[DTYPE_FLOAT32] = "float32", [DTYPE_BF16] = "bf16"};

struct plans {
        int folder, lock;    /* descriptors */
        char processor[128]; /* its name, printable */
        struct buf text;     /* of the file, as last read */
};

/* ---- the file */

static bool is_valid(const char *text, size_t size)
{
        size_t header = strlen(HEADER);
        int tabs = 0;

        if (size == 0)
                return true;
        if (size < header || memcmp(text, HEADER, header) != 0 || text[size - 1] != '\n')
                return false;
        for (size_t i = header; i < size; i++) {
                bool end = text[i] == '\n';

                tabs += text[i] == '\t';
                if ((end && tabs != 1) || (!end && text[i] != '\t' && (text[i] < 32 || text[i] > 126)))
                        return false;
                tabs = end ? 0 : tabs;
        }
        return true;
}

/* All of the file into p->text; what is not there is empty. */
static int read_text(struct plans *p, struct error *err)
{
        int fd = openat(p->folder, FILE_NAME, O_RDONLY | O_CLOEXEC), r = 0;
        char piece[4096];
        ssize_t n = 1;

        buf_clear(&p->text);
        if (fd < 0)
                return errno == ENOENT ? 0 : error_set(err, -errno, FILE_NAME, "cannot be read: %m");
        while (r >= 0 && n > 0) {
                n = read(fd, piece, sizeof piece);
                r = buf_append(&p->text, piece, n > 0 ? (size_t)n : 0, err);
        }
        if (n < 0)
                r = error_set(err, -errno, FILE_NAME, "cannot be read: %m");
        (void)close(fd);
        return r;
}

/* Under the lock. */
static int load(struct plans *p, struct error *err)
{
        int r = read_text(p, err);

        if (r < 0 && r != -E2BIG)
                return r;
        if (r == 0 && is_valid(p->text.data, p->text.size))
                return 0;
        buf_clear(&p->text);
        if (renameat(p->folder, FILE_NAME, p->folder, DAMAGED_NAME) < 0)
                return error_set(err, -errno, FILE_NAME, "is damaged and cannot be set aside: %m");
        return 0;
}

static int lock(struct plans *p, struct error *err)
{
        while (flock(p->lock, LOCK_EX) < 0)
                if (errno != EINTR)
                        return error_set(err, -errno, LOCK_NAME, "cannot be locked: %m");
        return 0;
}

static void unlock(struct plans *p)
{
        (void)flock(p->lock, LOCK_UN);
}

/* All of it, on the disk, or nothing: a part would make the file invalid. */
static int append(struct plans *p, const char *line, struct error *err)
{
        char text[sizeof HEADER + KEY_SIZE + CHOICE_SIZE + 8];
        int fd = openat(p->folder, FILE_NAME, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644), n, r = 0;
        off_t size = (off_t)p->text.size;

        if (fd < 0)
                return error_set(err, -errno, FILE_NAME, "cannot be written: %m");
        n = snprintf(text, sizeof text, "%s%s", size == 0 ? HEADER : "", line);
        errno = 0;
        if (write(fd, text, (size_t)n) != n || fsync(fd) < 0 || (size == 0 && fsync(p->folder) < 0)) {
                r = error_set(err, errno ? -errno : -EIO, FILE_NAME, "cannot be written: %m");
                (void)ftruncate(fd, size);
        }
        (void)close(fd);
        return r < 0 ? r : buf_append(&p->text, text, (size_t)n, err);
}

int plans_open(const char *folder, struct plans **ret, struct error *err)
{
        struct plans *p = calloc(1, sizeof *p);
        struct device_info info = {0};
        int r = p ? host_info_read("", &info, err) : error_set(err, -ENOMEM, "", "out of memory");

        if (r < 0) {
                free(p);
                return r;
        }
        p->text = BUF_INIT(FILE_BYTES_MAX);
        for (size_t i = 0; info.name[i]; i++)
                p->processor[i] = info.name[i] < 32 || info.name[i] > 126 ? ' ' : info.name[i];
        p->lock = -1;
        p->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (p->folder >= 0)
                p->lock = openat(p->folder, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (p->lock < 0)
                r = error_set(err, -errno, folder,
                              "choices of plans cannot be kept here, so a fixed rule makes them: %m");
        r = r < 0 ? r : lock(p, err);
        if (r >= 0) {
                r = load(p, err);
                unlock(p);
        }
        if (r < 0)
                p = plans_close(p);
        else
                *ret = p;
        return r;
}

struct plans *plans_close(struct plans *p)
{
        if (!p)
                return NULL;
        if (p->lock >= 0)
                (void)close(p->lock);
        if (p->folder >= 0)
                (void)close(p->folder);
        buf_done(&p->text);
        free(p);
        return NULL;
}

/* ---- choices */

/* The ways that a line names: false where one is not known or not possible here. */
static bool parse(const char *choice, const struct plans_ways *w, int ret_ways[PLANS_DIRECTIONS])
{
        char text[CHOICE_SIZE], *rest = text;

        (void)snprintf(text, sizeof text, "%.*s", (int)strcspn(choice, "\n"), choice);
        for (int i = 0; i < PLANS_DIRECTIONS; i++) {
                const char *word = strsep(&rest, " ");
                int way = 0;

                while (word && way < w->n && strcmp(word, w->names[way]) != 0)
                        way++;
                if (!word || way == w->n || !w->possible[way])
                        return false;
                ret_ways[i] = way;
        }
        return true;
}

/* The first ways that the text has for key and that are possible here; false, and ways as they were, without any. */
static bool find(const struct plans *p, const char *key, const struct plans_ways *w, int ways[PLANS_DIRECTIONS])
{
        const char *line = p->text.size > 0 ? p->text.data : "";
        size_t n = strlen(key);
        int found[PLANS_DIRECTIONS];

        for (; *line; line += strcspn(line, "\n") + 1)
                if (strncmp(line, key, n) == 0 && line[n] == '\t' && parse(line + n + 1, w, found)) {
                        memcpy(ways, found, sizeof found);
                        return true;
                }
        return false;
}

/* Keeps the choice, unless there is one by now; ways: the one that is kept. */
static int keep(struct plans *p, const char *key, const struct plans_ways *w, int ways[PLANS_DIRECTIONS])
{
        char line[KEY_SIZE + CHOICE_SIZE];
        int r = lock(p, NULL);

        if (r < 0)
                return r;
        r = load(p, NULL);
        if (r >= 0 && !find(p, key, w, ways)) {
                int n = snprintf(line, sizeof line, "%s\t%s %s %s\n", key, w->names[ways[0]], w->names[ways[1]],
                                 w->names[ways[2]]);

                r = (size_t)n < sizeof line ? append(p, line, NULL) : -E2BIG;
        }
        unlock(p);
        return r;
}

/* The best of the ways in each direction, by the times so far; whether one is not the rule's. */
static bool best_of(int n, double seconds[PLANS_WAYS][PLANS_DIRECTIONS], const int rule[PLANS_DIRECTIONS],
                    int ret_ways[PLANS_DIRECTIONS])
{
        bool other = false;

        for (int i = 0; i < PLANS_DIRECTIONS; i++) {
                ret_ways[i] = rule[i];
                for (int way = 0; way < n; way++)
                        if (seconds[way][i] <= FASTER * seconds[rule[i]][i] &&
                            seconds[way][i] < seconds[ret_ways[i]][i])
                                ret_ways[i] = way;
                other |= ret_ways[i] != rule[i];
        }
        return other;
}

/* Where another way seems faster all are timed again, in turn, and the best times count: what disturbed the rule's once
 * does not do so each time. */
static void measure(const struct plans_ways *w, int ways[PLANS_DIRECTIONS])
{
        double seconds[PLANS_WAYS][PLANS_DIRECTIONS];
        int rule[PLANS_DIRECTIONS];
        bool again = true;

        memcpy(rule, ways, sizeof rule);
        for (int way = 0; way < w->n; way++)
                for (int i = 0; i < PLANS_DIRECTIONS; i++)
                        seconds[way][i] = INFINITY;
        for (int round = 0; again && round < ROUNDS_MAX; round++) {
                for (int way = 0; way < w->n; way++) {
                        double once[PLANS_DIRECTIONS] = {INFINITY, INFINITY, INFINITY};

                        if (w->possible[way])
                                w->time(w->user, way, once);
                        for (int i = 0; i < PLANS_DIRECTIONS; i++)
                                seconds[way][i] = fmin(seconds[way][i], once[i]);
                }
                again = best_of(w->n, seconds, rule, ways);
        }
}

void plans_choose(const struct device *d, const struct plans_ways *w, int ways[PLANS_DIRECTIONS])
{
        char key[KEY_SIZE];
        int chosen[PLANS_DIRECTIONS], n_possible = 0;

        for (int way = 0; way < w->n; way++)
                n_possible += w->possible[way];
        if (!d->plans || n_possible < 2)
                return;
        (void)snprintf(key, sizeof key, "%s; %s; %d threads; %s", d->plans->processor, w->isa, d->threads, w->shape);
        if (find(d->plans, key, w, ways) || d->plan_only)
                return;
        memcpy(chosen, ways, sizeof chosen);
        measure(w, chosen);
        if (keep(d->plans, key, w, chosen) >= 0)
                memcpy(ways, chosen, sizeof chosen);
}

static double time_run(int (*run)(void *user), void *user)
{
        int64_t best = INT64_MAX, start = clock_monotonic_us();

        if (run(user) < 0) /* warms up */
                return INFINITY;
        for (int i = 0; i < RUNS_MAX && (i == 0 || clock_monotonic_us() - start < RUNS_US); i++) {
                int64_t begin = clock_monotonic_us();

                if (run(user) < 0)
                        return INFINITY;
                best = MIN(best, clock_monotonic_us() - begin);
        }
        return (double)best * 1e-6;
}

void plans_time(struct device *d, struct plans_operands *operands, const size_t bytes[4],
                int (*const run[PLANS_DIRECTIONS])(void *user), void *user, double ret_seconds[PLANS_DIRECTIONS])
{
        void **const places[] = {&operands->x, &operands->y, &operands->w, &operands->workspace};
        bool all = true;

        for (size_t i = 0; i < ARRAY_LEN(places); i++) {
                *places[i] = host_memory_new(d, bytes[i]);
                all = all && *places[i];
        }
        for (int i = 0; all && i < PLANS_DIRECTIONS; i++)
                ret_seconds[i] = time_run(run[i], user);
        for (size_t i = 0; i < ARRAY_LEN(places); i++)
                host_memory_free(d, *places[i]);
}
