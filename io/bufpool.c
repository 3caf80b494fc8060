/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Buffers by power-of-two classes from 4 KiB up. Free ones are linked through their first bytes.
 *
 * Fresh memory costs a page fault for each 4 KiB, more than copying them, so idle buffers are kept
 * while they are in use at all: once a period, those that nobody needed throughout it are freed.
 */
#include "io/bufpool.h"

#include <assert.h>
#include <stdint.h>

#include "base/mem.h"
#include "io/lock.h"
#include "io/reactor.h"

#define MIN_SHIFT 12
#define N_CLASSES 20                /* 4 KiB .. 2 GiB */
#define IDLE_MAX ((size_t)32 << 20) /* idle memory that is kept for reuse */
#define IDLE_KEEP ((size_t)1 << 20) /* ... and for good */
#define TRIM_PERIOD_NS NS_PER_S

struct free_buf {
    struct free_buf *next;
};

struct bufpool {
    size_t limit, in_use, idle;
    size_t idle_low; /* the least that was idle since the last trim: nobody needed that much */
    struct timer trim;
    struct free_buf *free_list[N_CLASSES];
    struct co_mutex turn;  /* held by who is to be served next */
    struct co_queue space; /* ... and waits here until the limit lets him */
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

/* free_idle: give back up to bytes of idle buffers, large ones first. */
static void free_idle(struct bufpool *p, size_t bytes)
{
    for (unsigned c = N_CLASSES; c-- > 0;) {
        while (p->free_list[c] && class_bytes(c) <= bytes) {
            struct free_buf *b = p->free_list[c];
            p->free_list[c] = b->next;
            mem_free(b);
            p->idle -= class_bytes(c);
            bytes -= class_bytes(c);
        }
    }
}

static void trim(void *arg)
{
    struct bufpool *p = arg;
    if (p->idle_low > IDLE_KEEP)
        free_idle(p, p->idle_low - IDLE_KEEP);
    p->idle_low = p->idle;
    if (p->idle > IDLE_KEEP)
        timer_set(&p->trim, clock_ns() + TRIM_PERIOD_NS, trim, p);
}

void bufpool_free(struct bufpool *p)
{
    if (!p)
        return;
    assert(p->in_use == 0);
    timer_cancel(&p->trim);
    free_idle(p, p->idle);
    mem_free(p);
}

/* A request larger than the limit is served once it is alone. */
static bool is_over(const struct bufpool *p, size_t bytes)
{
    return p->in_use > 0 && p->in_use + bytes > p->limit;
}

bool bufpool_would_wait(const struct bufpool *p, size_t len)
{
    return p->turn.held || is_over(p, class_bytes(class_of(len)));
}

void *bufpool_get(struct bufpool *p, size_t len)
{
    unsigned c = class_of(len);
    assert(c < N_CLASSES);
    size_t bytes = class_bytes(c);
    /* Strictly in order of arrival, or a stream of small requests would starve a large one. */
    co_lock(&p->turn);
    while (is_over(p, bytes))
        co_queue_wait(&p->space);
    struct free_buf *b = p->free_list[c];
    if (b) {
        p->free_list[c] = b->next;
        p->idle -= bytes;
        if (p->idle < p->idle_low)
            p->idle_low = p->idle;
    } else {
        b = mem_alloc_aligned(bytes, 4096);
    }
    if (b)
        p->in_use += bytes;
    co_unlock(&p->turn);
    return b;
}

void bufpool_put(struct bufpool *p, void *buf, size_t len)
{
    unsigned c = class_of(len);
    size_t bytes = class_bytes(c);
    assert(p->in_use >= bytes);
    p->in_use -= bytes;
    if (p->idle + bytes <= IDLE_MAX) {
        struct free_buf *b = buf;
        b->next = p->free_list[c];
        p->free_list[c] = b;
        p->idle += bytes;
        if (p->idle > IDLE_KEEP && !p->trim.heap_index)
            timer_set(&p->trim, clock_ns() + TRIM_PERIOD_NS, trim, p);
    } else {
        mem_free(buf);
    }
    co_queue_wake_one(&p->space);
}

size_t bufpool_in_use(const struct bufpool *p)
{
    return p->in_use;
}

size_t bufpool_idle(const struct bufpool *p)
{
    return p->idle;
}
