/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Sockets that systemd opened for us: see activation.h.
 */
#include "cli/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/parse.h"

#define FIRST_FD 3 /* SD_LISTEN_FDS_START */

/* "a:b:c" to one name for each descriptor; fewer names are no mistake. */
static void split_names(struct activation *a)
{
    char *next = a->names;

    for (unsigned i = 0; i < a->n; i++) {
        char *name = next ? strsep(&next, ":") : NULL;
        a->name[i] = name && *name ? name : "unknown";
    }
}

static bool take(struct activation *a, const char *pid, const char *fds, const char *names,
                 struct err **errp)
{
    uint64_t v;

    if (!fds || !pid)
        return true;
    if (!parse_u64(pid, "LISTEN_PID", 1, INT32_MAX, &v, errp))
        return false;
    if (v != (uint64_t)getpid())
        return true; /* meant for another process */
    if (!parse_u64(fds, "LISTEN_FDS", 1, ACTIVATION_MAX, &v, errp))
        return false;
    if (names) {
        a->names = mem_strdup(names);
        if (!a->names)
            return err_set(errp, ENOMEM, "out of memory for LISTEN_FDNAMES");
    }
    a->n = (unsigned)v;
    split_names(a);
    for (unsigned i = 0; i < a->n; i++) {
        a->fd[i] = FIRST_FD + (int)i;
        if (fcntl(a->fd[i], F_SETFD, FD_CLOEXEC) != 0)
            return err_set_errno(errp, errno, "LISTEN_FDS: descriptor %d", a->fd[i]);
    }
    return true;
}

bool activation_read(struct activation *a, struct err **errp)
{
    *a = (struct activation){0};
    bool ok = take(a, getenv("LISTEN_PID"), getenv("LISTEN_FDS"), getenv("LISTEN_FDNAMES"), errp);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return ok;
}

void activation_free(struct activation *a)
{
    mem_free(a->names);
    a->names = NULL;
}
