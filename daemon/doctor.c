#include "daemon/doctor.h"

#include "api/server.h"
#include "base/json.h"
#include "base/clock.h"
#include "base/system.h"
#include "base/units.h"
#include "daemon/disk.h"
#include "daemon/group.h"
#include "daemon/loop.h"
#include "daemon/process.h"
#include "daemon/settings.h"
#include "daemon/state.h"
#include "store/store.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define PROBE_TIMEOUT_US (60 * US_PER_S)
#define NVIDIA_DRIVER "/proc/driver/nvidia/version"

/* The versions that this program is tested with; older ones have faults that were found. */
#define SQLITE_LEAST "3.40.0"
#define MICROHTTPD_LEAST "0.9.75"

enum finding { GOOD, NOTE, BAD };

static bool bad_found; /* this is a program of one thread that ends */

static void tell(enum finding f, const char *fmt, ...) _printf_(2, 3);
static void tell(enum finding f, const char *fmt, ...)
{
        static const char *const words[] = {"ok  ", "note", "BAD "};
        va_list ap;

        bad_found = bad_found || f == BAD;
        (void)printf("%s  ", words[f]);
        va_start(ap, fmt);
        (void)vprintf(fmt, ap);
        va_end(ap);
        (void)printf("\n");
}

static void tell_error(const struct error *err)
{
        tell(BAD, "%s%s%s", err->path, err->path[0] ? ": " : "", err->text);
}

static long version_number(const char *s)
{
        long n[3] = {0};

        (void)sscanf(s, "%ld.%ld.%ld", &n[0], &n[1], &n[2]);
        return (n[0] * 1000 + n[1]) * 1000 + n[2];
}

static void check_library(const char *name, const char *version, const char *least)
{
        if (version_number(version) >= version_number(least))
                tell(GOOD, "%s %s", name, version);
        else
                tell(BAD, "%s %s: %s or later is needed", name, version, least);
}

static void check_libraries(const struct settings *s _unused_)
{
        check_library("SQLite", store_library_version(), SQLITE_LEAST);
        check_library("libmicrohttpd", server_library_version(), MICROHTTPD_LEAST);
}

static void check_limits(const struct settings *s _unused_)
{
        struct rlimit limit = {0};

        (void)getrlimit(RLIMIT_NOFILE, &limit);
        if (limit.rlim_max >= STATE_DESCRIPTORS_LEAST)
                tell(GOOD, "descriptors: %llu may be had", (unsigned long long)limit.rlim_max);
        else
                tell(BAD, "descriptors: %llu may be had, %d are needed (ulimit -n, LimitNOFILE=)",
                     (unsigned long long)limit.rlim_max, STATE_DESCRIPTORS_LEAST);
        (void)getrlimit(RLIMIT_FSIZE, &limit);
        if (limit.rlim_cur != RLIM_INFINITY)
                tell(NOTE, "files may have %llu bytes at most (ulimit -f)", (unsigned long long)limit.rlim_cur);
}

static bool is_ours(const struct settings *s)
{
        struct stat st;

        return stat(s->state, &st) == 0 && st.st_uid == geteuid();
}

/* Of an installed mulund the state is another user's, with whose eyes a start looks: root can. */
static void become_owner(const struct settings *s)
{
        const struct passwd *owner;
        struct stat st;

        if (geteuid() != 0 || stat(s->state, &st) < 0 || st.st_uid == 0)
                return;
        owner = getpwuid(st.st_uid);
        if ((owner ? initgroups(owner->pw_name, owner->pw_gid) : setgroups(0, NULL)) < 0 ||
            setgid(owner ? owner->pw_gid : st.st_gid) < 0 || setuid(st.st_uid) < 0)
                tell(BAD, "this is root, and user %u, whose the state is, cannot be taken: %s", (unsigned)st.st_uid,
                     strerror(errno));
        else
                tell(GOOD, "looks as user %u (%s), whose the state is", (unsigned)st.st_uid,
                     owner ? owner->pw_name : "without a name");
}

static void check_state(const struct settings *s)
{
        struct disk disk;
        struct error err;
        char text[160];

        if (access(s->state, F_OK) < 0 && errno == ENOENT) {
                tell(NOTE, "state %s: is not there yet; a start makes it", s->state);
                return;
        }
        if (access(s->state, F_OK) == 0 && !is_ours(s)) {
                tell(NOTE, "state %s: it is another user's, and was not looked at: root can (sudo mulunctl doctor)",
                     s->state);
                return;
        }
        if (state_check(s->state, &err) < 0) {
                tell_error(&err);
                return;
        }
        tell(GOOD, "state %s: ours, on a local file system%s", s->state,
             state_is_locked(s->state) ? "; a daemon uses it" : "");
        disk = disk_read(s->state, s->disk_reserve_bytes, false);
        disk_describe(&disk, text, sizeof text);
        if (disk.low)
                tell(BAD, "%s", text);
        else
                tell(GOOD, "disk: %lld MiB are free, below %lld MiB nothing starts", (long long)disk.free_bytes >> 20,
                     (long long)disk.reserve_bytes >> 20);
}

