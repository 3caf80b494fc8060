/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Listening sockets: Unix, TCP, vsock, and those that were inherited. Control path; none of these
 * yield.
 */
#ifndef IO_SOCKET_H
#define IO_SOCKET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* socket_listen_unix: bind and listen at path, with the given file mode. A socket file that is left
 * over from a dead process (nobody accepts on it) is replaced; one in use is an error (EADDRINUSE),
 * and so is anything that is not a socket. "@name" is a name in the abstract namespace, which has
 * no file, and no mode: whoever is in the same network namespace may connect. *fd_out:
 * non-blocking, close-on-exec. */
bool socket_listen_unix(const char *path, int mode, int *fd_out, struct err **errp);

/* socket_file_note: which file is at path now: call it when socket_listen_unix has just made it.
 * socket_file_remove: remove it, unless another took its place or it has none. */
struct socket_file {
    dev_t dev;
    ino_t ino; /* 0: no file */
};
struct socket_file socket_file_note(const char *path);
void socket_file_remove(const char *path, struct socket_file file);

/* socket_listen_tcp: host NULL means loopback, "*" every address of the machine. port 0 lets the
 * system choose, the same port for all addresses. Fills up to max descriptors, one for each address
 * that host resolves to (at least one must work; one that is in use is an error); *n_out says how
 * many, *port_out the port that was bound. */
bool socket_listen_tcp(const char *host, uint16_t port, int *fds, int max, int *n_out,
                       uint16_t *port_out, struct err **errp);

/* socket_listen_vsock: for every context that can reach this one. *cid_out: our own, or
 * VMADDR_CID_LOCAL if the kernel does not tell. ENOTSUP where the kernel has no vsock. */
bool socket_listen_vsock(uint32_t port, int *fd_out, uint32_t *cid_out, uint32_t *port_out,
                         struct err **errp);

enum socket_kind { SOCKET_LISTENING, SOCKET_CONNECTED };
/* socket_inherited: what kind of stream socket fd is, made close-on-exec. Errors:
 * EBADF, ENOTSOCK, EPROTOTYPE no stream, ENOTCONN neither listening nor connected; what: for the
 * message. */
bool socket_inherited(int fd, const char *what, enum socket_kind *kind, struct err **errp);

#endif
