/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Certificates and keys for trying TLS: see tls_make.h.
 *
 * Keys are on the curve P-256: quick, and every peer knows it. Files are made with O_EXCL, so that
 * a folder in use is never overwritten; those that a failed run did write are removed again.
 */
#include "io/tls_make.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "io/tls_priv.h"

#define CLOCK_SKEW_S 3600 /* the peer's clock may be behind */
#define PSK_BYTES 32

struct pair { /* a certificate and its key */
    X509 *cert;
    EVP_PKEY *key;
};

static void pair_free(struct pair *p)
{
    X509_free(p->cert);
    EVP_PKEY_free(p->key);
}

static bool add_extension(X509 *cert, const X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, (X509 *)(uintptr_t)issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = e && X509_add_ext(cert, e, -1) == 1;
    X509_EXTENSION_free(e);
    return ok;
}

static bool set_subject(X509 *cert, const char *common_name)
{
    X509_NAME *n = X509_get_subject_name(cert);

    return X509_NAME_add_entry_by_txt(n, "O", MBSTRING_UTF8, (const uint8_t *)"breakwater", -1, -1,
                                      0) == 1 &&
           X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8, (const uint8_t *)common_name, -1, -1,
                                      0) == 1;
}

static bool set_serial(X509 *cert)
{
    uint64_t serial;

    if (RAND_bytes((uint8_t *)&serial, sizeof(serial)) != 1)
        return false;
    return ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial >> 1 | 1) == 1;
}

struct extension {
    int nid;
    const char *value;
};

/* A key and a certificate for it, signed by issuer (NULL: by itself). */
static bool make_pair(struct pair *p, const char *common_name, const struct pair *issuer,
                      unsigned days, const struct extension *ext, unsigned n_ext)
{
    p->key = EVP_EC_gen("P-256");
    p->cert = X509_new();
    if (!p->key || !p->cert)
        return false;
    const struct pair *by = issuer ? issuer : p;
    bool ok = X509_set_version(p->cert, X509_VERSION_3) == 1 && set_serial(p->cert) &&
              X509_gmtime_adj(X509_getm_notBefore(p->cert), -CLOCK_SKEW_S) &&
              X509_gmtime_adj(X509_getm_notAfter(p->cert), (long)days * 24 * 3600) &&
              set_subject(p->cert, common_name) && X509_set_pubkey(p->cert, p->key) == 1 &&
              X509_set_issuer_name(p->cert, X509_get_subject_name(by->cert)) == 1 &&
              add_extension(p->cert, by->cert, NID_subject_key_identifier, "hash");
    if (ok && issuer)
        ok = add_extension(p->cert, by->cert, NID_authority_key_identifier, "keyid");
    for (unsigned i = 0; ok && i < n_ext; i++)
        ok = add_extension(p->cert, by->cert, ext[i].nid, ext[i].value);
    return ok && X509_sign(p->cert, by->key, EVP_sha256()) > 0;
}

static bool is_address(const char *host)
{
    uint8_t buf[16];

    return inet_pton(AF_INET, host, buf) == 1 || inet_pton(AF_INET6, host, buf) == 1;
}

/* "DNS:localhost,IP:127.0.0.1", or NULL without memory. */
static char *alt_names(const struct tls_make_opts *o)
{
    char *all = mem_strdup("");

    for (unsigned i = 0; all && i < o->n_hosts; i++) {
        AUTO_FREE char *before = all;
        all = mem_printf("%s%s%s:%s", before, i > 0 ? "," : "",
                         is_address(o->hosts[i]) ? "IP" : "DNS", o->hosts[i]);
    }
    return all;
}

