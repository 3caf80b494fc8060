/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Dirty meets allocated, by blocks.
 *
 * The question for allocation is asked only inside what changed, and after it: a server whose
 * snapshot is restricted to the dirty parts fails the question elsewhere.
 */
#include "backup-client/plan.h"

#include "digest/digest.h"
#include "base/bytes.h"

bool plan_next(struct plan *p, uint64_t max_data, enum plan_kind *kind, uint64_t *off,
               uint64_t *len, struct err **errp)
{
    enum span_mix mix = SPAN_ALL;
    uint64_t limit = p->size;

    *off = p->pos;
    *len = limit - p->pos;
    if (*len == 0)
        return true;
    if (p->dirty) {
        if (!span_blocks(p->dirty, p->pos, limit, 1, &mix, len, errp))
            return false;
        limit = p->pos + *len;
    }
    if (mix == SPAN_NONE) {
        *kind = PLAN_SKIP;
    } else {
        *kind = PLAN_DATA;
        if (p->alloc) {
            if (!span_blocks(p->alloc, p->pos, limit, EXTENT_ZERO, &mix, len, errp))
                return false;
            if (mix == SPAN_ALL)
                *kind = p->dirty ? PLAN_ZERO : PLAN_SKIP;
        }
        if (*kind == PLAN_DATA)
            *len = min_u64(*len, max_data);
    }
    p->pos += *len;
    return true;
}
