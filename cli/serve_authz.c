/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Who may use an export, as serve's command line says it: rules of its own, or QEMU's objects. A
 * rule that could never match, for want of the credentials that it looks at, is refused.
 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "cli/serve_tls.h"
#include "cli/serve_tls_objects.h"

bool serve_authz_allow(struct serve_authz *a, const char *arg, struct err **errp)
{
    if (a->n_allow == SERVE_ALLOW_MAX)
        return err_set(errp, E2BIG, "--tls-allow: at most %d are possible", SERVE_ALLOW_MAX);
    const char **list = mem_realloc(a->allow, (a->n_allow + 1) * sizeof(list[0]));
    if (!list)
        return err_set(errp, ENOMEM, "out of memory for --tls-allow");
    a->allow = list;
    list[a->n_allow++] = arg;
    return true;
}

static bool is_key(const char *text, const char *key, const char **value)
{
    size_t n = strlen(key);

    *value = text + n + 1;
    return strncmp(text, key, n) == 0 && text[n] == '=' && text[n + 1];
}

static bool add_allowed(const struct serve_tls *t, struct authz *a, const char *text,
                        struct err **errp)
{
    struct authz_rule rule = {.allow = true};
    bool by_cert = true;

    if (is_key(text, "subject", &rule.text)) {
        rule.kind = AUTHZ_SUBJECT;
        rule.glob = true;
    } else if (is_key(text, "sha256", &rule.text)) {
        rule.kind = AUTHZ_SHA256;
    } else if (is_key(text, "user", &rule.text)) {
        rule.kind = AUTHZ_USER;
        rule.glob = true;
        by_cert = false;
    } else {
        return err_set(errp, EINVAL,
                       "--tls-allow: '%s' is not of the form subject=PATTERN, sha256=FINGERPRINT "
                       "or user=PATTERN",
                       text);
    }
    if (by_cert && !t->creds.verify_peer)
        return err_set(errp, EINVAL, "--tls-allow: '%s' needs --tls-verify-peer", text);
    if (!by_cert && !t->creds.psk_file)
        return err_set(errp, EINVAL, "--tls-allow: '%s' needs --tls-psk", text);
    return authz_add(a, &rule, errp) || err_prefix(errp, "--tls-allow: ");
}

bool serve_authz_settle(struct serve_authz *a, const struct serve_tls *t, struct err **errp)
{
    if (!a->object_id && a->n_allow == 0)
        return true;
    if (a->object_id && a->n_allow > 0)
        return err_set(errp, EINVAL, "--tls-authz and --tls-allow exclude each other");
    if (t->mode == SERVER_TLS_OFF)
        return err_set(errp, EINVAL, "%s needs TLS credentials",
                       a->object_id ? "--tls-authz" : "--tls-allow");
    if (a->object_id) {
        a->authz = tls_object_authz(t->objects, t->n_objects, a->object_id, errp);
        return a->authz;
    }
    a->authz = authz_new(false);
    if (!a->authz)
        return err_set(errp, ENOMEM, "out of memory for --tls-allow");
    for (unsigned i = 0; i < a->n_allow; i++) {
        if (!add_allowed(t, a->authz, a->allow[i], errp))
            return false;
    }
    return true;
}

void serve_authz_free(struct serve_authz *a)
{
    authz_unref(a->authz);
    mem_free(a->allow);
}
