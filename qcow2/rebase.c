/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Giving an image another backing file.
 *
 * What the image reads from the old one and would not read from the new one is copied into it
 * first. Until that is durable the header names the old file, so that the image reads the same at
 * every moment; then one step changes the header.
 */
#include "qcow2/rebase.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "block/copy.h"
#include "qcow2/map.h"
#include "qcow2/qcow2.h"

struct rebase {
    const struct qc_rebase_opts *o;
    struct node *image;
};

static uint64_t new_end(const struct rebase *b)
{
    return b->o->backing ? b->o->backing->size : 0;
}

/* Does the new backing file read as zeros at off? *len: how far; at most what it was. */
static int new_is_zero(const struct rebase *b, uint64_t off, uint64_t *len, bool *zero)
{
    struct qc_extent x;
    *zero = off >= new_end(b);
    if (*zero)
        return 0;
    int r = qc_map(b->o->backing, off, min_u64(*len, new_end(b) - off), &x);
    *zero = x.zero;
    if (r == 0)
        *len = x.length;
    return r;
}

/* What the image itself says stays. What is zero and will be zero needs no look. */
static int rebase_map(void *arg, uint64_t off, uint64_t len, uint64_t *got, enum copy_kind *kind)
{
    const struct rebase *b = arg;
    struct qc_extent x;
    bool zero;
    *kind = COPY_SKIP;
    int r = qc_map(b->image, off, len, &x);
    *got = x.length;
    if (r < 0 || (x.depth == 0 && x.present))
        return r;
    r = new_is_zero(b, off, got, &zero);
    if (!x.zero || !zero)
        *kind = COPY_DATA;
    return r;
}

static int rebase_baseline(void *arg, uint64_t off, uint8_t *buf, uint64_t len)
{
    const struct rebase *b = arg;
    uint64_t have = off < new_end(b) ? min_u64(len, new_end(b) - off) : 0;
    int r = have ? node_read(b->o->backing, off, buf, have) : 0;
    memset(buf + have, 0, len - have);
    return r;
}

static void rebase_progress(void *arg, uint64_t done, uint64_t all)
{
    const struct rebase *b = arg;
    if (b->o->progress)
        b->o->progress(b->o->arg, done, all);
}

static bool copy_differences(struct rebase *b, struct err **errp)
{
    static const struct copy_ops ops = {
        .map = rebase_map, .baseline = rebase_baseline, .progress = rebase_progress};
    const struct limits *l = &b->image->limits;
    const struct copy_opts co = {.src = b->image,
                                 .dst = b->image,
                                 .len = b->image->size,
                                 .unit = b->o->compressed ? l->cluster : l->zero_align,
                                 .zero_unit = b->o->compressed ? l->cluster : l->zero_align,
                                 .write_flags = b->o->compressed ? REQ_COMPRESSED : 0,
                                 .ops = &ops,
                                 .arg = b};
    struct copy_result at;
    int r = copy_run(&co, &at);
    if (b->o->moved)
        *b->o->moved = (struct qc_moved){at.data_bytes, at.zero_bytes};
    return r == 0 || err_set_errno(errp, -r, "%s: cannot %s %" PRIu64 " bytes at %" PRIu64,
                                   b->image->name, at.reading ? "read" : "write", at.len, at.off);
}

bool qc_rebase(struct node *image, const struct qc_rebase_opts *opts, struct err **errp)
{
    struct rebase b = {.o = opts, .image = image};
    unsigned n = qc_n_snapshots(image);
    if (n)
        return err_set(errp, ENOTSUP,
                       "%s: its %u internal snapshots read from the backing file, too, and would "
                       "change: delete them first (-u changes the name only)",
                       image->name, n);
    if (!qc_can_set_backing(image, opts->name, opts->format, errp)) /* before the long work */
        return false;
    if (opts->name)
        qc_expect_backing(image);
    return copy_differences(&b, errp) && qc_set_backing(image, opts->name, opts->format, errp);
}
