/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Where `breakwater serve` listens: any number of Unix sockets, TCP addresses, vsock ports and
 * inherited descriptors at once.
 */
#ifndef CLI_SERVE_LISTEN_H
#define CLI_SERVE_LISTEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/activation.h"
#include "io/socket.h"
#include "server/server.h"

#define LISTEN_MAX 32 /* of each kind */

struct listen_opts { /* strings belong to argv */
    const char *socket[LISTEN_MAX], *host[LISTEN_MAX];
    uint16_t port[LISTEN_MAX];
    uint32_t vsock[LISTEN_MAX];
    int fd[LISTEN_MAX];
    unsigned n_sockets, n_hosts, n_ports, n_vsock, n_fds;
    bool vsock_not_tcp; /* --vsock without a port: the ports are vsock's */
    bool use_stdin;
    bool private_socket;      /* a Unix socket in a new folder */
    bool quiet;               /* print no URIs */
    const char *default_host; /* with nothing said; NULL: localhost */
    struct activation activation;
};

struct listen_export { /* what URIs tell of it */
    const char *name;
    bool tls; /* clients must use it */
};

struct listening { /* what is to be undone */
    const char *path[LISTEN_MAX];
    struct socket_file file[LISTEN_MAX];
    unsigned n_files;
    char *private_dir, *private_path; /* owned */
    char *uri;                        /* of the first place and export; owned */
};

/* listen_check: does it fit together? With nothing said, TCP on the default host is added. */
bool listen_check(struct listen_opts *o, struct err **errp);
/* listen_standard_streams: with --stdin, the connection is moved away from descriptors 0 to 2,
 * which nobody may write to; before anything is printed or logged. */
bool listen_standard_streams(struct listen_opts *o, struct err **errp);
/* listen_all: everything in o; a line for the URI of each export goes to standard output, but not
 * with --stdin or quiet. Some may listen already on a failure. */
bool listen_all(struct server *s, const struct listen_opts *o, const struct listen_export *exports,
                unsigned n_exports, struct listening *l, struct err **errp);
/* listen_end: listen_remove_files, and forget all. */
void listen_end(struct listening *l);
/* listen_remove_files: the socket files, if they are still ours. May be called again. */
void listen_remove_files(struct listening *l);

#endif
