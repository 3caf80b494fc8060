/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The drivers copy-on-read, compress, blkverify and blklogwrites.
 */
#include <errno.h>

#include "control/blockdev.h"
#include "filters/log_writes.h"
#include "filters/stack.h"
#include "qcow2/qcow2.h"

static struct node *keep_or_drop(struct blockdev_open *o, struct node *n)
{
    if (n) {
        n->read_only |= o->read_only;
        return n;
    }
    node_unref(o->child[0]);
    return NULL;
}

static struct node *open_copy_on_read(struct blockdev_open *o, struct err **errp)
{
    return keep_or_drop(o, copy_on_read_open(node_ref(o->child[0]), errp));
}

const struct blockdev_driver blockdev_copy_on_read = {
    .name = "copy-on-read",
    .child = {{"file", "file", ROLE_COPY_ON_READ, false}},
    .open = open_copy_on_read,
};

static struct node *open_compress(struct blockdev_open *o, struct err **errp)
{
    if (o->child[0]->drv != &qcow2_driver) {
        err_set(errp, ENOTSUP, "Compression is not supported for underlying format: %s",
                o->child[0]->drv->name);
        return NULL;
    }
    return keep_or_drop(o, compress_open(node_ref(o->child[0]), errp));
}

const struct blockdev_driver blockdev_compress = {
    .name = "compress",
    .child = {{"file", "file", ROLE_FILTER, false}},
    .open = open_compress,
};

static struct node *open_blkverify(struct blockdev_open *o, struct err **errp)
{
    struct node *n = verify_open(node_ref(o->child[0]), node_ref(o->child[1]), errp);

    if (!n)
        node_unref(o->child[1]);
    return keep_or_drop(o, n);
}

const struct blockdev_driver blockdev_blkverify = {
    .name = "blkverify",
    .child = {{"test", "test", ROLE_FILTER, false}, {"raw", "raw", ROLE_FILTER, false}},
    .open = open_blkverify,
};

static struct node *open_blklogwrites(struct blockdev_open *o, struct err **errp)
{
    int64_t interval = arg_int(o->options, "log-super-update-interval", 4096);
    struct node *n = log_writes_open(node_ref(o->child[0]), node_ref(o->child[1]),
                                     (uint64_t)arg_int(o->options, "log-sector-size", 512),
                                     interval < 0 ? 0 : (uint64_t)interval, errp);

    if (!n)
        node_unref(o->child[1]);
    return keep_or_drop(o, n);
}

const struct blockdev_driver blockdev_blklogwrites = {
    .name = "blklogwrites",
    .child = {{"file", "file", ROLE_FILTER, false}, {"log", "log", ROLE_FORMAT, false}},
    .open = open_blklogwrites,
};
