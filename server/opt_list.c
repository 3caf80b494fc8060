/* SPDX-License-Identifier: BSD-3-Clause
 *
 * NBD_OPT_LIST: the exports. Checkpoints are not listed: each name is chosen by its client, and a
 * client that scanned the list would freeze the disk at each. Nor are exports that are not for this
 * client, or not before TLS.
 */
#include "server/server_priv.h"

void opt_list(struct conn *c, size_t len)
{
    if (len > 0) {
        hs_error(c, NBD_OPT_LIST, NBD_REP_ERR_INVALID, "LIST carries no data");
        return;
    }
    for (const struct export *e = c->srv->exports; e; e = e->next) {
        uint8_t head[4 + NBD_NAME_MAX];

        if (!tls_admits(c, e, NULL))
            continue;
        size_t n = strlen(e->name);

        put_be32(head, (uint32_t)n);
        memcpy(head + 4, e->name, n);
        hs_reply(c, NBD_OPT_LIST, NBD_REP_SERVER, head, 4 + n, e->description,
                 e->description ? strlen(e->description) : 0);
    }
    hs_reply(c, NBD_OPT_LIST, NBD_REP_ACK, NULL, 0, NULL, 0);
}
