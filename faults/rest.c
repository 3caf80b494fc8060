/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What faults remember of the disk's content.
 *
 * Damage at rest lies over the disk: the truth is written below, and what reads shall find instead
 * is kept here with the fault that did it. Who removes the fault has the truth again. A later write
 * of the same bytes ends the damage, as on a disk.
 *
 * Beside it: which sectors a bad sector has had healed, and what was there before it was written
 * to, for stale and stuck reads. All of it is bounded, for all faults of an engine together.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "faults/engine_priv.h"

#define REST_MAX (64 * MiB)

static uint64_t rest_bytes(const struct rules *r)
{
    uint64_t n = 0;

    for (const struct fault *f = r->faults.all; f; f = f->all_next)
        n += pages_bytes(&f->rest) + pages_bytes(&f->old) + pages_bytes(&f->healed);
    return n;
}

static bool has_room(struct rules *r, uint64_t len)
{
    if (rest_bytes(r) + len <= REST_MAX)
        return true;
    if (!r->rest_warned)
        log_warn("faults hold %llu MiB of damage already; more of it is not done",
                 (unsigned long long)(REST_MAX / MiB));
    r->rest_warned = true;
    return false;
}

static struct fault *by_id(const struct rules *r, uint64_t id)
{
    struct fault *f = r->faults.all;

    while (f && f->number != id)
        f = f->all_next;
    return f;
}

bool rules_rest_any(const struct rules *r, enum fault_layer layer)
{
    return r->rest_layers & (1u << layer);
}

bool rules_rest_set(struct rules *r, uint64_t id, uint64_t off, const void *buf, uint64_t len)
{
    struct fault *f = by_id(r, id);

    if (!f || !has_room(r, len) || !pages_write(&f->rest, off, buf, len))
        return false;
    r->rest_layers |= 1u << f->sel.layer;
    return true;
}

void rules_rest_written(struct rules *r, enum fault_layer layer, uint64_t off, uint64_t len)
{
    for (struct fault *f = r->faults.all; f; f = f->all_next)
        if (f->sel.layer == layer)
            pages_drop(&f->rest, off, len);
}

void rules_rest_patch(const struct rules *r, enum fault_layer layer, uint64_t off, void *buf,
                      uint64_t len)
{
    for (const struct fault *f = r->faults.all; f; f = f->all_next)
        if (f->sel.layer == layer)
            pages_patch(&f->rest, off, buf, len);
}

uint64_t rules_rest_run(const struct rules *r, enum fault_layer layer, uint64_t off, uint64_t len,
                        bool *held)
{
    *held = false;
    for (const struct fault *f = r->faults.all; f; f = f->all_next) {
        bool here;
        uint64_t run;

        if (f->sel.layer != layer)
            continue;
        run = pages_run(&f->rest, off, len, &here);
        if (here) {
            *held = true;
            return run;
        }
        len = run;
    }
    return len;
}

/* --- Stale and stuck --- */

static bool keeps_old(const struct fault *f)
{
    return f->act.action == ACTION_CORRUPT && f->act.how >= HOW_STALE;
}

static bool touches(const struct fault *f, enum fault_layer layer, uint64_t off, uint64_t len)
{
    return f->sel.layer == layer &&
           (f->sel.len == 0 || (off < f->sel.off + f->sel.len && f->sel.off < off + len));
}

bool rules_wants_old(const struct rules *r, enum fault_layer layer, uint64_t off, uint64_t len)
{
    if (!r->faults.keeps_old)
        return false;
    for (const struct fault *f = r->faults.all; f; f = f->all_next)
        if (keeps_old(f) && touches(f, layer, off, len))
            return true;
    return false;
}

/* What is held already stays: it is what was there first. */
static bool keep_first(struct fault *f, uint64_t off, const uint8_t *old, uint64_t len)
{
    for (uint64_t at = 0; at < len;) {
        bool held;
        uint64_t n = pages_run(&f->old, off + at, len - at, &held);

        if (!held && !pages_write(&f->old, off + at, old + at, n))
            return false;
        at += n;
    }
    return true;
}

void rules_give_old(struct rules *r, enum fault_layer layer, uint64_t off, const void *old,
                    uint64_t len)
{
    for (struct fault *f = r->faults.all; f; f = f->all_next) {
        uint64_t from = max_u64(off, f->sel.off);
        uint64_t to = f->sel.len ? min_u64(off + len, f->sel.off + f->sel.len) : off + len;
        const uint8_t *p = (const uint8_t *)old + (from - off);

        if (!keeps_old(f) || !touches(f, layer, off, len) || !has_room(r, to - from))
            continue;
        if (f->act.how == HOW_STUCK)
            keep_first(f, from, p, to - from);
        else
            pages_write(&f->old, from, p, to - from);
    }
}

void rules_patch_old(const struct rules *r, uint64_t id, uint64_t off, void *buf, uint64_t len)
{
    const struct fault *f = by_id(r, id);

    if (f)
        pages_patch(&f->old, off, buf, len);
}

/* --- Bad sectors --- */

#define SECTOR 512

/* One byte stands for a sector. */
void badsector_written(struct rules *r, const struct fault_req *q)
{
    uint64_t first = div_round_up(q->off, SECTOR), stop = (q->off + q->len) / SECTOR;

    if (first >= stop)
        return;
    for (struct fault *f = r->faults.all; f; f = f->all_next) {
        uint64_t from = max_u64(first, f->sel.off / SECTOR);
        uint64_t to = min_u64(stop, div_round_up(f->sel.off + f->sel.len, SECTOR));

        if (f->act.action == ACTION_BADSECTOR && f->act.heals && f->sel.layer == q->layer &&
            from < to)
            pages_write(&f->healed, from, NULL, to - from);
    }
}

bool badsector_is_bad(const struct fault *f, const struct fault_req *q)
{
    uint64_t from = max_u64(q->off, f->sel.off) / SECTOR;
    uint64_t to = div_round_up(min_u64(q->off + q->len, f->sel.off + f->sel.len), SECTOR);
    bool held;
    uint64_t run = pages_run(&f->healed, from, to - from, &held);

    return !held || run < to - from;
}
