/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The oracle: a list of versions for each sector.
 *
 * A version is the content that one operation gives to one sector. An operation that covers a
 * sector only in part gives it several: its bytes over each content that a power cut might have
 * left there. Those over a content that cannot be seen live are marked, for judging live.
 */
#include "tests/lib/oracle.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"

#define IN_FLIGHT UINT64_MAX
#define MAX_VERSIONS 4096

struct oracle_op {
    enum oracle_kind kind;
    unsigned id;
    uint64_t off, len;
    uint64_t issued, ended; /* ticks */
    uint64_t issued_at;     /* moment */
    uint64_t durable_at;    /* moment; 0 = not */
    bool ok;
    uint8_t *data; /* from the first whole sector on */
    struct oracle_op *next;
};

struct version {
    const struct oracle_op *op;
    const uint8_t *content; /* of op->data, or own */
    bool own;
    bool crash_only;
};

struct sector {
    struct version *v;
    unsigned n, cap;
};

struct size_version {
    uint64_t size;
    struct oracle_op op; /* for its clocks */
};

struct oracle {
    struct sector *sector;
    uint64_t n_sectors;
    struct oracle_op first; /* zeros, durable from the beginning */
    struct oracle_op *ops;
    uint64_t tick;
    unsigned n_ops;
    struct size_version *size;
    unsigned n_sizes;
};

static const uint8_t zeros[SECTOR];

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "oracle: out of memory\n");
        abort();
    }
    return p;
}

static void sector_add(struct sector *s, struct version v)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 2;
        s->v = must(realloc(s->v, s->cap * sizeof(*s->v)));
    }
    s->v[s->n++] = v;
    if (s->n > MAX_VERSIONS) {
        fprintf(stderr, "oracle: a sector has too many versions; flush more often\n");
        abort();
    }
}

static void size_add(struct oracle *o, uint64_t size, struct oracle_op op)
{
    o->size = must(realloc(o->size, (o->n_sizes + 1) * sizeof(*o->size)));
    o->size[o->n_sizes++] = (struct size_version){.size = size, .op = op};
}

struct oracle *oracle_new(uint64_t size, uint64_t max_size)
{
    struct oracle *o = must(calloc(1, sizeof(*o)));
    o->first.ok = true;
    o->first.len = max_size;
    o->n_sectors = max_size / SECTOR;
    o->sector = must(calloc(o->n_sectors, sizeof(*o->sector)));
    for (uint64_t i = 0; i < o->n_sectors; i++)
        sector_add(&o->sector[i], (struct version){.op = &o->first, .content = zeros});
    size_add(o, size, o->first);
    return o;
}

void oracle_free(struct oracle *o)
{
    if (!o)
        return;
    for (uint64_t i = 0; i < o->n_sectors; i++) {
        for (unsigned k = 0; k < o->sector[i].n; k++) {
            if (o->sector[i].v[k].own)
                free((void *)o->sector[i].v[k].content);
        }
        free(o->sector[i].v);
    }
    for (struct oracle_op *op = o->ops, *next; op; op = next) {
        next = op->next;
        free(op->data);
        free(op);
    }
    free(o->sector);
    free(o->size);
    free(o);
}

uint64_t oracle_tick(struct oracle *o)
{
    return ++o->tick;
}

/* Does w, by what the view knows, take the place of everything that had ended before it? */
static bool op_rules(const struct oracle_op *w, const struct oracle_view *view)
{
    if (w->kind == ORACLE_DISCARD)
        return false;
    if (view->at)
        return w->durable_at && w->durable_at <= view->at;
    return w->ok && (!view->since || w->ended < view->since);
}

/* Something may be durable without any I/O: zeroing what is zero. */
static bool op_happened(const struct oracle_op *v, const struct oracle_view *view)
{
    return !view->at || v->issued_at < view->at || (v->durable_at && v->durable_at <= view->at);
}

static bool version_legal(const struct sector *s, const struct version *v,
                          const struct oracle_view *view)
{
    if (!op_happened(v->op, view) || (v->crash_only && !view->at))
        return false;
    for (unsigned k = 0; k < s->n; k++) {
        const struct oracle_op *w = s->v[k].op;
        if (w->issued > v->op->ended && op_rules(w, view))
            return false;
    }
    return true;
}

