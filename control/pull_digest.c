/* SPDX-License-Identifier: BSD-3-Clause
 *
 * backup-digest: the server's own word on what a frozen view holds, in the form in which backups
 * keep it (disk_root): a client compares it with what it has got, without reading anything twice.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "control/pull.h"
#include "digest/digest.h"
#include "io/io.h"

#define PIECE (UINT64_C(16) * BACKUP_BLOCK)

struct piece { /* what another thread works on */
    uint8_t *buf;
    size_t len;
    struct digest digest[PIECE / BACKUP_BLOCK];
    bool zero[PIECE / BACKUP_BLOCK];
};

static int hash_piece(void *arg)
{
    struct piece *w = arg;

    return digest_blocks(w->buf, w->len, w->digest, w->zero) ? 0 : -ENOMEM;
}

/* Blocks from off on that are zeros by the view's tables. */
static int zero_run(struct node *view, uint64_t off, uint64_t *blocks)
{
    struct extents ext;
    int ret;

    extents_init(&ext, 1);
    ret = node_status(view, off, min_u64(view->size - off, GiB), &ext);
    *blocks = 0;
    if (ret == 0 && ext.n > 0 && (ext.v[0].flags & EXTENT_ZERO)) {
        uint64_t len = ext.v[0].len;

        *blocks = off + len == view->size ? div_round_up(len, BACKUP_BLOCK) : len / BACKUP_BLOCK;
    }
    extents_free(&ext);
    return ret;
}

static int add_piece(struct node *view, struct digest_stream *root, struct piece *w, uint64_t off)
{
    int ret;

    w->len = (size_t)min_u64(PIECE, view->size - off);
    ret = node_read(view, off, w->buf, w->len);
    if (ret == 0)
        ret = io_offload(hash_piece, w);
    if (ret == 0 &&
        !digest_stream_add(root, w->digest, div_round_up(w->len, BACKUP_BLOCK) * DIGEST_LEN))
        ret = -ENOMEM;
    return ret;
}

static int add_zeros(struct digest_stream *root, uint64_t blocks)
{
    while (blocks-- > 0) {
        if (!digest_stream_add(root, digest_zero(), DIGEST_LEN))
            return -ENOMEM;
    }
    return 0;
}

static int add_all(struct pull_disk *d, struct node *view, struct digest_stream *root,
                   struct piece *w)
{
    uint64_t off = 0, zeros;
    int ret = 0;

    while (off < view->size && ret == 0) {
        if (d->pull->ending)
            return -ECANCELED;
        ret = zero_run(view, off, &zeros);
        if (ret == 0 && zeros > 0) {
            ret = add_zeros(root, zeros);
            off += zeros * BACKUP_BLOCK;
        } else if (ret == 0) {
            ret = add_piece(view, root, w, off);
            off += PIECE;
        }
    }
    return ret;
}

bool pull_digest(struct pull_disk *d, char *hex, struct err **errp)
{
    struct node *view = node_ref(d->point.view);
    struct digest_stream *root = digest_init(errp) ? digest_stream_new() : NULL;
    struct piece *w = mem_new(struct piece);
    struct digest sum;
    int ret = -ENOMEM;

    d->pull->digests++;
    if (w)
        w->buf = mem_alloc(PIECE);
    if (root && w && w->buf)
        ret = add_all(d, view, root, w);
    if (ret == 0 && !digest_stream_end(root, &sum))
        ret = -ENOMEM;
    if (ret == 0)
        hex_encode(sum.v, DIGEST_LEN, hex);
    if (w)
        mem_free(w->buf);
    mem_free(w);
    digest_stream_free(root);
    node_unref(view);
    if (--d->pull->digests == 0)
        co_queue_wake_all(&d->pull->changed);
    return ret == 0 || err_set_errno(errp, -ret, "the digest of node '%s'", d->node->name);
}
