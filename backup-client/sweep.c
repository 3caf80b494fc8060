/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A few workers, each a coroutine: take the next blocks to read, read them, have them hashed on
 * another thread, compare. Memory is workers x piece, whatever the disk's size.
 */
#include "backup-client/sweep.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "io/co.h"
#include "io/io.h"
#include "io/lock.h"

#define SWEEP_WORKERS 8
#define PIECE_BLOCKS 8

struct sweep {
    const struct sweep_opts *o;
    uint64_t next, blocks;
    uint64_t read_bytes;
    struct co_mutex lock;
    struct co_group workers;
    bool failed;
    struct err *err; /* the first one */
};

struct sweep_piece {
    uint64_t first, count; /* blocks */
    size_t len;            /* bytes, less than count blocks at the disk's end */
    uint8_t *buf;
    struct digest want[PIECE_BLOCKS], have[PIECE_BLOCKS];
    bool zero[PIECE_BLOCKS];
};

static int hash_work(void *arg)
{
    struct sweep_piece *p = arg;
    return digest_blocks(p->buf, p->len, p->have, p->zero) ? 0 : -ENOMEM;
}

/* The next blocks to read, under the lock. count is 0 at the end. */
static bool find_piece(struct sweep *s, struct sweep_piece *p, struct err **errp)
{
    const struct digest *digests;
    uint64_t run;
    int layer;
    bool read = false;

    p->count = 0;
    for (; s->next < s->blocks && !s->failed; s->next += run) {
        if (s->o->ctl->interrupted)
            return err_set(errp, ECANCELED, "interrupted");
        if (!merge_at(s->o->merge, s->next, &digests, &run, &layer, errp) ||
            !s->o->look(s->o->arg, s->next, &run, layer, !digests, &read, errp))
            return false;
        if (read)
            break;
    }
    if (s->next >= s->blocks || s->failed)
        return true;
    p->first = s->next;
    p->count = min_u64(run, PIECE_BLOCKS);
    p->len = (size_t)(min_u64((p->first + p->count) * BACKUP_BLOCK, s->o->size) -
                      p->first * BACKUP_BLOCK);
    for (uint64_t i = 0; i < p->count; i++)
        p->want[i] = digests ? digests[i] : *digest_zero();
    s->next += p->count;
    return true;
}

static bool take_piece(struct sweep *s, struct sweep_piece *p, struct err **errp)
{
    co_lock(&s->lock);
    bool ok = find_piece(s, p, errp);
    co_unlock(&s->lock);
    return ok;
}

static bool judge(struct sweep *s, const struct sweep_piece *p, struct err **errp)
{
    bool fine = true;
    for (uint64_t i = 0; i < p->count; i++) {
        if (digest_equal(&p->have[i], &p->want[i]))
            continue;
        fine = false;
        if (!s->o->differs(s->o->arg, p->first + i, errp))
            return false;
    }
    if (!fine || !s->o->good)
        return true;
    for (uint64_t i = 0, j; i < p->count; i = j) {
        for (j = i + 1; j < p->count && p->zero[j] == p->zero[i]; j++)
            ;
        uint64_t at = i * BACKUP_BLOCK, n = min_u64((j - i) * BACKUP_BLOCK, p->len - at);
        if (!p->zero[i] &&
            !s->o->good(s->o->arg, p->first * BACKUP_BLOCK + at, p->buf + at, n, errp))
            return false;
    }
    return true;
}

static bool work(struct sweep *s, struct sweep_piece *p, struct err **errp)
{
    while (!s->failed) {
        if (!take_piece(s, p, errp))
            return false;
        if (p->count == 0)
            return true;
        uint64_t off = p->first * BACKUP_BLOCK;
        int r = node_read(s->o->from, off, p->buf, p->len);
        if (r < 0) {
            if (!s->o->unreadable(s->o->arg, off, p->len, r, errp))
                return false;
            continue;
        }
        s->read_bytes += p->len;
        if (io_offload(hash_work, p) < 0)
            return err_set(errp, ENOMEM, "SHA-256 failed: out of memory");
        if (!judge(s, p, errp))
            return false;
        progress_update(s->o->progress, s->next * BACKUP_BLOCK, s->read_bytes);
    }
    return true;
}

static void worker_main(void *arg)
{
    struct sweep *s = arg;
    struct err *e = NULL;
    struct sweep_piece *p = mem_new(struct sweep_piece);
    if (p)
        p->buf = mem_alloc_aligned(PIECE_BLOCKS * BACKUP_BLOCK, 4096);
    bool ok = p && p->buf ? work(s, p, &e) : err_set(&e, ENOMEM, "out of memory for a buffer");
    if (!ok) {
        if (s->failed)
            err_free(e);
        else
            s->err = e;
        s->failed = true;
    }
    if (p)
        mem_free(p->buf);
    mem_free(p);
    co_group_done(&s->workers);
}

bool sweep_run(const struct sweep_opts *o, uint64_t *read_bytes, struct err **errp)
{
    struct sweep s = {.o = o, .blocks = div_round_up(o->size, BACKUP_BLOCK)};
    for (int i = 0; i < SWEEP_WORKERS && !s.failed; i++) {
        co_group_add(&s.workers);
        if (!co_start(worker_main, &s)) {
            co_group_done(&s.workers);
            s.failed = true;
            err_set(&s.err, ENOMEM, "out of memory");
        }
    }
    co_group_wait(&s.workers);
    *read_bytes += s.read_bytes;
    return !s.failed || err_move(errp, s.err);
}
