/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which of a thousand faults may be about a request, without asking each.
 *
 * For every selector that is worth it there is a set, as bits in file order: the faults that it
 * does not rule out. A request ands them together. Ranges are kept sorted by their start, each with
 * the highest end up to there, so that the search for those that a request touches stops early.
 *
 * Selectors of which requests have few different values at a time (the state, the length, who asks)
 * are asked of all faults once for each value, and the answers remembered: see struct memo.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "faults/fault_priv.h"

#define KINDS 32
#define EVENTS 64

struct span {
    uint64_t off, end;
    uint64_t max_end; /* of all up to this one */
    unsigned at;      /* its place in file order */
};

/* Which faults one selector does not rule out, for the last values that came. */
#define MEMO_SLOTS 8

enum { MEMO_STATE, MEMO_LENGTH, MEMO_ORIGIN, MEMO_COUNT };

struct memo_key {
    bool valid;
    uint64_t value;
    const void *more;
};

struct memo {
    uint64_t *set; /* MEMO_SLOTS of them; NULL: no fault has this selector */
    struct memo_key key[MEMO_SLOTS];
};

struct fault_index {
    unsigned n, words;
    struct fault **v;
    uint64_t *no_event, *no_range;
    uint64_t *event[EVENTS]; /* NULL: nobody wants it */
    uint64_t *kind[KINDS];   /* NULL: no fault asks for a kind */
    struct span *span;
    unsigned n_spans;
    struct memo memo[MEMO_COUNT];

    uint64_t *found;
    unsigned word; /* index_next is there */
};

static void set_bit(uint64_t *set, unsigned i)
{
    set[i / 64] |= UINT64_C(1) << i % 64;
}

static uint64_t *set_new(const struct fault_index *x)
{
    return mem_array(x->words, sizeof(uint64_t));
}

void index_free(struct fault_index *x)
{
    if (!x)
        return;
    for (unsigned i = 0; i < EVENTS; i++)
        mem_free(x->event[i]);
    for (unsigned i = 0; i < KINDS; i++)
        mem_free(x->kind[i]);
    for (unsigned i = 0; i < MEMO_COUNT; i++)
        mem_free(x->memo[i].set);
    mem_free(x->v);
    mem_free(x->no_event);
    mem_free(x->no_range);
    mem_free(x->span);
    mem_free(x->found);
    mem_free(x);
}

static bool add_events(struct fault_index *x, unsigned i)
{
    uint64_t events = x->v[i]->sel.events;

    if (events == 0)
        set_bit(x->no_event, i);
    for (unsigned ev = 0; ev < EVENTS; ev++) {
        if (!(events >> ev & 1))
            continue;
        if (!x->event[ev])
            x->event[ev] = set_new(x);
        if (!x->event[ev])
            return false;
        set_bit(x->event[ev], i);
    }
    return true;
}

static bool add_kinds(struct fault_index *x)
{
    bool any = false;

    for (unsigned i = 0; i < x->n; i++)
        any |= x->v[i]->sel.kinds != 0;
    for (unsigned k = 0; any && k < KINDS; k++) {
        x->kind[k] = set_new(x);
        if (!x->kind[k])
            return false;
        for (unsigned i = 0; i < x->n; i++)
            if (x->v[i]->sel.kinds == 0 || (x->v[i]->sel.kinds >> k & 1))
                set_bit(x->kind[k], i);
    }
    return true;
}

static void add_range(struct fault_index *x, unsigned i)
{
    const struct fault_select *s = &x->v[i]->sel;

    if (s->len)
        x->span[x->n_spans++] = (struct span){.off = s->off, .end = s->off + s->len, .at = i};
    else
        set_bit(x->no_range, i);
}

static int span_compare(const void *a, const void *b)
{
    const struct span *x = a, *y = b;

    return x->off < y->off ? -1 : x->off > y->off;
}

static void sort_spans(struct fault_index *x)
{
    uint64_t max = 0;

    if (x->n_spans)
        qsort(x->span, x->n_spans, sizeof(x->span[0]), span_compare);
    for (unsigned i = 0; i < x->n_spans; i++) {
        max = max_u64(max, x->span[i].end);
        x->span[i].max_end = max;
    }
}

/* --- What is remembered --- */

static bool memo_wanted(unsigned m, const struct fault_select *s)
{
    switch (m) {
    case MEMO_STATE:
        return s->state != 0;
    case MEMO_LENGTH:
        return s->min_len != 0 || s->fua != FUA_ANY;
    default:
        return s->export || s->client || s->conn;
    }
}

static bool memo_matches(unsigned m, const struct fault_select *s, const struct fault_req *q,
                         uint32_t state)
{
    switch (m) {
    case MEMO_STATE:
        return s->state == 0 || s->state == state;
    case MEMO_LENGTH:
        return q->len >= s->min_len && (s->fua == FUA_ANY || q->fua == (s->fua == FUA_ON));
    default:
        return select_origin(s, q);
    }
}

