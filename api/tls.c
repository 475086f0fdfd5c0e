#include "api/tls.h"

#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define CHAIN_MAX 8

/* A pair that was read. Handshakes may use one that has been replaced, so all stay until the end: a reload is rare. */
struct pair {
        struct pair *next;
        unsigned n;
        gnutls_pcert_st chain[CHAIN_MAX];
        gnutls_privkey_t key;
};

struct tls {
        char *certificate, *key; /* paths */
        pthread_mutex_t lock;
        struct pair *pairs; /* the newest first */
};
static struct tls *the_tls;

static struct pair *pair_free(struct pair *p)
{
        if (!p)
                return NULL;
        for (unsigned i = 0; i < p->n; i++)
                gnutls_pcert_deinit(&p->chain[i]);
        if (p->key)
                gnutls_privkey_deinit(p->key);
        free(p);
        return NULL;
}
DEFINE_CLEANUP(struct pair *, pair_free);

static int unusable(const char *path, int code, struct error *err)
{
        return error_set(err, -EINVAL, path, "cannot be used: %s", gnutls_strerror(code));
}

static int load(const char *path, gnutls_datum_t *ret, struct error *err)
{
        int code = gnutls_load_file(path, ret);

        return code < 0 ? unusable(path, code, err) : 0;
}

static int parse(const struct tls *t, const gnutls_datum_t *certificate, const gnutls_datum_t *key, struct pair *p,
                 struct error *err)
{
        gnutls_certificate_credentials_t both;
        unsigned n = CHAIN_MAX;
        int code = gnutls_pcert_list_import_x509_raw(p->chain, &n, certificate, GNUTLS_X509_FMT_PEM, 0);

        if (code < 0)
                return unusable(t->certificate, code, err);
        p->n = n;
        if ((code = gnutls_privkey_init(&p->key)) < 0 ||
            (code = gnutls_privkey_import_x509_raw(p->key, key, GNUTLS_X509_FMT_PEM, NULL, 0)) < 0)
                return unusable(t->key, code, err);
        /* gnutls compares the two here, and not where they are used */
        if ((code = gnutls_certificate_allocate_credentials(&both)) < 0)
                return unusable(t->key, code, err);
        code = gnutls_certificate_set_x509_key_mem(both, certificate, key, GNUTLS_X509_FMT_PEM);
        gnutls_certificate_free_credentials(both);
        return code < 0 ? unusable(t->key, code, err) : 0;
}

int tls_reload(struct tls *t, struct error *err)
{
        _cleanup_(pair_freep) struct pair *p = calloc(1, sizeof *p);
        gnutls_datum_t certificate = {0}, key = {0};
        int r;

        if (!p)
                return error_set(err, -ENOMEM, NULL, "no memory for a certificate");
        r = load(t->certificate, &certificate, err);
        if (r >= 0)
                r = load(t->key, &key, err);
        if (r >= 0)
                r = parse(t, &certificate, &key, p, err);
        gnutls_free(certificate.data);
        if (key.data)
                explicit_bzero(key.data, key.size);
        gnutls_free(key.data);
        if (r < 0)
                return r;
        (void)pthread_mutex_lock(&t->lock);
        p->next = t->pairs;
        t->pairs = TAKE_PTR(p);
        (void)pthread_mutex_unlock(&t->lock);
        return 0;
}

int tls_new(const char *certificate, const char *key, struct tls **ret, struct error *err)
{
        struct tls *t = calloc(1, sizeof *t);
        int r;

        if (!t)
                return error_set(err, -ENOMEM, NULL, "no memory for TLS");
        (void)pthread_mutex_init(&t->lock, NULL);
        t->certificate = strdup(certificate);
        t->key = strdup(key);
        r = t->certificate && t->key ? tls_reload(t, err) : error_set(err, -ENOMEM, NULL, "no memory for TLS");
        if (r < 0) {
                (void)tls_free(t);
                return r;
        }
        the_tls = t;
        *ret = t;
        return 0;
}

struct tls *tls_free(struct tls *t)
{
        if (!t)
                return NULL;
        if (the_tls == t)
                the_tls = NULL;
        for (struct pair *p = t->pairs, *next; p; p = next) {
                next = p->next;
                (void)pair_free(p);
        }
        (void)pthread_mutex_destroy(&t->lock);
        free(t->certificate);
        free(t->key);
        free(t);
        return NULL;
}

/* Whatever name is asked for: there is one certificate. */
static int retrieve(gnutls_session_t session _unused_, const gnutls_datum_t *authorities _unused_, int n _unused_,
                    const gnutls_pk_algorithm_t *algorithms _unused_, int n_algorithms _unused_, gnutls_pcert_st **ret,
                    unsigned *ret_n, gnutls_privkey_t *ret_key)
{
        struct pair *p;

        (void)pthread_mutex_lock(&the_tls->lock);
        p = the_tls->pairs;
        (void)pthread_mutex_unlock(&the_tls->lock);
        *ret = p->chain;
        *ret_n = p->n;
        *ret_key = p->key;
        return 0;
}

void *tls_callback(void)
{
        return (void *)retrieve;
}
