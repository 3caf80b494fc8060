/* SPDX-License-Identifier: BSD-3-Clause
 *
 * QEMU's blklogwrites. The format is that of Documentation/admin-guide/device-mapper/log-writes.rst
 * in Linux: sector 0 is the superblock, then come entries, each one sector with the data behind it.
 *
 * A write is logged when it has ended. A flush covers what had ended when it began, so its place in
 * the log is taken then, by an entry that says nothing; it becomes a flush if the flush succeeds.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "filters/filters_priv.h"
#include "filters/log_writes.h"

#define LOG_MAGIC UINT64_C(0x6a736677736872)
#define LOG_VERSION 1
#define LOG_FLUSH 1u
#define LOG_FUA 2u
#define LOG_DISCARD 4u
#define SECTOR_MAX (1u << 20)
#define DATA_MAX (1u << 20)

struct log_writes {
    uint64_t sector_size, update_interval;
    uint64_t next, entries; /* where the next entry goes, in bytes; how many there are */
    struct co_mutex lock;   /* of the above, and of the log's end */
};

static int put_super(struct node *n)
{
    struct log_writes *l = n->state;
    AUTO_FREE uint8_t *sector = mem_zalloc(l->sector_size);

    if (!sector)
        return -ENOMEM;
    put_le64(sector, LOG_MAGIC);
    put_le64(sector + 8, LOG_VERSION);
    put_le64(sector + 16, l->entries);
    put_le64(sector + 24, l->sector_size);
    return node_write(n->child[1], 0, sector, l->sector_size, 0);
}

static void put_entry(const struct log_writes *l, uint8_t *to, const struct req *r, uint64_t flags)
{
    bool data = r->op == REQ_WRITE || r->op == REQ_ZERO;

    put_le64(to, r->off / l->sector_size);
    put_le64(to + 8, r->len / l->sector_size);
    put_le64(to + 16, flags);
    put_le64(to + 24, data ? r->len : 0);
}

/* Append an entry for r; *at: where it is. With the lock held. */
static int append(struct node *n, const struct req *r, uint64_t flags, uint64_t *at)
{
    struct log_writes *l = n->state;
    bool data = r->op == REQ_WRITE || r->op == REQ_ZERO;
    uint64_t len = l->sector_size + (data ? r->len : 0);
    AUTO_FREE uint8_t *buf = mem_zalloc(len);
    int ret;

    if (!buf)
        return -ENOMEM;
    put_entry(l, buf, r, flags);
    if (r->op == REQ_WRITE)
        memcpy(buf + l->sector_size, r->buf, r->len);
    ret = node_write(n->child[1], l->next, buf, len, 0);
    if (ret < 0)
        return ret;
    *at = l->next;
    l->next += len;
    l->entries++;
    return l->entries % l->update_interval == 0 ? put_super(n) : 0;
}

static int flush_op(struct node *n, struct req *r)
{
    struct log_writes *l = n->state;
    AUTO_FREE uint8_t *sector = mem_zalloc(l->sector_size);
    uint64_t at = 0;
    int ret;

    if (!sector)
        return -ENOMEM;
    co_lock(&l->lock);
    ret = append(n, r, 0, &at);
    co_unlock(&l->lock);
    if (ret == 0)
        ret = node_flush(n->child[0]);
    if (ret < 0)
        return ret;
    put_entry(l, sector, r, LOG_FLUSH);
    co_lock(&l->lock);
    ret = node_write(n->child[1], at, sector, l->sector_size, 0);
    if (ret == 0)
        ret = put_super(n);
    co_unlock(&l->lock);
    return ret < 0 ? ret : node_flush(n->child[1]);
}

static int change_op(struct node *n, struct req *r)
{
    struct log_writes *l = n->state;
    uint64_t flags = r->op == REQ_DISCARD ? LOG_DISCARD : 0, at;
    int ret = node_submit(n->child[0], r);

    if (ret < 0)
        return ret;
    if (r->flags & REQ_FUA)
        flags |= LOG_FUA;
    co_lock(&l->lock);
    ret = append(n, r, flags, &at);
    co_unlock(&l->lock);
    return ret;
}

static int log_writes_submit(struct node *n, struct req *r)
{
    switch (r->op) {
    case REQ_WRITE:
    case REQ_ZERO:
    case REQ_DISCARD:
        return change_op(n, r);
    case REQ_FLUSH:
        return flush_op(n, r);
    case REQ_TRUNCATE:
        return -ENOTSUP;
    default:
        return node_submit(n->child[0], r);
    }
}

static void log_writes_close(struct node *n)
{
    struct log_writes *l = n->state;
    int ret = n->n_child == 2 && l->entries ? put_super(n) : 0;

    if (ret < 0)
        log_error("%s: the end of the log of writes: %s", n->child[1]->name, strerror(-ret));
}

const struct driver log_writes_driver = {
    .name = "blklogwrites",
    .state_size = sizeof(struct log_writes),
    .is_filter = true,
    .submit = log_writes_submit,
    .close = log_writes_close,
    .fua_ops = ALL_FUA,
};

static bool check(const struct node *child, uint64_t sector_size, uint64_t interval,
                  struct err **errp)
{
    if (sector_size < 512 || sector_size > SECTOR_MAX || !is_power_of_2(sector_size))
        return err_set(errp, EINVAL, "Invalid log sector size %" PRIu64, sector_size);
    if (!interval)
        return err_set(errp, EINVAL, "Invalid log superblock update interval 0");
    if (!is_aligned(child->size, sector_size))
        return err_set(errp, EINVAL,
                       "%s: its %" PRIu64 " bytes are no multiple of the log sector size",
                       child->name, child->size);
    return true;
}

struct node *log_writes_open(struct node *child, struct node *log, uint64_t sector_size,
                             uint64_t update_interval, struct err **errp)
{
    struct log_writes *l;
    struct node *n;
    int ret;

    if (!check(child, sector_size, update_interval, errp))
        return NULL;
    n = node_over(&log_writes_driver, child, errp);
    if (!n)
        return NULL;
    l = n->state;
    l->sector_size = l->next = sector_size;
    l->update_interval = update_interval;
    n->growable = false;
    n->limits.align = (uint32_t)sector_size;
    n->limits.max_len = n->limits.max_zero = DATA_MAX;
    if (!node_attach(n, log, errp)) {
        node_abandon(n);
        return NULL;
    }
    ret = put_super(n);
    if (ret == 0)
        return n;
    err_set_errno(errp, -ret, "%s: cannot begin a log", log->name);
    node_abandon(n);
    return NULL;
}
