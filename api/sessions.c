#include "api/sessions.h"

#include "base/clock.h"
#include "base/hex.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <pthread.h>
#include <string.h>

#define LINKS 16
#define SESSIONS 256

struct entry {
        char key[SESSION_KEY_SIZE]; /* "": free */
        int64_t until_us;           /* monotonic */
        struct asker who;
};

struct sessions {
        pthread_mutex_t lock;
        struct entry links[LINKS], sessions[SESSIONS];
};

int sessions_new(struct sessions **ret, struct error *err)
{
        struct sessions *s = calloc(1, sizeof *s);

        if (!s)
                return error_set(err, -ENOMEM, NULL, "no memory for sessions");
        (void)pthread_mutex_init(&s->lock, NULL);
        *ret = s;
        return 0;
}

struct sessions *sessions_free(struct sessions *s)
{
        if (s)
                (void)pthread_mutex_destroy(&s->lock);
        free(s);
        return NULL;
}

/* In the place of the one that ends first. */
static void add(struct entry *entries, size_t n, const struct asker *who, int64_t seconds, char ret[SESSION_KEY_SIZE])
{
        struct entry *place = entries;
        unsigned char random[(SESSION_KEY_SIZE - 1) / 2];

        for (size_t i = 1; i < n; i++)
                if (entries[i].until_us < place->until_us)
                        place = &entries[i];
        *place = (struct entry){.until_us = clock_monotonic_us() + seconds * US_PER_S, .who = *who};
        if (gnutls_rnd(GNUTLS_RND_KEY, random, sizeof random) < 0)
                abort(); /* a system without randomness can keep nothing secret */
        hex_write(random, sizeof random, place->key);
        memcpy(ret, place->key, SESSION_KEY_SIZE);
}

/* Compared in a time that does not tell how much of the key was right. */
static struct entry *find(struct entry *entries, size_t n, const char *key)
{
        struct entry *found = NULL;

        if (strlen(key) != SESSION_KEY_SIZE - 1)
                return NULL;
        for (size_t i = 0; i < n; i++)
                if (!gnutls_memcmp(entries[i].key, key, SESSION_KEY_SIZE))
                        found = &entries[i];
        return found && found->until_us > clock_monotonic_us() ? found : NULL;
}

void sessions_link(struct sessions *s, const struct asker *who, char ret[SESSION_KEY_SIZE])
{
        (void)pthread_mutex_lock(&s->lock);
        add(s->links, LINKS, who, LINK_S, ret);
        (void)pthread_mutex_unlock(&s->lock);
}

bool sessions_open(struct sessions *s, const char *link, char ret[SESSION_KEY_SIZE])
{
        struct entry *e;

        (void)pthread_mutex_lock(&s->lock);
        e = find(s->links, LINKS, link);
        if (e) {
                add(s->sessions, SESSIONS, &e->who, SESSION_S, ret);
                *e = (struct entry){0};
        }
        (void)pthread_mutex_unlock(&s->lock);
        return e != NULL;
}

bool sessions_find(struct sessions *s, const char *key, struct asker *ret)
{
        const struct entry *e;

        (void)pthread_mutex_lock(&s->lock);
        e = find(s->sessions, SESSIONS, key);
        if (e) {
                ret->role = e->who.role;
                ret->uid = e->who.uid;
                memcpy(ret->token, e->who.token, sizeof ret->token);
        }
        (void)pthread_mutex_unlock(&s->lock);
        return e != NULL;
}

void sessions_end(struct sessions *s, const char *key)
{
        struct entry *e;

        (void)pthread_mutex_lock(&s->lock);
        e = find(s->sessions, SESSIONS, key);
        if (e)
                *e = (struct entry){0};
        (void)pthread_mutex_unlock(&s->lock);
}
