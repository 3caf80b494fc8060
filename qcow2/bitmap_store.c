/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a node asks of its image about bitmaps: add, remove, store (block/node_bitmap.h).
 *
 * From the opening for writing until the store every bitmap on disk is in use. So a crash makes it
 * inconsistent, and all that happens to the directory in between may be seen in any order. Only the
 * store says that bitmaps are right: all of them with one step, after which the image takes no
 * more changes. An addition writes its entry, in use, at once: a crash never makes a bitmap that
 * was promised go away unseen.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "qcow2/bitmap_priv.h"

/* The place of a name in the directory, or n. */
static uint32_t find(const struct qc *q, const char *name)
{
    uint32_t i = 0;

    while (i < q->bitmaps.n && strcmp(q->bitmaps.v[i].name, name) != 0)
        i++;
    return i;
}

static bool check_size(const struct qc *q, const struct bitmap *b, struct err **errp)
{
    uint64_t bytes = bitmap_stored_size(b->size, b->granularity);

    return bytes <= QC_MAX_BITMAP_BYTES ||
           err_set(errp, EFBIG,
                   "bitmap '%s' has %" PRIu64 " bytes of bits, and an image can store %" PRIu64
                   "; use a granularity larger than %" PRIu32,
                   b->name, bytes, QC_MAX_BITMAP_BYTES, b->granularity);
}

static bool begin(struct qc *q, struct err **errp)
{
    co_lock(&q->bitmaps.lock);
    co_lock(&q->lock);
    if (q->corrupt)
        return err_set(errp, EIO, "the image is corrupt");
    if (q->flush_error)
        return err_set_errno(errp, -q->flush_error, "an earlier flush failed");
    return true;
}

/* With what came of it, prefixed by the image's name. */
static bool end(struct qc *q, bool ok, struct err **errp)
{
    co_unlock(&q->lock);
    co_unlock(&q->bitmaps.lock);
    if (!ok)
        err_prefix(errp, "%s: ", q->node->name);
    return ok;
}

static bool add_locked(struct qc *q, const struct bitmap *b, struct err **errp)
{
    uint32_t n = q->bitmaps.n;
    struct qc_freed_list taken = {0};
    struct qc_stored_bitmap *v = qc_bitmap_dir_copy(q, n), *s = v ? &v[n] : NULL;

    if (v)
        *s = (struct qc_stored_bitmap){
            .flags = QC_BITMAP_IN_USE | QC_BITMAP_AUTO,
            .type = 1,
            .granularity_bits = (uint8_t)__builtin_ctz(b->granularity),
            .name = mem_strdup(b->name),
        };
    if (!v || !s->name) {
        qc_bitmap_dir_free(v, v ? n : 0);
        return err_set(errp, ENOMEM, "out of memory for bitmap '%s'", b->name);
    }
    bool ok = qc_bitmap_write(q, NULL, qc_bitmap_table_entries(q, b->size, b->granularity), s,
                              &taken, errp);
    if (!ok)
        qc_taken_undo(q, &taken);
    ok = ok && qc_bitmap_dir_switch(q, v, n + 1, &taken, errp);
    if (!ok)
        qc_bitmap_dir_free(v, n + 1);
    return ok;
}

static bool bitmap_store_add(struct node *n, const struct bitmap *b, struct err **errp)
{
    struct qc *q = n->state;

    if (q->version < 3)
        return err_set(errp, ENOTSUP,
                       "%s: a qcow2 image of version %" PRIu32
                       " cannot store bitmaps; that needs version 3",
                       n->name, q->version);
    return check_size(q, b, errp) && end(q, begin(q, errp) && add_locked(q, b, errp), errp);
}

static bool remove_locked(struct qc *q, const char *name, struct err **errp)
{
    uint32_t i = find(q, name), n = q->bitmaps.n;
    struct qc_freed_list given_up = {0}, none = {0};

    if (i == n)
        return true;
    struct qc_stored_bitmap *v = qc_bitmap_dir_copy(q, i);
    if (!v)
        return err_set(errp, ENOMEM, "out of memory to remove bitmap '%s'", name);
    bool ok = qc_bitmap_clusters(q, &q->bitmaps.v[i], &given_up, errp) &&
              qc_bitmap_dir_switch(q, v, n - 1, &none, errp);
    if (ok) {
        qc_give_up(q, &given_up);
        return true;
    }
    mem_free(given_up.v);
    qc_bitmap_dir_free(v, n - 1);
    return false;
}

