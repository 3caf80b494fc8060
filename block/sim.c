/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The simulated disk: the leaf driver, failures on demand and latency. What it logs is in
 * sim_log.c, what a power cut leaves of it in sim_crash.c and sim_explore.c.
 *
 * A request is logged when it is issued, changes the content when its latency is over, and a
 * failure that is due is decided at issue, so that counts do not depend on the order of ends.
 */
#include "block/sim.h"

#include <assert.h>
#include <errno.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "block/sim_priv.h"
#include "io/reactor.h"

/* Small, because a crash state copies the chunks that it changes. */
#define SIM_CHUNK (4 * KiB)

struct sim_node {
    struct sim_disk *disk;
    unsigned part;
};

bool sim_view_clone(struct sim_view *dst, const struct sim_view *src)
{
    dst->size[0] = src->size[0];
    dst->size[1] = src->size[1];
    return chunks_clone(&dst->chunks, &src->chunks);
}

void sim_view_free(struct sim_view *v)
{
    chunks_free(&v->chunks);
}

struct sim_disk *sim_disk_from(struct sim_view *v)
{
    struct sim_disk *d = mem_new(struct sim_disk);
    if (d && sim_view_clone(&d->base, v)) {
        d->now = *v;
        return d;
    }
    mem_free(d);
    sim_view_free(v);
    return NULL;
}

struct sim_disk *sim_disk_new(uint64_t size)
{
    struct sim_view v = {.size = {size, 0}};
    chunks_init(&v.chunks, SIM_CHUNK);
    return sim_disk_from(&v);
}

void sim_disk_free(struct sim_disk *d)
{
    if (!d)
        return;
    assert(!d->writers[0] && !d->writers[1] && !d->readers[0] && !d->readers[1] && !d->in_flight);
    log_free(d);
    sim_view_free(&d->base);
    sim_view_free(&d->now);
    mem_free(d);
}

bool sim_disk_load(struct sim_disk *d, const void *data, uint64_t len)
{
    for (unsigned part = 0; part < 2; part++)
        chunks_zero(&d->now.chunks, part * SIM_SECOND, round_up(d->now.size[part], SIM_CHUNK));
    d->now.size[0] = len;
    d->now.size[1] = 0;
    return chunks_write(&d->now.chunks, 0, data, len) && sim_log_mark(d);
}

void sim_disk_peek(const struct sim_disk *d, uint64_t off, void *buf, uint64_t len)
{
    chunks_read(&d->now.chunks, off, buf, len);
}

uint64_t sim_disk_size(const struct sim_disk *d)
{
    return d->now.size[0];
}

uint64_t sim_second_size(const struct sim_disk *d)
{
    return d->now.size[1];
}

void sim_fail_nth(struct sim_disk *d, const struct sim_fail *f)
{
    d->fail = *f;
    d->io_count = d->fail_count = 0;
    d->fired = false;
}

uint64_t sim_io_count(const struct sim_disk *d)
{
    return d->io_count;
}

bool sim_fired(const struct sim_disk *d)
{
    return d->fired;
}

void sim_set_latency(struct sim_disk *d, int64_t min_ns, int64_t max_ns, uint64_t seed)
{
    assert(min_ns >= 0 && min_ns <= max_ns);
    d->min_ns = min_ns;
    d->max_ns = max_ns;
    rng_seed(&d->rng, seed);
}

/* Count an I/O. Returns 0, or -errno if it is one that must fail. */
static int sim_fate(struct sim_disk *d, enum req_op op)
{
    const struct sim_fail *f = &d->fail;
    d->io_count++;
    if (f->op_mask && !(f->op_mask & (1u << op)))
        return 0;
    d->fail_count++;
    bool due = f->nth && (d->fail_count == f->nth || (f->sticky && d->fail_count > f->nth));
    if (!due)
        return 0;
    d->fired = true;
    return -f->error;
}

