/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Requests of an NBD node. A server may do less than we ask for; what it cannot is left to the
 * dispatcher (zeros), done in another way (FUA becomes a flush) or left out (discards).
 *
 * libnbd does not check that the chunks of an answer make up the whole of a read; that is done
 * here, as a hole in the answer must never pass for data.
 */
#include <errno.h>
#include <inttypes.h>
#include <libnbd.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cover.h"
#include "block/nbd_disk_priv.h"

#define MAX_REQUEST (32u << 20) /* proto.md: what every server should take */
#define MAX_RANGE (1u << 30)    /* of zeros, discards and questions: they carry no data */
#define MAX_ALIGN (64u << 10)   /* proto.md: the largest minimum block size */

bool nbd_learn(struct node *n, struct nbd_link *l, struct err **errp)
{
    const struct nbd_disk *d = n->state;
    int64_t size = nbd_get_size(l->h);
    int64_t least = nbd_get_block_size(l->h, LIBNBD_SIZE_MINIMUM);
    int64_t most = nbd_get_block_size(l->h, LIBNBD_SIZE_MAXIMUM);
    uint32_t align = least > 1 ? (uint32_t)min_u64((uint64_t)least, UINT32_MAX) : 1;
    bool read_only = nbd_is_read_only(l->h) != 0;

    if (size < 0 || size > INT64_MAX - MAX_RANGE)
        return err_set(errp, EFBIG, "%s: the export's size makes no sense", n->name);
    if (!is_power_of_2(align) || align > MAX_ALIGN || !is_aligned((uint64_t)size, align))
        return err_set(errp, EINVAL,
                       "%s: the export's minimum block size of %" PRIu32
                       " bytes makes no sense for its size of %" PRId64,
                       n->name, align, size);
    if (read_only && !d->opts.read_only && !d->opts.auto_read_only)
        return err_set(errp, EACCES, "%s: request on denied because the server is read-only",
                       n->name);
    n->size = (uint64_t)size;
    n->read_only = read_only || d->opts.read_only;
    n->limits.align = align;
    n->limits.max_len = MAX_REQUEST;
    if (most > 0 && most < MAX_REQUEST)
        n->limits.max_len = max_u64(round_down((uint64_t)most, align), align);
    n->limits.max_zero = n->limits.max_discard = MAX_RANGE;
    return true;
}

static int note_chunk(void *arg, const void *buf, size_t count, uint64_t off, unsigned status,
                      int *error)
{
    if (status == LIBNBD_READ_DATA || status == LIBNBD_READ_HOLE)
        cover_add(arg, off, count);
    return 0;
}

static int read_op(struct nbd_link *l, struct req *r)
{
    struct nbd_call c;
    struct cover cover;
    int64_t issued;
    int ret;

    cover_init(&cover, r->off);
    call_begin(l, &c);
    issued = nbd_aio_pread_structured(
        l->h, r->buf, r->len, r->off,
        (nbd_chunk_callback){.callback = note_chunk, .user_data = &cover},
        (nbd_completion_callback){.callback = call_callback, .user_data = &c}, 0);
    ret = call_wait(&c, issued);
    return ret == 0 && !cover_is(&cover, r->len) ? -EIO : ret;
}

static int flush_op(struct nbd_link *l)
{
    struct nbd_call c;

    if (nbd_can_flush(l->h) <= 0)
        return 0;
    call_begin(l, &c);
    return call_wait(
        &c, nbd_aio_flush(
                l->h, (nbd_completion_callback){.callback = call_callback, .user_data = &c}, 0));
}

static int cache_op(struct nbd_link *l, const struct req *r)
{
    struct nbd_call c;

    if (nbd_can_cache(l->h) <= 0)
        return -ENOTSUP;
    call_begin(l, &c);
    return call_wait(
        &c,
        nbd_aio_cache(l->h, min_u64(r->len, MAX_REQUEST), r->off,
                      (nbd_completion_callback){.callback = call_callback, .user_data = &c}, 0));
}

/* Flags of a ZERO, or -ENOTSUP. */
static int zero_flags(const struct nbd_link *l, const struct req *r)
{
    int flags = r->flags & REQ_MAY_UNMAP ? 0 : (int)LIBNBD_CMD_FLAG_NO_HOLE;

    if (nbd_can_zero(l->h) <= 0)
        return -ENOTSUP;
    if (!(r->flags & REQ_NO_FALLBACK))
        return flags;
    return nbd_can_fast_zero(l->h) > 0 ? flags | (int)LIBNBD_CMD_FLAG_FAST_ZERO : -ENOTSUP;
}

