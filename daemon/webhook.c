#include "daemon/webhook.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/hex.h"
#include "daemon/daemon.h"

#include <assert.h>
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
#define DIGEST_BYTES 32                 /* of SHA-256 */
#define ANSWER_S 10L                    /* for a receiver to answer */
#define ANSWER_BYTES ((size_t)64 << 10) /* of a longer one no more is read: its code is known by then */
#define FIRST_WAIT_US (1 * US_PER_S)
#define LONGEST_WAIT_US (3600 * US_PER_S)
#define OLDEST_US (86400 * US_PER_S)

#define AGAIN_MAX 16

/* The thread's, but that others read after, attempts and next_us, and add to again: with the lock. */
struct hook {
        const char *name, *url; /* the settings' */
        char key[2 * KEY_BYTES + 1];
        int64_t after, attempts;
        int64_t waited_s;         /* of this program's time, since it took one: a machine that was off has not tried */
        int64_t next_us;          /* monotonic; 0: at once */
        int64_t again[AGAIN_MAX]; /* events that somebody wants to be sent once more */
        size_t n_again;
};

/* What is told of an event; owned. */
struct delivery {
        int64_t id, job, time_us;
        int64_t attempt; /* of it */
        char *body;
};

static void delivery_done(struct delivery *d)
{
        free(d->body);
}

struct webhooks {
        char folder[PATH_MAX];
        struct hook hooks[WEBHOOKS_MAX];
        size_t n;
        struct store *store;
        struct reader *reader; /* the thread's */
        pthread_t thread;
        pthread_mutex_t lock; /* of changed, and of what hooks say */
        pthread_cond_t wake;
        bool changed;
        atomic_bool stopping;
};

/* Of an attempt. */
struct outcome {
        int64_t began_us; /* wall */
        long code;        /* 0: there was no answer */
        const char *why;  /* there was none; "" */
        bool taken;
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
        char path[PATH_MAX], text[128];
        int n = snprintf(text, sizeof text,
                         "{\"after\": %" PRId64 ", \"attempts\": %" PRId64 ", \"waited_s\": %" PRId64 "}\n", k->after,
                         k->attempts, k->waited_s);

        hook_path(h, k, "json", path);
        return file_write_atomic(path, text, (size_t)n, NULL, err);
}

/* One that is new begins behind what has happened. */
static int load_position(const struct webhooks *h, struct hook *k, struct error *err)
{
        _cleanup_(buf_done) struct buf text = BUF_INIT(4096);
        _cleanup_json_ json_t *o = NULL;
        char path[PATH_MAX];
        int64_t last = 0;
        int r = reader_last_event(h->reader, &last, err);

        if (r < 0 && r != -ENOENT)
                return r;
        hook_path(h, k, "json", path);
        r = file_read(path, &text, err);
        if (r == -ENOENT) {
                k->after = last;
                return save(h, k, err);
        }
        if (r >= 0)
                r = json_parse(text.data ? text.data : "", text.size, &o, err);
        if (r < 0)
                return r;
        k->after = json_integer_value(json_object_get(o, "after"));
        k->attempts = json_integer_value(json_object_get(o, "attempts"));
        k->waited_s = json_integer_value(json_object_get(o, "waited_s"));
        if (k->after <= last)
                return 0;
        /* of a database that was moved away, or of jobs that have been removed: what comes is told either way */
        k->after = last;
        k->attempts = 0;
        return save(h, k, err);
}

static void on_noted(struct write *w, int r, const struct error *err)
{
        if (r < 0)
                log_warning("webhook %s: a delivery is not in the list of them: %s", w->delivery.hook, err->text);
}

/* What an attempt came to is kept; nobody waits for that. */
static void note(const struct webhooks *h, const struct hook *k, const struct delivery *d, const struct outcome *o)
{
        struct write *w = write_new(WRITE_DELIVERY);

        if (!w)
                return;
        w->done = on_noted;
        w->delivery = (struct delivery_row){.event = d->id,
                                            .job = d->job,
                                            .attempt = d->attempt,
                                            .time_us = o->began_us,
                                            .took_us = clock_wall_us() - o->began_us,
                                            .code = o->code};
        (void)snprintf(w->delivery.hook, sizeof w->delivery.hook, "%s", k->name);
        (void)snprintf(w->delivery.detail, sizeof w->delivery.detail, "%s", o->why);
        store_submit(h->store, w);
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
        d->job = e->job;
        d->time_us = e->time_us;
        d->body = o ? json_to_text(o) : NULL;
        return d->body ? 0 : -ENOMEM;
}

