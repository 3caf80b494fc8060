/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A leaf that is an export of another NBD server.
 */
#ifndef BLOCK_NBD_H
#define BLOCK_NBD_H

#include "block/node.h"

extern const struct driver nbd_driver;

struct nbd_opts {
    const char *path;        /* a Unix socket; or NULL, and then: */
    const char *host, *port; /* numbers or names */
    const char *export;      /* NULL: "" */
    /* reconnect_delay_s: after the connection is lost, requests wait so long for a new one, and are
     * sent again over it; then they fail with EIO, until there is one. */
    uint32_t reconnect_delay_s;
    uint32_t open_timeout_s; /* so long the first connection is tried; 0: once */
    bool read_only;
    bool auto_read_only; /* or else read-only, if the server allows no more */
};

/* nbd_node_open: connect, and learn what the export is and what its server can do. The strings are
 * copied. Yields. Errors name the address; EACCES: the export is read-only.
 *
 * A lost connection is made again in the background for as long as the node lives. Writes that were
 * answered and not flushed before are then taken to be as safe as the server's own memory of them
 * was: one that lost them when it died must not be given a reconnect delay. */
struct node *nbd_node_open(const struct nbd_opts *opts, struct err **errp);

#endif
