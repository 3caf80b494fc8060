/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A file that is open goes on read-only, or for writing, too.
 *
 * What was opened for reading is opened anew through the descriptor, and not by its name, which may
 * mean another file by now. The image lock stays with the first descriptor: between giving one up
 * and taking another somebody else could come.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "block/file_priv.h"

static int lock_fd(const struct node *n)
{
    const struct file_state *f = n->state;

    return f->lock_fd_plus_1 ? f->lock_fd_plus_1 - 1 : file_fd(n);
}

static bool open_for_writing(struct node *n, struct err **errp)
{
    struct file_state *f = n->state;
    char path[32];
    int fd;

    if (f->can_write)
        return true;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file_fd(n));
    fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | (f->io.direct ? O_DIRECT : 0));
    if (fd < 0)
        return err_set_errno(errp, errno, "Could not open '%s' for writing", n->name);
    if (f->locked)
        f->lock_fd_plus_1 = f->fd_plus_1;
    else
        close(file_fd(n));
    f->fd_plus_1 = fd + 1;
    f->can_write = true;
    io_file_init(&f->io, fd, f->io.direct);
    return true;
}

bool file_set_read_only(struct node *n, bool read_only, struct err **errp)
{
    const struct file_state *f = n->state;

    if (read_only) {
        if (f->locked)
            file_lock_read(lock_fd(n));
    } else if (f->locked && !file_lock(lock_fd(n), n->name, true, errp)) {
        return false;
    } else if (!open_for_writing(n, errp)) {
        if (f->locked)
            file_lock_read(lock_fd(n));
        return false;
    }
    n->read_only = read_only;
    return true;
}