static void sim_delay(struct sim_disk *d)
{
    if (d->max_ns == 0)
        return;
    uint64_t spread = (uint64_t)(d->max_ns - d->min_ns) + 1;
    /* A few slow ones among many quick: whole sequences then fit into the time of one request. */
    if (rng_below(&d->rng, 8))
        spread = spread / 16 + 1;
    co_sleep_until(clock_ns() + d->min_ns + (int64_t)rng_below(&d->rng, spread));
}

static int sim_status(const struct sim_disk *d, const struct req *r, uint64_t base)
{
    bool held;
    uint64_t pos = 0;
    while (pos < r->len) {
        uint64_t run = chunks_run(&d->now.chunks, base + r->off + pos, r->len - pos, &held);
        int ret = extents_add(r->ext, run, held ? 0 : EXTENT_HOLE | EXTENT_ZERO);
        if (ret <= 0)
            return ret;
        pos += run;
    }
    return 0;
}

/* Bytes of the first half of r, up to a sector's edge: no disk writes a part of a sector. */
static uint64_t first_half(const struct req *r)
{
    uint64_t end = round_down(r->off + r->len / 2, 512);
    return end > r->off ? end - r->off : 0;
}

/* Writes, discards, truncates and flushes: what is logged. */
static int sim_change(struct sim_disk *d, const struct req *r, unsigned part, int fate)
{
    struct sim_rec *rec = log_issue(d, r, part);
    if (!rec)
        return -ENOMEM;
    if (fate < 0)
        rec->touched = d->fail.partial ? first_half(r) : 0;
    d->in_flight++;
    sim_delay(d);
    d->in_flight--;
    if (fate == 0 || rec->touched) {
        if (!rec_apply(&d->now, rec) && fate == 0)
            fate = -ENOMEM;
    }
    log_end(d, rec, fate);
    return fate;
}

static int sim_submit(struct node *n, struct req *r)
{
    const struct sim_node *s = n->state;
    struct sim_disk *d = s->disk;
    uint64_t base = s->part * SIM_SECOND;
    if (r->op == REQ_CACHE)
        return -ENOTSUP;

    int ret = sim_fate(d, r->op);
    if (r->op == REQ_READ || r->op == REQ_STATUS) {
        sim_delay(d);
        if (ret == 0 && r->op == REQ_STATUS)
            ret = sim_status(d, r, base);
        else if (ret == 0)
            chunks_read(&d->now.chunks, base + r->off, r->buf, r->len);
    } else {
        ret = sim_change(d, r, s->part, ret);
    }
    n->size = d->now.size[s->part];
    return ret;
}

static void sim_close(struct node *n)
{
    const struct sim_node *s = n->state;
    if (!s->disk)
        return;
    if (n->read_only)
        s->disk->readers[s->part]--;
    else
        s->disk->writers[s->part]--;
}

const struct driver sim_driver = {
    .name = "sim",
    .state_size = sizeof(struct sim_node),
    .submit = sim_submit,
    .close = sim_close,
    .fua_ops = 1u << REQ_WRITE | 1u << REQ_ZERO | 1u << REQ_DISCARD,
};

static struct node *open_part(struct sim_disk *d, unsigned part, bool read_only, struct err **errp)
{
    if (!read_only && d->writers[part]) {
        err_set(errp, EBUSY, "simulated disk: already open for writing");
        return NULL;
    }
    struct node *n = node_new(&sim_driver, "sim", errp);
    if (!n)
        return NULL;
    *(struct sim_node *)n->state = (struct sim_node){d, part};
    n->read_only = read_only;
    n->growable = true;
    n->size = d->now.size[part];
    if (read_only)
        d->readers[part]++;
    else
        d->writers[part]++;
    return n;
}

struct node *sim_open(struct sim_disk *d, bool read_only, struct err **errp)
{
    return open_part(d, 0, read_only, errp);
}

struct node *sim_open_second(struct sim_disk *d, bool read_only, struct err **errp)
{
    return open_part(d, 1, read_only, errp);
}
