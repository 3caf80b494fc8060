/* SPDX-License-Identifier: BSD-3-Clause
 *
 * An export of 1 PiB that holds nothing: of each 2^40 bytes the first half is data, the second a
 * hole. It remembers the last request.
 */
#ifndef TESTS_PROTO_VAST_H
#define TESTS_PROTO_VAST_H

#include "tests/proto/proto.h"

#define VAST (UINT64_C(1) << 50)

static struct req vast_last;

static int vast_submit(struct node *n, struct req *r)
{
    (void)n;
    vast_last = *r;
    if (r->op == REQ_READ)
        memset(r->buf, 7, r->len);
    if (r->op != REQ_STATUS)
        return 0;
    for (uint64_t off = r->off, end = r->off + r->len; off < end;) {
        uint64_t half = UINT64_C(1) << 39, to = (off / half + 1) * half;
        uint32_t flags = off / half % 2 ? EXTENT_HOLE | EXTENT_ZERO : 0;
        int added = extents_add(r->ext, (to < end ? to : end) - off, flags);
        if (added <= 0)
            return added;
        off = to;
    }
    return 0;
}

static const struct driver vast_driver = {
    .name = "vast", .submit = vast_submit, .fua_ops = 1 << REQ_ZERO};

static void add_vast(struct proto *p)
{
    struct node *n = node_new(&vast_driver, "vast", NULL);

    assert_non_null(n);
    n->size = VAST;
    struct export_opts o = {.name = "vast", .top = n};
    assert_true(server_add_export(p->server, &o, NULL));
}

#endif
