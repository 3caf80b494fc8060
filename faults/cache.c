/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The list of writes that a volatile cache holds.
 */
#include "faults/cache.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/rng.h"
#include "faults/engine_priv.h"

#define DESTAGE_ONE_IN 4

static struct cache_rec *rec_new(uint64_t off, const void *buf, uint64_t len)
{
    struct cache_rec *rec = mem_alloc(sizeof(*rec) + (buf ? len : 0));

    if (!rec)
        return NULL;
    *rec = (struct cache_rec){.off = off, .len = len, .zero = !buf};
    if (buf)
        memcpy(rec->data, buf, len);
    return rec;
}

int cache_put(struct cache *c, uint64_t off, const void *buf, uint64_t len, unsigned kind,
              bool durable)
{
    struct cache_rec *rec = rec_new(off, buf, len);

    if (!rec || !pages_reserve(&c->now, off, len)) {
        mem_free(rec);
        return -ENOMEM;
    }
    pages_write(&c->now, off, buf, len); /* has its room */
    rec->kind = kind;
    rec->durable = durable;
    rec->number = ++c->number;
    if (c->tail)
        c->tail->next = rec;
    else
        c->head = rec;
    c->tail = rec;
    c->n++;
    c->bytes += len;
    return 0;
}

static void drop_oldest(struct cache *c)
{
    struct cache_rec *rec = c->head;

    c->head = rec->next;
    if (!c->head)
        c->tail = NULL;
    c->n--;
    c->bytes -= rec->len;
    mem_free(rec);
}

void cache_on_medium(struct cache *c, struct cache_rec *rec)
{
    rec->durable = true;
    while (c->head && c->head->durable)
        drop_oldest(c);
}

struct cache_rec *cache_pick(const struct cache *c)
{
    uint64_t draw = rng_hash(c->conf.seed ^ rng_hash(c->number));
    struct cache_rec *rec = c->head;

    if (!rec || c->conf.destage == DESTAGE_NONE || draw % DESTAGE_ONE_IN != 0)
        return NULL;
    if (c->conf.destage == DESTAGE_RANDOM)
        for (uint64_t i = rng_hash(draw) % c->n; i > 0; i--)
            rec = rec->next;
    return rec;
}

bool cache_full(const struct cache *c)
{
    return c->bytes > c->conf.size;
}

bool cache_tidy(struct cache *c)
{
    struct pages fresh = {0};

    if (c->now.n == 0 || (c->head && pages_bytes(&c->now) < 4 * c->conf.size))
        return false;
    for (const struct cache_rec *rec = c->head; rec; rec = rec->next) {
        if (!pages_write(&fresh, rec->off, rec->zero ? NULL : rec->data, rec->len)) {
            pages_free(&fresh);
            return false; /* later, then */
        }
    }
    pages_free(&c->now);
    c->now = fresh;
    return true;
}

void cache_clear(struct cache *c)
{
    while (c->head) {
        struct cache_rec *rec = c->head;

        c->head = rec->next;
        mem_free(rec);
    }
    c->tail = NULL;
    c->n = 0;
    c->bytes = 0;
    pages_free(&c->now);
}

const struct cache_conf *rules_cache(const struct rules *r)
{
    return &r->cache;
}

struct cache_conf *rules_cache_conf(struct rules *r)
{
    return &r->cache;
}

const char *rules_need_cache(const struct rules *r)
{
    for (const struct fault *f = r->faults.all; f; f = f->all_next)
        if (f->act.action == ACTION_POWERCUT || f->act.then_powercut || f->act.drop)
            return f->where;
    return NULL;
}
