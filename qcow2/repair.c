/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The repair: rounds of a check and of what follows from it, until a check finds nothing that could
 * be repaired.
 *
 * The order within a round is what makes a crash harmless. Every step only brings the image closer
 * to what its references say, whatever the next step needs:
 *
 *  1. Auto-clear bits that are not understood go, before anything else is written.
 *  2. If references point a little past the end of the file (it lost its last extension), and
 * nothing else is unclear, the file is extended and the round ends: they are ordinary references
 * now.
 *  3. COPIED flags become what the references say, one entry independent of the other. A cluster
 *     with one reference may be written in place, one with two may not, whatever its refcount is.
 *     Flush.
 *  4. Refcounts become what the references say: in place, each independent of the other, where the
 *     blocks can be trusted; else in entirely new structures, written behind everything, flushed,
 *     and switched to by one write within the header's first sector. Flush.
 *  5. Dirty and corrupt bit go, once a check has found no corruption.
 *
 * What is left alone: an entry with content that cannot be known (not aligned, far outside, two
 * meanings at once), and a table that shares a cluster with something else. As long as there is
 * anything that could not be followed, any cluster may belong to it: then only new refcounts are
 * made, none lower than before, and nothing that is there is written to but the header.
 */
#include "qcow2/repair.h"

#include <errno.h>
#include <inttypes.h>

#include "qcow2/repair_priv.h"

#define ROUNDS 5
#define AUTOCLEAR_KNOWN (QC_AUTOCLEAR_BITMAPS | QC_AUTOCLEAR_RAW_DATA)

int qcr_write(struct qcr *q, uint64_t off, const void *buf, uint64_t len, enum req_kind kind)
{
    q->wrote = true;
    return node_write_kind(q->c->file, off, buf, len, 0, kind);
}

int qcr_changed(struct qcr *q, uint64_t off, const uint8_t *was, const uint8_t *now, uint64_t len,
                enum req_kind kind)
{
    uint64_t lo = 0, hi = len;
    while (lo < hi && memcmp(was + lo, now + lo, 8) == 0)
        lo += 8;
    while (hi > lo && memcmp(was + hi - 8, now + hi - 8, 8) == 0)
        hi -= 8;
    return lo == hi ? 0 : qcr_write(q, off + lo, now + lo, hi - lo, kind);
}

static int clear_autoclear(struct qcr *q)
{
    const struct qc_header *h = &q->c->first.h;
    uint8_t be[8];
    if (h->version < 3 || !(h->autoclear & ~AUTOCLEAR_KNOWN))
        return 0;
    put_be64(be, h->autoclear & AUTOCLEAR_KNOWN);
    int r = qcr_write(q, QCH_AUTOCLEAR, be, sizeof(be), KIND_HEADER);
    return r < 0 ? r : node_flush(q->c->file);
}

static int extend(struct qcr *q)
{
    q->wrote = true;
    int r = node_truncate(q->c->file, q->c->need_end);
    return r < 0 ? r : node_flush(q->c->file);
}

static int fix_in_place(struct qcr *q)
{
    int r = qcr_fix_tables(q);
    if (r == 0 && q->wrote)
        r = node_flush(q->c->file);
    if (r == 0 && q->all && qcr_must_rebuild(q)) {
        r = qcr_rebuild(q);
        if (r != -EFBIG)
            return r;
        r = 0; /* what the old blocks can hold is something, too */
    }
    if (r == 0)
        r = qcr_fix_refcounts(q);
    return r == 0 && q->wrote ? node_flush(q->c->file) : r;
}

/* Any cluster may be data of what could not be followed, also one that a table is said to be in. So
 * nothing but the header is written to; what is known to be in use is protected by new refcounts.
 */
static int fix_beside(struct qcr *q)
{
    int r = qcr_must_rebuild(q) ? 1 : qcr_refcounts_are_wrong(q);
    if (r > 0)
        r = qcr_rebuild(q);
    return r == -EFBIG ? 0 : r;
}

static int fix(struct qcr *q)
{
    struct qcc *c = q->c;
    int r = clear_autoclear(q);
    if (r < 0)
        return r;
    q->may_lower = !c->incomplete && !c->need_end;
    if (q->may_lower)
        return fix_in_place(q);
    if (!c->need_end)
        return q->all ? fix_beside(q) : 0;
    /* A longer file may give garbage a meaning, also to a snapshot table entry that the end cuts
     * off: not while there is any. */
    return q->all && !c->incomplete && !c->snapshots.rewrite ? extend(q) : 0;
}

static int clear_marks(struct qcc *c)
{
    uint64_t bits = c->first.h.incompatible, marks = QC_INCOMPAT_DIRTY | QC_INCOMPAT_CORRUPT;
    uint8_t be[8];
    if (!(bits & marks))
        return 0;
    put_be64(be, bits & ~marks);
    int r = node_flush(c->file); /* whatever was done before, by whomever */
    if (r == 0)
        r = node_write_kind(c->file, QCH_INCOMPATIBLE, be, sizeof(be), 0, KIND_HEADER);
    return r < 0 ? r : node_flush(c->file);
}

/* One check and its consequences. *more: something was changed, check again. */
static bool run_round(struct node *file, const struct qc_repair_opts *o, bool last,
                      struct qc_check_report *left, bool *more, struct err **errp)
{
    struct qcr q = {.all = o->fix == QC_FIX_ALL};
    int r = 0;
    *more = false;
    q.c = qcc_new(file, &o->check, left, errp);
    if (!q.c || !qcc_run(q.c, errp)) {
        qcc_free(q.c);
        return false;
    }
    if ((left->corruptions || left->leaks) && !last)
        r = fix(&q);
    *more = q.wrote;
    if (r == 0 && !q.wrote && left->corruptions == 0)
        r = clear_marks(q.c);
    qcc_free(q.c);
    return r == 0 || err_set_errno(errp, -r, "the repair could not be finished");
}

static bool run_rounds(struct node *file, const struct qc_repair_opts *o,
                       struct qc_repair_report *r, struct err **errp)
{
    bool more = true;
    for (unsigned i = 0; more; i++) {
        if (i > 0 && o->again)
            o->again(o->check.arg);
        if (!run_round(file, o, i == ROUNDS, &r->left, &more, errp))
            return false;
        if (i == 0)
            r->found = r->left;
    }
    if (r->found.corruptions > r->left.corruptions)
        r->corruptions_fixed = r->found.corruptions - r->left.corruptions;
    if (r->found.leaks > r->left.leaks)
        r->leaks_fixed = r->found.leaks - r->left.leaks;
    return true;
}

bool qc_repair(struct node *file, const struct qc_repair_opts *opts, struct qc_repair_report *r,
               struct err **errp)
{
    memset(r, 0, sizeof(*r));
    struct node *n = opts->dry_run ? qcr_dry_open(file, errp) : node_ref(file);
    bool ok = n && run_rounds(n, opts, r, errp);
    node_unref(n);
    return ok || err_prefix(errp, "%s: ", file->name);
}
