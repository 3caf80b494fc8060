/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Changing which backing file the header names.
 *
 * The name, its format and all other extensions share the first cluster, and usually more than its
 * first sector; a disk writes only a sector of 512 bytes whole or not at all. So the change is one
 * write of the first sector. Where the rest of the new header differs from the old one, there are
 * two such moments, each of which leaves a good header whatever the disk kept of the rest:
 *
 *   1. the new extensions and the new name are written behind the old ones, where nobody reads;
 *   2. the first sector skips all in between with an extension of unknown type: the new name counts
 *      from here on, and what the old header used is free;
 *   3. the new header is written there, but for the first sector;
 *   4. the first sector, without the skip.
 *
 * Unknown extensions are kept. The feature name table, which is only there for messages, is left
 * out if the first cluster is too small otherwise. Source: qcow2.txt, "Header" and "Header
 * extensions".
 */
#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "qcow2/qcow2_priv.h"

#define SECTOR_LEN 512
#define EXT_HEAD 8
#define EXT_SKIP UINT32_C(0x736b6970) /* "skip": of no meaning to anybody */

struct change {
    struct qc *q;
    const char *name, *format; /* NULL: no backing file any more */
    uint8_t *old, *new;        /* the first cluster */
    uint64_t len;              /* of it */
    uint64_t header_len;
    uint64_t old_end, new_end; /* what is in use of each */
    bool drop_names;
};

static uint64_t put_ext(uint8_t *at, uint32_t type, const void *data, size_t len)
{
    put_be32(at, type);
    put_be32(at + 4, (uint32_t)len);
    memcpy(at + EXT_HEAD, data, len);
    memset(at + EXT_HEAD + len, 0, round_up(len, 8) - len);
    return EXT_HEAD + round_up(len, 8);
}

/* Read the old header, and find where it ends. */
static bool read_old(struct change *c, struct err **errp)
{
    int r = qc_read_host(c->q, 0, c->old, c->len);
    if (r < 0)
        return err_set_errno(errp, -r, "cannot read the header");
    uint64_t name = get_be64(c->old + QCH_BACKING_OFF),
             name_len = get_be32(c->old + QCH_BACKING_LEN);
    c->header_len = c->q->version < 3 ? QC_V2_HEADER_LEN : get_be32(c->old + QCH_HEADER_LEN);
    uint64_t limit = name ? name : c->len, at = c->header_len;
    if (limit > c->len || name_len > c->len - (name ? limit : 0) || at > limit)
        return err_set(errp, EINVAL, "the header has changed to nonsense");
    while (at + EXT_HEAD <= limit && get_be32(c->old + at) != QC_EXT_END) {
        uint64_t n = round_up(get_be32(c->old + at + 4), 8);
        if (n > limit - at - EXT_HEAD)
            return err_set(errp, EINVAL,
                           "header extension at 0x%" PRIx64 " has changed to nonsense", at);
        at += EXT_HEAD + n;
    }
    c->old_end = max_u64(min_u64(at + EXT_HEAD, c->len), name ? name + name_len : 0);
    return true;
}

/* All extensions, the end marker and the name to `to`; *name_at: where the name begins. Returns
 * the length of it all; with to NULL nothing is written. */
static uint64_t put_tail(const struct change *c, uint8_t *to, uint64_t *name_at)
{
    uint64_t n = 0, name = get_be64(c->old + QCH_BACKING_OFF);
    uint64_t limit = name ? name : c->len;
    if (c->name) {
        if (to)
            put_ext(to, QC_EXT_BACKING_FORMAT, c->format, strlen(c->format));
        n += EXT_HEAD + round_up(strlen(c->format), 8);
    }
    for (uint64_t at = c->header_len, x; at + EXT_HEAD <= limit; at += x) {
        uint32_t type = get_be32(c->old + at);
        x = EXT_HEAD + round_up(get_be32(c->old + at + 4), 8);
        if (type == QC_EXT_END)
            break;
        if (type == QC_EXT_BACKING_FORMAT || type == EXT_SKIP ||
            (type == QC_EXT_FEATURE_NAMES && c->drop_names))
            continue;
        if (to)
            memcpy(to + n, c->old + at, x);
        n += x;
    }
    if (to)
        memset(to + n, 0, EXT_HEAD);
    n += EXT_HEAD;
    *name_at = n;
    if (to && c->name)
        memcpy(to + n, c->name, strlen(c->name));
    return n + (c->name ? strlen(c->name) : 0);
}

static void put_name(const struct change *c, uint8_t *header, uint64_t name_off)
{
    put_be64(header + QCH_BACKING_OFF, c->name ? name_off : 0);
    put_be32(header + QCH_BACKING_LEN, c->name ? (uint32_t)strlen(c->name) : 0);
}

/* The tail's other place, which neither header uses; 0: there is no room. */
static uint64_t spare_place(const struct change *c)
{
    uint64_t at = round_up(max_u64(c->old_end, c->new_end), SECTOR_LEN);
    uint64_t need = c->new_end - c->header_len;
    return c->header_len + EXT_HEAD <= SECTOR_LEN && at + need <= c->len ? at : 0;
}

static bool in_one_sector(const struct change *c)
{
    return c->new_end <= SECTOR_LEN ||
           memcmp(c->old + SECTOR_LEN, c->new + SECTOR_LEN, c->new_end - SECTOR_LEN) == 0;
}

