/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What can be changed about an image while it is open: whether it is written to, and which backing
 * image shows where it has nothing.
 *
 * Nobody writes to an image that is open read-only (its lock sees to that), so that all which was
 * loaded stays right; that is checked all the same before anything is written.
 */
#include <errno.h>

#include "qcow2/qcow2_priv.h"

static bool is_unchanged(const struct qc *q, const struct qc_header *h)
{
    return h->size == q->node->size && h->l1_off == q->l1_off && h->l1_size == q->l1_size &&
           h->reftable_off == q->reftable_off &&
           ((uint64_t)h->reftable_clusters << q->cluster_bits) / 8 == q->reftable_size &&
           h->snapshots_off == q->snapshots_off && h->nb_snapshots == q->nb_snapshots &&
           (!q->bitmaps.n || h->bitmap_dir_off == q->bitmaps.dir_off);
}

static bool check_header(struct qc *q, struct err **errp)
{
    struct qc_header *h = mem_new(struct qc_header);
    bool ok = h ? qc_header_read(q->file, h, errp) : err_set(errp, ENOMEM, "out of memory");

    if (ok && !is_unchanged(q, h))
        ok = err_set(errp, EBUSY, "another program has changed the image since it was opened");
    if (ok && (h->incompatible & QC_INCOMPAT_DIRTY))
        ok = err_set(errp, EINVAL,
                     "the image was not closed cleanly; open it for writing from the start, which "
                     "repairs it");
    ok = ok && qc_header_admit(h, false, errp);
    mem_free(h);
    return ok;
}

static void let_bitmaps(struct node *n, bool read_only)
{
    for (struct bitmap *b = node_bitmap_first(n); b; b = b->next) {
        if (b->persistent)
            b->readonly = read_only;
    }
}

static bool begin_writing(struct node *n, struct err **errp)
{
    struct qc *q = n->state;

    if (q->file->read_only || !q->data || q->data->read_only)
        return err_set(errp, EACCES, "its file is open read-only");
    if (q->corrupt || q->frozen)
        return err_set(errp, EIO, "the image is corrupt");
    if (!check_header(q, errp))
        return false;
    q->read_only = q->bitmaps.stored = false;
    if (qc_clear_autoclear(q, errp) && qc_bitmaps_begin(q, errp)) {
        q->fresh_from = q->file->growable ? round_up(q->file->size, q->cluster_size) : UINT64_MAX;
        let_bitmaps(n, false);
        n->read_only = false;
        return true;
    }
    q->read_only = true;
    return false;
}

static bool end_writing(struct node *n, struct err **errp)
{
    struct qc *q = n->state;
    bool ok = node_bitmap_store(n, errp);
    int r = q->corrupt || q->frozen ? -EIO : qc_write_all(q);

    if (r < 0 && ok)
        ok = err_set_errno(errp, -r, "cannot write back the metadata");
    q->read_only = n->read_only = true;
    let_bitmaps(n, true);
    return ok;
}

bool qc_set_read_only(struct node *n, bool read_only, struct err **errp)
{
    const struct qc *q = n->state;

    if (q->read_only == read_only)
        return true;
    return (read_only ? end_writing(n, errp) : begin_writing(n, errp)) ||
           err_prefix(errp, "%s: ", n->name);
}

void qc_child_set(struct node *n, unsigned i)
{
    struct qc *q = n->state;

    if (i == 1)
        q->backing = n->n_child > 1 ? n->child[1] : NULL;
}

bool qc_use_backing(struct node *n, struct node *backing, struct err **errp)
{
    struct qc *q = n->state;
    struct node *old = NULL;

    if (backing && q->raw_data)
        return err_set(errp, ENOTSUP,
                       "%s: an image with a raw external data file (autoclear_features bit 1) can "
                       "have no backing file",
                       n->name);
    if (backing && n->n_child > 1) {
        old = node_set_child(n, 1, backing);
    } else if (backing) {
        if (!node_attach(n, node_ref(backing), errp)) {
            node_unref(backing);
            return false;
        }
        qc_child_set(n, 1);
    } else if (n->n_child > 1) {
        old = node_drop_child(n);
    }
    /* With one, zeros are written so that nothing shows through. */
    q->has_backing = q->backing || q->backing_name;
    node_unref(old);
    return true;
}
