/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Running a workload: fibers, the operations that they draw, and what is checked while they run.
 *
 * Checked at once: a read that succeeds returns legal content; nothing fails unless the disk was
 * told to fail; after a failed flush of the disk no flush of the guest succeeds.
 */
#include "tests/lib/workload.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/rng.h"
#include "block/node_bitmap.h"
#include "io/reactor.h"
#include "qcow2/qcow2.h"
#include "tests/lib/workload_priv.h"

struct fiber {
    struct load *l;
    struct rng rng;
    unsigned left;
};

void load_fill(uint8_t *buf, uint64_t len, uint64_t key, uint64_t off)
{
    for (uint64_t i = 0; i < len; i++) {
        uint64_t word = rng_hash(key * UINT64_C(0x9e3779b97f4a7c15) + (off + i) / 8);
        buf[i] = (uint8_t)(word >> ((off + i) % 8 * 8));
    }
}

void load_fill_soft(uint8_t *buf, uint64_t len, uint64_t key, uint64_t off)
{
    for (uint64_t i = 0; i < len; i++) {
        uint64_t word = rng_hash(key * UINT64_C(0x9e3779b97f4a7c15) + (off + i) / 64);
        buf[i] = (uint8_t)(word >> ((off + i) % 8 * 8));
    }
}

void *load_must(void *p)
{
    if (!p) {
        fprintf(stderr, "workload: out of memory\n");
        abort();
    }
    return p;
}

void load_problem(struct load *l, const char *fmt, ...)
{
    va_list ap;
    if (l->run->problem[0])
        return;
    va_start(ap, fmt);
    vsnprintf(l->run->problem, sizeof(l->run->problem), fmt, ap);
    va_end(ap);
}

static bool busy_hits(const struct load *l, uint64_t first, uint64_t end)
{
    for (const struct load_busy *b = l->busy; b; b = b->next) {
        if (b->first < end && first < b->end)
            return true;
    }
    return false;
}

void load_busy_begin(struct load *l, struct load_busy *b, const struct load_extent *x)
{
    b->first = x->off / SECTOR;
    b->end = div_round_up(x->off + x->len, SECTOR);
    while (!l->w->overlap && busy_hits(l, b->first, b->end))
        co_queue_wait(&l->busy_waiters);
    b->next = l->busy;
    l->busy = b;
}

void load_busy_end(struct load *l, struct load_busy *b)
{
    struct load_busy **at = &l->busy;
    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    co_queue_wake_all(&l->busy_waiters);
}

static bool mem_fired(const struct load *l)
{
    return l->run->mem_nth && mem_count() >= l->run->mem_nth;
}

static bool may_fail(const struct load *l)
{
    return sim_fired(l->run->disk) || mem_fired(l);
}

/* Note an operation's result. True if it succeeded. */
bool load_result(struct load *l, const char *what, const struct load_extent *x, int r)
{
    if (r == 0) {
        l->run->ok_ops++;
        return true;
    }
    l->run->failed_ops++;
    if (!may_fail(l) || (mem_fired(l) && r != -ENOMEM))
        load_problem(l, "%s of 0x%" PRIx64 "+0x%" PRIx64 " failed with %d, which it should not",
                     what, x->off, x->len, r);
    return false;
}

static struct load_extent pick(struct fiber *f, enum load_op op)
{
    struct load *l = f->l;
    const struct workload *w = l->w;
    uint64_t size = oracle_size(l->run->oracle), max = w->max_len;
    bool hot = rng_below(&f->rng, 8) != 0 && w->hot_len;
    uint64_t from = hot ? w->hot_off : 0, room = hot ? w->hot_len : size;
    if (w->sequential && op == LOAD_WRITE) {
        uint64_t len = min_u64(max, size);
        if (l->cursor + len > size)
            l->cursor = 0;
        l->cursor += len;
        return (struct load_extent){.off = l->cursor - len, .len = len};
    }
    uint64_t len = (1 + rng_below(&f->rng, max / w->unit)) * w->unit;
    if (op == LOAD_WRITE_PACKED)
        len = round_up(len, w->cluster_size);
    /* Half of all: whole clusters, which are what zeroing and discarding can free. */
    if ((op >= LOAD_ZERO && op <= LOAD_DISCARD) && rng_below(&f->rng, 2)) {
        uint64_t clusters = 1 + rng_below(&f->rng, 3);
        len = clusters * w->cluster_size;
    }
    len = min_u64(len, room);
    uint64_t align = len % w->cluster_size ? w->unit : w->cluster_size;
    uint64_t off = from + rng_below(&f->rng, (room - len) / align + 1) * align;
    return (struct load_extent){.off = off, .len = len};
}

