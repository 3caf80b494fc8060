/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Credentials of a TLS server: one SSL_CTX, read whole when it is made, so that a file that is
 * replaced later changes nothing until somebody loads it again.
 *
 * Only what the folder's ca-cert.pem vouches for is believed; the system's authorities never are.
 * AES-128 comes first, as it costs the least on both sides. Sessions are not resumed: a resumed one
 * would outlive a reload of the credentials.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "io/tls_priv.h"

#define SPARE_MAX 4

#define CIPHERS_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
/* TLS 1.2, forward secrecy first. There is no ECDHE-PSK with GCM, so DHE-PSK precedes it. Plain PSK
 * is for clients that know nothing else. */
#define CIPHERS_CERT                                                                               \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE+AESGCM:ECDHE+CHACHA20:"       \
    "DHE-RSA-AES128-GCM-SHA256:DHE+AESGCM:DHE+CHACHA20"
#define CIPHERS_PSK                                                                                \
    "ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES128-GCM-SHA256:DHE-PSK-AES256-GCM-SHA384:"             \
    "DHE-PSK-CHACHA20-POLY1305:ECDHE-PSK-AES128-CBC-SHA256:PSK-AES128-GCM-SHA256:"                 \
    "PSK-AES256-GCM-SHA384:PSK-CHACHA20-POLY1305"

const char *tls_error(void)
{
    /* The first is the cause, the others are its consequences. */
    unsigned long code = ERR_get_error();
    const char *text = code ? ERR_reason_error_string(code) : NULL;

    ERR_clear_error();
    return text ? text : "unknown error";
}

/* A key that needs a password must not make the server ask for one at a terminal. */
static int no_password(char *buf, int size, int rwflag, void *arg)
{
    return -1;
}

static char *path_in(const char *dir, const char *name, struct err **errp)
{
    char *path = mem_printf("%s/%s", dir, name);

    if (!path)
        err_set(errp, ENOMEM, "out of memory for the name of a file in '%s'", dir);
    return path;
}

/* OpenSSL tells badly what is wrong with a file that cannot be opened. */
static bool can_read(const char *path, struct err **errp)
{
    return access(path, R_OK) == 0 || err_set_errno(errp, errno, "cannot read '%s'", path);
}

static bool check_dates(const X509 *cert, const char *path, struct err **errp)
{
    if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0)
        return err_set(errp, EKEYEXPIRED, "the certificate in '%s' is not valid yet", path);
    if (X509_cmp_current_time(X509_get0_notAfter(cert)) < 0)
        return err_set(errp, EKEYEXPIRED, "the certificate in '%s' has expired", path);
    return true;
}

static bool load_cert(SSL_CTX *ctx, const char *dir, struct err **errp)
{
    AUTO_FREE char *cert = path_in(dir, "server-cert.pem", errp);
    AUTO_FREE char *key = cert ? path_in(dir, "server-key.pem", errp) : NULL;

    if (!key || !can_read(cert, errp) || !can_read(key, errp))
        return false;
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
        return err_set(errp, EINVAL, "no usable certificate in '%s': %s", cert, tls_error());
    if (!check_dates(SSL_CTX_get0_certificate(ctx), cert, errp))
        return false;
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        return err_set(errp, EINVAL, "no usable key for '%s' in '%s': %s", cert, key, tls_error());
    return true;
}

static bool load_crl(SSL_CTX *ctx, const char *dir, struct err **errp)
{
    AUTO_FREE char *path = path_in(dir, "ca-crl.pem", errp);
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);

    if (!path)
        return false;
    if (access(path, F_OK) != 0)
        return true;
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
    if (!lookup || X509_load_crl_file(lookup, path, X509_FILETYPE_PEM) < 1)
        return err_set(errp, EINVAL, "no list of revoked certificates in '%s': %s", path,
                       tls_error());
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
    return true;
}

