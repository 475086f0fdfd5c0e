#include "api/kept.h"

#include "api/encoding.h"
#include "api/internal.h"
#include "api/response.h"
#include "base/clock.h"
#include "base/file.h"

#include <errno.h>
#include <string.h>

#define WAITS_US (200 * US_PER_MS) /* a fifth of what the contract allows */
#define PLACES 64
#define BYTES_MAX ((size_t)16 << 10) /* longer ones take their time elsewhere */

struct place {
        int64_t stamp;    /* the store's, before it was read; 0: free */
        int64_t until_us; /* of one that says why a job waits: monotonic; 0: of others */
        unsigned long long causes;
        const char *choice; /* the coding that the client would take */
        const char *coding; /* the one that the bytes have */
        char url[sizeof((struct request *)0)->shown], etag[ETAG_SIZE];
        struct buf bytes;
};

struct kept {
        pthread_mutex_t lock;
        struct place places[PLACES];
};

int kept_new(struct kept **ret, struct error *err)
{
        struct kept *k = calloc(1, sizeof *k);

        if (!k)
                return error_set(err, -ENOMEM, NULL, "no memory for answers that are kept");
        for (size_t i = 0; i < PLACES; i++)
                k->places[i].bytes = BUF_INIT(BYTES_MAX);
        (void)pthread_mutex_init(&k->lock, NULL);
        *ret = k;
        return 0;
}

struct kept *kept_free(struct kept *k)
{
        if (!k)
                return NULL;
        for (size_t i = 0; i < PLACES; i++)
                buf_done(&k->places[i].bytes);
        (void)pthread_mutex_destroy(&k->lock);
        free(k);
        return NULL;
}

/* FNV-1a of the URL; NULL: it was cut. */
static struct place *place_of(struct kept *k, const struct request *r)
{
        uint32_t hash = 2166136261U;
        const char *p = r->shown;

        for (; *p; p++)
                hash = (hash ^ (unsigned char)*p) * 16777619U;
        return (size_t)(p - r->shown) < sizeof r->shown - 1 ? &k->places[hash % PLACES] : NULL;
}

void kept_begin(struct request *r)
{
        r->stamp = store_stamp(request_settings(r)->store);
        r->causes = request_settings(r)->control->causes;
        r->read_us = clock_monotonic_us();
}

void kept_put(struct request *r, const char *etag, const char *coding, const struct buf *b)
{
        struct kept *k = r->server->kept;
        struct place *p = r->stamp > 0 && b->size <= BYTES_MAX ? place_of(k, r) : NULL;

        if (!p)
                return;
        (void)pthread_mutex_lock(&k->lock);
        p->stamp = 0;
        buf_clear(&p->bytes);
        if (buf_append(&p->bytes, b->data, b->size, NULL) >= 0) {
                p->stamp = r->stamp;
                p->until_us = r->waits ? r->read_us + WAITS_US : 0;
                p->causes = r->causes;
                p->choice = encoding_choose(request_header(r, "Accept-Encoding"));
                p->coding = coding;
                memcpy(p->url, r->shown, sizeof p->url);
                memcpy(p->etag, etag, sizeof p->etag);
        }
        (void)pthread_mutex_unlock(&k->lock);
}

static bool is_fresh(const struct place *p, const struct request *r)
{
        return !p->until_us ||
               (p->causes == request_settings(r)->control->causes && clock_monotonic_us() < p->until_us);
}

bool kept_answer(struct request *r)
{
        struct kept *k = r->server->kept;
        struct place *p = place_of(k, r);
        int64_t stamp = store_stamp(request_settings(r)->store);
        const char *choice = encoding_choose(request_header(r, "Accept-Encoding"));
        bool found;

        if (!p || stamp <= 0)
                return false;
        (void)pthread_mutex_lock(&k->lock);
        found = p->stamp == stamp && p->choice == choice && !strcmp(p->url, r->shown) && is_fresh(p, r);
        if (found)
                response_kept(r, p->etag, p->coding, &p->bytes);
        (void)pthread_mutex_unlock(&k->lock);
        return found;
}
