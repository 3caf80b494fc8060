/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Finding the states that a power cut may leave.
 *
 * A state is a rule that says of each volatile write whether it is kept, so thousands of them cost
 * nothing. To tell contents apart, each is hashed by unit: for every unit the writes that touch it
 * are listed in order, with the hash of what they put there, and the last one that a state keeps
 * decides. Only where writes cover a unit in part must bytes be put together.
 */
#include "faults/crash.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/rng.h"
#include "faults/text.h"

enum how { PREFIX, DROP, KEEP, SAMPLE };

struct state {
    enum how how;
    unsigned a, b; /* PREFIX: so many are kept; DROP, KEEP: these */
    uint64_t seed; /* PREFIX: 0, or the next one is torn by it; SAMPLE */
};

struct touch { /* a write meets a unit */
    uint64_t unit;
    unsigned rec;
    bool whole;
    uint64_t hash; /* of the unit, if whole */
};

struct unit {
    uint64_t number;
    unsigned first, n; /* touches */
    uint64_t hash;     /* of the medium's */
    uint8_t *base;     /* the medium's bytes, only if some write covers it in part */
};

struct crash_set {
    struct cache_conf conf;
    struct cache_rec **rec; /* in order; all but the durable ones are numbered in volatile_no */
    unsigned *volatile_no;
    unsigned n, n_volatile;
    struct touch *touch;
    unsigned n_touches;
    struct unit *unit;
    unsigned n_units;

    struct state *state;
    unsigned n_states;
    uint64_t *seen; /* hashes of their contents: open addressing, 0 is free */
    size_t seen_size;
    uint8_t *scratch; /* a unit */
};

#define DURABLE UINT32_MAX

static uint64_t hash_bytes(const uint8_t *p, uint32_t n)
{
    uint64_t h = 0x9e3779b97f4a7c15;

    for (uint32_t i = 0; i < n; i += 8) {
        uint64_t w;

        memcpy(&w, p + i, 8);
        h = (h ^ w) * 0x2127599bf4325c37;
        h ^= h >> 29;
    }
    return h;
}

/* --- Making the set --- */

void crash_free(struct crash_set *s)
{
    if (!s)
        return;
    for (unsigned i = 0; s->rec && i < s->n; i++)
        mem_free(s->rec[i]);
    for (unsigned i = 0; i < s->n_units; i++)
        mem_free(s->unit[i].base);
    mem_free(s->rec);
    mem_free(s->volatile_no);
    mem_free(s->touch);
    mem_free(s->unit);
    mem_free(s->state);
    mem_free(s->seen);
    mem_free(s->scratch);
    mem_free(s);
}

static void add_touches(struct crash_set *s, unsigned i)
{
    const struct cache_rec *rec = s->rec[i];
    uint64_t unit = s->conf.unit, end = rec->off + rec->len;

    for (uint64_t u = rec->off / unit; u * unit < end; u++) {
        struct touch *t = &s->touch[s->n_touches++];

        *t = (struct touch){.unit = u, .rec = i};
        t->whole = rec->off <= u * unit && end >= (u + 1) * unit;
        if (!t->whole)
            continue;
        if (rec->zero)
            memset(s->scratch, 0, unit);
        t->hash =
            hash_bytes(rec->zero ? s->scratch : rec->data + (u * unit - rec->off), s->conf.unit);
    }
}

static int touch_compare(const void *a, const void *b)
{
    const struct touch *x = a, *y = b;

    if (x->unit != y->unit)
        return x->unit < y->unit ? -1 : 1;
    return x->rec < y->rec ? -1 : x->rec > y->rec;
}

static void list_units(struct crash_set *s)
{
    if (s->n_touches)
        qsort(s->touch, s->n_touches, sizeof(s->touch[0]), touch_compare);
    for (unsigned i = 0; i < s->n_touches; i++) {
        if (i == 0 || s->touch[i].unit != s->touch[i - 1].unit)
            s->unit[s->n_units++] = (struct unit){.number = s->touch[i].unit, .first = i};
        s->unit[s->n_units - 1].n++;
    }
}

static uint64_t count_touches(const struct cache *c)
{
    uint64_t n = 0;

    for (const struct cache_rec *rec = c->head; rec; rec = rec->next)
        n += (rec->off + rec->len - 1) / c->conf.unit - rec->off / c->conf.unit + 1;
    return n;
}

struct crash_set *crash_new(struct cache *c)
{
    struct crash_set *s = mem_new(struct crash_set);
    uint64_t touches = count_touches(c);

