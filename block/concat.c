/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Concatenation: a request is cut at the ends of the parts. There are few parts (they come from a
 * command line), so that they are searched one by one.
 */
#include "block/concat.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

#define SECTOR 512

struct piece { /* of a request, within one part */
    struct node *n;
    uint64_t off, len; /* in the part */
    uint64_t have;     /* of len: what the part has; the rest pads its last sector */
};

static uint64_t padded(const struct node *n)
{
    return round_up(n->size, SECTOR);
}

/* The first piece of a range that lies within the node. */
static struct piece find(const struct node *all, uint64_t off, uint64_t len)
{
    unsigned i = 0;
    while (i + 1 < all->n_child && off >= padded(all->child[i]))
        off -= padded(all->child[i++]);
    struct piece p = {.n = all->child[i], .off = off};
    p.len = min_u64(len, padded(p.n) - off);
    p.have = off < p.n->size ? min_u64(p.len, p.n->size - off) : 0;
    return p;
}

static int concat_read(struct node *n, const struct req *r)
{
    struct piece p;
    for (uint64_t done = 0; done < r->len; done += p.len) {
        uint8_t *buf = (uint8_t *)r->buf + done;
        p = find(n, r->off + done, r->len - done);
        int ret = p.have ? node_read(p.n, p.off, buf, p.have) : 0;
        if (ret < 0)
            return ret;
        memset(buf + p.have, 0, p.len - p.have);
    }
    return 0;
}

/* Of the first part only: an answer may be short. */
static int concat_status(struct node *n, const struct req *r)
{
    struct piece p = find(n, r->off, r->len);
    if (p.have) {
        int ret = node_status(p.n, p.off, p.have, r->ext);
        if (ret < 0 || r->ext->total < p.have)
            return ret;
        extents_trim(r->ext, p.have);
    }
    int ret = extents_add(r->ext, p.len - p.have, EXTENT_HOLE | EXTENT_ZERO);
    return ret < 0 ? ret : 0;
}

static int concat_submit(struct node *n, struct req *r)
{
    if (r->op == REQ_READ)
        return concat_read(n, r);
    if (r->op == REQ_STATUS)
        return concat_status(n, r);
    return r->op == REQ_FLUSH ? 0 : -ENOTSUP;
}

const struct driver concat_driver = {
    .name = "concat",
    .submit = concat_submit,
};

struct node *concat_new(struct node *const *part, unsigned n, struct err **errp)
{
    struct node *all = node_new(&concat_driver, "concat", errp);
    uint64_t size = 0;
    for (unsigned i = 0; all && i < n; i++) {
        node_ref(part[i]);
        bool ok = size <= INT64_MAX - padded(part[i]);
        if (ok ? node_attach(all, part[i], errp)
               : err_set(errp, EFBIG, "the images together are too large")) {
            size += padded(part[i]);
            continue;
        }
        node_unref(part[i]);
        node_unref(all);
        return NULL;
    }
    if (!all)
        return NULL;
    for (unsigned i = 0; i < n; i++)
        node_unref(part[i]); /* the caller's */
    all->size = size;
    all->read_only = true;
    return all;
}
