/* SPDX-License-Identifier: BSD-3-Clause
 *
 * QEMU's --object, as far as a server of disks has use for it: tls-creds-x509, tls-creds-psk,
 * authz-simple, authz-list.
 */
#ifndef CLI_SERVE_TLS_OBJECTS_H
#define CLI_SERVE_TLS_OBJECTS_H

#include "base/err.h"
#include "base/parse.h"
#include "io/tls.h"
#include "server/authz.h"

/* tls_object_check: is this an object that is known here, with settings that it has? */
bool tls_object_check(const struct kv_list *o, struct err **errp);
/* tls_object_creds: the credentials of that id. Strings belong to the objects, but *psk_path is a
 * new one. */
bool tls_object_creds(const struct kv_list *objects, unsigned n, const char *id,
                      struct tls_creds_opts *out, char **psk_path, struct err **errp);
/* tls_object_authz: the list of that id, or NULL. */
struct authz *tls_object_authz(const struct kv_list *objects, unsigned n, const char *id,
                               struct err **errp);

#endif
