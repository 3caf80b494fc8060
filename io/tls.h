/* SPDX-License-Identifier: BSD-3-Clause
 *
 * TLS, the server's side: credentials, and a stream that wraps another one.
 *
 * TLS 1.2 at least, no renegotiation, no resumption, no compression, no early data. Nothing here
 * waits inside OpenSSL: it works on buffers, and only the stream below yields.
 */
#ifndef IO_TLS_H
#define IO_TLS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "io/stream.h"

/* --- Credentials --- */

struct tls_creds; /* counted references; bound to one reactor */

struct tls_creds_opts {
    const char *dir; /* of server-cert.pem, server-key.pem, ca-cert.pem, and ca-crl.pem if there
                        is one; NULL: no certificate */
    const char *psk_file; /* lines USER:HEXKEY, as psktool writes them; NULL: none */
    bool verify_peer;     /* who is not known by a key must show a certificate that ca-cert.pem
                             vouches for */
};
/* tls_creds_load: at least one of dir and psk_file. Reads everything now and nothing later. Errors
 * name the file: ENOENT and the like, EINVAL malformed, EKEYEXPIRED a certificate out of its time.
 */
struct tls_creds *tls_creds_load(const struct tls_creds_opts *o, struct err **errp);
struct tls_creds *tls_creds_ref(struct tls_creds *c);
void tls_creds_unref(struct tls_creds *c); /* NULL is allowed */

/* --- The stream --- */

/* Who is at the other end, as far as was proven. */
struct tls_peer {
    const char *subject; /* of the certificate, as RFC 4514 writes it; NULL: showed none */
    uint8_t sha256[32];  /* of the certificate, if there is one */
    const char *user;    /* of the pre-shared key; NULL: none was used */
};

/* tls_server_new: a TLS stream over `below`, which it takes over on success only. Until
 * tls_handshake has returned true nothing but stream_shutdown and stream_free may be called on it.
 * NULL without memory. */
struct stream *tls_server_new(struct stream *below, struct tls_creds *creds);
/* tls_handshake: as the server. After a failure only stream_shutdown and stream_free make sense.
 * Yields. Errors: ETIMEDOUT, ECONNRESET, EPROTO what TLS did not like, and those of `below`. */
bool tls_handshake(struct stream *tls, int64_t deadline_ns, struct err **errp);
/* tls_peer: belongs to the stream. tls_text: "TLSv1.3 TLS_AES_128_GCM_SHA256", for the log. */
const struct tls_peer *tls_peer(const struct stream *tls);
void tls_text(const struct stream *tls, char *buf, size_t len);

#endif