static void do_write(struct fiber *f, const struct load_extent *x, uint32_t flags)
{
    struct load *l = f->l;
    struct load_busy busy;
    uint8_t *data = load_must(malloc(x->len));
    (flags & REQ_COMPRESSED ? load_fill_soft : load_fill)(data, x->len, ++l->key, x->off);
    load_busy_begin(l, &busy, x);
    struct oracle_op *op =
        oracle_begin(l->run->oracle, ORACLE_WRITE, x->off, x->len, data, sim_seq(l->run->disk));
    bool flush_failed = l->run->sticky_flush && sim_fired(l->run->disk);
    bool ok = load_result(l, "a write", x, node_write(l->guest, x->off, data, x->len, flags));
    bool durable = flags & REQ_FUA;
    if (ok && durable && flush_failed)
        load_problem(l, "a FUA write succeeded after a flush of the disk had failed");
    oracle_end(l->run->oracle, op, ok, durable, sim_seq(l->run->disk));
    load_busy_end(l, &busy);
    free(data);
}

static void do_zero(struct fiber *f, const struct load_extent *x, uint32_t flags)
{
    struct load *l = f->l;
    struct load_busy busy;
    load_busy_begin(l, &busy, x);
    struct oracle_op *op =
        oracle_begin(l->run->oracle, ORACLE_ZERO, x->off, x->len, NULL, sim_seq(l->run->disk));
    bool ok = load_result(l, "a zeroing", x, node_zero(l->guest, x->off, x->len, flags));
    oracle_end(l->run->oracle, op, ok, flags & REQ_FUA, sim_seq(l->run->disk));
    load_busy_end(l, &busy);
}

static void do_discard(struct fiber *f, const struct load_extent *x)
{
    struct load *l = f->l;
    struct load_busy busy;
    load_busy_begin(l, &busy, x);
    struct oracle_op *op =
        oracle_begin(l->run->oracle, ORACLE_DISCARD, x->off, x->len, NULL, sim_seq(l->run->disk));
    bool ok = load_result(l, "a discard", x, node_discard(l->guest, x->off, x->len));
    oracle_end(l->run->oracle, op, ok, false, sim_seq(l->run->disk));
    load_busy_end(l, &busy);
}

static bool do_flush(struct load *l)
{
    const struct load_extent all = {0};
    bool flush_failed = l->run->sticky_flush && sim_fired(l->run->disk);
    uint64_t since = oracle_tick(l->run->oracle);
    if (!load_result(l, "a flush", &all, node_flush(l->guest)))
        return false;
    if (flush_failed)
        load_problem(l, "a flush succeeded after a flush of the disk had failed");
    oracle_flushed(l->run->oracle, since, sim_seq(l->run->disk));
    return true;
}

/* Reads whole sectors around *x, also while they change. */
static void do_read(struct fiber *f, const struct load_extent *x)
{
    struct load *l = f->l;
    char text[ORACLE_TEXT_LEN];
    uint64_t off = round_down(x->off, SECTOR);
    uint64_t len = round_up(x->off + x->len, SECTOR) - off;
    uint8_t *buf = load_must(malloc(len));
    struct oracle_view view = {.since = oracle_tick(l->run->oracle)};
    memset(buf, 0xee, len);
    if (load_result(l, "a read", x, node_read(l->guest, off, buf, len)) &&
        !oracle_judge(l->run->oracle, &view, off, buf, len, text))
        load_problem(l, "a read during the run: %s", text);
    free(buf);
}

static void do_resize(struct fiber *f)
{
    struct load *l = f->l;
    struct oracle *o = l->run->oracle;
    uint64_t size = oracle_size(o);
    uint64_t step = round_up(rng_below(&f->rng, l->w->max_size - l->w->size) / 2 + 1, SECTOR);
    struct load_extent x = {.off = min_u64(size + step, l->w->max_size)};
    if (l->resizing || x.off == size)
        return;
    l->resizing = true;
    oracle_resize_begin(o, x.off, sim_seq(l->run->disk));
    int r = node_truncate(l->guest, x.off);
    /* A bitmap that is being made or removed is busy. */
    bool ok = !(r == -EBUSY && l->w->bitmaps) && load_result(l, "a resize", &x, r);
    oracle_resize_end(o, ok, sim_seq(l->run->disk));
    l->resizing = false;
}

/* Add a bitmap, or remove one that was added. */
static void do_bitmap(struct fiber *f)
{
    struct load *l = f->l;
    struct load_run *run = l->run;
    const struct load_extent none = {0};
    struct err *e = NULL;
    for (unsigned i = 1; i < run->n_maps && rng_below(&f->rng, 2); i++) {
        struct load_bitmap *m = &run->maps[i];
        if (!m->added || m->removing)
            continue;
        m->removing = sim_seq(run->disk);
        bool gone = node_bitmap_remove(l->guest, m->name, &e);
        load_result(l, "removing a bitmap", &none, gone ? 0 : -err_code(e));
        err_free(e);
        return;
    }
    if (run->n_maps == LOAD_MAX_BITMAPS)
        return;
    struct load_bitmap *m = &run->maps[run->n_maps];
    snprintf(m->name, sizeof(m->name), "m%u.%04x", run->n_maps++, (unsigned)(run->seed & 0xffff));
    bool there = node_bitmap_add(l->guest, m->name,
                                 LOAD_BITMAP_GRANULARITY << rng_below(&f->rng, 3), true, &e);
    if (load_result(l, "adding a bitmap", &none, there ? 0 : -err_code(e)))
        m->added = sim_seq(run->disk);
    err_free(e);
}

