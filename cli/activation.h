/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Sockets that systemd opened for us: LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES (sd_listen_fds(3)).
 */
#ifndef CLI_ACTIVATION_H
#define CLI_ACTIVATION_H

#include <stdbool.h>

#include "base/err.h"

#define ACTIVATION_MAX 64

struct activation {
    unsigned n;                       /* 0: not started that way */
    int fd[ACTIVATION_MAX];           /* close-on-exec */
    const char *name[ACTIVATION_MAX]; /* FileDescriptorName=, or "unknown" as in systemd */
    char *names;                      /* owned: what `name` points into */
};

/* activation_read: and take the variables out of the environment, so that no child believes that
 * they are for it. False if they are malformed. activation_free: closes nothing. */
bool activation_read(struct activation *a, struct err **errp);
void activation_free(struct activation *a);

#endif
