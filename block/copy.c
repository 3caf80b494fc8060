/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The copy engine.
 *
 * Some workers, each with a buffer, take piece after piece: read it, find the zeros in it, write
 * the rest. Reads and writes of all of them run side by side. A worker that has read waits for its
 * turn to begin writing, and gives the turn on as soon as its writes are under way: a format that
 * allocates when a write arrives then allocates in the order of the disk, although the writes
 * themselves overlap. (Waiting for each write to end, as a copy in strict order does, would leave
 * the target idle in between.)
 */
#include "block/copy.h"

#include <assert.h>
#include <errno.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "block/copy_priv.h"
#include "block/file.h"
#include "io/co.h"
#include "io/reactor.h"

#define DEFAULT_IN_FLIGHT 8
#define MAX_IN_FLIGHT 64
#define DEFAULT_UNIT 4096
#define MAX_UNIT (2 * MiB)
#define PIECE_BYTES (1 * MiB) /* larger ones leave the CPU's caches between read and write */
#define SECTOR 512
#define RUNS 16 /* writes of one piece at a time */

struct copy {
    struct copy_opts o;
    struct copy_map map;
    struct co_mutex map_lock;
    uint64_t piece_bytes;
    uint64_t done;
    int error;
    struct copy_result where;
    uint64_t tickets, turn; /* pieces handed out; whose turn it is to begin writing */
    struct co_queue turn_queue;
    int64_t next_ns; /* rate: when the next data may be read */
    struct co_group workers;
};

struct work { /* a piece in a worker's hands */
    struct copy *c;
    struct copy_piece p;
    uint8_t *buf, *base; /* base: what is there anyway, or NULL */
    uint64_t ticket;
    unsigned writing; /* runs on their way */
    struct co_queue change;
};

struct run { /* one write of it */
    struct work *w;
    uint64_t off, len;
    bool zero;
};

static int fail(struct copy *c, int error, bool reading, uint64_t off, uint64_t len)
{
    if (!c->error) {
        c->error = error;
        c->where.reading = reading;
        c->where.off = off;
        c->where.len = len;
    }
    return c->error;
}

/* 0: go on as if it had worked; 1: try again; else the error. */
static int ask(struct copy *c, int error, bool reading, uint64_t off, uint64_t len)
{
    const struct copy_ops *ops = c->o.ops;
    enum copy_answer a =
        ops && ops->failed ? ops->failed(c->o.arg, reading, off, len, -error) : COPY_FAIL;
    if (a == COPY_FAIL || c->error)
        return fail(c, error, reading, off, len);
    return a == COPY_RETRY;
}

/* After a failure, and if somebody wants to decide: sector by sector. */
static int read_sectors(struct work *w)
{
    for (uint64_t done = 0, n; done < w->p.len; done += n) {
        uint64_t off = w->p.off + done;
        n = min_u64(SECTOR, w->p.len - done);
        int r;
        do {
            r = node_read(w->c->o.src, off, w->buf + done, n);
            if (r < 0) {
                memset(w->buf + done, 0, n);
                r = ask(w->c, r, true, off, n);
            }
        } while (r > 0);
        if (r < 0)
            return r;
    }
    return 0;
}

static int read_whole(struct work *w)
{
    struct copy *c = w->c;
    int r;
    do {
        r = node_read(c->o.src, w->p.off, w->buf, w->p.len);
        if (r < 0) {
            memset(w->buf, 0, w->p.len);
            r = ask(c, r, true, w->p.off, w->p.len);
        }
    } while (r > 0);
    return r;
}

static int read_piece(struct work *w)
{
    struct copy *c = w->c;
    if (c->o.whole_reads || !c->o.ops || !c->o.ops->failed)
        return read_whole(w);
    if (node_read(c->o.src, w->p.off, w->buf, w->p.len) == 0)
        return 0;
    return read_sectors(w);
}

static int read_base(struct work *w)
{
    struct copy *c = w->c;
    int r = w->base ? c->o.ops->baseline(c->o.arg, w->p.off, w->base, w->p.len) : 0;
    return r < 0 ? fail(c, r, true, w->p.off, w->p.len) : 0;
}