static bool load_ca(SSL_CTX *ctx, const char *dir, struct err **errp)
{
    AUTO_FREE char *path = path_in(dir, "ca-cert.pem", errp);

    if (!path || !can_read(path, errp))
        return false;
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(path);
    if (!names || SSL_CTX_load_verify_file(ctx, path) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return err_set(errp, EINVAL, "no authority's certificate in '%s': %s", path, tls_error());
    }
    SSL_CTX_set_client_CA_list(ctx, names);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return load_crl(ctx, dir, errp);
}

/* Serves TLS 1.2 and, as TLS_AES_128_GCM_SHA256, TLS 1.3. */
static unsigned psk_callback(SSL *ssl, const char *identity, unsigned char *psk, unsigned max)
{
    const struct tls_creds *c = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    const struct psk_entry *e = tls_psk_find(c, identity);

    if (!e || e->key_len > max)
        return 0;
    memcpy(psk, e->key, e->key_len);
    tls_set_psk_user(ssl, e);
    return (unsigned)e->key_len;
}

static bool configure(SSL_CTX *ctx, const struct tls_creds_opts *o, struct err **errp)
{
    const char *ciphers = !o->psk_file ? CIPHERS_CERT
                          : o->dir     ? CIPHERS_PSK ":" CIPHERS_CERT
                                       : CIPHERS_PSK;

    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_default_passwd_cb(ctx, no_password);
    static const unsigned char id[] = "breakwater"; /* wanted beside client certificates */
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_session_id_context(ctx, id, sizeof(id) - 1) != 1 ||
        SSL_CTX_set_num_tickets(ctx, 0) != 1 || SSL_CTX_set_ciphersuites(ctx, CIPHERS_13) != 1 ||
        SSL_CTX_set_cipher_list(ctx, ciphers) != 1 || SSL_CTX_set_dh_auto(ctx, 1) != 1)
        return err_set(errp, ENOTSUP, "this OpenSSL cannot be set up: %s", tls_error());
    return true;
}

struct tls_creds *tls_creds_load(const struct tls_creds_opts *o, struct err **errp)
{
    struct tls_creds *c = mem_new(struct tls_creds);

    ERR_clear_error();
    if (c) {
        c->refs = 1;
        c->ctx = SSL_CTX_new(TLS_server_method());
    }
    if (!c || !c->ctx) {
        tls_creds_unref(c);
        err_set(errp, ENOMEM, "out of memory for TLS credentials");
        return NULL;
    }
    SSL_CTX_set_app_data(c->ctx, c);
    bool ok = configure(c->ctx, o, errp);
    if (ok && o->dir)
        ok = load_cert(c->ctx, o->dir, errp) && (!o->verify_peer || load_ca(c->ctx, o->dir, errp));
    if (ok && o->psk_file) {
        ok = tls_psk_load(c, o->psk_file, errp);
        SSL_CTX_set_psk_server_callback(c->ctx, psk_callback);
    }
    if (!ok) {
        tls_creds_unref(c);
        return NULL;
    }
    return c;
}

struct tls_creds *tls_creds_ref(struct tls_creds *c)
{
    c->refs++;
    return c;
}

void tls_creds_unref(struct tls_creds *c)
{
    if (!c || --c->refs > 0)
        return;
    while (c->spare) {
        struct tls_out *o = c->spare;
        c->spare = o->next;
        mem_free(o);
    }
    tls_psk_free(c);
    SSL_CTX_free(c->ctx);
    mem_free(c);
}

struct tls_out *tls_out_get(struct tls_creds *c)
{
    struct tls_out *o = c->spare;

    if (!o)
        return mem_alloc(sizeof(*o));
    c->spare = o->next;
    c->n_spare--;
    return o;
}

void tls_out_put(struct tls_creds *c, struct tls_out *o)
{
    if (c->n_spare == SPARE_MAX) {
        mem_free(o);
        return;
    }
    o->next = c->spare;
    c->spare = o;
    c->n_spare++;
}