/* Requests of the same key have the same answer: a connection is one client's, on one export. */
static struct memo_key memo_key(unsigned m, const struct fault_req *q, uint32_t state)
{
    switch (m) {
    case MEMO_STATE:
        return (struct memo_key){true, state, NULL};
    case MEMO_LENGTH:
        return (struct memo_key){true, q->len << 1 | q->fua, NULL};
    default:
        return (struct memo_key){q->conn != 0, q->conn, q->export};
    }
}

static bool add_memos(struct fault_index *x)
{
    for (unsigned m = 0; m < MEMO_COUNT; m++) {
        bool any = false;

        for (unsigned i = 0; i < x->n; i++)
            any |= memo_wanted(m, &x->v[i]->sel);
        if (any)
            x->memo[m].set = mem_array((size_t)MEMO_SLOTS * x->words, sizeof(uint64_t));
        if (any && !x->memo[m].set)
            return false;
    }
    return true;
}

static unsigned memo_slot(uint64_t value)
{
    return (unsigned)(value * UINT64_C(0x9e3779b97f4a7c15) >> 61); /* its highest three bits */
}

/* Those that selector m does not rule out; NULL: it rules out none, or each is better asked. */
static const uint64_t *memo_get(struct fault_index *x, unsigned m, const struct fault_req *q,
                                uint32_t state)
{
    struct memo *memo = &x->memo[m];
    struct memo_key want = memo_key(m, q, state), *have = &memo->key[memo_slot(want.value)];
    uint64_t *set;

    if (!memo->set || !want.valid)
        return NULL;
    set = memo->set + (size_t)(have - memo->key) * x->words;
    if (have->valid && have->value == want.value && have->more == want.more)
        return set;
    *have = want;
    memset(set, 0, x->words * sizeof(uint64_t));
    for (unsigned i = 0; i < x->n; i++)
        if (memo_matches(m, &x->v[i]->sel, q, state))
            set_bit(set, i);
    return set;
}

static bool fill(struct fault_index *x)
{
    if (!x->v || !x->no_event || !x->no_range || !x->span || !x->found || !add_kinds(x) ||
        !add_memos(x))
        return false;
    for (unsigned i = 0; i < x->n; i++) {
        if (!add_events(x, i))
            return false;
        add_range(x, i);
    }
    sort_spans(x);
    return true;
}

struct fault_index *index_new(const struct fault_list *l)
{
    struct fault_index *x = mem_new(struct fault_index);

    if (!x)
        return NULL;
    x->n = l->n;
    x->words = (l->n + 63) / 64;
    x->v = mem_array(l->n, sizeof(x->v[0]));
    x->span = mem_array(l->n, sizeof(x->span[0]));
    x->no_event = set_new(x);
    x->no_range = set_new(x);
    x->found = set_new(x);
    for (unsigned i = 0; x->v && i < l->n; i++)
        x->v[i] = i == 0 ? l->head : x->v[i - 1]->next[l->op];
    if (!fill(x)) {
        index_free(x);
        return NULL;
    }
    return x;
}

/* Adds to found those whose range [off, end) touches. */
static void find_spans(struct fault_index *x, uint64_t off, uint64_t end)
{
    unsigned lo = 0, hi = x->n_spans;

    while (lo < hi) { /* the first that begins at end or behind */
        unsigned mid = lo + (hi - lo) / 2;

        if (x->span[mid].off < end)
            lo = mid + 1;
        else
            hi = mid;
    }
    while (lo-- > 0 && x->span[lo].max_end > off)
        if (x->span[lo].end > off)
            set_bit(x->found, x->span[lo].at);
}

static void narrow(struct fault_index *x, const uint64_t *set)
{
    for (unsigned w = 0; set && w < x->words; w++)
        x->found[w] &= set[w];
}

void index_find(struct fault_index *x, const struct fault_req *q, uint32_t state)
{
    const uint64_t *kind = q->kind < KINDS ? x->kind[q->kind] : NULL;

    x->word = 0;
    memcpy(x->found, x->no_range, x->words * sizeof(uint64_t));
    if (q->len)
        find_spans(x, q->off, q->off + q->len);
    for (unsigned w = 0; w < x->words; w++) {
        uint64_t set = x->no_event[w];

        for (uint64_t left = q->events; left; left &= left - 1) {
            const uint64_t *ev = x->event[__builtin_ctzll(left)];

            set |= ev ? ev[w] : 0;
        }
        x->found[w] &= set & (kind ? kind[w] : UINT64_MAX);
    }
    for (unsigned m = 0; m < MEMO_COUNT; m++)
        narrow(x, memo_get(x, m, q, state));
}

struct fault *index_next(struct fault_index *x)
{
    while (x->word < x->words) {
        uint64_t *w = &x->found[x->word];

        if (*w) {
            unsigned bit = (unsigned)__builtin_ctzll(*w);

            *w &= *w - 1;
            return x->v[x->word * 64 + bit];
        }
        x->word++;
    }
    return NULL;
}