/* user: how much of it came. */
static size_t drop_answer(char *data _unused_, size_t size, size_t n, void *user)
{
        size_t *bytes = user;

        *bytes += size * n;
        return *bytes <= ANSWER_BYTES ? size * n : CURL_WRITEFUNC_ERROR;
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
        (void)snprintf(text, sizeof text, WEBHOOK_ATTEMPT ": %" PRId64, d->attempt);
        return curl_slist_append(list, text);
}

static struct outcome post(struct webhooks *h, const struct hook *k, const struct delivery *d)
{
        struct outcome o = {.began_us = clock_wall_us(), .why = ""};
        struct curl_slist *headers = make_headers(k, d);
        size_t bytes = 0;
        CURL *curl = curl_easy_init();
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
                (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, &bytes);
                (void)curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
                (void)curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_moment);
                (void)curl_easy_setopt(curl, CURLOPT_XFERINFODATA, h);
                code = curl_easy_perform(curl);
                (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &o.code);
        }
        curl_easy_cleanup(curl);
        curl_slist_free_all(headers);
        if (!o.code) /* who has said one has answered, also where what follows it has no end */
                o.why = curl_easy_strerror(code);
        o.taken = o.code >= 200 && o.code < 300;
        return o;
}

/* ---- the thread */

static int64_t wait_after_us(int64_t attempts)
{
        return MIN(FIRST_WAIT_US << MIN(attempts - 1, (int64_t)12), LONGEST_WAIT_US);
}

static void describe(const struct outcome *o, char ret[32], const char **ret_text)
{
        (void)snprintf(ret, 32, "%ld", o->code);
        *ret_text = o->code ? ret : o->why;
}

/* How far it is; told to others at once, and kept. */
static void set_position(struct webhooks *h, struct hook *k, int64_t after, int64_t attempts, int64_t next_us)
{
        struct error err;

        (void)pthread_mutex_lock(&h->lock);
        k->after = after;
        k->attempts = attempts;
        k->next_us = next_us;
        (void)pthread_mutex_unlock(&h->lock);
        if (save(h, k, &err) < 0)
                log_warning("webhook %s: %s: %s", k->name, err.path, err.text);
}

/* The next event of a hook. True: there may be another at once. */
static bool deliver_one(struct webhooks *h, struct hook *k)
{
        _cleanup_(delivery_done) struct delivery d = {.attempt = k->attempts + 1};
        char number[32];
        const char *text;
        struct outcome o;
        struct error err;
        bool given_up;

        if (reader_events(h->reader, k->after, 1, on_event, &d, &err) < 0 || !d.body)
                return false;
        o = post(h, k, &d);
        if (atomic_load(&h->stopping) && !o.taken)
                return false;
        note(h, k, &d, &o);
        describe(&o, number, &text);
        k->waited_s = o.taken ? 0 : k->waited_s + wait_after_us(d.attempt) / US_PER_S;
        given_up = !o.taken && clock_wall_us() - d.time_us > OLDEST_US && k->waited_s * US_PER_S > OLDEST_US;
        if (!o.taken && d.attempt == 1)
                log_warning("webhook %s: event %lld was not taken: %s", k->name, (long long)d.id, text);
        if (given_up)
                log_error("webhook %s: event %lld is given up after a day", k->name, (long long)d.id);
        if (o.taken || given_up)
                set_position(h, k, d.id, 0, 0);
        else
                set_position(h, k, k->after, d.attempt, clock_monotonic_us() + wait_after_us(d.attempt));
        return o.taken || given_up;
}