static bool has_content(const struct sector *s, const struct oracle_op *op, const uint8_t *content,
                        bool crash_only)
{
    for (unsigned k = 0; k < s->n; k++) {
        const struct version *v = &s->v[k];
        if (v->op == op && v->crash_only <= crash_only && !memcmp(v->content, content, SECTOR))
            return true;
    }
    return false;
}

/* A sector that op covers from byte `from` to byte `to` with data: over each possible content. */
static void sector_patch(struct sector *s, struct oracle_op *op, uint64_t now, unsigned from,
                         unsigned to, const uint8_t *data)
{
    const struct oracle_view live = {0}, cut = {.at = now};
    unsigned n = s->n;
    for (unsigned k = 0; k < n; k++) {
        bool seen = version_legal(s, &s->v[k], &live);
        if (!seen && !version_legal(s, &s->v[k], &cut))
            continue;
        uint8_t *content = must(malloc(SECTOR));
        memcpy(content, s->v[k].content, SECTOR);
        if (data)
            memcpy(content + from, data, to - from);
        else
            memset(content + from, 0, to - from);
        if (has_content(s, op, content, !seen))
            free(content);
        else
            sector_add(s, (struct version){
                              .op = op, .content = content, .own = true, .crash_only = !seen});
    }
}

struct oracle_op *oracle_begin(struct oracle *o, enum oracle_kind kind, uint64_t off, uint64_t len,
                               const void *data, uint64_t now)
{
    struct oracle_op *op = must(calloc(1, sizeof(*op)));
    *op = (struct oracle_op){.kind = kind,
                             .id = ++o->n_ops,
                             .off = off,
                             .len = len,
                             .issued = oracle_tick(o),
                             .ended = IN_FLIGHT,
                             .issued_at = now,
                             .next = o->ops};
    o->ops = op;
    uint64_t end = off + len, whole = round_up(off, SECTOR);
    if (kind == ORACLE_WRITE && whole < end) {
        op->data = must(malloc(end - whole));
        memcpy(op->data, (const uint8_t *)data + (whole - off), end - whole);
    }
    for (uint64_t i = off / SECTOR; i * SECTOR < end; i++) {
        uint64_t from = max_u64(off, i * SECTOR), to = min_u64(end, (i + 1) * SECTOR);
        if (to - from == SECTOR) {
            const uint8_t *content = kind == ORACLE_WRITE ? op->data + (from - whole) : zeros;
            sector_add(&o->sector[i], (struct version){.op = op, .content = content});
        } else if (kind != ORACLE_DISCARD) {
            sector_patch(&o->sector[i], op, now, (unsigned)(from % SECTOR),
                         (unsigned)(from % SECTOR + (to - from)),
                         data ? (const uint8_t *)data + (from - off) : NULL);
        }
    }
    return op;
}

void oracle_end(struct oracle *o, struct oracle_op *op, bool ok, bool durable, uint64_t now)
{
    op->ended = oracle_tick(o);
    op->ok = ok;
    if (ok && durable)
        op->durable_at = now;
}

void oracle_flushed(struct oracle *o, uint64_t since, uint64_t now)
{
    for (struct oracle_op *op = o->ops; op; op = op->next) {
        if (op->ok && op->ended < since && !op->durable_at)
            op->durable_at = now;
    }
    for (unsigned i = 0; i < o->n_sizes; i++) {
        struct oracle_op *op = &o->size[i].op;
        if (op->ok && op->ended < since && !op->durable_at)
            op->durable_at = now;
    }
}

void oracle_resize_begin(struct oracle *o, uint64_t size, uint64_t now)
{
    size_add(o, size,
             (struct oracle_op){.issued = oracle_tick(o), .ended = IN_FLIGHT, .issued_at = now});
}

void oracle_resize_end(struct oracle *o, bool ok, uint64_t now)
{
    struct oracle_op *op = &o->size[o->n_sizes - 1].op;
    op->ended = oracle_tick(o);
    op->ok = ok;
}

uint64_t oracle_size(const struct oracle *o)
{
    unsigned i = o->n_sizes - 1;
    while (!o->size[i].op.ok)
        i--;
    return o->size[i].size;
}

