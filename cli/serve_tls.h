/* SPDX-License-Identifier: BSD-3-Clause
 *
 * TLS as serve's command line asks for it: breakwater's own options, nbdkit's, and QEMU's objects.
 */
#ifndef CLI_SERVE_TLS_H
#define CLI_SERVE_TLS_H

#include <stdbool.h>

#include "base/err.h"
#include "base/parse.h"
#include "server/server.h"

#define SERVE_OBJECTS_MAX 16
#define SERVE_ALLOW_MAX 256

struct serve_tls { /* strings belong to argv or to what is owned here */
    /* As given. */
    bool mode_given, verify_peer;
    const char *certificates, *psk; /* a folder, a file */
    const char *creds_id;
    struct kv_list objects[SERVE_OBJECTS_MAX]; /* owned */
    unsigned n_objects;

    /* Settled. */
    enum server_tls mode;
    struct tls_creds_opts creds;
    char *psk_path; /* owned */
};

struct serve_authz { /* who may use an export; strings belong to argv */
    const char *object_id;
    const char **allow; /* owned, not the texts */
    unsigned n_allow;

    struct authz *authz; /* settled; NULL: everybody */
};

/* One for each option; all keep arg. */
bool serve_tls_mode(struct serve_tls *t, const char *arg, struct err **errp);
bool serve_tls_object(struct serve_tls *t, const char *arg, struct err **errp);
bool serve_authz_allow(struct serve_authz *a, const char *arg, struct err **errp);
/* serve_tls_settle: after all options: mode and creds, or what does not fit together. */
bool serve_tls_settle(struct serve_tls *t, struct err **errp);
void serve_tls_free(struct serve_tls *t);
/* serve_authz_settle: of one export; t is settled. */
bool serve_authz_settle(struct serve_authz *a, const struct serve_tls *t, struct err **errp);
void serve_authz_free(struct serve_authz *a);

#endif
