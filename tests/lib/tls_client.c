/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A TLS client over a stream, for tests: see tls_client.h.
 */
#include "tests/lib/tls_client.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "io/io.h"
#include "io/reactor.h"

#define PATIENCE_NS (1000 * NS_PER_S)

struct client {
    struct stream stream;
    struct stream *below;
    struct tls_client_opts o;
    SSL_CTX *ctx;
    SSL *ssl;
};

static struct client *client_of(struct stream *s)
{
    return (struct client *)s;
}

static int flush(struct client *c, int64_t deadline_ns)
{
    char buf[8192];
    int n;

    while ((n = BIO_read(SSL_get_wbio(c->ssl), buf, sizeof(buf))) > 0) {
        struct iovec v = {buf, (size_t)n};
        int r = stream_sendv(c->below, &v, 1, deadline_ns);
        if (r < 0)
            return r;
    }
    return 0;
}

/* 0, or -errno; the end of the stream below is -ECONNRESET. */
static int fill(struct client *c, int64_t deadline_ns)
{
    char buf[8192];
    ssize_t n = stream_recv(c->below, buf, sizeof(buf), deadline_ns);

    if (n == 0)
        return -ECONNRESET;
    if (n > 0)
        BIO_write(SSL_get_rbio(c->ssl), buf, (int)n);
    return n < 0 ? (int)n : 0;
}

static ssize_t client_recv(struct stream *s, void *buf, size_t len, bool whole, int64_t deadline_ns)
{
    struct client *c = client_of(s);

    for (;;) {
        ERR_clear_error();
        int n = SSL_read(c->ssl, buf, (int)len);
        if (n > 0)
            return n;
        int why = SSL_get_error(c->ssl, n);
        int r = flush(c, deadline_ns);
        if (why == SSL_ERROR_ZERO_RETURN)
            return 0;
        if (why != SSL_ERROR_WANT_READ)
            return -EPROTO;
        if (r == 0)
            r = fill(c, deadline_ns);
        if (r < 0)
            return r;
    }
}

static int client_sendv(struct stream *s, struct iovec *iov, int iov_len, int64_t deadline_ns)
{
    struct client *c = client_of(s);

    for (int i = 0; i < iov_len; i++) {
        if (iov[i].iov_len == 0)
            continue;
        ERR_clear_error();
        if (SSL_write(c->ssl, iov[i].iov_base, (int)iov[i].iov_len) <= 0)
            return -EPROTO;
        int r = flush(c, deadline_ns);
        if (r < 0)
            return r;
    }
    return 0;
}

static void client_shutdown(struct stream *s)
{
    stream_shutdown(client_of(s)->below);
}

static void client_free(struct stream *s)
{
    struct client *c = client_of(s);

    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    free(c);
}

static const struct stream_ops client_ops = {
    .recv = client_recv,
    .sendv = client_sendv,
    .shutdown = client_shutdown,
    .free = client_free,
};

static unsigned psk_callback(SSL *ssl, const char *hint, char *identity, unsigned max_identity,
                             unsigned char *psk, unsigned max_psk)
{
    const struct client *c = SSL_get_app_data(ssl);

    if (c->o.psk_len > max_psk)
        return 0;
    snprintf(identity, max_identity, "%s", c->o.user);
    memcpy(psk, c->o.psk, c->o.psk_len);
    return c->o.psk_len;
}

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "tls_client: %s\n", what);
    ERR_print_errors_fp(stderr);
    abort();
}

struct stream *tls_client_new(struct stream *below, const struct tls_client_opts *o)
{
    struct client *c = calloc(1, sizeof(*c));

    must(c, "memory");
    c->stream.ops = &client_ops;
    c->below = below;
    c->o = *o;
    c->ctx = SSL_CTX_new(TLS_client_method());
    must(c->ctx, "context");
    SSL_CTX_set_security_level(c->ctx, 0); /* the server shall be the one that refuses */
    SSL_CTX_set_min_proto_version(c->ctx, o->version);
    SSL_CTX_set_max_proto_version(c->ctx, o->version);
    if (o->ca) {
        must(SSL_CTX_load_verify_file(c->ctx, o->ca) == 1, o->ca);
        SSL_CTX_set_verify(c->ctx, SSL_VERIFY_PEER, NULL);
    }
    if (o->cert)
        must(SSL_CTX_use_certificate_chain_file(c->ctx, o->cert) == 1 &&
                 SSL_CTX_use_PrivateKey_file(c->ctx, o->key, SSL_FILETYPE_PEM) == 1,
             o->cert);
    if (o->user)
        SSL_CTX_set_psk_client_callback(c->ctx, psk_callback);
    must(SSL_CTX_set_cipher_list(c->ctx, o->ciphers ? o->ciphers : "ALL:@SECLEVEL=0") == 1 &&
             (!o->suites || SSL_CTX_set_ciphersuites(c->ctx, o->suites) == 1),
         "ciphers");
    c->ssl = SSL_new(c->ctx);
    must(c->ssl, "SSL");
    SSL_set_app_data(c->ssl, c);
    SSL_set_bio(c->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(c->ssl);
    return &c->stream;
}

const char *tls_client_handshake(struct stream *s)
{
    struct client *c = client_of(s);

    for (;;) {
        ERR_clear_error();
        int n = SSL_do_handshake(c->ssl);
        int why = SSL_get_error(c->ssl, n);
        unsigned long code = ERR_peek_error();
        int r = flush(c, clock_ns() + PATIENCE_NS);
        if (n == 1)
            return r == 0 ? NULL : "cannot send";
        if (why != SSL_ERROR_WANT_READ)
            return ERR_reason_error_string(code) ? ERR_reason_error_string(code) : "?";
        if (r < 0 || fill(c, clock_ns() + PATIENCE_NS) < 0)
            return "the server hung up";
    }
}

void tls_client_goodbye(struct stream *s)
{
    struct client *c = client_of(s);

    SSL_shutdown(c->ssl);
    flush(c, clock_ns() + PATIENCE_NS);
}

void tls_client_update(struct stream *s)
{
    must(SSL_key_update(client_of(s)->ssl, SSL_KEY_UPDATE_REQUESTED) == 1, "key update");
}

const char *tls_client_version(struct stream *s)
{
    return SSL_get_version(client_of(s)->ssl);
}

const char *tls_client_cipher(struct stream *s)
{
    return SSL_get_cipher_name(client_of(s)->ssl);
}
