/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Records of traces: to bytes and back.
 *
 * A trace comes from a disk, so what is read is held to what an engine could have decided: the
 * filters that carry decisions out believe them.
 */
#include "faults/trace.h"

#include <string.h>

#include "base/bytes.h"
#include "faults/fault_priv.h"

#define DELAY_MAX (UINT64_C(1) << 60)  /* ns: some centuries */
#define HANG_MAX (DELAY_MAX / 1000000) /* ms */
#define LIMITS 6

static const uint8_t magic[8] = "bwfault2";

enum flag {
    IS_ON_DISK = 1,
    IS_POWERCUT = 2,
    IS_DROP = 4,
    IS_ORDERLY = 8,
    IS_TURN = 16,
    IS_SWAP = 32,
    FLAGS = 63
};

void trace_header(uint8_t *buf, uint64_t seed)
{
    memcpy(buf, magic, sizeof(magic));
    put_le64(buf + sizeof(magic), seed);
}

bool trace_header_seed(const uint8_t *buf, size_t len, uint64_t *seed)
{
    if (len < TRACE_HEADER_LEN || memcmp(buf, magic, sizeof(magic)) != 0)
        return false;
    *seed = get_le64(buf + sizeof(magic));
    return true;
}

/* FNV-1a: against accidents, not against people. */
uint64_t trace_sum(uint64_t sum, const uint8_t *buf, size_t len)
{
    for (size_t i = 0; i < len; i++)
        sum = (sum ^ buf[i]) * UINT64_C(0x100000001b3);
    return sum;
}

/* --- To bytes --- */

struct writer {
    uint8_t *buf;
    size_t n;
};

static void put(struct writer *w, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        w->buf[w->n++] = (uint8_t)(v | 0x80);
    w->buf[w->n++] = (uint8_t)v;
}

/* Small numbers of either sign become small ones. */
static void put_signed(struct writer *w, int64_t v)
{
    put(w, (uint64_t)v << 1 ^ (uint64_t)(v >> 63));
}

static void put_details(struct writer *w, const struct fault_decision *d)
{
    switch (d->deed) {
    case FAULT_SHORT:
    case FAULT_DISCONNECT:
        put(w, d->done);
        break;
    case FAULT_HANG:
        if (d->error)
            put(w, d->hang_ms);
        break;
    case FAULT_TORN:
        put(w, d->tear.unit);
        put(w, d->tear.keep);
        put(w, d->tear.draw);
        if (d->tear.keep == KEEP_MASK)
            put(w, d->tear.mask);
        break;
    case FAULT_MISDIRECT:
        put_signed(w, d->delta);
        break;
    case FAULT_CORRUPT:
    case FAULT_OLD:
        put(w, d->damage.how);
        put(w, d->damage.byte);
        put(w, d->damage.bits);
        put(w, d->damage.off);
        put(w, d->damage.len);
        put(w, d->damage.draw);
        break;
    case FAULT_REPLY:
        put(w, d->wrong);
        break;
    default:
        break;
    }
}

/* What passes at once, as nearly all do, is told by one byte. */
static void put_decision(struct writer *w, const struct fault_decision *d)
{
    put(w, (uint64_t)d->deed << 2 | (uint64_t)d->keep_old << 1 | (d->delay_ns != 0));
    if (d->delay_ns)
        put(w, d->delay_ns);
    if (d->deed == FAULT_PASS)
        return;
    put(w, d->id);
    put(w, (d->on_disk ? IS_ON_DISK : 0) | (d->powercut ? IS_POWERCUT : 0) |
               (d->drop ? IS_DROP : 0) | (d->orderly ? IS_ORDERLY : 0) | (d->turn ? IS_TURN : 0) |
               (d->swap ? IS_SWAP : 0));
    put(w, (uint64_t)d->error);
    put_details(w, d);
}

static void put_request(struct writer *w, const struct trace_record *t)
{
    put(w, t->layer);
    put(w, (uint64_t)t->op << 1 | t->fua);
    put(w, t->kind);
    put(w, t->off);
    put(w, t->len);
    put(w, t->conn);
    put_decision(w, &t->what);
}

static void put_setup(struct writer *w, const struct trace_setup *s)
{
    const struct cache_conf *c = &s->cache;
    const struct fault_limits *l = &s->limits;
    const uint64_t limits[LIMITS] = {l->align,          l->max_transfer, l->opt_write_zero,
                                     l->max_write_zero, l->opt_discard,  l->max_discard};

    put(w, c->on);
    if (c->on) {
        put(w, c->layer);
        put(w, c->size);
        put(w, c->unit);
        put(w, c->destage);
        put(w, c->ignore_flush);
        put(w, c->states);
    }
    for (unsigned i = 0; i < LIMITS; i++)
        put(w, limits[i]);
}

static void put_mark(struct writer *w, const char *mark, size_t len)
{
    put(w, len);
    memcpy(w->buf + w->n, mark, len);
    w->n += len;
}

