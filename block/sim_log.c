/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The log of the simulated disk, and what of it is durable.
 *
 * Durability is settled as events happen, not when a crash is explored: a flush that succeeds
 * makes durable every record that ended before the flush was issued; one that fails poisons those
 * records, for a kernel reports a failed write-back once and then calls the pages clean. So a
 * record carries the moment at which it became durable, and a cut merely compares numbers.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "block/sim_priv.h"

#define FIRST_CAP 64

uint64_t sim_seq(const struct sim_disk *d)
{
    return d->seq + 1;
}

void log_free(struct sim_disk *d)
{
    for (uint64_t i = 0; i < d->n; i++)
        mem_free(d->rec[i]);
    mem_free(d->rec);
    mem_free(d->ended);
    d->rec = NULL;
    d->ended = NULL;
    d->n = d->cap = d->n_ended = d->first_open = 0;
}

bool sim_log_mark(struct sim_disk *d)
{
    struct sim_view base;
    assert(d->in_flight == 0);
    if (!sim_view_clone(&base, &d->now))
        return false;
    sim_view_free(&d->base);
    d->base = base;
    log_free(d);
    return true;
}

uint64_t sim_log_len(const struct sim_disk *d)
{
    return d->n;
}

const struct sim_entry *sim_log_at(const struct sim_disk *d, uint64_t i)
{
    return i < d->n ? &d->rec[i]->e : NULL;
}

static bool log_grow(struct sim_disk *d)
{
    uint64_t cap = d->cap ? 2 * d->cap : FIRST_CAP;
    struct sim_rec **rec = mem_realloc(d->rec, cap * sizeof(struct sim_rec *));
    if (!rec)
        return false;
    d->rec = rec;
    uint64_t *ended = mem_realloc(d->ended, cap * sizeof(*ended));
    if (!ended)
        return false;
    d->ended = ended;
    d->cap = cap;
    return true;
}

struct sim_rec *log_issue(struct sim_disk *d, const struct req *r, unsigned part)
{
    if (d->n == d->cap && !log_grow(d))
        return NULL;
    size_t data = r->op == REQ_WRITE ? r->len : 0;
    struct sim_rec *rec = mem_alloc(sizeof(*rec) + data);
    if (!rec)
        return NULL;
    *rec = (struct sim_rec){
        .e = {.op = r->op,
              .kind = r->kind,
              .part = part,
              .flags = r->flags,
              .off = r->off,
              .len = r->len},
        .touched = r->op == REQ_TRUNCATE ? 1 : r->len,
        .index = d->n,
    };
    if (r->op == REQ_WRITE)
        rec->e.data = memcpy(rec + 1, r->buf, data);
    rec->e.issued = ++d->seq;
    d->rec[d->n++] = rec;
    return rec;
}

bool rec_changes(const struct sim_rec *rec)
{
    return rec->touched > 0; /* a flush has no length */
}

/* A flush has ended: settle what it covers. */
static void log_flushed(struct sim_disk *d, const struct sim_rec *flush)
{
    bool all_settled = true;
    for (uint64_t i = d->first_open; i < d->n && d->rec[i] != flush; i++) {
        struct sim_rec *rec = d->rec[i];
        bool failed = rec->ended && !rec->e.completed;
        bool open = rec_changes(rec) && !failed && !rec->durable_at && !rec->poisoned;
        if (open && rec->e.part == flush->e.part && rec->e.completed &&
            rec->e.completed < flush->e.issued) {
            if (flush->e.result == 0)
                rec->durable_at = flush->ended;
            else
                rec->poisoned = true;
            open = false;
        }
        if (all_settled && !open && rec->ended)
            d->first_open = i + 1;
        else
            all_settled = false;
    }
}

void log_end(struct sim_disk *d, struct sim_rec *rec, int result)
{
    rec->ended = ++d->seq;
    rec->e.result = result;
    d->ended[d->n_ended++] = rec->index;
    if (result == 0) {
        rec->e.completed = rec->ended;
        if (rec->e.flags & REQ_FUA)
            rec->durable_at = rec->ended;
    }
    if (rec->e.op == REQ_FLUSH)
        log_flushed(d, rec);
}

bool rec_is_volatile(const struct sim_rec *rec, uint64_t at)
{
    if (!rec_changes(rec) || rec->e.issued >= at)
        return false;
    return !rec->durable_at || rec->durable_at >= at;
}

bool rec_apply(struct sim_view *v, const struct sim_rec *rec)
{
    const struct sim_entry *e = &rec->e;
    uint64_t *size = &v->size[e->part], at = e->part * SIM_SECOND + e->off;
    bool ok = true;
    switch (e->op) {
    case REQ_TRUNCATE:
        if (e->off < *size)
            ok = chunks_zero(&v->chunks, at, *size - e->off);
        *size = e->off;
        return ok;
    case REQ_WRITE:
        ok = chunks_write(&v->chunks, at, e->data, rec->touched);
        break;
    case REQ_ZERO:
    case REQ_DISCARD:
        ok = chunks_zero(&v->chunks, at, rec->touched);
        break;
    default:
        return true;
    }
    if (e->op != REQ_DISCARD)
        *size = max_u64(*size, e->off + rec->touched);
    return ok;
}

/* One unit's part of rec, clipped to what rec covers. */
static bool rec_apply_unit(struct sim_view *v, const struct sim_rec *rec, uint64_t unit_no,
                           uint32_t unit)
{
    struct sim_rec part = *rec;
    uint64_t from = max_u64(unit_no * unit, rec->e.off);
    uint64_t to = min_u64((unit_no + 1) * unit, rec->e.off + rec->touched);
    if (rec->e.op == REQ_WRITE)
        part.e.data = (const uint8_t *)rec->e.data + (from - rec->e.off);
    part.e.off = from;
    part.touched = to - from;
    return rec_apply(v, &part);
}

bool rec_apply_torn(struct sim_view *v, const struct sim_rec *rec, uint64_t seed, uint32_t unit)
{
    uint64_t draw = rng_hash(seed ^ rng_hash(rec->e.issued));
    if (rec->e.op == REQ_TRUNCATE)
        return (draw & 1) ? rec_apply(v, rec) : true;

    uint64_t first = rec->e.off / unit;
    uint64_t n = (rec->e.off + rec->touched - 1) / unit - first + 1;
    if (n == 1)
        return (draw & 1) ? rec_apply(v, rec) : true;
    uint64_t survivor = draw % n;
    uint64_t victim = (survivor + 1 + (draw >> 32) % (n - 1)) % n;
    for (uint64_t i = 0; i < n; i++) {
        bool keep = rng_hash(draw + i) & 1;
        if (i != victim && (keep || i == survivor) && !rec_apply_unit(v, rec, first + i, unit))
            return false;
    }
    return true;
}
