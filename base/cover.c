/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Sorted ranges in a fixed array: replies of scattered chunks are rare and small.
 */
#include "base/cover.h"

#include <string.h>

void cover_init(struct cover *c, uint64_t start)
{
    c->start = start;
    c->n = 0;
    c->overlap = c->full = false;
}

void cover_add(struct cover *c, uint64_t off, uint64_t len)
{
    unsigned i = c->n;
    if (len == 0)
        return;
    if (off < c->start || off + len < off) {
        c->overlap = true;
        return;
    }
    /* In order, as most servers answer, this is the last range at once. */
    while (i > 0 && c->v[i - 1].from >= off + len)
        i--;
    if (i > 0 && c->v[i - 1].to > off) {
        c->overlap = true;
        return;
    }
    bool left = i > 0 && c->v[i - 1].to == off;
    bool right = i < c->n && c->v[i].from == off + len;
    if (left && right) {
        c->v[i - 1].to = c->v[i].to;
        memmove(&c->v[i], &c->v[i + 1], (c->n - i - 1) * sizeof(c->v[0]));
        c->n--;
    } else if (left) {
        c->v[i - 1].to = off + len;
    } else if (right) {
        c->v[i].from = off;
    } else if (c->n == COVER_RANGES) {
        c->full = true;
    } else {
        memmove(&c->v[i + 1], &c->v[i], (c->n - i) * sizeof(c->v[0]));
        c->v[i] = (struct cover_range){off, off + len};
        c->n++;
    }
}

bool cover_is(const struct cover *c, uint64_t len)
{
    if (c->overlap || c->full)
        return false;
    if (len == 0)
        return c->n == 0;
    return c->n == 1 && c->v[0].from == c->start && c->v[0].to - c->start == len;
}
