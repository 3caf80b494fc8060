/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Layers are written and read through the qcow2 node, with the chain below them open: an explicit
 * zero only means something above a backing file.
 */
#include "backup-client/layer.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "backup-client/files.h"
#include "base/cleanup.h"
#include "base/mem.h"
#include "block/file.h"
#include "qcow2/qcow2.h"

static struct node *open_image(const struct file_opts *fo, const struct qc_open_opts *qo,
                               const struct qc_create_opts *co, struct err **errp)
{
    struct node *file = file_open(fo, errp);
    if (!file)
        return NULL;
    struct node *n = NULL;
    if (!co || qc_create(file, co, errp))
        n = qc_open(file, qo, errp);
    if (!n)
        node_unref(file);
    return n;
}

struct node *layer_create(const struct disk_repo *d, const struct uuid *u, uint64_t size,
                          const struct uuid *parent, struct err **errp)
{
    char backing[REPO_NAME_MAX];
    AUTO_FREE char *path = repo_path(d, u, LAYER_EXT, true);
    if (!path) {
        err_set(errp, ENOMEM, "out of memory");
        return NULL;
    }
    struct qc_create_opts co = {.size = qcow2_size(size), .cluster_size = BACKUP_BLOCK};
    if (parent) {
        co.backing_name = repo_file(backing, parent, LAYER_EXT, false);
        co.backing_format = "qcow2";
    }
    struct file_opts fo = {.path = path, .create = true};
    struct qc_open_opts qo = {.path = path};
    return open_image(&fo, &qo, &co, errp);
}

bool layer_finish(const struct disk_repo *d, const struct uuid *u, struct node *layer,
                  uint64_t *file_size, struct err **errp)
{
    char file[REPO_NAME_MAX];
    repo_file(file, u, LAYER_EXT, true);
    int r = node_flush(layer);
    node_unref(layer);
    if (r < 0)
        return err_set_errno(errp, -r, "%s/%s: flush", d->path, file);
    return file_sync(d->dir_fd, file, file_size, errp);
}

struct node *layer_open(const struct disk_repo *d, const struct uuid *u, bool whole,
                        struct err **errp)
{
    AUTO_FREE char *path = repo_path(d, u, LAYER_EXT, false);
    if (!path) {
        err_set(errp, ENOMEM, "out of memory");
        return NULL;
    }
    struct file_opts fo = {.path = path, .read_only = true};
    struct qc_open_opts qo = {.path = path, .read_only = true, .no_backing = !whole};
    return open_image(&fo, &qo, NULL, errp);
}

bool layer_check(const struct disk_repo *d, const struct backup *b, struct err **errp)
{
    char want[REPO_NAME_MAX];
    struct qc_info info;
    struct node *n = layer_open(d, &b->uuid, false, errp);
    if (!n)
        return false;
    qc_get_info(n, &info);
    bool ok = true;
    if (info.size != qcow2_size(b->m.size))
        ok =
            err_set(errp, EBADMSG, "%s: its disk has %" PRIu64 " bytes; the manifest says %" PRIu64,
                    n->name, info.size, b->m.size);
    else if (!b->m.has_parent && info.backing_name)
        ok = err_set(errp, EBADMSG, "%s: has the backing file '%s', but is of a full backup",
                     n->name, info.backing_name);
    else if (b->m.has_parent &&
             (!info.backing_name ||
              strcmp(info.backing_name, repo_file(want, &b->m.parent, LAYER_EXT, false)) != 0))
        ok = err_set(errp, EBADMSG, "%s: its backing file is '%s'; by its manifest it is '%s'",
                     n->name, info.backing_name ? info.backing_name : "",
                     repo_file(want, &b->m.parent, LAYER_EXT, false));
    node_unref(n);
    return ok;
}
