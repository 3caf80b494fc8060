/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Copying.
 *
 * A worker is a coroutine that takes the next piece of the plan, reads it, has it hashed on another
 * thread, writes what is not zero, and leaves the digests in a ring at its piece's number. Pieces
 * complete in any order; the ring is emptied in order, so the hash file is written sequentially.
 * A worker may not take a piece more than RING places ahead of the oldest unfinished one, which
 * bounds memory however the server orders its answers.
 */
#include "backup-client/pull.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "io/co.h"
#include "io/io.h"
#include "io/lock.h"

#define RING 256
#define PIECE_BLOCKS (PULL_REQUEST_MAX / BACKUP_BLOCK)

struct piece {
    bool done;
    enum plan_kind kind;
    uint64_t first, count; /* blocks */
    struct digest digest[PIECE_BLOCKS];
    bool zero[PIECE_BLOCKS];
};

struct copy {
    const struct pull_opts *o;
    struct pull_result res;
    struct err *err; /* the first one */
    bool failed;
    struct co_mutex plan_lock;
    struct co_queue room; /* waiting for the ring */
    uint64_t head, tail;  /* pieces: the oldest unfinished one; the next to be taken */
    unsigned started;
    struct co_group workers;
    struct piece ring[RING];
};

struct hash_job {
    uint8_t *buf;
    size_t len;
    struct piece *piece;
};

static int hash_work(void *arg)
{
    struct hash_job *j = arg;
    return digest_blocks(j->buf, j->len, j->piece->digest, j->piece->zero) ? 0 : -ENOMEM;
}

static void copy_fail(struct copy *c, struct err *e)
{
    if (c->failed)
        err_free(e);
    else
        c->err = e;
    c->failed = true;
    co_queue_wake_all(&c->room);
    /* Nobody should wait for answers that will not be used. */
    source_abort(c->o->source);
}

static bool write_failed(struct copy *c, int r, uint64_t off, struct err **errp)
{
    return err_set_errno(errp, -r, "%s: write at offset %" PRIu64, c->o->layer->name, off);
}

/* The layer's disk may end up to 511 bytes past the source's: the last request covers that too. */
static uint64_t layer_len(const struct copy *c, uint64_t off, uint64_t len)
{
    return off + len == c->o->plan->size ? c->o->layer->size - off : len;
}

/* Give the layer the blocks of one piece: neighbours of one kind in one request. buf is padded with
 * zeros to whole blocks. */
static bool store_blocks(struct copy *c, const struct piece *p, const uint8_t *buf, size_t len,
                         struct err **errp)
{
    for (uint64_t i = 0, j; i < p->count; i = j) {
        for (j = i + 1; j < p->count && p->zero[j] == p->zero[i]; j++)
            ;
        uint64_t off = (p->first + i) * BACKUP_BLOCK, at = i * BACKUP_BLOCK;
        uint64_t n = min_u64((j - i) * BACKUP_BLOCK, len - at);
        int r = 0;
        uint64_t whole = layer_len(c, off, n);
        if (!p->zero[i])
            r = node_write(c->o->layer, off, buf + at, whole, 0);
        else if (c->o->explicit_zeros)
            r = node_zero(c->o->layer, off, whole, REQ_NO_FALLBACK);
        if (r < 0)
            return write_failed(c, r, off, errp);
        if (!p->zero[i])
            c->res.data_bytes += n;
        else if (c->o->explicit_zeros)
            c->res.zero_bytes += n;
    }
    return true;
}

static bool copy_data(struct copy *c, unsigned worker, struct piece *p, uint8_t *buf, uint64_t off,
                      uint64_t len, struct err **errp)
{
    struct hash_job job = {.buf = buf, .len = len, .piece = p};
    if (!source_read(c->o->source, worker, buf, off, (uint32_t)len, errp))
        return false;
    c->res.read_bytes += len;
    if (io_offload(hash_work, &job) < 0)
        return err_set(errp, ENOMEM, "SHA-256 failed: out of memory");
    return store_blocks(c, p, buf, len, errp);
}

