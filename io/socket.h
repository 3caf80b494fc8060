/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Listening sockets: Unix and TCP. Control path; none of these yield.
 */
#ifndef IO_SOCKET_H
#define IO_SOCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* socket_listen_unix: bind and listen at path, with the given file mode. A socket file that is left
 * over from a dead process (nobody accepts on it) is replaced; one in use is an error (EADDRINUSE),
 * and so is anything that is not a socket. *fd_out: non-blocking, close-on-exec. */
bool socket_listen_unix(const char *path, int mode, int *fd_out, struct err **errp);

/* socket_listen_tcp: host NULL means loopback. port 0 lets the system choose. Fills up to max
 * descriptors, one for each address that host resolves to (at least one must work; with port 0 only
 * the first is used); *n_out says how many, *port_out the port that was bound. */
bool socket_listen_tcp(const char *host, uint16_t port, int *fds, int max, int *n_out,
                       uint16_t *port_out, struct err **errp);

#endif
