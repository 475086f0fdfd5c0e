#include "daemon/webhook.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/hex.h"
#include "daemon/daemon.h"
#include "daemon/joblog.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define KEY_BYTES 32
#define DIGEST_BYTES 32 /* of SHA-256 */
#define ANSWER_S 10L    /* for a receiver to answer */
#define FIRST_WAIT_US (1 * US_PER_S)
#define LONGEST_WAIT_US (3600 * US_PER_S)
#define OLDEST_US (86400 * US_PER_S)
#define LOG_LIMIT_BYTES ((int64_t)1 << 20)

struct hook {
        const char *name, *url; /* the settings' */
        char key[2 * KEY_BYTES + 1];
        int64_t after, attempts;
        int64_t next_us; /* monotonic; 0: at once */
};

/* What is told of an event; owned. */
struct delivery {
        int64_t id, time_us;
        char *body;
};

struct webhooks {
        char folder[PATH_MAX];
        struct hook hooks[WEBHOOKS_MAX];
        size_t n;
        struct reader *reader; /* the thread's */
        pthread_t thread;
        pthread_mutex_t lock; /* of changed */
        pthread_cond_t wake;
        bool changed;
        atomic_bool stopping;
};

static void hook_path(const struct webhooks *h, const struct hook *k, const char *suffix, char ret[PATH_MAX])
{
        (void)snprintf(ret, PATH_MAX, "%.*s/%s.%s", PATH_MAX - 128, h->folder, k->name, suffix);
}

/* ---- what is on the disk */

/* Drawn when there is none. */
static int load_key(const struct webhooks *h, struct hook *k, struct error *err)
{
        _cleanup_(buf_done) struct buf text = BUF_INIT(256);
        unsigned char bytes[KEY_BYTES];
        char path[PATH_MAX];
        int r;

        hook_path(h, k, "key", path);
        r = file_read(path, &text, err);
        if (r >= 0 && text.data && strspn(text.data, "0123456789abcdef") == 2 * KEY_BYTES) {
                (void)snprintf(k->key, sizeof k->key, "%s", text.data);
                return 0;
        }
        if (r >= 0)
                return error_set(err, -EINVAL, path, "is no key of 64 hexadecimal digits: remove it for a new one");
        if (r != -ENOENT)
                return r;
        if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
                return error_set(err, -EIO, NULL, "no random bytes for a key");
        hex_write(bytes, sizeof bytes, k->key);
        r = file_write_atomic(path, k->key, 2 * KEY_BYTES, NULL, err);
        if (r >= 0 && chmod(path, 0600) < 0)
                r = error_set(err, -errno, path, "cannot be kept from others: %s", strerror(errno));
        if (r >= 0)
                log_info("webhook %s: its key is in %s", k->name, path);
        return r;
}

static int save(const struct webhooks *h, const struct hook *k, struct error *err)
{
        char path[PATH_MAX], text[96];
        int n = snprintf(text, sizeof text, "{\"after\": %" PRId64 ", \"attempts\": %" PRId64 "}\n", k->after,
                         k->attempts);

        hook_path(h, k, "json", path);
        return file_write_atomic(path, text, (size_t)n, NULL, err);
}

/* One that is new begins behind what has happened. */
static int load_position(const struct webhooks *h, struct hook *k, struct error *err)
{
        _cleanup_(buf_done) struct buf text = BUF_INIT(4096);
        _cleanup_json_ json_t *o = NULL;
        char path[PATH_MAX];
        int r;

        hook_path(h, k, "json", path);
        r = file_read(path, &text, err);
        if (r == -ENOENT) {
                r = reader_last_event(h->reader, &k->after, err);
                return r < 0 && r != -ENOENT ? r : save(h, k, err);
        }
        if (r >= 0)
                r = json_parse(text.data ? text.data : "", text.size, &o, err);
        k->after = json_integer_value(json_object_get(o, "after"));
        k->attempts = json_integer_value(json_object_get(o, "attempts"));
        return r;
}

static void note(const struct webhooks *h, const struct hook *k, const struct delivery *d, const char *outcome)
{
        char path[PATH_MAX], now[RFC3339_SIZE], line[400];
        _cleanup_(closep) int fd = -1;
        int n = snprintf(line, sizeof line, "%s event %" PRId64 " attempt %" PRId64 ": %s\n",
                         clock_rfc3339(clock_wall_us(), now), d->id, k->attempts, outcome);

        hook_path(h, k, "log", path);
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
        if (fd < 0 || write(fd, line, (size_t)MIN(n, (int)sizeof line - 1)) < 0)
                log_warning("webhook %s: %s: %s", k->name, path, strerror(errno));
        (void)joblog_cap(path, LOG_LIMIT_BYTES, NULL);
}

