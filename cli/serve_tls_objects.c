/* SPDX-License-Identifier: BSD-3-Clause
 *
 * QEMU's --object: see serve_tls_objects.h. What QEMU knows and we do not is refused by name.
 */
#include "cli/serve_tls_objects.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"

#define RULES_MAX 256

struct type {
    const char *name;
    const char *keys; /* separated and enclosed by blanks; "rules." stands for all that begin so */
};

static const struct type types[] = {
    {"tls-creds-x509", " id dir endpoint verify-peer sanity-check "},
    {"tls-creds-psk", " id dir endpoint verify-peer "},
    {"authz-simple", " id identity "},
    {"authz-list", " id policy rules. "},
};

static const struct type *type_of(const struct kv_list *o)
{
    const char *name = o->n > 0 && !*o->v[0].key ? o->v[0].value : "";

    if (kv_get(o, "qom-type"))
        name = kv_get(o, "qom-type");
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (strcmp(types[i].name, name) == 0)
            return &types[i];
    }
    return NULL;
}

static bool has_key(const struct type *t, const char *key)
{
    char word[40];

    if (strncmp(key, "rules.", 6) == 0)
        return strstr(t->keys, " rules. ");
    int n = snprintf(word, sizeof(word), " %s ", key);
    return n > 2 && n < (int)sizeof(word) && strstr(t->keys, word);
}

bool tls_object_check(const struct kv_list *o, struct err **errp)
{
    const struct type *t = type_of(o);
    const char *end = kv_get(o, "endpoint");

    if (!t)
        return err_set(errp, ENOTSUP,
                       "--object: '%s' is not known here; there are tls-creds-x509, "
                       "tls-creds-psk, authz-simple and authz-list",
                       o->n > 0 ? o->v[0].value : "");
    for (size_t i = 0; i < o->n; i++) {
        const char *key = o->v[i].key;
        if ((i > 0 || *key) && strcmp(key, "qom-type") != 0 && !has_key(t, key))
            return err_set(errp, EINVAL, "--object %s: the setting '%s' is not known here", t->name,
                           *key ? key : o->v[i].value);
    }
    if (!kv_get(o, "id"))
        return err_set(errp, EINVAL, "--object %s: the id is missing", t->name);
    if (end && strcmp(end, "server") != 0)
        return err_set(errp, EINVAL, "--object %s: endpoint=%s; a server needs endpoint=server",
                       t->name, end);
    return true;
}

static const struct kv_list *find(const struct kv_list *objects, unsigned n, const char *id,
                                  const char *option, const char *family, struct err **errp)
{
    for (unsigned i = 0; i < n; i++) {
        const char *name = type_of(&objects[i])->name;
        if (strcmp(kv_get(&objects[i], "id"), id) != 0)
            continue;
        if (strncmp(name, family, strlen(family)) == 0)
            return &objects[i];
        err_set(errp, EINVAL, "%s: the object '%s' is of type %s", option, id, name);
        return NULL;
    }
    err_set(errp, ENOENT, "%s: there is no --object with the id '%s'", option, id);
    return NULL;
}

bool tls_object_creds(const struct kv_list *objects, unsigned n, const char *id,
                      struct tls_creds_opts *out, char **psk_path, struct err **errp)
{
    const struct kv_list *o = find(objects, n, id, "--tls-creds", "tls-creds-", errp);
    const char *dir = o ? kv_get(o, "dir") : NULL;
    const char *verify = o ? kv_get(o, "verify-peer") : NULL;
    bool x509 = o && strcmp(type_of(o)->name, "tls-creds-x509") == 0;

    if (!o)
        return false;
    if (!dir)
        return err_set(errp, EINVAL, "--object '%s': dir= is missing", id);
    *out = (struct tls_creds_opts){.verify_peer = x509};
    if (x509) {
        out->dir = dir;
        return !verify || parse_bool(verify, "verify-peer", &out->verify_peer, errp);
    }
    *psk_path = mem_printf("%s/keys.psk", dir);
    out->psk_file = *psk_path;
    return *psk_path || err_set(errp, ENOMEM, "out of memory for --tls-creds");
}

static bool parse_policy(const char *text, const char *what, bool *allow, struct err **errp)
{
    *allow = strcmp(text, "allow") == 0;
    return *allow || strcmp(text, "deny") == 0 ||
           err_set(errp, EINVAL, "%s: '%s' is not known; it is allow or deny", what, text);
}

static const char *rule_get(const struct kv_list *o, unsigned i, const char *key)
{
    char name[40];

    snprintf(name, sizeof(name), "rules.%u.%s", i, key);
    return kv_get(o, name);
}

static unsigned count_rule_keys(const struct kv_list *o)
{
    unsigned n = 0;

    for (size_t i = 0; i < o->n; i++)
        n += strncmp(o->v[i].key, "rules.", 6) == 0;
    return n;
}

static bool add_rules(const struct kv_list *o, struct authz *a, struct err **errp)
{
    unsigned used = 0;

    for (unsigned i = 0; i < RULES_MAX && rule_get(o, i, "match"); i++) {
        const char *policy = rule_get(o, i, "policy"), *format = rule_get(o, i, "format");
        struct authz_rule rule = {.kind = AUTHZ_IDENTITY, .text = rule_get(o, i, "match")};

        if (!policy)
            return err_set(errp, EINVAL, "--object authz-list: rules.%u.policy is missing", i);
        if (!parse_policy(policy, "--object authz-list: policy", &rule.allow, errp))
            return false;
        rule.glob = format && strcmp(format, "glob") == 0;
        if (format && !rule.glob && strcmp(format, "exact") != 0)
            return err_set(errp, EINVAL,
                           "--object authz-list: format '%s' is not known; it is exact or glob",
                           format);
        if (!authz_add(a, &rule, errp))
            return false;
        used += 2 + (format != NULL);
    }
    /* A rule that is passed over in silence would let somebody in, or keep them out. */
    return used == count_rule_keys(o) ||
           err_set(errp, EINVAL,
                   "--object authz-list: rules are numbered from 0 on, each with match, policy "
                   "and maybe format, given once");
}

struct authz *tls_object_authz(const struct kv_list *objects, unsigned n, const char *id,
                               struct err **errp)
{
    const struct kv_list *o = find(objects, n, id, "--tls-authz", "authz-", errp);
    const char *policy = o ? kv_get(o, "policy") : NULL;
    bool otherwise = false;

    if (!o || (policy && !parse_policy(policy, "--object authz-list: policy", &otherwise, errp)))
        return NULL;
    struct authz *a = authz_new(otherwise);
    bool ok = a || err_set(errp, ENOMEM, "out of memory for --tls-authz");
    if (ok && strcmp(type_of(o)->name, "authz-simple") == 0) {
        struct authz_rule rule = {AUTHZ_IDENTITY, false, true, kv_get(o, "identity")};
        ok = rule.text ? authz_add(a, &rule, errp)
                       : err_set(errp, EINVAL, "--object '%s': identity= is missing", id);
    } else if (ok) {
        ok = add_rules(o, a, errp);
    }
    if (ok)
        return a;
    authz_unref(a);
    return NULL;
}