    if (!s)
        return NULL;
    s->conf = c->conf;
    s->rec = mem_array(c->n + 1, sizeof(s->rec[0]));
    s->volatile_no = mem_array(c->n + 1, sizeof(s->volatile_no[0]));
    s->touch = mem_array(touches + 1, sizeof(s->touch[0]));
    s->unit = mem_array(touches + 1, sizeof(s->unit[0]));
    s->state = mem_array(c->conf.states, sizeof(s->state[0]));
    s->scratch = mem_alloc(c->conf.unit);
    if (!s->rec || !s->volatile_no || !s->touch || !s->unit || !s->state || !s->scratch) {
        crash_free(s);
        return NULL;
    }
    for (struct cache_rec *rec = c->head; rec; rec = rec->next) {
        s->rec[s->n] = rec;
        s->volatile_no[s->n] = rec->durable ? DURABLE : s->n_volatile++;
        add_touches(s, s->n++);
    }
    c->head = c->tail = NULL;
    cache_clear(c);
    list_units(s);
    return s;
}

bool crash_unit(const struct crash_set *s, uint64_t i, uint64_t *off, uint32_t *len)
{
    if (i >= s->n_units)
        return false;
    *off = s->unit[i].number * s->conf.unit;
    *len = s->conf.unit;
    return true;
}

bool crash_base(struct crash_set *s, uint64_t i, const void *content)
{
    struct unit *u = &s->unit[i];
    bool whole = true;

    u->hash = hash_bytes(content, s->conf.unit);
    for (unsigned t = 0; t < u->n; t++)
        whole = whole && s->touch[u->first + t].whole;
    if (whole)
        return true;
    u->base = mem_alloc(s->conf.unit);
    if (u->base)
        memcpy(u->base, content, s->conf.unit);
    return u->base;
}

/* --- One state --- */

/* Does the state keep record i, as far as this unit is concerned? */
static bool keeps(const struct crash_set *s, const struct state *st, unsigned i, uint64_t unit)
{
    unsigned v = s->volatile_no[i];
    uint64_t draw;

    if (v == DURABLE)
        return true;
    switch (st->how) {
    case PREFIX:
        if (v != st->a || st->seed == 0)
            return v < st->a;
        return rng_hash(st->seed ^ rng_hash(unit)) & 1;
    case DROP:
        return v != st->a && v != st->b;
    case KEEP:
        return v == st->a || v == st->b;
    case SAMPLE:
        draw = rng_hash(st->seed ^ rng_hash(v));
        if (draw >> 61 == 0) /* one in eight is torn */
            return rng_hash(draw ^ rng_hash(unit)) & 1;
        return draw & 1;
    }
    return false;
}

static void apply_part(const struct crash_set *s, const struct cache_rec *rec, uint64_t unit,
                       uint8_t *to)
{
    uint64_t size = s->conf.unit, start = unit * size;
    uint64_t from = max_u64(rec->off, start), end = min_u64(rec->off + rec->len, start + size);

    if (rec->zero)
        memset(to + (from - start), 0, end - from);
    else
        memcpy(to + (from - start), rec->data + (from - rec->off), end - from);
}

static uint64_t unit_hash(const struct crash_set *s, const struct state *st, const struct unit *u)
{
    const struct touch *t = &s->touch[u->first];
    unsigned i = u->n;

    while (i > 0 && !keeps(s, st, t[i - 1].rec, u->number))
        i--;
    if (i == 0)
        return u->hash;
    if (t[i - 1].whole)
        return t[i - 1].hash;
    memcpy(s->scratch, u->base, s->conf.unit);
    for (i = 0; i < u->n; i++)
        if (keeps(s, st, t[i].rec, u->number))
            apply_part(s, s->rec[t[i].rec], u->number, s->scratch);
    return hash_bytes(s->scratch, s->conf.unit);
}

static uint64_t state_hash(const struct crash_set *s, const struct state *st)
{
    uint64_t sum = 1;

    for (unsigned i = 0; i < s->n_units; i++)
        sum += rng_hash(unit_hash(s, st, &s->unit[i]) ^ rng_hash(s->unit[i].number));
    return sum ? sum : 1;
}

uint64_t crash_unit_key(const void *content, uint32_t unit, uint64_t number)
{
    return rng_hash(hash_bytes(content, unit) ^ rng_hash(number));
}

uint64_t crash_key(const struct crash_set *s, unsigned i)
{
    uint64_t sum = 0;

    for (unsigned k = 0; k < s->n_units; k++) {
        const struct unit *u = &s->unit[k];
        uint64_t place = rng_hash(u->number);

        sum += rng_hash(unit_hash(s, &s->state[i], u) ^ place) - rng_hash(u->hash ^ place);
    }
    return sum;
}

