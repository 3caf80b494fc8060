/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The image lock, as QEMU takes it, so that the two keep out of each other's way.
 *
 * There are four permissions. Who holds permission i has a shared lock on byte 100 + i of the file;
 * who does not tolerate others that hold it has one on byte 200 + i. Both are open file
 * description locks: they belong to the descriptor and go with it. First one's own are set, then
 * one looks whether anybody else's conflict: of two that start together at least one sees
 * the other. (docs: QEMU, "Disk image file locking".)
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/file_priv.h"

#define PERM_BASE 100
#define UNSHARED_BASE 200

enum { PERM_CONSISTENT_READ, PERM_WRITE, PERM_WRITE_UNCHANGED, PERM_RESIZE, PERM_COUNT };

#define READER_PERMS (1u << PERM_CONSISTENT_READ)
#define WRITER_PERMS (READER_PERMS | 1u << PERM_WRITE | 1u << PERM_RESIZE)
/* Nobody may change a file while it is open here. */
#define UNSHARED (1u << PERM_WRITE | 1u << PERM_RESIZE)

static struct flock byte_lock(short type, off_t byte)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
}

static bool lock_byte(int fd, const char *name, off_t byte, struct err **errp)
{
    struct flock l = byte_lock(F_RDLCK, byte);
    if (fcntl(fd, F_OFD_SETLK, &l) == 0)
        return true;
    if (errno == EAGAIN || errno == EACCES)
        return err_set(errp, EBUSY, "\"%s\" is in use by another program, which has locked it",
                       name);
    return err_set_errno(errp, errno, "\"%s\": cannot lock byte %lld of it", name, (long long)byte);
}

/* Fails if somebody else has a lock on the byte. */
static bool check_byte(int fd, const char *name, off_t byte, const char *conflict,
                       struct err **errp)
{
    struct flock l = byte_lock(F_WRLCK, byte);
    if (fcntl(fd, F_OFD_GETLK, &l) != 0)
        return err_set_errno(errp, errno, "\"%s\": cannot look for locks on byte %lld of it", name,
                             (long long)byte);
    if (l.l_type == F_UNLCK)
        return true;
    return err_set(errp, EBUSY, "\"%s\" is in use by another program, which %s", name, conflict);
}

static bool take(int fd, const char *name, bool writer, struct err **errp)
{
    static const char *const holds[PERM_COUNT] = {"reads it", "writes to it", "writes to it",
                                                  "may change its size"};
    static const char *const denies[PERM_COUNT] = {
        "lets nobody else read it", "lets nobody else write to it", "lets nobody else write to it",
        "lets nobody else change its size"};
    unsigned perms = writer ? WRITER_PERMS : READER_PERMS;

    for (unsigned i = 0; i < PERM_COUNT; i++) {
        if ((perms & (1u << i)) && !lock_byte(fd, name, PERM_BASE + i, errp))
            return false;
        if ((UNSHARED & (1u << i)) && !lock_byte(fd, name, UNSHARED_BASE + i, errp))
            return false;
    }
    for (unsigned i = 0; i < PERM_COUNT; i++) {
        if ((perms & (1u << i)) && !check_byte(fd, name, UNSHARED_BASE + i, denies[i], errp))
            return false;
        if ((UNSHARED & (1u << i)) && !check_byte(fd, name, PERM_BASE + i, holds[i], errp))
            return false;
    }
    return true;
}

void file_lock_read(int fd)
{
    for (unsigned i = 0; i < PERM_COUNT; i++) {
        struct flock l = byte_lock(F_UNLCK, PERM_BASE + i);

        if (!(READER_PERMS & (1u << i)))
            fcntl(fd, F_OFD_SETLK, &l);
    }
}

bool file_lock(int fd, const char *name, bool writer, struct err **errp)
{
    if (take(fd, name, writer, errp))
        return true;
    file_lock_read(fd); /* as a reader had it before; who had nothing closes fd */
    return false;
}

void file_unlock(int fd)
{
    struct flock l = byte_lock(F_UNLCK, PERM_BASE);

    l.l_len = UNSHARED_BASE + PERM_COUNT - PERM_BASE;
    fcntl(fd, F_OFD_SETLK, &l);
}
