/* SPDX-License-Identifier: BSD-3-Clause
 *
 * TLS as serve's command line asks for it: see serve_tls.h. Who gives credentials and no mode means
 * that TLS is required.
 */
#include "cli/serve_tls.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "cli/serve_tls_objects.h"

bool serve_tls_mode(struct serve_tls *t, const char *arg, struct err **errp)
{
    t->mode_given = true;
    if (strcmp(arg, "off") == 0)
        t->mode = SERVER_TLS_OFF;
    else if (strcmp(arg, "on") == 0)
        t->mode = SERVER_TLS_ON;
    else if (strcmp(arg, "require") == 0)
        t->mode = SERVER_TLS_REQUIRE;
    else
        return err_set(errp, EINVAL, "--tls: '%s' is not known; it is off, on or require", arg);
    return true;
}

bool serve_tls_allow(struct serve_tls *t, const char *arg, struct err **errp)
{
    if (t->n_allow == SERVE_ALLOW_MAX)
        return err_set(errp, E2BIG, "--tls-allow: at most %d are possible", SERVE_ALLOW_MAX);
    const char **list = mem_realloc(t->allow, (t->n_allow + 1) * sizeof(list[0]));
    if (!list)
        return err_set(errp, ENOMEM, "out of memory for --tls-allow");
    t->allow = list;
    list[t->n_allow++] = arg;
    return true;
}

bool serve_tls_object(struct serve_tls *t, const char *arg, struct err **errp)
{
    if (t->n_objects == SERVE_OBJECTS_MAX)
        return err_set(errp, E2BIG, "--object: at most %d are possible", SERVE_OBJECTS_MAX);
    struct kv_list *l = &t->objects[t->n_objects];
    if (!kv_parse(arg, "--object", l, errp))
        return false;
    t->n_objects++;
    for (unsigned i = 0; i + 1 < t->n_objects; i++) {
        const char *id = kv_get(l, "id"), *other = kv_get(&t->objects[i], "id");
        if (id && other && strcmp(id, other) == 0)
            return err_set(errp, EEXIST, "--object: the id '%s' is given twice", id);
    }
    return tls_object_check(l, errp);
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

static bool settle_authz(struct serve_tls *t, struct err **errp)
{
    if (!t->authz_id && t->n_allow == 0)
        return true;
    if (t->authz_id && t->n_allow > 0)
        return err_set(errp, EINVAL, "--tls-authz and --tls-allow exclude each other");
    if (t->mode == SERVER_TLS_OFF)
        return err_set(errp, EINVAL, "%s needs TLS credentials",
                       t->authz_id ? "--tls-authz" : "--tls-allow");
    if (t->authz_id) {
        t->authz = tls_object_authz(t->objects, t->n_objects, t->authz_id, errp);
        return t->authz;
    }
    t->authz = authz_new(false);
    if (!t->authz)
        return err_set(errp, ENOMEM, "out of memory for --tls-allow");
    for (unsigned i = 0; i < t->n_allow; i++) {
        if (!add_allowed(t, t->authz, t->allow[i], errp))
            return false;
    }
    return true;
}

bool serve_tls_settle(struct serve_tls *t, struct err **errp)
{
    bool own = t->certificates || t->psk;

    if (t->creds_id && (own || t->verify_peer))
        return err_set(errp, EINVAL,
                       "--tls-creds excludes --tls-certificates, --tls-psk and --tls-verify-peer");
    if (t->verify_peer && !t->certificates)
        return err_set(errp, EINVAL, "--tls-verify-peer needs --tls-certificates");
    if (t->mode != SERVER_TLS_OFF && !own && !t->creds_id)
        return err_set(errp, EINVAL,
                       "--tls needs --tls-certificates or --tls-psk; 'breakwater tls init' makes "
                       "what is needed to try it");
    if (!t->mode_given && (own || t->creds_id))
        t->mode = SERVER_TLS_REQUIRE;
    t->creds = (struct tls_creds_opts){t->certificates, t->psk, t->verify_peer};
    if (t->creds_id &&
        !tls_object_creds(t->objects, t->n_objects, t->creds_id, &t->creds, &t->psk_path, errp))
        return false;
    return settle_authz(t, errp);
}

void serve_tls_free(struct serve_tls *t)
{
    for (unsigned i = 0; i < t->n_objects; i++)
        kv_free(&t->objects[i]);
    authz_unref(t->authz);
    mem_free(t->psk_path);
    mem_free(t->allow);
}
