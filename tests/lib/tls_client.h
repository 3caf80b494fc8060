/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A TLS client over a stream, for tests: OpenSSL and memory BIOs, nothing of io/tls.c.
 */
#ifndef TESTS_LIB_TLS_CLIENT_H
#define TESTS_LIB_TLS_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "io/stream.h"

struct tls_client_opts {
    const char *ca;         /* file of the authority that the server must have; NULL: not checked */
    const char *cert, *key; /* files; NULL: shows none */
    const char *user;       /* with psk, psk_len; NULL: no pre-shared key */
    const uint8_t *psk;
    unsigned psk_len;
    int version;         /* TLS1_2_VERSION, ...; 0: any */
    const char *ciphers; /* of TLS 1.2; NULL: default */
    const char *suites;  /* of TLS 1.3; NULL: default */
};

/* tls_client_new: over `below`, which stays the caller's. tls_client_handshake: yields; NULL, or
 * what went wrong (static). The stream's free neither says goodbye nor frees `below`. */
struct stream *tls_client_new(struct stream *below, const struct tls_client_opts *o);
const char *tls_client_handshake(struct stream *s);
/* tls_client_goodbye: sends close_notify. tls_client_update: asks for new keys, both ways. */
void tls_client_goodbye(struct stream *s);
void tls_client_update(struct stream *s);
const char *tls_client_version(struct stream *s);
const char *tls_client_cipher(struct stream *s);

#endif
