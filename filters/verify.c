/* SPDX-License-Identifier: BSD-3-Clause
 *
 * blkverify: a disk under test beside one that is trusted. QEMU ends the whole program at the first
 * difference; here others may be served, so the request fails, and so does each later one that
 * meets a difference.
 *
 * Reads and writes of one range do not overlap, or a comparison could see one disk before and the
 * other after a write. Zeros are written as data and discards ignored: what disks may make of those
 * differs rightly.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "filters/filters_priv.h"
#include "filters/stack.h"

#define READ_MAX (1u << 20)

struct verify {
    struct overlap_list busy;
    bool differed;
};

static int differ(struct node *n, const struct req *r, const char *what, uint64_t at)
{
    struct verify *v = n->state;

    if (!v->differed)
        log_error("blkverify: %s of %" PRIu64 " bytes at offset %" PRIu64 ": %s at offset %" PRIu64,
                  req_op_name(r->op), r->len, r->off, what, at);
    v->differed = true;
    return -EIO;
}

static int compare(struct node *n, const struct req *r, const uint8_t *raw)
{
    const uint8_t *test = r->buf;
    uint64_t i = 0;

    if (memcmp(test, raw, r->len) == 0)
        return 0;
    while (test[i] == raw[i])
        i++;
    return differ(n, r, "contents mismatch", r->off + i);
}

static int do_both(struct node *n, const struct req *r)
{
    bool reads = r->op == REQ_READ;
    AUTO_FREE uint8_t *raw_buf = reads ? mem_alloc(r->len) : NULL;
    struct req test = *r, raw = *r;
    int ret, raw_ret;

    if (reads && !raw_buf)
        return -ENOMEM;
    if (reads)
        raw.buf = raw_buf;
    ret = node_submit(n->child[0], &test);
    raw_ret = node_submit(n->child[1], &raw);
    if (ret != raw_ret)
        return differ(n, r, "return value mismatch", r->off);
    return ret == 0 && reads ? compare(n, r, raw_buf) : ret;
}

static int verify_submit(struct node *n, struct req *r)
{
    struct verify *v = n->state;
    struct overlap o;
    int ret;

    if (r->op == REQ_FLUSH)
        return do_both(n, r);
    if (r->op != REQ_READ && r->op != REQ_WRITE)
        return -ENOTSUP;
    overlap_begin(&v->busy, &o, r->off, r->len, r->op == REQ_WRITE);
    ret = do_both(n, r);
    overlap_end(&v->busy, &o);
    return ret;
}

const struct driver verify_driver = {
    .name = "blkverify",
    .state_size = sizeof(struct verify),
    .is_filter = true,
    .submit = verify_submit,
    .fua_ops = 1u << REQ_WRITE,
};

struct node *verify_open(struct node *test, struct node *raw, struct err **errp)
{
    struct node *n;

    if (raw->size < test->size) {
        err_set(errp, EINVAL,
                "the raw image has %" PRIu64 " bytes, fewer than the %" PRIu64
                " of the one under test",
                raw->size, test->size);
        return NULL;
    }
    n = node_over(&verify_driver, test, errp);
    if (!n)
        return NULL;
    if (!node_attach(n, raw, errp)) {
        node_abandon(n);
        return NULL;
    }
    n->read_only = test->read_only || raw->read_only;
    n->growable = false;
    n->limits.cluster = 0;
    n->limits.max_len = READ_MAX;
    return n;
}
