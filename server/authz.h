/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Who may use an export, by what TLS proved about the client. The first rule that matches decides;
 * QEMU's authz-simple and authz-list are such lists.
 */
#ifndef SERVER_AUTHZ_H
#define SERVER_AUTHZ_H

#include <stdbool.h>

#include "base/err.h"

struct authz;
struct tls_peer;

enum authz_kind {
    AUTHZ_IDENTITY, /* the certificate's subject or the user of the pre-shared key */
    AUTHZ_SUBJECT,  /* the subject, as in RFC 4514: "CN=client,O=example" */
    AUTHZ_SHA256,   /* the certificate's SHA-256 in hexadecimal, with or without colons */
    AUTHZ_USER,     /* of the pre-shared key */
};

struct authz_rule {
    enum authz_kind kind;
    bool glob; /* text is a pattern, as of a shell; never of a fingerprint */
    bool allow;
    const char *text;
};

/* authz_new: otherwise: what holds when no rule matches. NULL without memory. References are
 * counted; NULL is allowed in authz_unref. */
struct authz *authz_new(bool otherwise);
struct authz *authz_ref(struct authz *a);
void authz_unref(struct authz *a);
/* authz_add: at the end of the list; the text is copied. EINVAL: no fingerprint. */
bool authz_add(struct authz *a, const struct authz_rule *rule, struct err **errp);
/* authz_allows: peer NULL: a client without TLS, who is nobody. */
bool authz_allows(const struct authz *a, const struct tls_peer *peer);

#endif