bool crash_build(const struct crash_set *s, unsigned i, struct pages *out)
{
    uint64_t size = s->conf.unit;

    for (unsigned k = 0; k < s->n; k++) {
        const struct cache_rec *rec = s->rec[k];
        uint64_t end = rec->off + rec->len;

        for (uint64_t u = rec->off / size; u * size < end; u++) {
            uint64_t from = max_u64(rec->off, u * size), to = min_u64(end, (u + 1) * size);

            if (keeps(s, &s->state[i], k, u) &&
                !pages_write(out, from, rec->zero ? NULL : rec->data + (from - rec->off),
                             to - from))
                return false;
        }
    }
    return true;
}

/* --- All of them --- */

/* False: there was this content already. */
static bool seen_add(struct crash_set *s, uint64_t hash)
{
    size_t k = hash & (s->seen_size - 1);

    for (; s->seen[k]; k = (k + 1) & (s->seen_size - 1))
        if (s->seen[k] == hash)
            return false;
    s->seen[k] = hash;
    return true;
}

static bool add_state(struct crash_set *s, struct state st)
{
    if (s->n_states == s->conf.states)
        return false;
    if (seen_add(s, state_hash(s, &st)))
        s->state[s->n_states++] = st;
    return true;
}

/* All of 0..n-1, or so many of them, spread evenly. */
static unsigned pick(unsigned i, unsigned n, unsigned quota)
{
    return n <= quota ? i : (unsigned)((uint64_t)i * n / quota);
}

static void add_prefixes(struct crash_set *s, unsigned quota, uint64_t seed)
{
    unsigned n = s->n_volatile + 1, tries = n < quota ? n : quota;

    for (unsigned i = 0; i < tries; i++) {
        unsigned a = pick(i, n, quota);

        /* The last one is everything, which no sampling may leave out. */
        if (i + 1 == tries)
            a = n - 1;
        add_state(s, (struct state){PREFIX, a, 0, seed ? rng_hash(seed + a) | 1 : 0});
    }
}

static void add_singles(struct crash_set *s, enum how how, unsigned quota)
{
    unsigned n = s->n_volatile;

    for (unsigned i = 0; i < n && i < quota; i++) {
        unsigned a = pick(i, n, quota);

        add_state(s, (struct state){how, a, a, 0});
    }
}

static void add_pairs(struct crash_set *s, enum how how, unsigned quota, struct rng *rng)
{
    unsigned n = s->n_volatile;
    uint64_t pairs = (uint64_t)n * (n ? n - 1 : 0) / 2;

    for (unsigned a = 0; pairs <= quota && a < n; a++)
        for (unsigned b = 0; b < a; b++)
            add_state(s, (struct state){how, a, b, 0});
    for (unsigned i = 0; pairs > quota && i < quota; i++) {
        unsigned a = (unsigned)rng_below(rng, n), b = (unsigned)rng_below(rng, n);

        add_state(s, (struct state){how, a, b, 0});
    }
}

bool crash_find(struct crash_set *s)
{
    unsigned most = s->conf.states, share = most / 8 + 1;
    struct rng rng;

    s->seen_size = 16;
    while (s->seen_size < 2 * (size_t)most)
        s->seen_size *= 2;
    s->seen = mem_array(s->seen_size, sizeof(s->seen[0]));
    if (!s->seen)
        return false;
    rng_seed(&rng, s->conf.seed);
    add_prefixes(s, 2 * share, 0);
    add_singles(s, DROP, share);
    add_singles(s, KEEP, share);
    add_prefixes(s, share, s->conf.seed | 1);
    add_pairs(s, DROP, share, &rng);
    add_pairs(s, KEEP, share, &rng);
    for (unsigned i = 0; s->n_volatile && i < 2 * share; i++)
        add_state(s, (struct state){SAMPLE, 0, 0, rng_u64(&rng)});
    mem_free(s->seen);
    s->seen = NULL;
    return true;
}

unsigned crash_count(const struct crash_set *s)
{
    return s->n_states;
}

unsigned crash_volatile(const struct crash_set *s)
{
    return s->n_volatile;
}

bool crash_describe(const struct crash_set *s, unsigned i, char *buf, size_t len)
{
    const struct state *st = &s->state[i];
    struct out o = {buf, len, 0};

    if (i >= s->n_states || len == 0)
        return false;
    switch (st->how) {
    case PREFIX:
        out_put(&o, "the first %u of %u volatile writes", st->a, s->n_volatile);
        if (st->seed && st->a < s->n_volatile)
            out_put(&o, ", and parts of the next");
        break;
    case DROP:
    case KEEP:
        out_put(&o, st->how == DROP ? "all but number %u" : "only number %u", st->a + 1);
        if (st->a != st->b)
            out_put(&o, " and number %u", st->b + 1);
        out_put(&o, " of %u volatile writes", s->n_volatile);
        break;
    case SAMPLE:
        out_put(&o, "a sample of %u volatile writes, seed 0x%" PRIx64, s->n_volatile, st->seed);
        break;
    }
    return true;
}