size_t trace_encode(const struct trace_record *t, uint8_t *buf)
{
    struct writer w = {buf, 0};

    put(&w, t->type);
    switch (t->type) {
    case TRACE_EVENT:
        put(&w, t->event);
        break;
    case TRACE_REQUEST:
        put_request(&w, t);
        break;
    case TRACE_MARK:
        put_mark(&w, t->mark, strnlen(t->mark, sizeof(t->mark) - 1));
        break;
    case TRACE_SETUP:
        put_setup(&w, &t->setup);
        break;
    case TRACE_END:
        put_le64(buf + w.n, t->sum);
        w.n += sizeof(uint64_t);
        break;
    default:
        break;
    }
    return w.n;
}

/* --- And back --- */

struct reader {
    const uint8_t *at, *end;
    bool bad;
};

/* Up to most; else, and at the end, it is bad. */
static uint64_t take(struct reader *r, uint64_t most)
{
    uint64_t v = 0;

    for (unsigned shift = 0; r->at < r->end && shift < 64; shift += 7) {
        uint8_t b = *r->at++;

        v |= (uint64_t)(b & 0x7f) << shift;
        if (b & 0x80)
            continue;
        r->bad |= v > most || (shift == 63 && b > 1);
        return r->bad ? 0 : v;
    }
    r->bad = true;
    return 0;
}

static int64_t take_signed(struct reader *r)
{
    uint64_t v = take(r, UINT64_MAX);

    return (int64_t)(v >> 1 ^ -(v & 1));
}

static void take_damage(struct reader *r, struct fault_damage *d)
{
    d->how = (uint8_t)take(r, HOW_STUCK);
    d->byte = (uint8_t)take(r, UINT8_MAX);
    d->bits = (unsigned)take(r, BITS_MAX);
    d->off = take(r, INT64_MAX);
    d->len = take(r, INT64_MAX);
    d->draw = take(r, UINT64_MAX);
    r->bad |= d->off + d->len > INT64_MAX;
}

static void take_details(struct reader *r, uint64_t len, struct fault_decision *d)
{
    switch (d->deed) {
    case FAULT_SHORT: /* never the whole */
        d->done = take(r, len ? len - 1 : 0);
        break;
    case FAULT_DISCONNECT:
        d->done = take(r, UINT32_MAX);
        break;
    case FAULT_HANG:
        d->hang_ms = d->error ? take(r, HANG_MAX) : 0;
        r->bad |= d->error && d->hang_ms == 0;
        break;
    case FAULT_TORN:
        d->tear.unit = (uint32_t)take(r, 4096);
        d->tear.keep = (uint8_t)take(r, KEEP_COUNT - 1);
        d->tear.draw = take(r, UINT64_MAX);
        if (d->tear.keep == KEEP_MASK)
            d->tear.mask = take(r, UINT64_MAX);
        r->bad |= d->tear.unit != 512 && d->tear.unit != 4096;
        break;
    case FAULT_MISDIRECT:
        d->delta = take_signed(r);
        r->bad |= d->delta == INT64_MIN;
        break;
    case FAULT_CORRUPT:
    case FAULT_OLD:
        take_damage(r, &d->damage);
        r->bad |= (d->damage.how >= HOW_STALE) != (d->deed == FAULT_OLD);
        break;
    case FAULT_REPLY:
        d->wrong = (enum fault_wrong)take(r, WRONG_COUNT - 1);
        break;
    default:
        break;
    }
}

/* The action that does this; ACTION_COUNT: none need have. */
static enum fault_action action_of(enum fault_deed deed)
{
    static const enum fault_action actions[] = {
        [FAULT_PASS] = ACTION_COUNT,
        [FAULT_FAIL] = ACTION_ERROR,
        [FAULT_HANG] = ACTION_HANG,
        [FAULT_SHORT] = ACTION_SHORT,
        [FAULT_TORN] = ACTION_TORN,
        [FAULT_LOST] = ACTION_LOST,
        [FAULT_MISDIRECT] = ACTION_MISDIRECT,
        [FAULT_CORRUPT] = ACTION_CORRUPT,
        [FAULT_OLD] = ACTION_CORRUPT,
        [FAULT_CUT] = ACTION_POWERCUT,
        [FAULT_DISCONNECT] = ACTION_DISCONNECT,
        [FAULT_REPLY] = ACTION_REPLY,
    };

    return actions[deed];
}

static bool is_possible(const struct trace_record *t)
{
    const struct fault_decision *d = &t->what;
    enum fault_action a = action_of(d->deed);

    if (a == ACTION_COUNT)
        return true;
    if (!(fault_actions[a].layers & (1u << t->layer)) || !(fault_actions[a].ops & (1u << t->op)))
        return false;
    if (d->error == 0 && (d->deed == FAULT_FAIL || d->deed == FAULT_SHORT ||
                          (d->deed == FAULT_REPLY && d->wrong == WRONG_ERRNO)))
        return false;
    return (!d->swap || d->deed == FAULT_MISDIRECT) &&
           (d->deed != FAULT_OLD || t->op == FAULT_READ) &&
           (!d->drop || (d->deed == FAULT_FAIL && t->op == FAULT_FLUSH)) &&
           t->off + t->len >= t->off;
}

