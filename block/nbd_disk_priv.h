/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The state of an NBD node, and its requests.
 */
#ifndef BLOCK_NBD_DISK_PRIV_H
#define BLOCK_NBD_DISK_PRIV_H

#include "block/nbd_priv.h"
#include "io/lock.h"
#include "io/reactor.h"

struct nbd_disk {
    struct nbd_opts opts;     /* its strings are owned */
    struct nbd_link *link;    /* NULL: the connection is lost */
    struct nbd_link *opening; /* the attempt to make a new one */
    bool reconnecting;        /* a coroutine is at it */
    bool closing;
    int64_t deadline_ns;     /* until when requests wait for a connection */
    struct timer patience;   /* fires then */
    struct co_queue changed; /* any of these */
    struct co_group pumps;   /* of all connections, also lost ones */
};

/* --- nbd_request.c --- */
/* nbd_learn: size and limits of the export on a new connection become the node's. */
bool nbd_learn(struct node *n, struct nbd_link *l, struct err **errp);
/* nbd_request: one request on l. -ENOTCONN: l was lost, and the request may be sent again. Yields.
 */
int nbd_request(struct node *n, struct nbd_link *l, struct req *r);

#endif
