/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Creating, applying and deleting internal snapshots: each says which references come and go, and
 * what the tables are then; remake.c makes it so in one step.
 */
#include "qcow2/snapshot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "qcow2/remake.h"
#include "qcow2/snap_table.h"

/* One operation. */
struct op {
    struct qc *q;
    struct qc_remake m;
    struct qc_snap_table t;
    const struct qc_snapshot *s; /* the one that it is about */
    uint8_t *table, *l1;         /* the new snapshot table; an L1 table */
    bool began;
};

static bool failed(struct op *o, const char *what, int r, struct err **errp)
{
    if (r == -EOVERFLOW)
        return err_set(
            errp, EFBIG,
            "%s: refcounts of %u bits are too narrow for one more reference to a cluster", what,
            1u << o->q->refcount_order);
    return err_set_errno(errp, -r, "%s", what);
}

/* Does the file hold all of the snapshot's L1 table? */
static bool l1_check(const struct op *o, const char *what, struct err **errp)
{
    uint64_t size = o->q->file->size, len = (uint64_t)o->s->l1_size * 8;
    return len == 0 || (o->s->l1_off < size && size - o->s->l1_off >= len) ||
           err_set(errp, EINVAL,
                   "%s: snapshot '%s': l1_table_offset is 0x%" PRIx64 " and l1_size %" PRIu32
                   ", past the end of the file at 0x%" PRIx64,
                   what, o->s->name, o->s->l1_off, o->s->l1_size, size);
}

/* which: NULL for a new one. */
static bool op_begin(struct op *o, struct node *n, const struct qc_snapshot_ref *which,
                     const char *what, struct err **errp)
{
    struct qc *q = o->q = n->state;
    if (q->incompatible & QC_INCOMPAT_DATA_FILE)
        return err_set(errp, ENOTSUP,
                       "%s: an image with an external data file can have no snapshots", what);
    o->began = true;
    int r = qc_remake_hold(&o->m, q);
    if (r < 0)
        return failed(o, what, r, errp);
    if (!qc_snap_table_load(q, &o->t, errp) ||
        (which && !(o->s = qc_snap_find(&o->t, which, errp)))) {
        err_prefix(errp, "%s: ", what);
        return false;
    }
    if (o->s && !l1_check(o, what, errp))
        return false;
    /* A new table; and, to apply, a new L1 table with as many L2 tables as it has entries. */
    uint64_t l1_size = o->s ? o->s->l1_size : 0;
    r = qc_remake_begin(&o->m, qc_clusters(q, q->snapshots_len + 1024) + l1_size +
                                   qc_clusters(q, l1_size * 8));
    return r == 0 || failed(o, what, r, errp);
}

static void op_end(struct op *o)
{
    if (o->began)
        qc_remake_end(&o->m);
    qc_snap_table_free(&o->t);
    mem_free(o->table);
    mem_free(o->l1);
}

static bool new_id(const struct qc_snap_table *t, char *id, size_t len, struct err **errp)
{
    unsigned long max = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        unsigned long v = strtoul(t->v[i].id, NULL, 10);
        max = v > max ? v : max;
    }
    snprintf(id, len, "%lu", max + 1);
    return max + 1 != 0 || err_set(errp, EFBIG, "the largest snapshot id is in use");
}

static int create(struct op *o)
{
    struct qc_remake *m = &o->m;
    int r = qc_remake_refer(m, m->l1, m->l1_size, 0, 1);
    return r < 0 ? r : qc_remake_commit(m);
}

bool qc_snapshot_create(struct node *n, const struct qc_new_snapshot *opts, char *id,
                        struct err **errp)
{
    static const char what[] = "cannot create a snapshot";
    struct op o = {0};
    char own_id[24];
    struct qc_snapshot s = {.name = (char *)opts->name,
                            .id = own_id,
                            .date_sec = opts->date_sec,
                            .date_nsec = opts->date_nsec,
                            .icount = UINT64_MAX};
    if (strlen(opts->name) > QC_SNAPSHOT_NAME_MAX)
        return err_set(errp, EINVAL, "%s: its name has %zu bytes, the limit is %d", what,
                       strlen(opts->name), QC_SNAPSHOT_NAME_MAX);
    bool ok = op_begin(&o, n, NULL, what, errp);
    if (ok && o.t.n == QC_MAX_SNAPSHOTS)
        ok = err_set(errp, EFBIG, "%s: there are %d already, which is the limit", what,
                     QC_MAX_SNAPSHOTS);
    if (ok) {
        s.l1_size = (uint32_t)o.m.l1_size;
        s.disk_size = n->size;
        ok = new_id(&o.t, own_id, sizeof(own_id), errp) &&
             (o.table = qc_snap_table_build(o.q, &o.t, NULL, &s, &o.m.snaps.len,
                                            &o.m.snaps.l1_off_at, errp)) != NULL;
        if (!ok)
            err_prefix(errp, "%s: ", what);
    }
    if (ok) {
        o.m.snaps.table = o.table;
        o.m.snaps.n = o.t.n + 1;
        o.m.snaps.added = true;
        int r = create(&o);
        ok = r == 0 || failed(&o, what, r, errp);
    }
    if (ok && id)
        memcpy(id, own_id, sizeof(own_id));
    op_end(&o);
    return ok;
}

