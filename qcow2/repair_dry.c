/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A repair for show: a node over the image that keeps in memory what is written to it, so that a
 * dry run does exactly what the repair would do. Blocks of 4 KiB in a hash table.
 */
#include <errno.h>

#include "qcow2/repair_priv.h"

#define BLOCK 4096

struct dry_block {
    uint64_t number_1; /* + 1; 0: free */
    uint8_t *data;
};

struct dry {
    struct dry_block *v;
    size_t cap, n;
};

static struct dry_block *slot_of(struct dry_block *v, size_t cap, uint64_t number)
{
    size_t i = (size_t)((number * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (cap - 1);
    while (v[i].number_1 && v[i].number_1 != number + 1)
        i = (i + 1) & (cap - 1);
    return &v[i];
}

static int grow(struct dry *d)
{
    size_t cap = d->cap ? d->cap * 2 : 64;
    struct dry_block *v = mem_array(cap, sizeof(*v));
    if (!v)
        return -ENOMEM;
    for (size_t i = 0; i < d->cap; i++)
        if (d->v[i].number_1)
            *slot_of(v, cap, d->v[i].number_1 - 1) = d->v[i];
    mem_free(d->v);
    d->v = v;
    d->cap = cap;
    return 0;
}

/* The block of this number, with the content of the file if it is new. */
static int block_get(struct node *n, uint64_t number, uint8_t **data)
{
    struct dry *d = n->state;
    if (d->n * 2 >= d->cap) {
        int r = grow(d);
        if (r < 0)
            return r;
    }
    struct dry_block *b = slot_of(d->v, d->cap, number);
    if (!b->number_1) {
        uint8_t *fresh = mem_alloc(BLOCK);
        int r = fresh ? qc_bytes_read(n->child[0], number * BLOCK, fresh, BLOCK) : -ENOMEM;
        if (r < 0) {
            mem_free(fresh);
            return r;
        }
        *b = (struct dry_block){.number_1 = number + 1, .data = fresh};
        d->n++;
    }
    *data = b->data;
    return 0;
}

static int dry_write(struct node *n, const struct req *r)
{
    for (uint64_t done = 0; done < r->len;) {
        uint64_t at = r->off + done, part = min_u64(r->len - done, BLOCK - at % BLOCK);
        uint8_t *data;
        int ret = block_get(n, at / BLOCK, &data);
        if (ret < 0)
            return ret;
        memcpy(data + at % BLOCK, (const uint8_t *)r->buf + done, part);
        done += part;
    }
    n->size = max_u64(n->size, r->off + r->len);
    return 0;
}

static int dry_read(struct node *n, const struct req *r)
{
    const struct dry *d = n->state;
    int ret = qc_bytes_read(n->child[0], r->off, r->buf, r->len);
    for (uint64_t done = 0; ret == 0 && d->cap && done < r->len;) {
        uint64_t at = r->off + done, part = min_u64(r->len - done, BLOCK - at % BLOCK);
        const struct dry_block *b = slot_of(d->v, d->cap, at / BLOCK);
        if (b->number_1)
            memcpy((uint8_t *)r->buf + done, b->data + at % BLOCK, part);
        done += part;
    }
    return ret;
}

static int dry_submit(struct node *n, struct req *r)
{
    switch (r->op) {
    case REQ_READ:
        return dry_read(n, r);
    case REQ_WRITE:
        return dry_write(n, r);
    case REQ_TRUNCATE:
        n->size = r->off;
        return 0;
    case REQ_FLUSH:
        return 0;
    default:
        return -ENOTSUP;
    }
}

static void dry_close(struct node *n)
{
    struct dry *d = n->state;
    for (size_t i = 0; i < d->cap; i++)
        mem_free(d->v[i].data);
    mem_free(d->v);
}

static const struct driver dry_driver = {
    .name = "dry-run",
    .state_size = sizeof(struct dry),
    .submit = dry_submit,
    .close = dry_close,
};

struct node *qcr_dry_open(struct node *file, struct err **errp)
{
    struct node *n = node_new(&dry_driver, file->name, errp);
    if (!n)
        return NULL;
    n->size = file->size;
    n->growable = true;
    if (node_attach(n, node_ref(file), errp))
        return n;
    node_unref(file);
    node_unref(n);
    return NULL;
}
