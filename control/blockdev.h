/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The drivers of blockdev-add, as data, and what their open functions get.
 */
#ifndef CONTROL_BLOCKDEV_H
#define CONTROL_BLOCKDEV_H

#include "control/control_priv.h"

#define BLOCKDEV_CHILDREN 2

struct blockdev_child {
    const char *key;  /* of the option; NULL: no more */
    const char *name; /* of the edge */
    enum graph_role role;
    bool optional;
};

struct blockdev_open {
    struct control *ctl;
    const json_t *options;
    bool read_only, direct, no_flush, force_share;
    bool auto_read_only;                   /* read-only is better than not at all */
    struct node *child[BLOCKDEV_CHILDREN]; /* borrowed; NULL: not given */
    bool no_child[BLOCKDEV_CHILDREN];      /* given as null */
};

struct blockdev_driver {
    const char *name;
    const struct qtype *options; /* beside those that all have */
    struct blockdev_child child[BLOCKDEV_CHILDREN + 1];
    /* open: a node, or NULL and *errp. Takes references of its own to children. May yield. */
    struct node *(*open)(struct blockdev_open *o, struct err **errp);
};

extern const struct blockdev_driver blockdev_file, blockdev_null_co, blockdev_null_aio,
    blockdev_qcow2, blockdev_raw, blockdev_blkdebug, blockdev_throttle, blockdev_nbd,
    blockdev_copy_on_read, blockdev_compress, blockdev_blkverify, blockdev_blklogwrites,
    blockdev_copy_before_write, blockdev_snapshot_access, blockdev_fault;

/* q_inet, q_unix, q_address_type: of socket addresses. */
extern const struct qtype q_inet, q_unix, q_address_type;
/* q_blockdev_options, q_blockdev_ref: the types of QEMU's names. */
extern const struct qtype q_blockdev_options, q_blockdev_ref, q_blockdev_ref_or_null, q_on_off_auto;

/* blockdev_open: open what the checked options say, with all children that they hold. owned: a
 * client has to name it and will delete it. parent: whose inline child it is, whose read-only and
 * cache options it inherits; else NULL. Yields. */
struct graph_node *blockdev_open(struct control *c, json_t *options, bool owned,
                                 const struct blockdev_open *parent, enum graph_role role,
                                 struct err **errp);
/* blockdev_open_over: another node with n's driver and options, but over this child[0], and with
 * n's own other children; for what a power cut left of child[0]. A reference for the caller.
 * Yields. */
struct node *blockdev_open_over(struct control *c, const struct graph_node *n, struct node *child,
                                struct err **errp);
/* blockdev_apply_common: the options that need no opening: discard, detect-zeroes. */
void blockdev_apply_common(const json_t *options, struct node *n, bool inline_child);
/* blockdev_find: a node by the name that a client gave, or "Cannot find device='' nor
 * node-name='N'". legacy: the name came as a device's, too. */
struct graph_node *blockdev_find(struct control *c, const char *name, bool legacy,
                                 struct err **errp);

/* blockdev_storage: the file at the bottom of a node, or NULL. blockdev_filename: a name that opens
 * the same again, a new string: the file's own where the drivers add nothing, else json:... .
 * blockdev_backing_name: what an image is to say of n as its backing file: its absolute path (a new
 * string) and format (static). ENOTSUP: there is more to say than that. */
const struct graph_node *blockdev_storage(const struct graph_node *n);
char *blockdev_filename(const struct graph_node *n);
bool blockdev_backing_name(const struct graph_node *n, char **name, const char **format,
                           struct err **errp);

/* bitmap_lookup: "Node 'N' not found", "Dirty bitmap 'B' not found". */
struct bitmap *bitmap_lookup(struct control *c, const char *node, const char *name,
                             struct err **errp);

/* throttle_lift_below: lift the limits (or no more) of all throttle nodes from n down, for whoever
 * waits for requests to end. */
void throttle_lift_below(const struct graph_node *n, bool lift);
/* throttle_lift_all: of all, for good: everything is about to end. */
void throttle_lift_all(const struct graph *g);

/* path_allow: the path to open for this one, a new string: itself, or below an allowed root its
 * real path. NULL with EACCES. The last component need not exist. */
char *path_allow(const struct control *c, const char *path, struct err **errp);
/* path_rules_new: an engine of fault rules, whose scripts are files that path_allow allows. NULL
 * without memory. */
struct rules *path_rules_new(const struct control *c);

#endif