/* The entries that a disk of this size needs. */
static uint64_t l1_need(const struct qc *q, uint64_t size)
{
    return (size >> q->l1_shift) + ((size & ((UINT64_C(1) << q->l1_shift) - 1)) != 0);
}

static bool apply_check(struct op *o, uint64_t size, bool may_resize, struct err **errp)
{
    if (size % 512 || size > (uint64_t)INT64_MAX || l1_need(o->q, size) > QC_MAX_L1_BYTES / 8)
        return err_set(errp, EINVAL,
                       "snapshot '%s': disk size %" PRIu64 " is no multiple of 512 or too large",
                       o->s->name, size);
    if (o->s->l1_size < l1_need(o->q, size))
        return err_set(errp, EINVAL,
                       "snapshot '%s': its %" PRIu32 " L1 entries are too few for %" PRIu64
                       " bytes",
                       o->s->name, o->s->l1_size, size);
    if (size != o->q->node->size && !may_resize)
        return err_set(errp, EINVAL,
                       "snapshot '%s' is of a disk of %" PRIu64 " bytes, it now has %" PRIu64,
                       o->s->name, size, o->q->node->size);
    return size == o->q->node->size || qc_snapshots_sized(o->q) ||
           err_set(errp, ENOTSUP,
                   "snapshot '%s' is of a disk of %" PRIu64 " bytes, and the image cannot be "
                   "resized: it has snapshots that do not store their size, or version 2",
                   o->s->name, size);
}

static int apply(struct op *o)
{
    struct qc_remake *m = &o->m;
    int r = qc_remake_read_l1(m, o->s->l1_off, o->s->l1_size, &o->l1);
    if (r == 0)
        r = qc_remake_refer(m, m->l1, m->l1_size, 0, -1);
    if (r == 0)
        r = qc_remake_refer(m, o->l1, o->s->l1_size, 0, 1);
    m->l1 = o->l1;
    m->l1_size = o->s->l1_size;
    m->all_dirty = true;
    return r < 0 ? r : qc_remake_commit(m);
}

bool qc_snapshot_apply(struct node *n, const struct qc_snapshot_ref *which, bool may_resize,
                       struct err **errp)
{
    static const char what[] = "cannot apply the snapshot";
    struct op o = {0};
    bool ok = op_begin(&o, n, which, what, errp);
    if (ok) {
        uint64_t size = o.s->extra_len >= 16 ? o.s->disk_size : n->size;
        ok = apply_check(&o, size, may_resize, errp) && qc_remake_resize(&o.m, size, errp);
        if (ok) {
            int r = apply(&o);
            ok = r == 0 || failed(&o, what, r, errp);
        }
    }
    op_end(&o);
    return ok;
}

static int delete (struct op *o)
{
    struct qc_remake *m = &o->m;
    int r = qc_remake_read_l1(m, o->s->l1_off, o->s->l1_size, &o->l1);
    if (r == 0)
        r = qc_remake_refer(m, o->l1, o->s->l1_size, 0, -1);
    if (r == 0)
        r = qc_remake_refer_clusters(m, o->s->l1_off,
                                     qc_clusters(o->q, (uint64_t)o->s->l1_size * 8), -1);
    return r < 0 ? r : qc_remake_commit(m);
}

bool qc_snapshot_delete(struct node *n, const struct qc_snapshot_ref *which, struct err **errp)
{
    static const char what[] = "cannot delete the snapshot";
    struct op o = {0};
    uint64_t at;
    bool ok = op_begin(&o, n, which, what, errp);
    if (ok)
        ok = (o.table = qc_snap_table_build(o.q, &o.t, o.s, NULL, &o.m.snaps.len, &at, errp)) !=
             NULL;
    if (ok) {
        o.m.snaps.table = o.table;
        o.m.snaps.n = o.t.n - 1;
        int r = delete (&o);
        ok = r == 0 || failed(&o, what, r, errp);
    }
    op_end(&o);
    return ok;
}
