/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What tls.c and tls_creds.c share.
 */
#ifndef IO_TLS_PRIV_H
#define IO_TLS_PRIV_H

#include <openssl/ssl.h>
#include <stddef.h>
#include <stdint.h>

#include "io/lock.h"
#include "io/tls.h"

#define TLS_RECORD_MAX 16384                   /* plain bytes of one record */
#define TLS_RECORD_ROOM (TLS_RECORD_MAX + 512) /* the same, encrypted, at most */
/* Encrypted bytes in one send: three full records, and room for what goes with them. Small, so that
 * they are still in the CPU's cache when the kernel copies them and the client decrypts: sends of
 * 200 KiB were slower by a fifth. */
#define TLS_OUT_SIZE ((size_t)4 * TLS_RECORD_ROOM)

struct psk_entry {
    char *user;
    uint8_t key[64];
    size_t key_len;
};

struct tls_creds {
    unsigned refs;
    SSL_CTX *ctx;
    struct psk_entry *psk;
    size_t n_psk;
    /* Buffers for sending, touched and warm. A stream holds one only while it sends. */
    struct tls_out *spare;
    unsigned n_spare;
    uint8_t stage[TLS_RECORD_MAX]; /* where small pieces become a record; never across a yield */
};

struct tls_out {
    struct tls_out *next;
    uint8_t data[TLS_OUT_SIZE];
};

/* tls_out_get: NULL without memory. */
struct tls_out *tls_out_get(struct tls_creds *c);
void tls_out_put(struct tls_creds *c, struct tls_out *o);

/* tls_psk_load: reads USER:HEXKEY lines into c. */
bool tls_psk_load(struct tls_creds *c, const char *path, struct err **errp);
void tls_psk_free(struct tls_creds *c);
/* tls_psk_find: by name, or NULL. */
const struct psk_entry *tls_psk_find(const struct tls_creds *c, const char *user);
/* tls_set_psk_user: the name under which a stream's client found a key; called by the SSL_CTX. */
void tls_set_psk_user(SSL *ssl, const struct psk_entry *entry);

struct tls_stream {
    struct stream stream;
    struct stream *below;
    struct tls_creds *creds;
    SSL *ssl;
    bool open;   /* the handshake is done */
    bool failed; /* nothing more may be encrypted */
    bool dead;   /* ... nor sent */
    uint8_t *in; /* encrypted, received: in[in_head .. in_tail) */
    size_t in_head, in_tail;
    struct tls_out *out; /* encrypted, to send: data[0 .. out_len); NULL: nothing */
    size_t out_len;
    struct co_mutex send_lock;
    uint64_t records; /* with the present key */
    const struct psk_entry *psk;
    struct tls_peer peer;
    char *subject, *user;
};

static inline struct tls_stream *tls_of(const struct stream *s)
{
    return (struct tls_stream *)(uintptr_t)s;
}

/* tls_fill: have more in `in`: 0, or -errno; an end here is one without a goodbye. Yields.
 * tls_flush: send what there is in `out`. Yields. */
int tls_fill(struct tls_stream *t, int64_t deadline_ns);
int tls_flush(struct tls_stream *t, int64_t deadline_ns);

/* tls_error: what OpenSSL last complained about, as text; clears its queue. */
const char *tls_error(void);

#endif