static bool plan(struct change *c, struct err **errp)
{
    for (int round = 0; round < 2; round++) {
        uint64_t name_at;
        c->drop_names = round > 0;
        c->new_end = c->header_len + put_tail(c, NULL, &name_at);
        if (c->new_end > c->len)
            continue;
        memcpy(c->new, c->old, c->len);
        put_tail(c, c->new + c->header_len, &name_at);
        put_name(c, c->new, c->header_len + name_at);
        if (in_one_sector(c) || spare_place(c))
            return true;
    }
    return err_set(errp, ENOSPC,
                   "there is no room for the backing file's name '%s': the header and its "
                   "extensions fill the first cluster of %" PRIu64 " bytes",
                   c->name ? c->name : "", c->len);
}

/* One step: durable when it returns 0. */
static int step(struct change *c, uint64_t off, const uint8_t *bytes, uint64_t len)
{
    int r = node_write_kind(c->q->file, off, bytes, len, 0, KIND_HEADER);
    return r < 0 ? r : qc_barrier(c->q);
}

static int write_spare(struct change *c, uint64_t at)
{
    uint64_t name_at, len = c->new_end - c->header_len;
    uint8_t first[SECTOR_LEN] = {0};
    AUTO_FREE uint8_t *tail = mem_alloc_aligned(round_up(len, SECTOR_LEN), 4096);
    if (!tail)
        return -ENOMEM;
    put_tail(c, tail, &name_at);
    memcpy(first, c->new, c->header_len);
    put_name(c, first, at + name_at);
    put_be32(first + c->header_len, EXT_SKIP);
    put_be32(first + c->header_len + 4, (uint32_t)(at - c->header_len - EXT_HEAD));
    int r = step(c, at, tail, len);
    return r < 0 ? r : step(c, 0, first, sizeof(first));
}

static int write_new(struct change *c)
{
    int r = 0;
    if (!in_one_sector(c)) {
        r = write_spare(c, spare_place(c));
        if (r == 0)
            r = step(c, SECTOR_LEN, c->new + SECTOR_LEN, c->new_end - SECTOR_LEN);
    }
    return r < 0 ? r : step(c, 0, c->new, SECTOR_LEN);
}

static bool check_name(const char *name, const char *format, struct err **errp)
{
    if (!name)
        return true;
    if (!*name || strlen(name) > QC_MAX_BACKING_NAME)
        return err_set(errp, EINVAL, "the backing file name must have 1 to %d bytes",
                       QC_MAX_BACKING_NAME);
    return (format && *format && strlen(format) <= QC_MAX_BACKING_FORMAT) ||
           err_set(errp, EINVAL, "backing file '%s' needs a format", name);
}

static bool judge(const struct node *n, const char *name, const char *format, struct err **errp)
{
    const struct qc *q = n->state;
    if (!check_name(name, format, errp))
        return false;
    return !name || !q->raw_data || /* whose data file says all that is read */
           err_set(errp, EINVAL,
                   "%s: an image with a raw external data file (autoclear_features bit 1) can "
                   "have no backing file",
                   n->name);
}

/* Plan the change, and make it unless it is only asked whether it could be. */
static bool change_header(struct qc *q, const char *name, const char *format, bool ask_only,
                          struct err **errp)
{
    AUTO_FREE uint8_t *old = mem_alloc_aligned(q->cluster_size, 4096);
    AUTO_FREE uint8_t *new = mem_alloc_aligned(q->cluster_size, 4096);
    if (!old || !new)
        return err_set(errp, ENOMEM, "out of memory");
    struct change c = {
        .q = q, .name = name, .format = format, .old = old, .new = new, .len = q->cluster_size};
    co_lock(&q->lock);
    bool ok = read_old(&c, errp) && plan(&c, errp);
    int r = ok && !ask_only ? write_new(&c) : 0;
    co_unlock(&q->lock);
    if (r < 0)
        ok = err_set_errno(errp, -r, "cannot write the header");
    return ok || err_prefix(errp, "%s: ", q->node->name);
}

bool qc_can_set_backing(struct node *n, const char *name, const char *format, struct err **errp)
{
    return judge(n, name, format, errp) && change_header(n->state, name, format, true, errp);
}

bool qc_set_backing(struct node *n, const char *name, const char *format, struct err **errp)
{
    struct qc *q = n->state;
    if (!judge(n, name, format, errp))
        return false;
    AUTO_FREE char *own_name = name ? mem_strdup(name) : NULL;
    AUTO_FREE char *own_format = name ? mem_strdup(format) : NULL;
    if (name && (!own_name || !own_format))
        return err_set(errp, ENOMEM, "out of memory");
    int r = node_flush(n); /* what the image is to hold with its new backing file */
    if (r < 0)
        return err_set_errno(errp, -r, "%s: cannot flush", n->name);
    if (!change_header(q, name, format, false, errp))
        return false;
    mem_free(q->backing_name);
    mem_free(q->backing_format);
    q->backing_name = steal(own_name);
    q->backing_format = steal(own_format);
    q->has_backing = name != NULL;
    return true;
}

struct node *qc_backing_node(struct node *n)
{
    const struct qc *q = n->state;
    return q->backing;
}

unsigned qc_n_snapshots(struct node *n)
{
    const struct qc *q = n->state;
    return q->nb_snapshots;
}

void qc_expect_backing(struct node *n)
{
    struct qc *q = n->state;
    q->has_backing = true;
}
