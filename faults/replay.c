/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The requests of a trace, to be found again.
 *
 * Requests that are alike and of one connection are a group; a hash table finds the groups of those
 * that are alike. A group is a list of runs: so many that passed, then one that something became
 * of, which is kept as the bytes that the trace has for it. Nearly all pass, so that a group is
 * mostly one run. All arrays only grow while the trace is read, and are not changed in size later:
 * deciding takes no memory.
 */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "faults/replay_priv.h"

#define NONE UINT32_MAX

struct like { /* what makes requests alike */
    uint64_t off, len;
    uint32_t what; /* layer, op, FUA and kind */
};

struct group {
    struct like like;
    uint64_t conn;
    uint32_t first, last; /* runs; first NONE: all of them came */
    uint32_t next;        /* group of the same kind, of another connection */
};

struct run {
    uint32_t passes;
    uint32_t record; /* where in bytes; NONE: no more than that */
    uint32_t next;
};

struct replay {
    char *path;
    struct replay_info info;
    unsigned layers; /* bits */
    struct group *group;
    struct run *run;
    uint8_t *byte;
    uint32_t n_groups, n_runs, n_bytes;
    uint32_t max_groups, max_runs, max_bytes;
    uint32_t *slot; /* groups; a power of two of them, at most half in use */
    uint32_t n_slots, used;
    bool told; /* of a request that the trace does not have */
};

struct replay *replay_new(const char *path)
{
    struct replay *p = mem_new(struct replay);

    if (!p)
        return NULL;
    p->path = mem_strdup(path);
    if (!p->path) {
        mem_free(p);
        return NULL;
    }
    p->info.path = p->path;
    return p;
}

void replay_free(struct replay *p)
{
    if (!p)
        return;
    mem_free(p->path);
    mem_free(p->group);
    mem_free(p->run);
    mem_free(p->byte);
    mem_free(p->slot);
    mem_free(p);
}

/* Room for `more` behind n elements of v. */
static bool reserve(void **v, uint32_t n, uint32_t more, uint32_t *max, size_t size)
{
    uint64_t want = *max ? (uint64_t)*max * 2 : 1024;
    void *bigger;

    if ((uint64_t)n + more <= *max)
        return true;
    if (want >= NONE)
        return false;
    bigger = mem_realloc(*v, want * size);
    if (!bigger)
        return false;
    *v = bigger;
    *max = (uint32_t)want;
    return true;
}

