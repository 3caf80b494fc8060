/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Streaming cursor. A disk with millions of extents is walked with a few kilobytes of memory: what
 * an answer holds beyond the limit is dropped and asked for again when the walk gets there.
 */
#include "backup-client/span.h"

#include <errno.h>
#include <string.h>

#include "digest/digest.h"
#include "base/bytes.h"

void span_init(struct span *s, uint64_t size, span_fetch *fetch, void *arg)
{
    memset(s, 0, sizeof(*s));
    s->size = size;
    s->fetch = fetch;
    s->arg = arg;
    extents_init(&s->x, SPAN_EXTENTS_MAX);
}

void span_free(struct span *s)
{
    extents_free(&s->x);
}

static bool fetch_at(struct span *s, uint64_t off, struct err **errp)
{
    extents_clear(&s->x);
    s->start = s->at_off = off;
    s->at = 0;
    uint64_t len = min_u64(s->size - off, SPAN_FETCH_MAX);
    if (!s->fetch(s->arg, off, len, &s->x, errp))
        return false;
    if (s->x.total == 0)
        return err_set(errp, EPROTO, "the status of offset %llu came back empty",
                       (unsigned long long)off);
    extents_trim(&s->x, s->size - off);
    return true;
}

bool span_at(struct span *s, uint64_t off, uint32_t *flags, uint64_t *len, struct err **errp)
{
    if (off < s->start || off >= s->start + s->x.total) {
        if (!fetch_at(s, off, errp))
            return false;
    }
    while (off >= s->at_off + s->x.v[s->at].len) {
        s->at_off += s->x.v[s->at].len;
        s->at++;
    }
    *flags = s->x.v[s->at].flags;
    *len = s->at_off + s->x.v[s->at].len - off;
    return true;
}

bool span_blocks(struct span *s, uint64_t off, uint64_t limit, uint32_t flags, enum span_mix *mix,
                 uint64_t *len, struct err **errp)
{
    uint64_t block_end = min_u64(off + BACKUP_BLOCK, limit);
    uint64_t have;
    uint32_t got;

    if (!span_at(s, off, &got, &have, errp))
        return false;
    have = min_u64(have, limit - off);
    *mix = got & flags ? SPAN_ALL : SPAN_NONE;
    if (off + have >= block_end) {
        /* A run that reaches the limit counts whole, else up to the last full block. */
        *len = off + have == limit ? have : round_down(have, BACKUP_BLOCK);
        return true;
    }
    for (uint64_t at = off + have; at < block_end; at += have) {
        if (!span_at(s, at, &got, &have, errp))
            return false;
        if ((*mix == SPAN_ALL) != ((got & flags) != 0))
            *mix = SPAN_SOME;
    }
    *len = block_end - off;
    return true;
}
