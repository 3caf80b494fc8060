/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Snapshots in workloads: made while others write, deleted, applied; and emptying the image.
 *
 * What a new snapshot holds is read as soon as it is there, must be legal content of the disk at
 * some moment of its making, and is remembered: it may never change from then on.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "block/sim.h"
#include "qcow2/qcow2.h"
#include "qcow2/snapshot.h"
#include "tests/lib/workload_priv.h"

static int as_errno(bool ok, struct err *e)
{
    int r = ok ? 0 : -err_code(e);
    err_free(e);
    return r;
}

/* Read a snapshot, as another program would. */
static int read_snapshot(struct load *l, struct load_snap *s)
{
    const struct qc_snapshot_ref ref = {.name = s->name};
    const struct qc_open_opts opts = {.read_only = true, .no_backing = true, .snapshot = &ref};
    struct err *e = NULL;
    struct node *file = sim_open(l->run->disk, true, &e);
    struct node *n = file ? qc_open(file, &opts, &e) : NULL;
    if (!n) {
        node_unref(file);
        return as_errno(false, e);
    }
    s->size = n->size;
    s->data = load_must(malloc(n->size + 1));
    int r = node_read(n, 0, s->data, n->size);
    node_unref(n);
    return r;
}

static void do_create(struct load *l)
{
    struct load_run *run = l->run;
    const struct load_extent all = {0};
    char text[ORACLE_TEXT_LEN];
    struct err *e = NULL;
    if (run->n_snaps == LOAD_SNAPS)
        return;
    struct load_snap *s = &run->snap[run->n_snaps++];
    snprintf(s->name, sizeof(s->name), "%" PRIx64 "-%u", run->seed, run->n_snaps);
    const struct qc_new_snapshot opts = {.name = s->name};
    struct oracle_view view = {.since = oracle_tick(run->oracle)};
    bool ok = qc_snapshot_create(l->guest, &opts, NULL, &e);
    if (!load_result(l, "making a snapshot", &all, as_errno(ok, e)))
        return;
    s->made = sim_seq(run->disk);
    s->known = load_result(l, "reading a snapshot", &all, read_snapshot(l, s)) &&
               !(run->partial && sim_fired(run->disk));
    if (s->known && !oracle_judge(run->oracle, &view, 0, s->data, s->size, text))
        load_problem(l, "a new snapshot: %s", text);
}

/* One that can be read and was not given up. */
static struct load_snap *pick_snapshot(struct load *l, struct rng *rng)
{
    struct load_snap *v[LOAD_SNAPS];
    unsigned n = 0;
    for (unsigned i = 0; i < l->run->n_snaps; i++)
        if (l->run->snap[i].known && !l->run->snap[i].going)
            v[n++] = &l->run->snap[i];
    return n ? v[rng_below(rng, n)] : NULL;
}

static void do_delete(struct load *l, struct rng *rng)
{
    const struct load_extent all = {0};
    struct err *e = NULL;
    struct load_snap *s = pick_snapshot(l, rng);
    if (!s)
        return;
    s->going = sim_seq(l->run->disk);
    const struct qc_snapshot_ref ref = {.name = s->name};
    bool ok = qc_snapshot_delete(l->guest, &ref, &e);
    load_result(l, "deleting a snapshot", &all, as_errno(ok, e));
}

/* The whole disk changes in one step, durably. data: NULL: to zeros. */
static void do_replace(struct load *l, struct load_snap *s)
{
    struct load_run *run = l->run;
    const struct load_extent all = {.len = oracle_size(run->oracle)};
    struct load_busy busy;
    struct err *e = NULL;
    load_busy_begin(l, &busy, &all);
    struct oracle_op *op = oracle_begin(run->oracle, s ? ORACLE_WRITE : ORACLE_ZERO, 0, all.len,
                                        s ? s->data : NULL, sim_seq(run->disk));
    bool ok = s ? qc_snapshot_apply(l->guest, &(struct qc_snapshot_ref){.name = s->name}, false, &e)
                : qc_make_empty(l->guest, &e);
    ok = load_result(l, s ? "applying a snapshot" : "emptying", &all, as_errno(ok, e));
    oracle_end(run->oracle, op, ok, true, sim_seq(run->disk));
    load_busy_end(l, &busy);
}

void load_snap_op(struct load *l, struct rng *rng, enum load_op op)
{
    if (l->snapping) /* one at a time, so that names and contents are known */
        return;
    l->snapping = true;
    if (op == LOAD_SNAPSHOT) {
        do_create(l);
    } else if (op == LOAD_UNSNAPSHOT) {
        do_delete(l, rng);
    } else {
        struct load_snap *s = op == LOAD_REVERT ? pick_snapshot(l, rng) : NULL;
        if (s || op == LOAD_EMPTY)
            do_replace(l, s);
    }
    l->snapping = false;
}

void load_snaps_free(struct load_run *run)
{
    for (unsigned i = 0; i < run->n_snaps; i++)
        free(run->snap[i].data);
    run->n_snaps = 0;
}