static int64_t take_again(struct webhooks *h, struct hook *k)
{
        int64_t event = 0;

        (void)pthread_mutex_lock(&h->lock);
        if (k->n_again) {
                event = k->again[0];
                memmove(k->again, k->again + 1, --k->n_again * sizeof *k->again);
        }
        (void)pthread_mutex_unlock(&h->lock);
        return event;
}

/* What somebody wants to be sent again: once, whatever comes of it. */
static void deliver_again(struct webhooks *h, struct hook *k)
{
        int64_t event;

        while (!atomic_load(&h->stopping) && (event = take_again(h, k))) {
                _cleanup_(delivery_done) struct delivery d = {0};
                struct outcome o;

                if (reader_delivery_attempts(h->reader, k->name, event, &d.attempt, NULL) < 0 ||
                    reader_events(h->reader, event - 1, 1, on_event, &d, NULL) < 0 || d.id != event)
                        continue; /* its job was removed meanwhile */
                d.attempt++;
                o = post(h, k, &d);
                note(h, k, &d, &o);
        }
}

static int64_t next_of(struct webhooks *h, const struct hook *k)
{
        int64_t next_us;

        (void)pthread_mutex_lock(&h->lock);
        next_us = k->next_us;
        (void)pthread_mutex_unlock(&h->lock);
        return next_us;
}

/* Until when nothing is due; 0: for as long as nothing happens. */
static int64_t deliver_all(struct webhooks *h)
{
        int64_t first_us = 0, next_us;

        for (size_t i = 0; i < h->n; i++) {
                struct hook *k = &h->hooks[i];

                deliver_again(h, k);
                while (!atomic_load(&h->stopping) && next_of(h, k) <= clock_monotonic_us() && deliver_one(h, k))
                        ;
                next_us = next_of(h, k);
                if (next_us)
                        first_us = first_us ? MIN(first_us, next_us) : next_us;
        }
        return first_us;
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

static struct hook *find(struct webhooks *h, const char *name)
{
        for (size_t i = 0; h && i < h->n; i++)
                if (!strcmp(h->hooks[i].name, name))
                        return &h->hooks[i];
        return NULL;
}

int webhooks_can_send(struct webhooks *h, struct reader *reader, const char *name, int64_t event, struct error *err)
{
        _cleanup_(delivery_done) struct delivery d = {0};
        const struct hook *k = find(h, name);
        int r;

        if (!k)
                return error_set(err, -ENOENT, NULL, "there is no webhook %s", name);
        if (!event)
                return 0;
        r = reader_events(reader, event - 1, 1, on_event, &d, err);
        if (r >= 0 && d.id != event)
                r = error_set(err, -ENOENT, NULL, "there is no event %lld, or no longer", (long long)event);
        return r;
}

int webhooks_send(struct webhooks *h, const char *name, int64_t event, struct error *err)
{
        struct hook *k = find(h, name);
        int r = 0;

        (void)pthread_mutex_lock(&h->lock);
        if (!event)
                k->next_us = 0;
        else if (k->n_again < AGAIN_MAX)
                k->again[k->n_again++] = event;
        else
                r = error_set(err, -EEXIST, NULL, "%d events are to be sent again already", AGAIN_MAX);
        (void)pthread_mutex_unlock(&h->lock);
        webhooks_changed(h);
        return r;
}

size_t webhooks_status(struct webhooks *h, struct control_webhook *ret)
{
        int64_t to_wall_us = clock_wall_us() - clock_monotonic_us();

        static_assert(CONTROL_WEBHOOKS_MAX == WEBHOOKS_MAX, "all of them");
        if (!h)
                return 0;
        (void)pthread_mutex_lock(&h->lock);
        for (size_t i = 0; i < h->n; i++) {
                const struct hook *k = &h->hooks[i];

                ret[i] = (struct control_webhook){
                        .told = k->after, .failed = k->attempts, .next_us = k->next_us ? k->next_us + to_wall_us : 0};
                (void)snprintf(ret[i].name, sizeof ret[i].name, "%s", k->name);
                (void)snprintf(ret[i].url, sizeof ret[i].url, "%s", k->url);
        }
        (void)pthread_mutex_unlock(&h->lock);
        return h->n;
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
        h->store = d->store;
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
