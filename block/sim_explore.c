/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Walking the states that power cuts may leave.
 *
 * Between two moments at which something becomes durable the volatile records only grow in number,
 * so that every state of an earlier moment is one of the last moment too (with the later records
 * lost). One moment a group is therefore enough. Within it: all subsets when they are few, else the
 * choices that find bugs soonest by experience (prefixes, one or two lost, one or two kept), then
 * seeded samples. Torn records are sampled in both cases.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "block/sim_priv.h"

enum { LOST, KEPT, TORN };

#define MAX_FULL_BITS 30

struct explorer {
    const struct sim_disk *disk;
    const struct sim_explore *x;
    sim_state_fn *fn;
    void *arg;
    struct rng rng;
    uint64_t visited;
    bool stop;

    /* The present group. */
    struct sim_cut cut;
    uint64_t at;
    uint64_t quota; /* states still to visit in it */
    uint8_t *keep;
    unsigned n;

    /* Hashes of the states seen in this group: open addressing, 0 = empty. */
    uint64_t *seen;
    uint64_t n_seen, seen_cap;
};

/* seen_add: false if the hash was there before (or, without memory, after setting stop). */
static bool seen_add(struct explorer *ex, uint64_t hash)
{
    hash += hash == 0;
    if (2 * (ex->n_seen + 1) > ex->seen_cap) {
        uint64_t cap = ex->seen_cap ? 2 * ex->seen_cap : 256;
        uint64_t *v = mem_array(cap, sizeof(*v));
        if (!v) {
            ex->stop = true;
            return false;
        }
        for (uint64_t i = 0; i < ex->seen_cap; i++) {
            uint64_t k = ex->seen[i];
            while (ex->seen[i] && v[k & (cap - 1)])
                k++;
            if (ex->seen[i])
                v[k & (cap - 1)] = ex->seen[i];
        }
        mem_free(ex->seen);
        ex->seen = v;
        ex->seen_cap = cap;
    }
    uint64_t k = hash;
    for (; ex->seen[k & (ex->seen_cap - 1)]; k++) {
        if (ex->seen[k & (ex->seen_cap - 1)] == hash)
            return false;
    }
    ex->seen[k & (ex->seen_cap - 1)] = hash;
    ex->n_seen++;
    return true;
}

/* Visit the state that ex->keep describes. False: this group is over. */
static bool visit(struct explorer *ex, uint64_t tear_seed)
{
    struct sim_crash how = {
        .at = ex->at, .keep = ex->keep, .tear_seed = tear_seed, .unit = ex->x->unit};
    struct sim_view v;
    if (ex->stop || ex->quota == 0)
        return false;
    if (!cut_build(&ex->cut, &how, &v)) {
        ex->stop = true;
        return false;
    }
    if (!seen_add(ex, chunks_hash(&v.chunks) ^ rng_hash(v.size[0]) ^ rng_hash(~v.size[1]))) {
        sim_view_free(&v);
        return !ex->stop;
    }
    struct sim_disk *state = sim_disk_from(&v);
    if (!state) {
        ex->stop = true;
        return false;
    }
    ex->visited++;
    ex->quota--;
    ex->stop = !ex->fn(state, &how, ex->arg);
    sim_disk_free(state);
    return !ex->stop;
}

static bool visit_torn(struct explorer *ex)
{
    return visit(ex, rng_u64(&ex->rng));
}

/* The first k kept, without and with the next one torn: power lost in the middle of a stream. */
static bool visit_prefixes(struct explorer *ex)
{
    for (unsigned k = 0; k <= ex->n; k++) {
        memset(ex->keep, LOST, ex->n);
        memset(ex->keep, KEPT, k);
        if (!visit(ex, 0))
            return false;
        if (k < ex->n) {
            ex->keep[k] = TORN;
            if (!visit_torn(ex))
                return false;
        }
    }
    return true;
}

/* All of one kind, except for one or two of the other. */
static bool visit_exceptions(struct explorer *ex, uint8_t most, uint8_t few)
{
    for (unsigned i = 0; i < ex->n; i++) {
        memset(ex->keep, most, ex->n);
        ex->keep[i] = few;
        if (!visit(ex, 0))
            return false;
    }
    for (unsigned i = 0; i < ex->n; i++) {
        for (unsigned j = 0; j < i; j++) {
            memset(ex->keep, most, ex->n);
            ex->keep[i] = ex->keep[j] = few;
            if (!visit(ex, 0))
                return false;
        }
    }
    return true;
}