#define RESERVE(p, what, more)                                                                     \
    reserve((void **)&(p)->what, (p)->n_##what##s, more, &(p)->max_##what##s, sizeof((p)->what[0]))

/* --- Finding --- */

static struct like like_of(enum fault_layer layer, enum fault_io op, bool fua, unsigned kind,
                           uint64_t off, uint64_t len)
{
    return (struct like){off, len,
                         (uint32_t)layer | (uint32_t)op << 2 | (uint32_t)fua << 5 | kind << 6};
}

static bool are_alike(const struct like *a, const struct like *b)
{
    return a->off == b->off && a->len == b->len && a->what == b->what;
}

/* The slot of such requests, or a free one; there are slots. */
static uint32_t *slot_of(const struct replay *p, const struct like *l)
{
    uint64_t h = rng_hash(rng_hash(rng_hash(l->off) ^ l->len) ^ l->what);

    for (;; h++) {
        uint32_t *s = &p->slot[h & (p->n_slots - 1)];

        if (*s == NONE || are_alike(&p->group[*s].like, l))
            return s;
    }
}

static bool grow_slots(struct replay *p)
{
    uint32_t n = p->n_slots ? p->n_slots * 2 : 1024, *old = p->slot, n_old = p->n_slots;

    if (p->used * 2 < p->n_slots)
        return true;
    if (n >= NONE / 2)
        return false;
    p->slot = mem_alloc(n * sizeof(p->slot[0]));
    if (!p->slot) {
        p->slot = old;
        return false;
    }
    memset(p->slot, 0xff, n * sizeof(p->slot[0])); /* NONE */
    p->n_slots = n;
    for (uint32_t i = 0; i < n_old; i++)
        if (old[i] != NONE)
            *slot_of(p, &p->group[old[i]].like) = old[i];
    mem_free(old);
    return true;
}

/* --- Reading --- */

static struct group *group_for(struct replay *p, const struct trace_record *t)
{
    struct like l = like_of(t->layer, t->op, t->fua, t->kind, t->off, t->len);
    uint32_t *at, i;

    if (!grow_slots(p))
        return NULL;
    at = slot_of(p, &l);
    if (*at == NONE)
        p->used++;
    for (i = *at; i != NONE && p->group[i].conn != t->conn; i = p->group[i].next)
        ;
    if (i != NONE)
        return &p->group[i];
    if (!RESERVE(p, group, 1))
        return NULL;
    i = p->n_groups++;
    p->group[i] = (struct group){l, t->conn, NONE, NONE, NONE};
    while (*at != NONE) /* in the order of their first requests */
        at = &p->group[*at].next;
    *at = i;
    return &p->group[i];
}

static struct run *add_run(struct replay *p, struct group *g)
{
    uint32_t i = p->n_runs;

    if (!RESERVE(p, run, 1))
        return NULL;
    p->n_runs++;
    p->run[i] = (struct run){0, NONE, NONE};
    if (g->first == NONE)
        g->first = i;
    else
        p->run[g->last].next = i;
    g->last = i;
    return &p->run[i];
}

static bool is_fault(const struct fault_decision *d)
{
    return d->deed != FAULT_PASS || d->delay_ns != 0;
}

bool replay_add(struct replay *p, const struct trace_record *t)
{
    bool passes = t->what.deed == FAULT_PASS && t->what.delay_ns == 0 && !t->what.keep_old;
    struct group *g = group_for(p, t);
    struct run *r;

    if (!g || (!passes && !RESERVE(p, byte, TRACE_RECORD_MAX)))
        return false;
    r = g->last == NONE ? NULL : &p->run[g->last];
    if (!r || r->record != NONE || r->passes == NONE)
        r = add_run(p, g);
    if (!r)
        return false;
    if (passes) {
        r->passes++;
    } else {
        r->record = p->n_bytes;
        p->n_bytes += (uint32_t)trace_encode(t, p->byte + p->n_bytes);
        p->info.faults_recorded += is_fault(&t->what);
    }
    p->info.recorded++;
    p->layers |= 1u << t->layer;
    return true;
}

/* --- Deciding --- */

bool replay_has_layer(const struct replay *p, enum fault_layer layer)
{
    return p->layers & (1u << layer);
}

/* The group whose turn it is; NULL: the trace has no more of them. */
static struct group *group_of(const struct replay *p, const struct fault_req *q)
{
    struct like l = like_of(q->layer, q->op, q->fua, q->kind, q->off, q->len);
    struct group *other = NULL;

    for (uint32_t i = p->n_slots ? *slot_of(p, &l) : NONE; i != NONE; i = p->group[i].next) {
        struct group *g = &p->group[i];

        if (g->first == NONE)
            continue;
        if (g->conn == q->conn)
            return g;
        if (!other)
            other = g;
    }
    return other;
}

static void is_unknown(struct replay *p, const struct fault_req *q)
{
    p->info.unknown++;
    if (p->told)
        return;
    p->told = true;
    log_warn("%s: the trace does not have %s %s %" PRIu64 "+%" PRIu64
             " (or not so often): it passes; more of them are only counted",
             p->path, fault_layer_name(q->layer), fault_op_name(q->op), q->off, q->len);
}

void replay_decide(struct replay *p, const struct rules_names *names, const struct fault_req *q,
                   struct fault_decision *d)
{
    struct group *g = group_of(p, q);
    struct run *r = g ? &p->run[g->first] : NULL;
    struct trace_record t;

    *d = (struct fault_decision){.deed = FAULT_PASS};
    if (!r) {
        is_unknown(p, q);
        return;
    }
    p->info.met++;
    if (r->passes) {
        r->passes--;
    } else {
        trace_decode(p->byte + r->record, p->n_bytes - r->record, names, &t);
        *d = t.what;
        d->by = p->path;
        r->record = NONE;
        p->info.faults_met += is_fault(d);
    }
    if (r->passes == 0 && r->record == NONE)
        g->first = r->next;
}

const struct replay_info *replay_info(const struct replay *p)
{
    return &p->info;
}

void replay_set_full(struct replay *p)
{
    p->info.full = true;
}