static enum load_op draw(struct fiber *f)
{
    unsigned total = 0;
    for (unsigned i = 0; i < LOAD_OP_COUNT; i++)
        total += f->l->w->weight[i];
    unsigned at = (unsigned)rng_below(&f->rng, total);
    enum load_op op = 0;
    while (at >= f->l->w->weight[op])
        at -= f->l->w->weight[op++];
    return op;
}

static void fiber_step(struct fiber *f)
{
    enum load_op op = draw(f);
    struct load_extent x = pick(f, op);
    switch (op) {
    case LOAD_WRITE:
    case LOAD_WRITE_FUA:
        do_write(f, &x, op == LOAD_WRITE_FUA ? REQ_FUA : 0);
        break;
    case LOAD_WRITE_PACKED:
        do_write(f, &x, REQ_COMPRESSED);
        break;
    case LOAD_ZERO:
        do_zero(f, &x, 0);
        break;
    case LOAD_ZERO_UNMAP:
        do_zero(f, &x, REQ_MAY_UNMAP);
        break;
    case LOAD_ZERO_FUA:
        do_zero(f, &x, REQ_FUA | REQ_MAY_UNMAP);
        break;
    case LOAD_DISCARD:
        do_discard(f, &x);
        break;
    case LOAD_FLUSH:
        do_flush(f->l);
        break;
    case LOAD_READ:
        do_read(f, &x);
        break;
    case LOAD_BITMAP:
        do_bitmap(f);
        break;
    case LOAD_RESIZE:
        do_resize(f);
        break;
    default:
        load_snap_op(f->l, &f->rng, op);
        break;
    }
}

static void fiber_main(void *arg)
{
    struct fiber *f = arg;
    while (f->left-- && !f->l->run->problem[0])
        fiber_step(f);
    co_group_done(&f->l->fibers);
}

static bool open_guest(struct load *l)
{
    const struct qc_open_opts opts = {
        .path = NULL,
        .no_backing = true,
        .l2_cache_bytes = l->w->l2_cache_bytes,
        .refcount_cache_bytes = l->w->refcount_cache_bytes,
    };
    struct err *e = NULL;
    l->guest = load_open(l->run->disk, &opts, &e);
    if (!l->guest) {
        if (!may_fail(l) || (mem_fired(l) && err_code(e) != ENOMEM))
            load_problem(l, "open failed, which it should not: %s", err_msg(e));
        else if (!e)
            load_problem(l, "open failed without an error message");
    }
    err_free(e);
    return l->guest != NULL;
}

/* What a power cut before this run has left: it can only be removed, and blocks resizing. */
static void drop_inconsistent(struct load *l)
{
    const struct load_extent none = {0};
    struct bitmap *next;
    for (struct bitmap *b = node_bitmap_first(l->guest); b; b = next) {
        struct err *e = NULL;
        next = b->next;
        if (b->inconsistent && !node_bitmap_remove(l->guest, b->name, &e))
            load_result(l, "removing an inconsistent bitmap", &none, -err_code(e));
        err_free(e);
    }
}

static void main_co(void *arg)
{
    struct load *l = arg;
    struct fiber *fiber = load_must(calloc(l->w->fibers, sizeof(*fiber)));
    mem_fail_nth(l->run->mem_nth, l->run->mem_sticky);
    l->run->opened = open_guest(l);
    if (l->run->opened) {
        drop_inconsistent(l);
        for (unsigned i = 0; i < l->w->fibers; i++) {
            fiber[i].l = l;
            fiber[i].left = l->run->short_run ? l->w->short_ops : l->w->ops;
            rng_seed(&fiber[i].rng, rng_hash(l->run->seed) + i);
            co_group_add(&l->fibers);
            if (!co_start(fiber_main, &fiber[i])) {
                if (!mem_fired(l))
                    load_problem(l, "no memory for a coroutine");
                co_group_done(&l->fibers);
            }
        }
        co_group_wait(&l->fibers);
        l->run->flushed = do_flush(l);
        node_unref(l->guest);
    }
    l->run->mem_fired = mem_fired(l);
    mem_fail_nth(0, 0);
    free(fiber);
    l->run->done = true;
}

void load_run(struct load_run *run)
{
    struct load l = {.run = run, .w = run->w, .cursor = run->w->prefill};
    size_t alive = co_alive();
    run->done = run->opened = run->flushed = false;
    run->ok_ops = run->failed_ops = 0;
    run->mem_fired = false;
    run->problem[0] = '\0';
    memset(run->maps, 0, sizeof(run->maps));
    run->n_maps = run->w->bitmaps;
    run->maps[0] = (struct load_bitmap){.name = "since", .since_start = true, .added = 1};
    sim_set_latency(run->disk, 0, run->w->latency_ns, run->seed);
    if (!co_start(main_co, &l)) {
        fprintf(stderr, "workload: no memory for a coroutine\n");
        abort();
    }
    reactor_run_until_idle(reactor_current());
    if (!run->done || co_alive() != alive) {
        run->done = false;
        load_problem(&l, "it hangs: %zu coroutines wait for ever", co_alive() - alive);
    }
}