/* ---- one attempt */

static int on_event(const struct job_event_row *e, void *user)
{
        struct delivery *d = user;
        char time[RFC3339_SIZE];
        _cleanup_json_ json_t *o = json_pack("{s:I, s:s, s:I, s:s?, s:s?, s:s, s:s?}", "id", (json_int_t)e->id, "time",
                                             clock_rfc3339(e->time_us, time), "job", (json_int_t)e->job, "from",
                                             e->from >= 0 && e->from < JOB_STATE_N ? job_state_names[e->from] : NULL,
                                             "to", e->to >= 0 && e->to < JOB_STATE_N ? job_state_names[e->to] : NULL,
                                             "event", e->trigger, "detail", e->detail);

        d->id = e->id;
        d->time_us = e->time_us;
        d->body = o ? json_to_text(o) : NULL;
        return d->body ? 0 : -ENOMEM;
}

static size_t drop_answer(char *data _unused_, size_t size, size_t n, void *user _unused_)
{
        return size * n;
}

static int on_moment(void *user, curl_off_t a _unused_, curl_off_t b _unused_, curl_off_t c _unused_,
                     curl_off_t d _unused_)
{
        return atomic_load(&((struct webhooks *)user)->stopping); /* not 0: it is given up */
}

static struct curl_slist *make_headers(const struct hook *k, const struct delivery *d)
{
        char text[256], hex[2 * DIGEST_BYTES + 1], *is_signed;
        long long now_s = (long long)(clock_wall_us() / US_PER_S);
        unsigned char digest[DIGEST_BYTES];
        struct curl_slist *list = curl_slist_append(NULL, "Content-Type: application/json");
        int n = asprintf(&is_signed, "%lld.%s", now_s, d->body);

        if (n >= 0) {
                n = gnutls_hmac_fast(GNUTLS_MAC_SHA256, k->key, strlen(k->key), is_signed, (size_t)n, digest);
                free(is_signed);
        }
        if (n < 0) {
                curl_slist_free_all(list);
                return NULL;
        }
        hex_write(digest, sizeof digest, hex);
        (void)snprintf(text, sizeof text, WEBHOOK_SIGNATURE ": sha256=%s", hex);
        list = curl_slist_append(list, text);
        (void)snprintf(text, sizeof text, WEBHOOK_TIME ": %lld", now_s);
        list = curl_slist_append(list, text);
        (void)snprintf(text, sizeof text, WEBHOOK_ATTEMPT ": %" PRId64, k->attempts);
        return curl_slist_append(list, text);
}

