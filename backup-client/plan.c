/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Dirty meets allocated, by blocks.
 *
 * The question for allocation is asked only inside what changed, and after it: a server whose
 * snapshot is restricted to the dirty parts fails the question elsewhere.
 */
#include "backup-client/plan.h"

#include "backup-client/digest.h"
#include "base/bytes.h"

/* What is known of the bits of a map over a stretch of blocks. */
enum mix { MIX_NONE, MIX_SOME, MIX_ALL };

/* Look at the map s from off (block-aligned) on: are the bytes with any of `flags` set none, all or
 * some? *len: the stretch the answer is for: whole blocks up to the end of the run, one block when
 * the flag changes inside it; never past limit. */
static bool look(struct span *s, uint64_t off, uint64_t limit, uint32_t flags, enum mix *mix,
                 uint64_t *len, struct err **errp)
{
    uint64_t block_end = min_u64(off + BACKUP_BLOCK, limit);
    uint64_t have;
    uint32_t got;

    if (!span_at(s, off, &got, &have, errp))
        return false;
    have = min_u64(have, limit - off);
    *mix = got & flags ? MIX_ALL : MIX_NONE;
    if (off + have >= block_end) {
        /* A run that reaches the limit counts whole, else up to the last full block. */
        *len = off + have == limit ? have : round_down(have, BACKUP_BLOCK);
        return true;
    }
    for (uint64_t at = off + have; at < block_end; at += have) {
        if (!span_at(s, at, &got, &have, errp))
            return false;
        if ((*mix == MIX_ALL) != ((got & flags) != 0))
            *mix = MIX_SOME;
    }
    *len = block_end - off;
    return true;
}

bool plan_next(struct plan *p, uint64_t max_data, enum plan_kind *kind, uint64_t *off,
               uint64_t *len, struct err **errp)
{
    enum mix mix = MIX_ALL;
    uint64_t limit = p->size;

    *off = p->pos;
    *len = limit - p->pos;
    if (*len == 0)
        return true;
    if (p->dirty) {
        if (!look(p->dirty, p->pos, limit, 1, &mix, len, errp))
            return false;
        limit = p->pos + *len;
    }
    if (mix == MIX_NONE) {
        *kind = PLAN_SKIP;
    } else {
        *kind = PLAN_DATA;
        if (p->alloc) {
            if (!look(p->alloc, p->pos, limit, EXTENT_ZERO, &mix, len, errp))
                return false;
            if (mix == MIX_ALL)
                *kind = p->dirty ? PLAN_ZERO : PLAN_SKIP;
        }
        if (*kind == PLAN_DATA)
            *len = min_u64(*len, max_data);
    }
    p->pos += *len;
    return true;
}
