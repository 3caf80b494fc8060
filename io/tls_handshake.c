/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The TLS handshake, and what it proves about the client.
 */
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "io/tls_priv.h"

void tls_set_psk_user(SSL *ssl, const struct psk_entry *entry)
{
    struct tls_stream *t = SSL_get_app_data(ssl);

    t->psk = entry;
}

/* A key that was found may not be the one that was used: TLS can pass over it and take another
 * way, and then the user is only claimed. */
static bool psk_was_used(const struct tls_stream *t)
{
    if (!t->psk)
        return false;
    if (SSL_version(t->ssl) == TLS1_3_VERSION)
        return SSL_session_reused(t->ssl); /* nothing else is ever resumed */
    return SSL_CIPHER_get_auth_nid(SSL_get_current_cipher(t->ssl)) == NID_auth_psk;
}

static bool learn_subject(struct tls_stream *t, X509 *cert)
{
    BIO *b = BIO_new(BIO_s_mem());
    unsigned n = 0;
    bool ok = b &&
              X509_NAME_print_ex(b, X509_get_subject_name(cert), 0,
                                 XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0 &&
              X509_digest(cert, EVP_sha256(), t->peer.sha256, &n) == 1;

    if (ok) {
        char *text;
        long len = BIO_get_mem_data(b, &text);
        t->subject = OPENSSL_strndup(text, (size_t)len);
    }
    BIO_free(b);
    t->peer.subject = t->subject;
    return t->subject != NULL;
}

static bool learn_peer(struct tls_stream *t, struct err **errp)
{
    X509 *cert = SSL_get0_peer_certificate(t->ssl);

    if (psk_was_used(t)) {
        t->user = mem_strdup(t->psk->user);
        t->peer.user = t->user;
        return t->user || err_set(errp, ENOMEM, "out of memory for a user's name");
    }
    /* One that nobody checked proves nothing. */
    if (!cert || !(SSL_get_verify_mode(t->ssl) & SSL_VERIFY_PEER) ||
        SSL_get_verify_result(t->ssl) != X509_V_OK)
        return true;
    return learn_subject(t, cert) || err_set(errp, ENOMEM, "out of memory for a certificate");
}

/* cause: what OpenSSL said first; its queue belongs to the thread, and others were at work since.
 */
static bool handshake_failed(struct tls_stream *t, unsigned long cause, struct err **errp)
{
    const char *text = cause ? ERR_reason_error_string(cause) : NULL;
    long verdict = SSL_get_verify_result(t->ssl);

    if (verdict != X509_V_OK)
        return err_set(errp, EPROTO, "TLS: the client's certificate: %s",
                       X509_verify_cert_error_string(verdict));
    return err_set(errp, EPROTO, "TLS: %s", text ? text : "unknown error");
}

bool tls_handshake(struct stream *tls, int64_t deadline_ns, struct err **errp)
{
    struct tls_stream *t = tls_of(tls);

    for (;;) {
        ERR_clear_error();
        int ret = SSL_do_handshake(t->ssl);
        int why = SSL_get_error(t->ssl, ret);
        unsigned long cause = ERR_peek_error();
        bool no_buffer = why == SSL_ERROR_WANT_WRITE && !t->out;
        int r = tls_flush(t, deadline_ns); /* also an alert that says what is wrong */

        if (ret == 1 && r == 0) {
            t->open = true;
            return learn_peer(t, errp);
        }
        if (ret != 1 && why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
            t->failed = true;
            return handshake_failed(t, cause, errp);
        }
        if (no_buffer)
            r = -ENOMEM; /* trying again would spin */
        if (r == 0 && why == SSL_ERROR_WANT_READ)
            r = tls_fill(t, deadline_ns);
        if (r < 0) {
            t->failed = true;
            return err_set_errno(errp, -r, "the TLS handshake");
        }
    }
}

const struct tls_peer *tls_peer(const struct stream *tls)
{
    return &tls_of(tls)->peer;
}

void tls_text(const struct stream *tls, char *buf, size_t len)
{
    const SSL *ssl = tls_of(tls)->ssl;

    snprintf(buf, len, "%s %s", SSL_get_version(ssl), SSL_get_cipher_name(ssl));
}