/* Whether it was taken; outcome: the code, or why there is none. */
static bool post(struct webhooks *h, const struct hook *k, const struct delivery *d, char *outcome, size_t size)
{
        struct curl_slist *headers = make_headers(k, d);
        CURL *curl = curl_easy_init();
        long status = 0;
        CURLcode code = CURLE_OUT_OF_MEMORY;

        if (curl && headers) {
                (void)curl_easy_setopt(curl, CURLOPT_URL, k->url);
                (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
                (void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
                (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
                (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, ANSWER_S);
                (void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "mulund/" MULUND_VERSION);
                (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
                (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, d->body);
                (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, drop_answer);
                (void)curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
                (void)curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_moment);
                (void)curl_easy_setopt(curl, CURLOPT_XFERINFODATA, h);
                code = curl_easy_perform(curl);
                (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        }
        curl_easy_cleanup(curl);
        curl_slist_free_all(headers);
        if (code == CURLE_OK)
                (void)snprintf(outcome, size, "%ld", status);
        else
                (void)snprintf(outcome, size, "%s", curl_easy_strerror(code));
        return code == CURLE_OK && status >= 200 && status < 300;
}

/* ---- the thread */

static int64_t wait_after_us(int64_t attempts)
{
        return MIN(FIRST_WAIT_US << MIN(attempts - 1, (int64_t)12), LONGEST_WAIT_US);
}

/* The next event of a hook. True: there may be another at once. */
static bool deliver_one(struct webhooks *h, struct hook *k)
{
        struct delivery d = {0};
        _cleanup_(freep) char *body = NULL;
        char outcome[200];
        struct error err;
        bool taken, given_up;

        if (reader_events(h->reader, k->after, 1, on_event, &d, &err) < 0 || !d.body)
                return false;
        body = d.body;
        k->attempts++;
        taken = post(h, k, &d, outcome, sizeof outcome);
        if (atomic_load(&h->stopping) && !taken)
                return false;
        note(h, k, &d, outcome);
        given_up = !taken && clock_wall_us() - d.time_us > OLDEST_US;
        if (!taken && k->attempts == 1)
                log_warning("webhook %s: event %lld was not taken: %s", k->name, (long long)d.id, outcome);
        if (given_up)
                log_error("webhook %s: event %lld is given up after a day", k->name, (long long)d.id);
        k->next_us = taken || given_up ? 0 : clock_monotonic_us() + wait_after_us(k->attempts);
        if (taken || given_up) {
                k->after = d.id;
                k->attempts = 0;
        }
        if (save(h, k, &err) < 0)
                log_warning("webhook %s: %s: %s", k->name, err.path, err.text);
        return taken || given_up;
}

/* Until when nothing is due; 0: for as long as nothing happens. */
static int64_t deliver_all(struct webhooks *h)
{
        int64_t next_us = 0;

        for (size_t i = 0; i < h->n; i++) {
                struct hook *k = &h->hooks[i];

                while (!atomic_load(&h->stopping) && k->next_us <= clock_monotonic_us() && deliver_one(h, k))
                        ;
                if (k->next_us)
                        next_us = next_us ? MIN(next_us, k->next_us) : k->next_us;
        }
        return next_us;
}

static void sleep_until(struct webhooks *h, int64_t next_us)
{
        struct timespec at = {.tv_sec = next_us / US_PER_S, .tv_nsec = next_us % US_PER_S * 1000};
        int r = 0;

        (void)pthread_mutex_lock(&h->lock);
        while (!h->changed && !r)
                r = next_us ? pthread_cond_timedwait(&h->wake, &h->lock, &at) : pthread_cond_wait(&h->wake, &h->lock);
        h->changed = false;
        (void)pthread_mutex_unlock(&h->lock);
}

static void *run(void *user)
{
        struct webhooks *h = user;

        while (!atomic_load(&h->stopping))
                sleep_until(h, deliver_all(h));
        return NULL;
}

/* ---- life */

void webhooks_changed(struct webhooks *h)
{
        if (!h)
                return;
        (void)pthread_mutex_lock(&h->lock);
        h->changed = true;
        (void)pthread_cond_signal(&h->wake);
        (void)pthread_mutex_unlock(&h->lock);
}

static int prepare(struct webhooks *h, struct daemon *d, struct error *err)
{
        int r = file_make_folder(h->folder, err);

        if (r >= 0 && chmod(h->folder, 0700) < 0) /* keys */
                r = error_set(err, -errno, h->folder, "cannot be kept from others: %s", strerror(errno));
        if (r >= 0)
                r = reader_open(d->store, &h->reader, err);
        for (size_t i = 0; r >= 0 && i < h->n; i++) {
                h->hooks[i] = (struct hook){.name = d->settings.webhooks[i].name, .url = d->settings.webhooks[i].url};
                r = load_key(h, &h->hooks[i], err);
                if (r >= 0)
                        r = load_position(h, &h->hooks[i], err);
        }
        if (r >= 0 && curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
                r = error_set(err, -ENOMEM, NULL, "libcurl cannot begin");
        return r;
}

int webhooks_new(struct daemon *d, struct webhooks **ret, struct error *err)
{
        struct webhooks *h;
        int r;

        if (!d->settings.n_webhooks)
                return 0;
        h = calloc(1, sizeof *h);
        if (!h)
                return error_set(err, -ENOMEM, NULL, "no memory for webhooks");
        h->n = d->settings.n_webhooks;
        (void)snprintf(h->folder, sizeof h->folder, "%.*s/webhooks", PATH_MAX - 16, d->settings.state);
        (void)pthread_mutex_init(&h->lock, NULL);
        clock_cond_init(&h->wake);
        r = prepare(h, d, err);
        if (r >= 0) {
                r = -pthread_create(&h->thread, NULL, run, h);
                if (r < 0)
                        (void)error_set(err, r, NULL, "no thread for webhooks: %s", strerror(-r));
        }
        if (r < 0) {
                (void)reader_close(h->reader);
                free(h);
                return r;
        }
        *ret = h;
        return 0;
}

struct webhooks *webhooks_free(struct webhooks *h)
{
        if (!h)
                return NULL;
        atomic_store(&h->stopping, true);
        webhooks_changed(h);
        (void)pthread_join(h->thread, NULL);
        (void)reader_close(h->reader);
        (void)pthread_cond_destroy(&h->wake);
        (void)pthread_mutex_destroy(&h->lock);
        free(h);
        return NULL;
}
