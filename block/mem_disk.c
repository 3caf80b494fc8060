/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The memory leaf: sparse chunks. It has no cache to flush, so FUA and flush are free. Not growable
 * unless its opener sets node->growable.
 */
#include "block/mem_disk.h"

#include <errno.h>

#include "base/bytes.h"
#include "block/chunks_priv.h"

#define MEM_CHUNK (64 * KiB)

struct mem_disk {
    struct chunks chunks;
};

static int mem_truncate(struct node *n, struct mem_disk *m, uint64_t size)
{
    if (size < n->size && !chunks_zero(&m->chunks, size, n->size - size))
        return -ENOMEM;
    n->size = size;
    return 0;
}

static int mem_status(const struct mem_disk *m, const struct req *r)
{
    bool held;
    uint64_t pos = 0;
    while (pos < r->len) {
        uint64_t run = chunks_run(&m->chunks, r->off + pos, r->len - pos, &held);
        int ret = extents_add(r->ext, run, held ? 0 : EXTENT_HOLE | EXTENT_ZERO);
        if (ret <= 0)
            return ret;
        pos += run;
    }
    return 0;
}

static int mem_submit(struct node *n, struct req *r)
{
    struct mem_disk *m = n->state;
    bool ok = true;

    switch (r->op) {
    case REQ_READ:
        chunks_read(&m->chunks, r->off, r->buf, r->len);
        return 0;
    case REQ_WRITE:
        ok = chunks_write(&m->chunks, r->off, r->buf, r->len);
        break;
    case REQ_ZERO:
    case REQ_DISCARD:
        ok = chunks_zero(&m->chunks, r->off, r->len);
        break;
    case REQ_STATUS:
        return mem_status(m, r);
    case REQ_TRUNCATE:
        return mem_truncate(n, m, r->off);
    case REQ_FLUSH:
    case REQ_CACHE:
        return 0;
    default:
        return -ENOTSUP;
    }
    if (!ok)
        return -ENOMEM;
    if (r->op != REQ_DISCARD)
        n->size = max_u64(n->size, r->off + r->len);
    return 0;
}

static void mem_close(struct node *n)
{
    struct mem_disk *m = n->state;
    chunks_free(&m->chunks);
}

const struct driver mem_driver = {
    .name = "mem",
    .state_size = sizeof(struct mem_disk),
    .submit = mem_submit,
    .close = mem_close,
    .fua_ops = 1u << REQ_WRITE | 1u << REQ_ZERO | 1u << REQ_DISCARD,
};

struct node *mem_open(uint64_t size, struct err **errp)
{
    if (size > INT64_MAX) {
        err_set(errp, EFBIG, "memory disk: size %llu is over the limit of %lld",
                (unsigned long long)size, (long long)INT64_MAX);
        return NULL;
    }
    struct node *n = node_new(&mem_driver, "mem", errp);
    if (!n)
        return NULL;
    struct mem_disk *m = n->state;
    chunks_init(&m->chunks, MEM_CHUNK);
    n->size = size;
    return n;
}
