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
    return !t->creds_id ||
           tls_object_creds(t->objects, t->n_objects, t->creds_id, &t->creds, &t->psk_path, errp);
}

void serve_tls_free(struct serve_tls *t)
{
    for (unsigned i = 0; i < t->n_objects; i++)
        kv_free(&t->objects[i]);
    mem_free(t->psk_path);
}
