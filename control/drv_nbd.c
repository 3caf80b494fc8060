/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The driver nbd.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "block/nbd.h"
#include "control/blockdev.h"

#define EXPORT_NAME_MAX 4096 /* bytes: proto.md */

static struct node *open_nbd(struct blockdev_open *o, struct err **errp)
{
    const json_t *server = arg_get(o->options, "server");
    struct nbd_opts no = {
        .host = arg_str(server, "host"),
        .port = arg_str(server, "port"),
        .export = arg_str(o->options, "export"),
        .reconnect_delay_s = (uint32_t)arg_int(o->options, "reconnect-delay", 0),
        .open_timeout_s = (uint32_t)arg_int(o->options, "open-timeout", 0),
        .read_only = o->read_only,
        .auto_read_only = o->auto_read_only,
    };
    AUTO_FREE char *path = NULL;

    if (no.export && strlen(no.export) > EXPORT_NAME_MAX) {
        err_set(errp, EINVAL, "export name too long to send to server");
        return NULL;
    }
    if (strcmp(arg_str(server, "type"), "unix") == 0) {
        path = path_allow(o->ctl, arg_str(server, "path"), errp);
        if (!path)
            return NULL;
        no.path = path;
    }
    return nbd_node_open(&no, errp);
}

const struct blockdev_driver blockdev_nbd = {.name = "nbd", .open = open_nbd};
