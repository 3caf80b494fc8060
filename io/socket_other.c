/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Listening sockets that are neither Unix nor TCP: vsock, and whatever was inherited.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/socket.h"

#define BACKLOG 128

/* The number by which others reach us. */
static uint32_t own_cid(void)
{
    unsigned cid = 0;
    int fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);
    int r = fd >= 0 ? ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) : -1;

    if (fd >= 0)
        close(fd);
    return r == 0 && cid != VMADDR_CID_ANY ? cid : VMADDR_CID_LOCAL;
}

bool socket_listen_vsock(uint32_t port, int *fd_out, uint32_t *cid_out, uint32_t *port_out,
                         struct err **errp)
{
    struct sockaddr_vm addr = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return err_set(errp, ENOTSUP, "this kernel has no vsock");
    addr.svm_port = port ? port : VMADDR_PORT_ANY;
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) != 0) {
        int code = errno;
        close(fd);
        return err_set_errno(errp, code, "cannot listen on vsock port %u", port);
    }
    *fd_out = fd;
    *cid_out = own_cid();
    *port_out = addr.svm_port;
    return true;
}

bool socket_inherited(int fd, const char *what, enum socket_kind *kind, struct err **errp)
{
    int type = 0, listens = 0;
    socklen_t len = sizeof(int);
    struct sockaddr_storage peer;
    socklen_t peer_len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0)
        return err_set_errno(errp, errno, "%s", what);
    if (type != SOCK_STREAM)
        return err_set(errp, EPROTOTYPE, "%s is no stream socket", what);
    len = sizeof(int);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) != 0)
        return err_set_errno(errp, errno, "%s", what);
    if (!listens && getpeername(fd, (struct sockaddr *)&peer, &peer_len) != 0)
        return err_set(errp, ENOTCONN, "%s is a socket that neither listens nor is connected",
                       what);
    *kind = listens ? SOCKET_LISTENING : SOCKET_CONNECTED;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 ||
        (listens && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0))
        return err_set_errno(errp, errno, "%s", what);
    return true;
}
