#include "api/tokens.h"

#include "api/members.h"
#include "api/response.h"
#include "base/clock.h"
#include "base/hex.h"
#include "contract/text.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <string.h>

#define SECRET_BYTES 32
#define NAME_MAX_BYTES (sizeof((struct token_row *)0)->name - 1)

static bool hash_secret(const char *salt, const char *secret, char ret[65])
{
        unsigned char digest[32];
        char text[32 + 2 * SECRET_BYTES + 1];

        if (snprintf(text, sizeof text, "%s%s", salt, secret) >= (int)sizeof text ||
            gnutls_hash_fast(GNUTLS_DIG_SHA256, text, strlen(text), digest) < 0)
                return false;
        hex_write(digest, sizeof digest, ret);
        return true;
}

bool token_check(struct reader *reader, const char *text, struct asker *who)
{
        const char *dot = strrchr(text, '.');
        struct token_row t;
        char name[NAME_MAX_BYTES + 1], hash[65];

        if (!dot || (size_t)(dot - text) > NAME_MAX_BYTES)
                return false;
        (void)snprintf(name, sizeof name, "%.*s", (int)(dot - text), text);
        if (!text_is_plain_name(name, NAME_MAX_BYTES) || reader_token(reader, name, &t, NULL) < 0 ||
            !hash_secret(t.salt, dot + 1, hash) || gnutls_memcmp(hash, t.hash, sizeof hash) != 0)
                return false;
        who->role = t.role;
        memcpy(who->token, name, sizeof who->token);
        return true;
}

bool token_role(struct reader *reader, const char *name, enum role *ret)
{
        struct token_row t;

        if (reader_token(reader, name, &t, NULL) < 0)
                return false;
        *ret = t.role;
        return true;
}

static json_t *token_to_json(const struct token_row *t)
{
        return json_pack("{s:s, s:s, s:o}", "name", t->name, "role", role_names[t->role], "created",
                         json_from_time(t->created_us));
}

/* ---- list */

static int add_token(const struct token_row *t, void *user)
{
        return json_array_append_new(user, token_to_json(t)) < 0 ? -ENOMEM : 0;
}

void tokens_list(struct request *r)
{
        struct reader *reader = request_reader(r);
        json_t *list = json_array();
        struct error err = {.text = "no memory"};

        if (reader && reader_tokens(reader, add_token, list, &err) >= 0) {
                response_json(r, 200, json_pack("{s:o}", "tokens", list));
                return;
        }
        json_decref(list);
        if (reader)
                problem(r, PROBLEM_INTERNAL, "the tokens cannot be read: %s", err.text);
}

/* ---- add and remove */

/* What a new token's answer is made of, in r->kept. */
struct made {
        struct token_row row;
        char secret[2 * SECRET_BYTES + 1];
};

static void added(struct request *r)
{
        const struct made *m = r->kept;
        char text[sizeof m->row.name + sizeof m->secret + 1];
        json_t *o;

        if (r->answer.r < 0) {
                request_refused(r, PROBLEM_REQUEST_INVALID);
                return;
        }
        (void)snprintf(text, sizeof text, "%s.%s", m->row.name, m->secret);
        o = token_to_json(&m->row);
        if (json_object_set_new(o, "token", json_string(text)) < 0) {
                json_decref(o);
                o = NULL;
        }
        response_json(r, 201, o);
}

static bool draw(struct made *m)
{
        unsigned char salt[16], secret[SECRET_BYTES];

        if (gnutls_rnd(GNUTLS_RND_NONCE, salt, sizeof salt) < 0 ||
            gnutls_rnd(GNUTLS_RND_KEY, secret, sizeof secret) < 0)
                return false;
        hex_write(salt, sizeof salt, m->row.salt);
        hex_write(secret, sizeof secret, m->secret);
        return hash_secret(m->row.salt, m->secret, m->row.hash);
}

static void read_token(const json_t *body, struct token_row *t, struct errors *errs)
{
        const char *name = json_string_value(json_object_get(body, "name")),
                   *role = json_string_value(json_object_get(body, "role"));
        int i = ROLE_READ;

        if (!name || !text_is_plain_name(name, NAME_MAX_BYTES))
                (void)errors_add(errs, -EINVAL, "/name",
                                 "expected 1 to 64 letters, digits, '.', '-', '_', not beginning with '.'");
        else
                (void)snprintf(t->name, sizeof t->name, "%s", name);
        while (role && i < ROLE_N && strcmp(role_names[i], role) != 0)
                i++;
        if (!role || i == ROLE_N)
                (void)errors_add(errs, -EINVAL, "/role", "expected one of read, submit, admin");
        else
                t->role = (enum role)i;
}

void tokens_add(struct request *r)
{
        static const char *const keys[] = {"name", "role", NULL};
        struct control *control = request_settings(r)->control;
        struct made *m = calloc(1, sizeof *m);
        _cleanup_json_ json_t *body = NULL;
        struct errors errs = {0};
        struct pending *pending;

        r->kept = m;
        if (!request_body(r, keys, false, &body))
                return;
        if (m)
                read_token(body, &m->row, &errs);
        if (errs.n) {
                problem_errors(r, PROBLEM_REQUEST_INVALID, &errs);
                return;
        }
        if (!m || !draw(m)) {
                problem(r, PROBLEM_INTERNAL, "no memory, or nothing random, for a token");
                return;
        }
        m->row.created_us = clock_wall_us();
        pending = request_ask(r, added);
        if (pending)
                control->token(control, &r->by, &m->row, false, request_done, pending);
}

void tokens_remove(struct request *r)
{
        struct control *control = request_settings(r)->control;
        struct token_row t = {0};
        struct pending *pending = request_ask(r, answer_removed);

        (void)snprintf(t.name, sizeof t.name, "%s", r->name);
        if (pending)
                control->token(control, &r->by, &t, true, request_done, pending);
}