/* Every subset once, in an order that an odd multiplier scatters. */
static bool visit_subsets(struct explorer *ex)
{
    uint64_t count = UINT64_C(1) << ex->n;
    uint64_t step = rng_u64(&ex->rng) | 1, start = rng_u64(&ex->rng);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t subset = (start + i * step) & (count - 1);
        for (unsigned b = 0; b < ex->n; b++)
            ex->keep[b] = (subset >> b) & 1;
        if (!visit(ex, 0))
            return false;
    }
    return true;
}

/* Random choices, each with at least one torn record if torn is set. */
static bool visit_samples(struct explorer *ex, bool torn)
{
    for (unsigned s = 0; ex->n && s < ex->x->samples; s++) {
        for (unsigned i = 0; i < ex->n; i++)
            ex->keep[i] = rng_u64(&ex->rng) & 1;
        if (torn) {
            ex->keep[rng_below(&ex->rng, ex->n)] = TORN;
            ex->keep[rng_below(&ex->rng, ex->n)] = TORN;
        }
        if (!visit_torn(ex))
            return false;
    }
    return true;
}

static void visit_group(struct explorer *ex)
{
    unsigned full = ex->x->max_full_bits < MAX_FULL_BITS ? ex->x->max_full_bits : MAX_FULL_BITS;
    bool go = visit_prefixes(ex);
    if (ex->n <= full) {
        if (go && visit_subsets(ex))
            visit_samples(ex, true);
        return;
    }
    if (go && visit_exceptions(ex, KEPT, LOST) && visit_exceptions(ex, LOST, KEPT) &&
        visit_samples(ex, false))
        visit_samples(ex, true);
}

static void explore_group(struct explorer *ex, uint64_t at, uint64_t quota)
{
    ex->at = at;
    ex->quota = quota;
    if (!cut_init(&ex->cut, ex->disk, at)) {
        ex->stop = true;
        return;
    }
    ex->n = ex->cut.n_volatile;
    ex->keep = mem_alloc(ex->n);
    if (ex->keep)
        visit_group(ex);
    else
        ex->stop = true;
    mem_free(ex->keep);
    cut_free(&ex->cut);
    if (ex->seen)
        memset(ex->seen, 0, ex->seen_cap * sizeof(*ex->seen));
    ex->n_seen = 0;
}

/* The last moments of the groups: just before each event that made something durable, and now.
 * Shuffled, so that a bounded walk sees all parts of the log. NULL without memory. */
static uint64_t *explore_moments(struct explorer *ex, uint64_t *n_out)
{
    const struct sim_disk *d = ex->disk;
    uint64_t n = 0;
    uint64_t *at = mem_array(d->n + 1, sizeof(*at));
    if (!at)
        return NULL;
    for (uint64_t k = 0; k < d->n_ended; k++) {
        const struct sim_rec *rec = d->rec[d->ended[k]];
        bool flushed = rec->e.op == REQ_FLUSH && rec->e.result == 0;
        if (flushed || (rec_changes(rec) && rec->durable_at == rec->ended))
            at[n++] = rec->ended;
    }
    at[n++] = sim_seq(d);
    for (uint64_t i = n - 1; i > 0; i--) {
        uint64_t j = rng_below(&ex->rng, i + 1);
        uint64_t t = at[i];
        at[i] = at[j];
        at[j] = t;
    }
    *n_out = n;
    return at;
}

uint64_t sim_explore(const struct sim_disk *d, const struct sim_explore *x, sim_state_fn *fn,
                     void *arg)
{
    struct explorer ex = {.disk = d, .x = x, .fn = fn, .arg = arg};
    uint64_t n = 0;
    rng_seed(&ex.rng, x->seed);
    uint64_t *at = explore_moments(&ex, &n);
    for (uint64_t i = 0; at && i < n && !ex.stop; i++) {
        uint64_t left = x->max_states ? x->max_states - ex.visited : UINT64_MAX;
        explore_group(&ex, at[i], x->max_states ? div_round_up(left, n - i) : left);
    }
    mem_free(at);
    mem_free(ex.seen);
    return ex.visited;
}
