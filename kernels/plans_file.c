/* The file `plans` of a folder: a header line, then a line a shape,
 *
 *     KEY <tab> CHOICE <newline>
 *
 * of printable characters. It is valid when it begins with the header and every line is whole. It only grows: a line is
 * appended and synced under an exclusive lock (of the file plans.lock, which is never replaced), after the file has
 * been read again, so that the first writer wins. What is not valid becomes plans.damaged. */
#include "kernels/plans_file.h"

#include "base/buf.h"

#include <errno.h>
#include <fcntl.h>
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

struct plans_file {
        int folder, lock; /* descriptors */
        struct buf text;  /* of the file, as last read */
};

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
static int read_text(struct plans_file *p, struct error *err)
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
static int load(struct plans_file *p, struct error *err)
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

static int lock(struct plans_file *p, struct error *err)
{
        while (flock(p->lock, LOCK_EX) < 0)
                if (errno != EINTR)
                        return error_set(err, -errno, LOCK_NAME, "cannot be locked: %m");
        return 0;
}

static void unlock(struct plans_file *p)
{
        (void)flock(p->lock, LOCK_UN);
}

/* All of it, on the disk, or nothing: a part would make the file invalid. */
static int append(struct plans_file *p, const char *line, struct error *err)
{
        char text[sizeof HEADER + PLANS_KEY_SIZE + PLANS_CHOICE_SIZE + 8];
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

int plans_file_open(const char *folder, struct plans_file **ret, struct error *err)
{
        struct plans_file *p = calloc(1, sizeof *p);
        int r = 0;

        if (!p)
                return error_set(err, -ENOMEM, "", "out of memory");
        p->text = BUF_INIT(FILE_BYTES_MAX);
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
                p = plans_file_close(p);
        else
                *ret = p;
        return r;
}

struct plans_file *plans_file_close(struct plans_file *p)
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

bool plans_file_find(const struct plans_file *p, const char *key, plans_take *take, void *user)
{
        const char *line = p->text.size > 0 ? p->text.data : "";
        size_t n = strlen(key);
        char choice[PLANS_CHOICE_SIZE];

        for (; *line; line += strcspn(line, "\n") + 1) {
                if (strncmp(line, key, n) != 0 || line[n] != '\t')
                        continue;
                (void)snprintf(choice, sizeof choice, "%.*s", (int)strcspn(line + n + 1, "\n"), line + n + 1);
                if (take(user, choice))
                        return true;
        }
        return false;
}

int plans_file_keep(struct plans_file *p, const char *key, const char *choice, plans_take *take, void *user)
{
        char line[PLANS_KEY_SIZE + PLANS_CHOICE_SIZE];
        int r = lock(p, NULL);

        if (r < 0)
                return r;
        r = load(p, NULL);
        if (r >= 0 && !plans_file_find(p, key, take, user)) {
                int n = snprintf(line, sizeof line, "%s\t%s\n", key, choice);

                r = (size_t)n < sizeof line ? append(p, line, NULL) : -E2BIG;
        }
        unlock(p);
        return r;
}

void plans_printable(char *to, size_t size, const char *text)
{
        size_t i = 0;

        for (; i + 1 < size && text[i]; i++)
                to[i] = text[i] < 32 || text[i] > 126 ? ' ' : text[i];
        to[i] = 0;
}
