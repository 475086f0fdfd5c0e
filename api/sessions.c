#include "api/sessions.h"

#include "base/clock.h"
#include "base/hex.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <pthread.h>
#include <string.h>

#define LINKS 16

struct link {
        char key[SESSION_KEY_SIZE]; /* "": free */
        int64_t until_us;           /* monotonic */
        struct asker who;
};

struct links {
        pthread_mutex_t lock;
        struct link links[LINKS];
};

int links_new(struct links **ret, struct error *err)
{
        struct links *l = calloc(1, sizeof *l);

        if (!l)
                return error_set(err, -ENOMEM, NULL, "no memory for links");
        (void)pthread_mutex_init(&l->lock, NULL);
        *ret = l;
        return 0;
}

struct links *links_free(struct links *l)
{
        if (l)
                (void)pthread_mutex_destroy(&l->lock);
        free(l);
        return NULL;
}

void session_draw(char ret[SESSION_KEY_SIZE])
{
        unsigned char random[(SESSION_KEY_SIZE - 1) / 2];

        if (gnutls_rnd(GNUTLS_RND_KEY, random, sizeof random) < 0)
                abort(); /* a system without randomness can keep nothing secret */
        hex_write(random, sizeof random, ret);
}

bool session_hash(const char *key, char ret[65])
{
        unsigned char digest[32];

        if (strlen(key) != SESSION_KEY_SIZE - 1 ||
            gnutls_hash_fast(GNUTLS_DIG_SHA256, key, SESSION_KEY_SIZE - 1, digest) < 0)
                return false;
        hex_write(digest, sizeof digest, ret);
        return true;
}

void link_add(struct links *l, const struct asker *who, char ret[SESSION_KEY_SIZE])
{
        struct link *place = l->links;

        (void)pthread_mutex_lock(&l->lock);
        for (size_t i = 1; i < LINKS; i++) /* in the place of the one that ends first */
                if (l->links[i].until_us < place->until_us)
                        place = &l->links[i];
        *place = (struct link){.until_us = clock_monotonic_us() + LINK_S * US_PER_S, .who = *who};
        session_draw(place->key);
        memcpy(ret, place->key, SESSION_KEY_SIZE);
        (void)pthread_mutex_unlock(&l->lock);
}

bool link_take(struct links *l, const char *key, struct asker *ret)
{
        struct link *found = NULL;

        if (strlen(key) != SESSION_KEY_SIZE - 1)
                return false;
        (void)pthread_mutex_lock(&l->lock);
        for (size_t i = 0; i < LINKS; i++) /* compared in a time that does not tell how much of the key was right */
                if (!gnutls_memcmp(l->links[i].key, key, SESSION_KEY_SIZE) &&
                    l->links[i].until_us > clock_monotonic_us())
                        found = &l->links[i];
        if (found) {
                *ret = found->who;
                *found = (struct link){0};
        }
        (void)pthread_mutex_unlock(&l->lock);
        return found != NULL;
}