static int write_once(const struct run *x)
{
    const struct copy_opts *o = &x->w->c->o;
    if (x->zero)
        return node_zero(o->dst, x->off, x->len, REQ_MAY_UNMAP);
    return node_write(o->dst, x->off, x->w->buf + (x->off - x->w->p.off), x->len, o->write_flags);
}

static void write_run(const struct run *x)
{
    struct copy_result *where = &x->w->c->where;
    int r;
    do {
        r = write_once(x);
        if (r < 0)
            r = ask(x->w->c, r, false, x->off, x->len);
        else
            *(x->zero ? &where->zero_bytes : &where->data_bytes) += x->len;
    } while (r > 0);
}

static void write_main(void *arg)
{
    const struct run x = *(const struct run *)arg; /* the caller's is gone after the first yield */
    struct work *w = x.w;
    write_run(&x);
    w->writing--;
    co_queue_wake_all(&w->change);
}

static void write_start(struct work *w, uint64_t off, uint64_t len, bool zero)
{
    struct run x = {.w = w, .off = off, .len = len, .zero = zero};
    if (w->c->error || (zero && w->c->o.dst_zero))
        return;
    while (w->writing == RUNS)
        co_queue_wait(&w->change);
    w->writing++;
    if (co_start(write_main, &x))
        return;
    w->writing--; /* no memory for a coroutine: do it here */
    write_run(&x);
}

static void turn_take(struct work *w)
{
    struct copy *c = w->c;
    while (!c->o.unordered && c->turn != w->ticket)
        co_queue_wait(&c->turn_queue);
}

static void turn_pass(struct work *w)
{
    struct copy *c = w->c;
    turn_take(w); /* also when the piece needed none: turns go round in order */
    c->turn++;
    co_queue_wake_all(&c->turn_queue);
}

/* Does the target read as this already? */
static bool same_as_base(const struct work *w, uint64_t at, uint64_t len)
{
    uint64_t in = at - w->p.off;
    return w->base && memcmp(w->buf + in, w->base + in, len) == 0;
}

enum run_kind { RUN_DATA, RUN_ZERO, RUN_SAME };

static enum run_kind run_kind(const struct work *w, uint64_t at, uint64_t len)
{
    if (same_as_base(w, at, len))
        return RUN_SAME;
    return w->c->o.zero_unit && bytes_are_zero(w->buf + (at - w->p.off), len) ? RUN_ZERO : RUN_DATA;
}

/* How far from at on the data is of one kind. */
static uint64_t run_end(const struct work *w, uint64_t at, enum run_kind *kind)
{
    const struct copy_opts *o = &w->c->o;
    uint64_t unit = w->base ? o->unit : o->zero_unit, end = w->p.off + w->p.len;
    *kind = RUN_DATA;
    if (!unit)
        return end;
    for (uint64_t n, i = at; i < end; i += n) {
        n = min_u64(round_down(i, unit) + unit, end) - i;
        enum run_kind k = run_kind(w, i, n);
        if (i == at)
            *kind = k;
        else if (k != *kind)
            return i;
    }
    return end;
}

static void write_piece(struct work *w)
{
    enum run_kind kind;
    turn_take(w);
    for (uint64_t at = w->p.off, next; at < w->p.off + w->p.len; at = next) {
        next = run_end(w, at, &kind);
        if (kind != RUN_SAME)
            write_start(w, at, next - at, kind == RUN_ZERO);
    }
}

/* Wait until data may be read. False: the copy ends. */
static bool pace(struct copy *c, uint64_t len)
{
    if (c->o.ops && c->o.ops->pace) {
        int r = c->o.ops->pace(c->o.arg, len);
        return r == 0 || fail(c, r, true, c->map.pos, 0) == 0;
    }
    if (!c->o.rate)
        return true;
    int64_t now = clock_ns(), at = c->next_ns > now ? c->next_ns : now;
    c->next_ns = at + (int64_t)((double)len * NS_PER_S / (double)c->o.rate);
    if (at > now)
        co_sleep_until(at);
    return true;
}

