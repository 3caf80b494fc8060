/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Files of pre-shared keys, as psktool writes them: one USER:HEXKEY a line. Empty lines are passed
 * over. A user that begins with '#' is itself in hexadecimal, as in GnuTLS.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "io/tls_priv.h"

#define MAX_USERS 4096
#define LINE_MAX_LEN 1024

/* unhex: how many bytes, or -1 if text is not hexadecimal or does not fit. */
static int unhex(const char *text, uint8_t *out, size_t max)
{
    size_t n = strlen(text);

    if (n % 2 != 0 || n / 2 > max)
        return -1;
    for (size_t i = 0; i < n; i += 2) {
        unsigned v;
        if (!isxdigit((unsigned char)text[i]) || !isxdigit((unsigned char)text[i + 1]))
            return -1;
        sscanf(text + i, "%2x", &v);
        out[i / 2] = (uint8_t)v;
    }
    return (int)(n / 2);
}

static bool parse_user(char *user, const char *path, unsigned line, struct err **errp)
{
    if (user[0] == '#') {
        int n = unhex(user + 1, (uint8_t *)user, strlen(user));
        if (n <= 0 || memchr(user, 0, (size_t)n))
            return err_set(errp, EINVAL, "'%s', line %u: the user after '#' is not hexadecimal",
                           path, line);
        user[n] = '\0';
    }
    if (!*user || strlen(user) > PSK_MAX_IDENTITY_LEN)
        return err_set(errp, EINVAL, "'%s', line %u: a user has 1 to %d bytes", path, line,
                       PSK_MAX_IDENTITY_LEN);
    return true;
}

static bool add_line(struct tls_creds *c, char *text, const char *path, unsigned line,
                     struct err **errp)
{
    struct psk_entry e = {0};
    char *colon = strrchr(text, ':');

    if (!colon)
        return err_set(errp, EINVAL, "'%s', line %u: not of the form USER:HEXKEY", path, line);
    *colon = '\0';
    int n = unhex(colon + 1, e.key, sizeof(e.key));
    if (n <= 0)
        return err_set(errp, EINVAL, "'%s', line %u: the key is not 1 to %zu bytes in hexadecimal",
                       path, line, sizeof(e.key));
    e.key_len = (size_t)n;
    if (!parse_user(text, path, line, errp))
        return false;
    if (tls_psk_find(c, text))
        return err_set(errp, EEXIST, "'%s', line %u: user '%s' is there already", path, line, text);
    if (c->n_psk == MAX_USERS)
        return err_set(errp, E2BIG, "'%s': more than %d users", path, MAX_USERS);
    if ((c->n_psk & (c->n_psk - 1)) == 0) { /* at powers of two the array doubles */
        struct psk_entry *v = mem_realloc(c->psk, max_u64(1, 2 * c->n_psk) * sizeof(*v));
        if (!v)
            return err_set(errp, ENOMEM, "out of memory for '%s'", path);
        c->psk = v;
    }
    e.user = mem_strdup(text);
    if (!e.user)
        return err_set(errp, ENOMEM, "out of memory for '%s'", path);
    c->psk[c->n_psk++] = e;
    OPENSSL_cleanse(&e.key, sizeof(e.key));
    return true;
}

bool tls_psk_load(struct tls_creds *c, const char *path, struct err **errp)
{
    char text[LINE_MAX_LEN];
    unsigned line = 0;
    bool ok = true;
    FILE *f = fopen(path, "re");

    if (!f)
        return err_set_errno(errp, errno, "cannot read the keys in '%s'", path);
    while (ok && fgets(text, sizeof(text), f)) {
        size_t n = strlen(text);

        line++;
        if (n + 1 == sizeof(text) && text[n - 1] != '\n')
            ok = err_set(errp, EINVAL, "'%s', line %u: over %d bytes", path, line, LINE_MAX_LEN);
        while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
            text[--n] = '\0';
        if (ok && n > 0)
            ok = add_line(c, text, path, line, errp);
    }
    if (ok && ferror(f))
        ok = err_set_errno(errp, errno, "cannot read the keys in '%s'", path);
    if (ok && c->n_psk == 0)
        ok = err_set(errp, EINVAL, "'%s' holds no key", path);
    fclose(f);
    OPENSSL_cleanse(text, sizeof(text));
    return ok;
}

const struct psk_entry *tls_psk_find(const struct tls_creds *c, const char *user)
{
    for (size_t i = 0; i < c->n_psk; i++) {
        if (strcmp(c->psk[i].user, user) == 0)
            return &c->psk[i];
    }
    return NULL;
}

void tls_psk_free(struct tls_creds *c)
{
    for (size_t i = 0; i < c->n_psk; i++) {
        OPENSSL_cleanse(c->psk[i].key, sizeof(c->psk[i].key));
        mem_free(c->psk[i].user);
    }
    mem_free(c->psk);
    c->psk = NULL;
    c->n_psk = 0;
}
