/* The certificate and key of the TLS listeners, read from files, again whenever that is asked for. gnutls asks for them
 * without saying for whom, so a process has one struct tls at a time. */
#pragma once

#include "base/error.h"

struct tls;

/* PEM files, the certificate's with its chain; copied. -EINVAL: they are no good, or do not belong together. */
int tls_new(const char *certificate, const char *key, struct tls **ret, struct error *err);
/* After the listeners have ended. */
struct tls *tls_free(struct tls *t);
/* Reads both files anew, for connections from now on; where they are no good, what was read before stays. */
int tls_reload(struct tls *t, struct error *err);
/* For MHD_OPTION_HTTPS_CERT_CALLBACK. */
void *tls_callback(void);
