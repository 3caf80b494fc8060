/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The null leaf: QEMU's null-co. QEMU leaves the buffer of a read as it was unless told otherwise;
 * here it is always zeroed, as what it held before was perhaps somebody else's data.
 */
#include "block/null.h"

#include <errno.h>
#include <string.h>

#include "io/reactor.h"

struct null_disk {
    bool read_zeroes;
    int64_t latency_ns;
};

static int null_submit(struct node *n, struct req *r)
{
    const struct null_disk *d = n->state;

    if (d->latency_ns > 0)
        co_sleep_until(clock_ns() + d->latency_ns);
    switch (r->op) {
    case REQ_READ:
        memset(r->buf, 0, r->len);
        return 0;
    case REQ_STATUS: {
        int ret = extents_add(r->ext, r->len, d->read_zeroes ? EXTENT_ZERO : 0);
        return ret < 0 ? ret : 0;
    }
    case REQ_TRUNCATE:
        return -ENOTSUP;
    default:
        return 0;
    }
}

const struct driver null_driver = {
    .name = "null",
    .state_size = sizeof(struct null_disk),
    .submit = null_submit,
    .fua_ops = 1u << REQ_WRITE | 1u << REQ_ZERO | 1u << REQ_DISCARD,
};

struct node *null_open(uint64_t size, bool read_zeroes, int64_t latency_ns, bool read_only,
                       struct err **errp)
{
    struct node *n = node_new(&null_driver, "null", errp);

    if (!n)
        return NULL;
    *(struct null_disk *)n->state = (struct null_disk){read_zeroes, latency_ns};
    n->size = size;
    n->read_only = read_only;
    return n;
}