static bool copy_zeros(struct copy *c, uint64_t off, uint64_t len, struct err **errp)
{
    uint64_t end = off + len;
    /* In steps, so that an interrupt is heard and the layer's tables are not held for long. */
    for (uint64_t n; off < end && !c->failed; off += n) {
        n = min_u64(end - off, GiB);
        int r = node_zero(c->o->layer, off, layer_len(c, off, n), REQ_NO_FALLBACK);
        if (r < 0)
            return write_failed(c, r, off, errp);
        c->res.zero_bytes += n;
    }
    return true;
}

static bool emit_piece(struct copy *c, const struct piece *p, struct err **errp)
{
    struct hash_writer *w = c->o->hashes;
    if (p->kind == PLAN_ZERO)
        return hash_writer_zeros(w, p->first, p->count, errp);
    for (uint64_t i = 0; i < p->count; i++) {
        bool ok = true;
        if (!p->zero[i])
            ok = hash_writer_data(w, p->first + i, &p->digest[i], errp);
        else if (c->o->explicit_zeros)
            ok = hash_writer_zeros(w, p->first + i, 1, errp);
        if (!ok)
            return false;
    }
    return true;
}

/* Write the digests of all finished pieces at the head of the ring. */
static bool drain_ring(struct copy *c, struct err **errp)
{
    struct piece *p;
    while (c->head < c->tail && (p = &c->ring[c->head % RING])->done) {
        if (!emit_piece(c, p, errp))
            return false;
        p->done = false;
        c->head++;
        co_queue_wake_one(&c->room);
        progress_update(c->o->progress, (p->first + p->count) * BACKUP_BLOCK, c->res.read_bytes);
    }
    return true;
}

/* Take the next piece that needs work. *p is NULL at the end of the plan. */
static bool take_piece(struct copy *c, struct piece **p, uint64_t *off, uint64_t *len,
                       struct err **errp)
{
    enum plan_kind kind;
    bool ok = true;

    *p = NULL;
    co_lock(&c->plan_lock);
    while (!c->failed && c->tail - c->head >= RING)
        co_queue_wait(&c->room);
    do {
        if (c->failed || *c->o->stop) {
            ok = c->failed || err_set(errp, ECANCELED, "interrupted");
            *len = 0;
            break;
        }
        ok = plan_next(c->o->plan, c->o->request, &kind, off, len, errp);
    } while (ok && *len > 0 && kind == PLAN_SKIP);
    if (ok && *len > 0) {
        *p = &c->ring[c->tail++ % RING];
        (*p)->kind = kind;
        (*p)->first = *off / BACKUP_BLOCK;
        (*p)->count = div_round_up(*len, BACKUP_BLOCK);
    }
    co_unlock(&c->plan_lock);
    return ok;
}

static bool work(struct copy *c, unsigned worker, struct err **errp)
{
    uint8_t *buf = NULL;
    bool ok = true;
    while (ok && !c->failed) {
        struct piece *p;
        uint64_t off, len;
        ok = take_piece(c, &p, &off, &len, errp);
        if (!ok || !p)
            break;
        if (p->kind == PLAN_DATA && !buf && !(buf = mem_alloc_aligned(c->o->request, 4096)))
            ok = err_set(errp, ENOMEM, "out of memory for a buffer");
        else
            ok = p->kind == PLAN_DATA ? copy_data(c, worker, p, buf, off, len, errp)
                                      : copy_zeros(c, off, len, errp);
        p->done = ok;
        ok = ok && drain_ring(c, errp);
    }
    mem_free(buf);
    return ok;
}

static void worker_main(void *arg)
{
    struct copy *c = arg;
    struct err *e = NULL;
    if (!work(c, c->started++, &e))
        copy_fail(c, e);
    co_group_done(&c->workers);
}

bool pull_run(const struct pull_opts *o, struct pull_result *out, struct err **errp)
{
    struct copy *c = mem_new(struct copy);
    if (!c)
        return err_set(errp, ENOMEM, "out of memory");
    c->o = o;
    for (unsigned i = 0; i < o->workers && !c->failed; i++) {
        co_group_add(&c->workers);
        if (!co_start(worker_main, c)) {
            co_group_done(&c->workers);
            struct err *e = NULL;
            err_set(&e, ENOMEM, "out of memory");
            copy_fail(c, e);
        }
    }
    co_group_wait(&c->workers);
    *out = c->res;
    bool ok = !c->failed;
    if (!ok)
        err_move(errp, c->err);
    mem_free(c);
    return ok;
}
