/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the backup client needs to know of an NBD URI before it connects.
 */
#ifndef BACKUP_CLIENT_URI_H
#define BACKUP_CLIENT_URI_H

#include <stdbool.h>

#include "base/err.h"

#define NBD_NAME_MAX 4096              /* longest string (proto.md, "String values") */
#define NBD_URI_MAX (4 * NBD_NAME_MAX) /* what a manifest records: more is refused */

struct nbd_uri {
    char *export_name; /* percent-decoded; "" for the default export */
    char *shown;       /* the URI without user and password: for manifests and messages */
};

/* nbd_uri_parse: text as accepted by libnbd: SCHEME://[USER[:PASS]@]HOST[:PORT]/EXPORT?QUERY.
 * Only what is used or recorded here is checked; libnbd judges the rest. Free with nbd_uri_free. */
bool nbd_uri_parse(const char *text, struct nbd_uri *out, struct err **errp);
void nbd_uri_free(struct nbd_uri *u);

#endif