static int change_op(struct nbd_link *l, const struct req *r)
{
    struct nbd_call c;
    nbd_completion_callback done = {.callback = call_callback, .user_data = &c};
    bool fua = r->flags & REQ_FUA, native = fua && nbd_can_fua(l->h) > 0;
    int flags = r->op == REQ_ZERO ? zero_flags(l, r) : 0, ret;
    int64_t issued;

    if (flags < 0 || (r->op == REQ_DISCARD && nbd_can_trim(l->h) <= 0))
        return -ENOTSUP;
    if (native)
        flags |= (int)LIBNBD_CMD_FLAG_FUA;
    call_begin(l, &c);
    if (r->op == REQ_WRITE)
        issued = nbd_aio_pwrite(l->h, r->buf, r->len, r->off, done, (uint32_t)flags);
    else if (r->op == REQ_ZERO)
        issued = nbd_aio_zero(l->h, r->len, r->off, done, (uint32_t)flags);
    else
        issued = nbd_aio_trim(l->h, r->len, r->off, done, (uint32_t)flags);
    ret = call_wait(&c, issued);
    return ret == 0 && fua && !native ? flush_op(l) : ret;
}

/* --- Block status --- */

struct question {
    uint64_t off, skip; /* the answer begins at off, ours skip bytes later */
    struct extents *ext;
    uint64_t told;
    bool full;
    int error;
};

static int take_extents(void *arg, const char *context, uint64_t off, uint32_t *entries, size_t n,
                        int *error)
{
    struct question *q = arg;

    if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0 || off != q->off || q->told > 0)
        return 0;
    for (size_t i = 0; i + 1 < n && !q->full; i += 2) {
        uint64_t len = entries[i], skip = min_u64(len, q->skip);
        /* base:allocation: bit 0 is a hole, bit 1 reads as zeros. */
        uint32_t flags = (entries[i + 1] & LIBNBD_STATE_HOLE ? EXTENT_HOLE : 0) |
                         (entries[i + 1] & LIBNBD_STATE_ZERO ? EXTENT_ZERO : 0);
        int ret = extents_add(q->ext, len - skip, flags);

        q->skip -= skip;
        q->told += len;
        q->full = ret <= 0;
        if (ret < 0)
            q->error = -ret;
    }
    return 0;
}

static int status_op(struct node *n, struct nbd_link *l, struct req *r)
{
    uint64_t start = round_down(r->off, n->limits.align);
    uint64_t end = round_up(r->off + min_u64(r->len, MAX_RANGE / 2), n->limits.align);
    struct question q = {.off = start, .skip = r->off - start, .ext = r->ext};
    uint64_t before = r->ext->total;
    struct nbd_call c;
    int ret;

    if (nbd_can_meta_context(l->h, LIBNBD_CONTEXT_BASE_ALLOCATION) <= 0)
        return -ENOTSUP;
    call_begin(l, &c);
    ret = call_wait(&c,
                    nbd_aio_block_status(
                        l->h, end - start, start,
                        (nbd_extent_callback){.callback = take_extents, .user_data = &q},
                        (nbd_completion_callback){.callback = call_callback, .user_data = &c}, 0));
    if (ret < 0 || q.error)
        return ret < 0 ? ret : -q.error;
    /* An answer that tells nothing is taken for "data". */
    if (r->ext->total == before) {
        ret = extents_add(r->ext, r->len, 0);
        return ret < 0 ? ret : 0;
    }
    extents_trim(r->ext, before + r->len);
    return 0;
}

int nbd_request(struct node *n, struct nbd_link *l, struct req *r)
{
    switch (r->op) {
    case REQ_READ:
        return read_op(l, r);
    case REQ_WRITE:
    case REQ_ZERO:
    case REQ_DISCARD:
        return change_op(l, r);
    case REQ_FLUSH:
        return flush_op(l);
    case REQ_STATUS:
        return status_op(n, l, r);
    case REQ_CACHE:
        return cache_op(l, r);
    default:
        return -ENOTSUP;
    }
}
