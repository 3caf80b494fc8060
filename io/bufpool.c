/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Buffers by power-of-two classes from 4 KiB up. Free ones are linked through their first bytes.
 */
#include "io/bufpool.h"

#include <assert.h>
#include <stdint.h>

#include "base/mem.h"
#include "io/lock.h"

#define MIN_SHIFT 12
#define N_CLASSES 20         /* 4 KiB .. 2 GiB */
#define KEEP_BYTES (4 << 20) /* idle memory that is kept for reuse */

struct free_buf {
    struct free_buf *next;
};

struct bufpool {
    size_t limit, in_use, idle;
    struct free_buf *free_list[N_CLASSES];
    struct co_queue waiters;
};

static unsigned class_of(size_t len)
{
    if (len <= (size_t)1 << MIN_SHIFT)
        return 0;
    return (unsigned)(64 - __builtin_clzl(len - 1)) - MIN_SHIFT;
}

static size_t class_bytes(unsigned c)
{
    return (size_t)1 << (c + MIN_SHIFT);
}

struct bufpool *bufpool_new(size_t limit_bytes)
{
    struct bufpool *p = mem_new(struct bufpool);
    if (p)
        p->limit = limit_bytes;
    return p;
}

void bufpool_free(struct bufpool *p)
{
    if (!p)
        return;
    assert(p->in_use == 0);
    for (unsigned c = 0; c < N_CLASSES; c++) {
        while (p->free_list[c]) {
            struct free_buf *b = p->free_list[c];
            p->free_list[c] = b->next;
            mem_free(b);
        }
    }
    mem_free(p);
}

void *bufpool_get(struct bufpool *p, size_t len)
{
    unsigned c = class_of(len);
    assert(c < N_CLASSES);
    size_t bytes = class_bytes(c);
    /* Those who wait already go first, or a stream of small requests would starve a large one. */
    bool waited = false;
    while (p->in_use > 0 && (p->in_use + bytes > p->limit || (!waited && !co_queue_empty(&p->waiters)))) {
        co_queue_wait(&p->waiters);
        waited = true;
    }
    struct free_buf *b = p->free_list[c];
    if (b) {
        p->free_list[c] = b->next;
        p->idle -= bytes;
    } else {
        b = mem_alloc_aligned(bytes, 4096);
        if (!b) {
            co_queue_wake_one(&p->waiters); /* the turn must not be lost with us */
            return NULL;
        }
    }
    p->in_use += bytes;
    /* What is left may be enough for the next in line as well. */
    if (waited && p->in_use < p->limit)
        co_queue_wake_one(&p->waiters);
    return b;
}

void bufpool_put(struct bufpool *p, void *buf, size_t len)
{
    unsigned c = class_of(len);
    size_t bytes = class_bytes(c);
    assert(p->in_use >= bytes);
    p->in_use -= bytes;
    if (p->idle + bytes <= KEEP_BYTES) {
        struct free_buf *b = buf;
        b->next = p->free_list[c];
        p->free_list[c] = b;
        p->idle += bytes;
    } else {
        mem_free(buf);
    }
    co_queue_wake_one(&p->waiters);
}

size_t bufpool_in_use(const struct bufpool *p)
{
    return p->in_use;
}
