/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Actions of transactions. A command that does one thing alone runs as a transaction of one action.
 */
#ifndef CONTROL_ACTION_H
#define CONTROL_ACTION_H

#include "bitmap/bitmap.h"
#include "control/control_priv.h"

struct action {
    const struct action_kind *kind;
    const json_t *data;         /* checked */
    struct graph_node *node;    /* that it is about; drained until the end */
    struct graph_node *overlay; /* that took its place */
    struct bitmap *bitmap;
    struct job *job;
    struct job_txn *group; /* of the jobs of a grouped transaction; else NULL */
    void *opaque;          /* of who made it */
    struct bitmap *saved;  /* what undo puts back, or commit throws away */
    bool was_enabled;
};

struct action_kind {
    const char *name;
    const struct qtype *data;
    const char *node_key; /* which member of data names the node; NULL: none does */
    bool moves_users;     /* another node takes its place: who uses it is drained, too */
    /* prepare: do it, so that it can still be undone. On failure it has undone itself. */
    bool (*prepare)(struct control *c, struct action *a, struct err **errp);
    void (*undo)(struct control *c, struct action *a);
    /* commit: what cannot be undone; NULL: nothing. */
    bool (*commit)(struct control *c, struct action *a, struct err **errp);
    bool groups; /* knows completion-mode=grouped */
};

extern const struct qtype q_dirty_add, q_dirty, q_dirty_merge, q_bitmap_or_str, q_bitmaps_or_strs;
/* bitmap_action_kinds: all, up to an entry without a name. */
extern const struct action_kind bitmap_action_kinds[], backup_action_kinds[],
    snapshot_action_kinds[];
extern const struct qtype q_new_image_mode, q_drive_backup, q_blockdev_backup, q_snapshot,
    q_snapshot_sync;

/* actions_run: all or nothing. Every node named is drained first; then the actions are prepared in
 * order, and at the first error undone in reverse order. Yields. */
bool actions_run(struct control *c, struct action *v, size_t n, struct err **errp);
/* action_run: one action of that kind, as a command. */
bool action_run(struct call *call, const struct action_kind *kind, struct err **errp);

#endif