/* Of a daemon that runs it is its own affair: nobody else opens it. */
static void check_store(const struct settings *s)
{
        int64_t behind = 0;
        struct error err;
        int r;

        if (!is_ours(s) || access(s->state, R_OK | W_OK | X_OK) < 0 || state_is_locked(s->state))
                return;
        r = store_look(s->state, &behind, &err);
        if (r < 0)
                tell_error(&err);
        else if (behind)
                tell(NOTE, "database: of an older mulund; a start copies it to %s/mulund.db.schema-N, then changes it",
                     s->state);
        else if (r > 0)
                tell(GOOD, "database: whole, as far as a start looks");
}

static void check_folder(const char *what, const char *path)
{
        struct stat st;

        if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode) || access(path, R_OK | X_OK) < 0)
                tell(BAD, "%s %s: there is no such folder, or this user may not read it", what, path);
        else
                tell(GOOD, "%s %s", what, path);
}

/* What a start makes where nothing is; a link may lead to a disk that is not mounted. */
static void check_parts(const struct settings *s)
{
        static const char *const parts[] = {"jobs", "datasets", "plans", "imports"};
        char path[PATH_MAX];
        struct stat st;

        for (size_t i = 0; is_ours(s) && i < ARRAY_LEN(parts); i++) {
                if (snprintf(path, sizeof path, "%s/%s", s->state, parts[i]) < (int)sizeof path &&
                    lstat(path, &st) == 0)
                        if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode) || access(path, R_OK | W_OK | X_OK) < 0)
                                tell(BAD,
                                     "%s: is no folder, or this user may not use it; of a link: is its disk mounted?",
                                     path);
        }
}

static void check_folders(const struct settings *s)
{
        check_folder("dashboard", s->web);
        check_folder("configurations", s->configs);
        for (size_t i = 0; i < s->n_import_roots; i++)
                check_folder("imports", s->import_roots[i]);
        for (size_t i = 0; i < s->n_datasets; i++)
                if (access(s->datasets[i].path, R_OK) < 0)
                        tell(BAD, "data set %s: %s: %s", s->datasets[i].name, s->datasets[i].path, strerror(errno));
}

/* ---- the worker's program, and what it finds */

struct probing {
        struct loop *loop;
        json_t *found;
        struct error err;
};

static void on_probed(void *user, int r, int status, const struct buf *output, const struct error *why)
{
        struct probing *p = user;

        loop_quit(p->loop);
        if (r < 0)
                p->err = *why;
        else if (json_parse(output->data ? output->data : "", output->size, &p->found, &p->err) < 0)
                (void)error_set(&p->err, -EIO, NULL, "it ended with status %d and no answer", status);
}

static void tell_devices(const json_t *found)
{
        const char *no_cuda = json_string_value(json_object_get(found, "cuda"));
        const json_t *o;
        size_t i, n_gpus = 0;

        json_array_foreach(json_object_get(found, "devices"), i, o)
        {
                const char *backend = json_string_value(json_object_get(o, "backend")),
                           *name = json_string_value(json_object_get(o, "name"));

                tell(GOOD, "device %s: %s", backend ? backend : "?", name ? name : "?");
                n_gpus += backend && !strcmp(backend, "cuda");
        }
        if (!n_gpus)
                tell(access(NVIDIA_DRIVER, F_OK) == 0 ? BAD : NOTE, "no GPU%s: %s",
                     access(NVIDIA_DRIVER, F_OK) == 0 ? ", though NVIDIA's driver is loaded" : "",
                     no_cuda ? no_cuda : "none was found");
        else if (no_cuda)
                tell(BAD, "not each GPU can be used: %s", no_cuda);
}

static void check_worker(const struct settings *s)
{
        struct probing p = {0};
        char path[PATH_MAX];
        char *argv[] = {path, (char[]){"--probe"}, NULL};
        struct helper *helper = NULL;

        (void)snprintf(path, sizeof path, "%s", s->worker);
        if (loop_new(&p.loop, &p.err) >= 0) {
                if (helper_run(p.loop, path, argv, NULL, NULL, PROBE_TIMEOUT_US, 65536, on_probed, &p, &helper,
                               &p.err) >= 0)
                        (void)loop_run(p.loop, &p.err);
                (void)loop_free(p.loop);
        }
        if (p.found)
                tell_devices(p.found);
        else
                tell(BAD, "worker %s: %s", s->worker, p.err.text);
        json_decref(p.found);
}

static void check_sandbox(const struct settings *s _unused_)
{
        struct groups groups;

        if (system_landlock() >= 2)
                tell(GOOD, "Landlock %d: workers write in their jobs' folders alone", system_landlock());
        else
                tell(NOTE, "no Landlock in this kernel: workers may write wherever their user may");
        groups_find(&groups);
        if (groups.folder[0])
                tell(GOOD, "control groups: an attempt has its own below %s", groups.folder);
        else
                tell(NOTE, "control groups: none is delegated here (the unit of systemd has one)");
}

static void check_access(const struct settings *s)
{
        const char *risk = settings_risk(s);

        if (risk)
                tell(NOTE, "%s", risk);
        else
                tell(GOOD, "%s",
                     s->single_user ? "single-user: whoever comes to loopback may do everything"
                                    : "over TCP a token is needed");
}

int doctor(const struct settings *s)
{
        static void (*const checks[])(const struct settings *s) = {check_libraries, check_limits, check_access,
                                                                   check_state,     check_store,  check_parts,
                                                                   check_folders,   check_worker, check_sandbox};

        become_owner(s);
        for (size_t i = 0; i < ARRAY_LEN(checks); i++)
                checks[i](s);
        return bad_found ? EXIT_FAILURE : EXIT_SUCCESS;
}