bool oracle_judge_size(const struct oracle *o, const struct oracle_view *view, uint64_t size)
{
    for (unsigned i = 0; i < o->n_sizes; i++) {
        const struct size_version *v = &o->size[i];
        bool replaced = false;
        for (unsigned k = i + 1; k < o->n_sizes; k++)
            replaced =
                replaced || (o->size[k].op.issued > v->op.ended && op_rules(&o->size[k].op, view));
        if (v->size == size && !replaced && op_happened(&v->op, view))
            return true;
    }
    return false;
}

/* Each byte from a legal version: what a read may see while the sector changes under it. */
static bool judge_bytes(const struct sector *s, const struct oracle_view *view,
                        const uint8_t *content)
{
    uint8_t seen[SECTOR] = {0};
    unsigned n_seen = 0;
    for (unsigned k = 0; k < s->n; k++) {
        if (!version_legal(s, &s->v[k], view))
            continue;
        for (unsigned b = 0; b < SECTOR; b++) {
            if (!seen[b] && s->v[k].content[b] == content[b]) {
                seen[b] = 1;
                n_seen++;
            }
        }
    }
    return n_seen == SECTOR;
}

static bool judge_sector(const struct sector *s, const struct oracle_view *view,
                         const uint8_t *content)
{
    for (unsigned k = s->n; k-- > 0;) {
        const struct version *v = &s->v[k];
        if (!memcmp(v->content, content, SECTOR) && version_legal(s, v, view))
            return true;
    }
    return view->since && judge_bytes(s, view, content);
}

static int describe_op(const struct oracle_op *op, char *text, size_t room)
{
    static const char *const name[] = {"write", "zero", "discard"};
    if (op->id == 0)
        return snprintf(text, room, "the zeros of the beginning");
    return snprintf(text, room, "%s %u of 0x%" PRIx64 "+0x%" PRIx64 " (%s)", name[op->kind], op->id,
                    op->off, op->len,
                    op->ended == IN_FLIGHT ? "in flight"
                    : !op->ok              ? "failed"
                    : op->durable_at       ? "durable"
                                           : "acknowledged");
}

/* Where else was this content ever written? */
static void describe(const struct oracle *o, uint64_t index, const struct oracle_view *view,
                     const uint8_t *content, char *text)
{
    const struct sector *s = &o->sector[index];
    size_t used =
        (size_t)snprintf(text, ORACLE_TEXT_LEN, "guest 0x%" PRIx64 " holds ", index * SECTOR);
    bool found = false;
    for (uint64_t i = 0; i < o->n_sectors && !found; i++) {
        uint64_t at = i == 0 ? index : i <= index ? i - 1 : i; /* itself first */
        for (unsigned k = 0; k < o->sector[at].n && !found; k++) {
            if (memcmp(o->sector[at].v[k].content, content, SECTOR))
                continue;
            found = true;
            used += (size_t)snprintf(
                text + used, ORACLE_TEXT_LEN - used,
                at == index ? "what it had from " : "what 0x%" PRIx64 " had from ", at * SECTOR);
            used += (size_t)describe_op(o->sector[at].v[k].op, text + used, ORACLE_TEXT_LEN - used);
        }
    }
    if (!found)
        used += (size_t)snprintf(text + used, ORACLE_TEXT_LEN - used,
                                 "what nobody wrote (%016" PRIx64 "...)", get_be64(content));
    for (unsigned k = s->n; k-- > 0 && used + 100 < ORACLE_TEXT_LEN;) {
        if (!version_legal(s, &s->v[k], view) || (k && s->v[k].op == s->v[k - 1].op))
            continue;
        used += (size_t)snprintf(text + used, ORACLE_TEXT_LEN - used, "; legal: ");
        used += (size_t)describe_op(s->v[k].op, text + used, ORACLE_TEXT_LEN - used);
    }
}

bool oracle_judge(const struct oracle *o, const struct oracle_view *view, uint64_t off,
                  const void *buf, uint64_t len, char *text)
{
    const uint8_t *p = buf;
    for (uint64_t i = off / SECTOR; i * SECTOR < off + len; i++, p += SECTOR) {
        if (!judge_sector(&o->sector[i], view, p)) {
            describe(o, i, view, p, text);
            return false;
        }
    }
    return true;
}
