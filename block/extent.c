/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Extent lists: a growing array. Neighbours of equal flags are one entry, so that the length of a
 * reply depends on the data and not on how a driver happened to walk over it.
 */
#include "block/extent.h"

#include <errno.h>

#include "base/mem.h"

#define EXTENTS_FIRST_CAP 8

void extents_init(struct extents *x, size_t max)
{
    *x = (struct extents){.max = max};
}

void extents_free(struct extents *x)
{
    mem_free(x->v);
    *x = (struct extents){.max = x->max};
}

void extents_clear(struct extents *x)
{
    x->n = 0;
    x->total = 0;
}

static bool extents_grow(struct extents *x)
{
    size_t cap = x->cap ? 2 * x->cap : EXTENTS_FIRST_CAP;
    if (cap > x->max)
        cap = x->max;
    struct extent *v = mem_realloc(x->v, cap * sizeof(*v));
    if (!v)
        return false;
    x->v = v;
    x->cap = cap;
    return true;
}

int extents_add(struct extents *x, uint64_t len, uint32_t flags)
{
    if (len == 0)
        return 1;
    if (x->n && x->v[x->n - 1].flags == flags) {
        x->v[x->n - 1].len += len;
        x->total += len;
        return 1;
    }
    if (x->n >= x->max)
        return 0;
    if (x->n == x->cap && !extents_grow(x))
        return -ENOMEM;
    x->v[x->n++] = (struct extent){.len = len, .flags = flags};
    x->total += len;
    return 1;
}

void extents_trim(struct extents *x, uint64_t len)
{
    while (x->total > len) {
        struct extent *last = &x->v[x->n - 1];
        uint64_t over = x->total - len;
        if (last->len > over) {
            last->len -= over;
            x->total -= over;
        } else {
            x->total -= last->len;
            x->n--;
        }
    }
}