static bool make_pairs(struct pair *ca, struct pair *server, struct pair *client,
                       const struct tls_make_opts *o, struct err **errp)
{
    AUTO_FREE char *names = alt_names(o);
    const struct extension for_ca[] = {
        {NID_basic_constraints, "critical,CA:TRUE"},
        {NID_key_usage, "critical,keyCertSign,cRLSign"},
    };
    const struct extension for_server[] = {
        {NID_basic_constraints, "critical,CA:FALSE"},
        {NID_key_usage, "critical,digitalSignature"},
        {NID_ext_key_usage, "serverAuth"},
        {NID_subject_alt_name, names},
    };
    const struct extension for_client[] = {
        {NID_basic_constraints, "critical,CA:FALSE"},
        {NID_key_usage, "critical,digitalSignature"},
        {NID_ext_key_usage, "clientAuth"},
    };

    if (!names)
        return err_set(errp, ENOMEM, "out of memory for certificates");
    ERR_clear_error();
    if (!make_pair(ca, "test authority", NULL, o->days, for_ca, ARRAY_LEN(for_ca)))
        return err_set(errp, EINVAL, "cannot make the authority's certificate: %s", tls_error());
    if (!make_pair(server, o->hosts[0], ca, o->days, for_server, ARRAY_LEN(for_server)))
        return err_set(errp, EINVAL, "cannot make a certificate for %s: %s", names, tls_error());
    if (!make_pair(client, o->client, ca, o->days, for_client, ARRAY_LEN(for_client)))
        return err_set(errp, EINVAL, "cannot make a certificate for '%s': %s", o->client,
                       tls_error());
    return true;
}

/* --- Files --- */

static bool put_cert(FILE *f, const void *arg)
{
    return PEM_write_X509(f, ((const struct pair *)arg)->cert) == 1;
}

static bool put_key(FILE *f, const void *arg)
{
    return PEM_write_PrivateKey(f, ((const struct pair *)arg)->key, NULL, NULL, 0, NULL, NULL) == 1;
}

static bool put_psk(FILE *f, const void *arg)
{
    const struct tls_make_opts *o = arg;
    uint8_t key[PSK_BYTES];

    for (unsigned i = 0; i < o->n_users; i++) {
        if (RAND_bytes(key, sizeof(key)) != 1)
            return false;
        fprintf(f, "%s:", o->users[i]);
        for (size_t k = 0; k < sizeof(key); k++)
            fprintf(f, "%02x", key[k]);
        fputc('\n', f);
    }
    OPENSSL_cleanse(key, sizeof(key));
    return true;
}

struct file {
    const char *name;
    mode_t mode;
    bool (*put)(FILE *f, const void *arg);
    const void *arg;
};

/* *made: the file is there, by us, whole or not. */
static bool write_file(const char *path, const struct file *file, bool *made, struct err **errp)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, file->mode);

    *made = fd >= 0;
    if (fd < 0 && errno == EEXIST)
        return err_set(errp, EEXIST, "'%s' is there already; nothing was changed", path);
    if (fd < 0)
        return err_set_errno(errp, errno, "cannot make '%s'", path);
    FILE *f = fdopen(fd, "w");
    if (!f) {
        close(fd);
        return err_set(errp, ENOMEM, "out of memory for '%s'", path);
    }
    errno = 0;
    bool ok = file->put(f, file->arg) && fflush(f) == 0 && !ferror(f) && fsync(fd) == 0;
    int code = errno;
    if (fclose(f) != 0 || !ok)
        return err_set_errno(errp, code ? code : EIO, "cannot write '%s'", path);
    return true;
}

static bool write_files(const char *dir, const struct file *files, unsigned n, struct err **errp)
{
    for (unsigned i = 0; i < n; i++) {
        AUTO_FREE char *path = mem_printf("%s/%s", dir, files[i].name);
        bool made = false;
        bool ok = path ? write_file(path, &files[i], &made, errp)
                       : err_set(errp, ENOMEM, "out of memory for the name of a file");
        if (ok)
            continue;
        for (unsigned k = 0; k < i + made; k++) {
            AUTO_FREE char *undo = mem_printf("%s/%s", dir, files[k].name);
            if (undo)
                unlink(undo);
        }
        return false;
    }
    return true;
}

bool tls_make(const char *dir, const struct tls_make_opts *o, struct err **errp)
{
    struct pair ca = {0}, server = {0}, client = {0};
    const struct file files[] = {
        {"ca-cert.pem", 0644, put_cert, &ca},
        {"ca-key.pem", 0600, put_key, &ca},
        {"server-cert.pem", 0644, put_cert, &server},
        {"server-key.pem", 0600, put_key, &server},
        {"client-cert.pem", 0644, put_cert, &client},
        {"client-key.pem", 0600, put_key, &client},
        {"keys.psk", 0600, put_psk, o},
    };

    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return err_set_errno(errp, errno, "cannot make the folder '%s'", dir);
    bool ok = make_pairs(&ca, &server, &client, o, errp) &&
              write_files(dir, files, ARRAY_LEN(files), errp);
    pair_free(&ca);
    pair_free(&server);
    pair_free(&client);
    return ok;
}
