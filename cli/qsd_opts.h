/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The options of `breakwater daemon`: those of qemu-storage-daemon.
 */
#ifndef CLI_QSD_OPTS_H
#define CLI_QSD_OPTS_H

#include <stdbool.h>

#include "base/err.h"

enum qsd_step_kind {
    QSD_BLOCKDEV,
    QSD_OBJECT,
    QSD_NBD_SERVER,
    QSD_EXPORT,
    QSD_CHARDEV,
    QSD_MONITOR
};

struct qsd_step { /* options take effect in the order in which they are given */
    enum qsd_step_kind kind;
    const char *text;
};

struct qsd_opts { /* strings belong to argv */
    struct qsd_step *steps;
    unsigned n_steps;
    const char **allow_paths;
    unsigned n_allow_paths;
    const char *pid_file;
    bool fork;
};

enum qsd_parse { QSD_RUN, QSD_DONE, QSD_WRONG };

/* qsd_parse: as serve_parse; free with qsd_opts_free in any case. */
enum qsd_parse qsd_parse(int argc, char **argv, struct qsd_opts *o, struct err **errp);
void qsd_opts_free(struct qsd_opts *o);

#endif