static void take_decision(struct reader *r, uint64_t len, struct fault_decision *d)
{
    uint64_t v = take(r, FAULT_REPLY << 2 | 3);
    unsigned flags;

    d->deed = (enum fault_deed)(v >> 2);
    d->keep_old = v & 2;
    if (v & 1)
        d->delay_ns = take(r, DELAY_MAX);
    r->bad |= (v & 1) && d->delay_ns == 0;
    if (d->deed == FAULT_PASS)
        return;
    d->id = take(r, UINT64_MAX);
    flags = (unsigned)take(r, FLAGS);
    d->on_disk = flags & IS_ON_DISK;
    d->powercut = flags & IS_POWERCUT;
    d->drop = flags & IS_DROP;
    d->orderly = flags & IS_ORDERLY;
    d->turn = flags & IS_TURN;
    d->swap = flags & IS_SWAP;
    d->error = (int)take(r, 4095);
    take_details(r, len, d);
}

static void take_request(struct reader *r, struct trace_record *out)
{
    uint64_t v;

    out->layer = (enum fault_layer)take(r, FAULT_LAYERS - 1);
    v = take(r, FAULT_IO_COUNT * 2 - 1);
    out->op = (enum fault_io)(v >> 1);
    out->fua = v & 1;
    out->kind = (unsigned)take(r, TRACE_KINDS - 1);
    out->off = take(r, UINT64_MAX);
    out->len = take(r, UINT64_MAX);
    out->conn = take(r, UINT64_MAX);
    take_decision(r, out->len, &out->what);
    r->bad |= !r->bad && !is_possible(out);
}

static void take_setup(struct reader *r, struct trace_setup *s)
{
    struct cache_conf *c = &s->cache;
    struct fault_limits *l = &s->limits;
    uint64_t *const limits[LIMITS] = {&l->align,          &l->max_transfer, &l->opt_write_zero,
                                      &l->max_write_zero, &l->opt_discard,  &l->max_discard};

    c->on = take(r, 1);
    if (c->on) {
        c->layer = (enum fault_layer)take(r, FAULT_GUEST);
        c->size = take(r, CACHE_SIZE_MAX);
        c->unit = (uint32_t)take(r, 4096);
        c->destage = (enum cache_destage)take(r, DESTAGE_COUNT - 1);
        c->ignore_flush = take(r, 1);
        c->states = (unsigned)take(r, CACHE_STATES_MAX);
        r->bad |= c->size < CACHE_SIZE_MIN || (c->unit != 512 && c->unit != 4096) || !c->states;
    }
    for (unsigned i = 0; i < LIMITS; i++)
        *limits[i] = take(r, INT32_MAX);
}

static void take_mark(struct reader *r, struct trace_record *out)
{
    uint64_t len = take(r, sizeof(out->mark) - 1);

    if (r->bad || (size_t)(r->end - r->at) < len) {
        r->bad = true;
        return;
    }
    memcpy(out->mark, r->at, len);
    r->at += len;
}

static void take_end(struct reader *r, struct trace_record *out)
{
    if (r->end - r->at < (ptrdiff_t)sizeof(uint64_t)) {
        r->bad = true;
        return;
    }
    out->sum = get_le64(r->at);
    r->at += sizeof(uint64_t);
}

size_t trace_decode(const uint8_t *buf, size_t len, const struct rules_names *names,
                    struct trace_record *out)
{
    struct reader r = {buf, buf + len, false};

    *out = (struct trace_record){0};
    out->type = (enum trace_type)take(&r, TRACE_TYPES - 1);
    switch (out->type) {
    case TRACE_EVENT:
        out->event = (unsigned)take(&r, names->n_events - 1);
        break;
    case TRACE_REQUEST:
        take_request(&r, out);
        break;
    case TRACE_MARK:
        take_mark(&r, out);
        break;
    case TRACE_FULL:
        break;
    case TRACE_SETUP:
        take_setup(&r, &out->setup);
        break;
    case TRACE_END:
        take_end(&r, out);
        break;
    default:
        return 0;
    }
    return r.bad ? 0 : (size_t)(r.at - buf);
}

const char *fault_deed_name(enum fault_deed deed)
{
    static const char *const names[] = {
        [FAULT_PASS] = "passes",
        [FAULT_FAIL] = "fails",
        [FAULT_HANG] = "hangs",
        [FAULT_SHORT] = "is cut short",
        [FAULT_TORN] = "is torn",
        [FAULT_LOST] = "is lost",
        [FAULT_MISDIRECT] = "goes astray",
        [FAULT_CORRUPT] = "is corrupted",
        [FAULT_OLD] = "is made old",
        [FAULT_CUT] = "meets a power cut",
        [FAULT_DISCONNECT] = "ends the connection",
        [FAULT_REPLY] = "is answered wrongly",
    };

    return names[deed];
}
