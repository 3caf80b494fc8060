/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The limits that blkdebug can pretend: alignment, longest transfers, sizes of zeros and discards.
 * The dispatcher then splits and pads as for a device that has them; what is checked, and in which
 * words it is refused, is blkdebug's.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>

#include "base/bytes.h"
#include "filters/fault_priv.h"

static bool check(const char *name, uint64_t value, uint64_t unit, struct err **errp)
{
    if (value == 0 || (value < INT_MAX && value % unit == 0))
        return true;
    return err_set(errp, EINVAL, "Cannot meet constraints with %s %" PRIu64, name, value);
}

static bool check_all(const struct fault_limits *l, uint64_t child_align, struct err **errp)
{
    uint64_t align = max_u64(l->align, child_align);

    if (l->align && !is_power_of_2(l->align))
        return check("align", l->align, l->align + 1, errp);
    return check("align", l->align, 1, errp) &&
           check("max-transfer", l->max_transfer, align, errp) &&
           check("opt-write-zero", l->opt_write_zero, align, errp) &&
           check("max-write-zero", l->max_write_zero, max_u64(l->opt_write_zero, align), errp) &&
           check("opt-discard", l->opt_discard, align, errp) &&
           check("max-discard", l->max_discard, max_u64(l->opt_discard, align), errp);
}

bool fault_set_limits(struct node *n, const struct fault_limits *l, struct err **errp)
{
    struct fault_node *f = n->state;
    const struct limits *child = &n->child[0]->limits;

    if (!check_all(l, child->align, errp))
        return false;
    n->limits.align = (uint32_t)max_u64(l->align, 1);
    n->limits.max_len = l->max_transfer;
    n->limits.zero_align = l->opt_write_zero;
    n->limits.max_zero = l->max_write_zero;
    n->limits.discard_align = l->opt_discard;
    n->limits.max_discard = l->max_discard;
    f->limited = n->limits.align > 1 || l->opt_write_zero;
    if (!is_aligned(n->size, n->limits.align) && !n->growable)
        return err_set(errp, EINVAL,
                       "align %" PRIu64 " does not go with '%s' of %" PRIu64
                       " bytes, which cannot grow",
                       l->align, n->name, n->size);
    return true;
}

int fault_limit(const struct node *n, const struct req *r)
{
    return r->op == REQ_ZERO && r->len < max_u64(n->limits.align, n->limits.zero_align) ? -ENOTSUP
                                                                                        : 0;
}
