/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Recordings, and the walk along them. What is durable at any time is what lies before the last
 * flush, and what asked for FUA since: what a flush does not cover is moved behind it.
 */
#include "faults/recording.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"

static bool has_data(const struct recorded_entry *e)
{
    return e->what == RECORDED_WRITE || e->what == RECORDED_MARK;
}

static bool make_room(struct recording *r)
{
    size_t room = r->room ? 2 * r->room : 256;
    struct recorded_entry *bigger;

    if (r->n < r->room)
        return true;
    bigger = mem_realloc(r->entry, room * sizeof(*bigger));
    if (!bigger)
        return false;
    r->entry = bigger;
    r->room = room;
    return true;
}

static int put(struct recording *r, const struct recorded_entry *e)
{
    uint64_t held = e->what == RECORDED_FLUSH ? 0 : e->len;
    struct recorded_entry copy = *e;

    if (held > r->limit - r->bytes)
        return -ENOSPC;
    if (!make_room(r))
        return -ENOMEM;
    copy.data = NULL;
    if (has_data(e)) {
        copy.data = mem_alloc(e->len + 1); /* the string of a mark has its end */
        if (!copy.data)
            return -ENOMEM;
        memcpy(copy.data, e->data, e->len);
        copy.data[e->len] = 0;
    }
    r->bytes += held;
    r->unacknowledged += e->ticket != 0;
    r->entry[r->n++] = copy;
    return 0;
}

/* Does one of the entries from..to-1 change what e does? */
static bool changed_again(const struct recording *r, const struct recorded_entry *e, size_t from,
                          size_t to)
{
    for (size_t i = from; i < to; i++) {
        const struct recorded_entry *f = &r->entry[i];

        if (f->what <= RECORDED_TRIM && e->off < f->off + f->len && f->off < e->off + e->len)
            return true;
    }
    return false;
}

/* The last entry is a flush. What must stay in its order with a change that was acknowledged stays
 * before it: the flush has covered it, which is legal, too. */
static void move_behind_flush(struct recording *r)
{
    size_t flush = r->n - 1, left = r->unacknowledged;

    for (size_t i = flush; left > 0 && i-- > 0;) {
        struct recorded_entry e = r->entry[i];

        if (e.ticket == 0)
            continue;
        left--;
        if (changed_again(r, &e, i + 1, flush))
            continue;
        memmove(&r->entry[i], &r->entry[i + 1], (flush - i) * sizeof(e));
        r->entry[flush--] = e;
    }
}

void recording_acknowledge(struct recording *r, uint64_t ticket)
{
    for (size_t i = r->n; ticket && r->unacknowledged > 0 && i-- > 0;)
        if (r->entry[i].ticket == ticket) {
            r->entry[i].ticket = 0;
            r->unacknowledged--;
            return;
        }
}

int recording_put(struct recording *r, const struct recorded_entry *e)
{
    int ret = r->closed ? 0 : put(r, e);

    if (ret < 0 && r->error == 0)
        r->error = ret;
    if (ret == 0 && !r->closed && e->what == RECORDED_FLUSH)
        move_behind_flush(r);
    return ret;
}

uint64_t recording_end(const struct recording *r)
{
    uint64_t end = 0;

    for (size_t i = 0; i < r->n; i++)
        if (r->entry[i].what == RECORDED_WRITE || r->entry[i].what == RECORDED_ZERO)
            end = max_u64(end, r->entry[i].off + r->entry[i].len);
    return end;
}

void recording_free(struct recording *r)
{
    for (size_t i = 0; i < r->n; i++)
        mem_free(r->entry[i].data);
    mem_free(r->entry);
    *r = (struct recording){0};
}

/* The moment just before entry i takes effect is there: what is looked at next is behind it. */
static bool stop_at(struct moments *m, size_t end, size_t in_flight, size_t next)
{
    m->now.end = end;
    m->now.in_flight = in_flight;
    m->next = next;
    return true;
}

bool moments_next(struct moments *m)
{
    const struct recording *r = m->r;

    if (m->next == 0)
        m->now.mark = "";
    else if (!m->ended && r->entry[m->next - 1].what == RECORDED_FLUSH)
        m->now.first = m->next;
    for (size_t i = m->next; i < r->n; i++) {
        const struct recorded_entry *e = &r->entry[i];

        switch (e->what) {
        case RECORDED_MARK:
            m->now.mark = (const char *)e->data;
            m->now.marks++;
            break;
        case RECORDED_FLUSH:
            if (m->dirty) {
                m->dirty = false;
                return stop_at(m, i, SIZE_MAX, i + 1);
            }
            m->now.first = i + 1;
            break;
        case RECORDED_WRITE:
        case RECORDED_ZERO:
        case RECORDED_TRIM:
            if (e->fua)
                return stop_at(m, i + 1, i, i + 1);
            m->dirty = true;
            break;
        }
    }
    if (m->ended)
        return false;
    m->ended = true;
    return stop_at(m, r->n, SIZE_MAX, r->n);
}

bool moment_cache(const struct recording *r, const struct moment *m, struct cache *c)
{
    for (size_t i = m->first; i < m->end; i++) {
        const struct recorded_entry *e = &r->entry[i];

        if (e->what > RECORDED_TRIM)
            continue;
        if (cache_put(c, e->off, e->data, e->len, 0, e->fua && i != m->in_flight) < 0) {
            cache_clear(c);
            return false;
        }
    }
    return true;
}