static int copy_in_kernel(struct work *w)
{
    struct copy *c = w->c;
    if (!c->o.offload)
        return -ENOTSUP;
    int r = file_copy_range(c->o.src, c->o.dst, w->p.off, w->p.len);
    if (r == 0)
        c->where.data_bytes += w->p.len;
    if (r < 0)
        c->o.offload = false; /* by hand from here on; an error that is real comes up again */
    return r;
}

static void piece_do(struct work *w)
{
    struct copy *c = w->c;
    if (w->p.kind == COPY_DATA) {
        if (pace(c, w->p.len) && copy_in_kernel(w) < 0 && read_piece(w) == 0 && read_base(w) == 0)
            write_piece(w);
    } else if (w->p.kind == COPY_ZERO) {
        turn_take(w);
        write_start(w, w->p.off, w->p.len, true);
    }
    turn_pass(w);
    while (w->writing)
        co_queue_wait(&w->change);
    if (c->error)
        return;
    if (w->p.kind != COPY_SKIP && c->o.ops && c->o.ops->written)
        c->o.ops->written(c->o.arg, w->p.off, w->p.len);
    c->done += w->p.len;
    if (c->o.ops && c->o.ops->progress)
        c->o.ops->progress(c->o.arg, c->done, c->o.len);
}

/* The next piece and its ticket. False: there is none, or the copy has failed. */
static bool piece_take(struct work *w)
{
    struct copy *c = w->c;
    co_lock(&c->map_lock);
    const struct copy_ops *ops = c->o.ops;
    int r = !c->error && ops && ops->gate ? ops->gate(c->o.arg) : 0;
    w->p.len = 0;
    if (r == 0 && !c->error)
        r = copy_map_next(&c->map, c->piece_bytes, &w->p);
    if (r < 0)
        fail(c, r, true, c->map.pos, 0);
    bool got = !c->error && w->p.len > 0;
    if (got)
        w->ticket = c->tickets++;
    co_unlock(&c->map_lock);
    return got;
}

static void worker_main(void *arg)
{
    struct copy *c = arg;
    struct work w = {.c = c};
    bool two = c->o.ops && c->o.ops->baseline;
    w.buf = mem_alloc_aligned(c->piece_bytes, 4096);
    w.base = two ? mem_alloc_aligned(c->piece_bytes, 4096) : NULL;
    bool ok = w.buf && (w.base || !two);
    if (!ok)
        fail(c, -ENOMEM, true, c->o.off, 0);
    while (ok && piece_take(&w))
        piece_do(&w);
    mem_free(w.buf);
    mem_free(w.base);
    co_group_done(&c->workers);
}

int copy_run(const struct copy_opts *o, struct copy_result *result)
{
    struct copy c = {.o = *o};
    if (!c.o.unit)
        c.o.unit = DEFAULT_UNIT;
    if (!c.o.in_flight)
        c.o.in_flight = DEFAULT_IN_FLIGHT;
    assert(is_power_of_2(c.o.unit) && c.o.unit <= MAX_UNIT && is_aligned(o->off, c.o.unit));
    assert(!o->zero_unit || is_power_of_2(o->zero_unit));
    c.piece_bytes = max_u64(c.o.unit, PIECE_BYTES);
    copy_map_init(&c.map, &c.o);
    unsigned n = c.o.in_flight < MAX_IN_FLIGHT ? c.o.in_flight : MAX_IN_FLIGHT;
    for (unsigned i = 0; i < n; i++) {
        co_group_add(&c.workers);
        if (co_start(worker_main, &c))
            continue;
        co_group_done(&c.workers);
        if (i == 0)
            fail(&c, -ENOMEM, true, o->off, 0);
        break; /* with fewer, then */
    }
    co_group_wait(&c.workers);
    copy_map_free(&c.map);
    if (result)
        *result = c.where;
    return c.error;
}