static bool bitmap_store_remove(struct node *n, const char *name, struct err **errp)
{
    struct qc *q = n->state;

    return end(q, begin(q, errp) && remove_locked(q, name, errp), errp);
}

/* What b stands for, with what its successor has recorded. *copy is to be freed. */
static const struct bitmap *joined(const struct bitmap *b, struct bitmap **copy)
{
    *copy = NULL;
    if (!b->successor)
        return b;
    *copy = bitmap_copy(b, b->name);
    if (*copy && hbits_or((*copy)->bits, b->successor->bits) < 0) {
        bitmap_free(*copy);
        *copy = NULL;
    }
    return *copy;
}

/* Write the content of s anew; what it was goes to *old. *kept: it cannot be stored and stays in
 * use.
 */
static bool store_one(struct qc *q, struct qc_stored_bitmap *s, struct qc_freed_list *taken,
                      struct qc_freed_list *old, struct err **problem, struct err **errp)
{
    const struct bitmap *b = node_bitmap_find(q->node, s->name);
    struct bitmap *copy;

    if (!b || b->inconsistent)
        return true;
    if (!check_size(q, b, *problem ? NULL : problem))
        return true;
    const struct bitmap *all = joined(b, &copy);
    if (!all)
        return err_set(errp, ENOMEM, "out of memory to store bitmap '%s'", b->name);
    struct qc_stored_bitmap was = *s;
    bool ok = qc_bitmap_clusters(q, &was, old, errp) &&
              qc_bitmap_write(q, all, qc_bitmap_table_entries(q, q->node->size, b->granularity), s,
                              taken, errp);
    bitmap_free(copy);
    s->flags &= QC_BITMAP_EXTRA_COMPATIBLE;
    if (bitmap_recording(b))
        s->flags |= QC_BITMAP_AUTO;
    return ok;
}

static bool store_locked(struct qc *q, struct err **errp)
{
    uint32_t n = q->bitmaps.n;
    struct qc_freed_list taken = {0}, old = {0};
    struct qc_stored_bitmap *v = qc_bitmap_dir_copy(q, n);
    struct err *problem = NULL;
    bool ok = true;

    if (!v)
        return err_set(errp, ENOMEM, "out of memory to store bitmaps");
    for (uint32_t i = 0; i < n && ok; i++)
        ok = store_one(q, &v[i], &taken, &old, &problem, errp);
    if (!ok)
        qc_taken_undo(q, &taken);
    ok = ok && qc_bitmap_dir_switch(q, v, n, &taken, errp);
    if (ok) {
        qc_give_up(q, &old);
    } else {
        mem_free(old.v);
        qc_bitmap_dir_free(v, n);
    }
    if (!problem)
        return ok;
    if (ok)
        err_move(errp, problem);
    else
        err_free(problem);
    return false;
}

static bool anything_to_store(const struct qc *q)
{
    for (uint32_t i = 0; i < q->bitmaps.n; i++) {
        const struct bitmap *b = node_bitmap_find(q->node, q->bitmaps.v[i].name);

        if (b && !b->inconsistent)
            return true;
    }
    return false;
}

static bool bitmap_store_all(struct node *n, struct err **errp)
{
    struct qc *q = n->state;

    if (q->bitmaps.stored || !anything_to_store(q))
        return true;
    q->bitmaps.stored = true;
    /* While one of them was busy they could not follow a disk that became smaller. */
    if (n->bitmaps->size != n->size)
        bitmap_set_resize(n->bitmaps, n->size, NULL);
    return end(q, begin(q, errp) && store_locked(q, errp), errp);
}

void qc_bitmaps_end(struct qc *q)
{
    struct err *e = NULL;

    if (!bitmap_store_all(q->node, &e))
        log_error("bitmaps are not stored, and inconsistent from now on: %s", err_msg(e));
    err_free(e);
}

const struct bitmap_ops qc_bitmap_ops = {
    .add = bitmap_store_add,
    .remove = bitmap_store_remove,
    .store = bitmap_store_all,
};
