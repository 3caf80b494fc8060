/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One dirty bitmap: bits with a granularity, marking and reading.
 *
 * Invariant: bits has one bit a granule of the disk, the last of which may be partial. A bitmap
 * that runs out of memory sets all its bits, which needs none, and says so in all_dirty: it may
 * claim too much, never too little.
 */
#include "bitmap/bitmap.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "bitmap/bitmap_priv.h"

#define GRANULARITY_MIN 512u
#define GRANULARITY_MAX (UINT32_C(1) << 31)

bool bitmap_check_granularity(uint64_t granularity, struct err **errp)
{
    if (!is_power_of_2(granularity) || granularity < GRANULARITY_MIN)
        return err_set(errp, EINVAL,
                       "Granularity must be power of 2 and at least 512 (it is %" PRIu64 ")",
                       granularity);
    if (granularity > GRANULARITY_MAX)
        return err_set(errp, EINVAL, "Granularity must be at most 2 GiB (it is %" PRIu64 ")",
                       granularity);
    return true;
}

uint32_t bitmap_default_granularity(uint32_t cluster)
{
    if (cluster == 0)
        return BITMAP_DEFAULT_GRANULARITY;
    return max_u64(4096, min_u64(cluster, BITMAP_DEFAULT_GRANULARITY));
}

static unsigned granule_shift(const struct bitmap *b)
{
    return __builtin_ctz(b->granularity);
}

uint64_t bitmap_granules(const struct bitmap *b, uint64_t bytes)
{
    return div_round_up(bytes, b->granularity);
}

struct bitmap *bitmap_new(const char *name, uint64_t disk_size, uint32_t granularity)
{
    struct bitmap *b;

    assert(bitmap_check_granularity(granularity, NULL));
    assert(disk_size <= INT64_MAX);
    b = mem_new(struct bitmap);
    if (!b)
        return NULL;
    b->size = disk_size;
    b->granularity = granularity;
    b->enabled = true;
    b->bits = hbits_new(bitmap_granules(b, disk_size));
    if (name)
        b->name = mem_strdup(name);
    if (!b->bits || (name && !b->name)) {
        bitmap_free(b);
        return NULL;
    }
    return b;
}

struct bitmap *bitmap_copy(const struct bitmap *b, const char *name)
{
    struct bitmap *copy = bitmap_new(name, b->size, b->granularity);

    if (!copy)
        return NULL;
    copy->enabled = false;
    copy->inconsistent = b->inconsistent;
    copy->all_dirty = b->all_dirty;
    if (hbits_or(copy->bits, b->bits) < 0) {
        bitmap_free(copy);
        return NULL;
    }
    return copy;
}

void bitmap_free(struct bitmap *b)
{
    if (!b)
        return;
    bitmap_free(b->successor);
    hbits_free(b->bits);
    mem_free(b->name);
    mem_free(b);
}

void bitmap_swap(struct bitmap *a, struct bitmap *b)
{
    struct hbits *bits = a->bits;
    bool all_dirty = a->all_dirty;

    assert(a->size == b->size && a->granularity == b->granularity);
    a->bits = b->bits;
    a->all_dirty = b->all_dirty;
    b->bits = bits;
    b->all_dirty = all_dirty;
}

void bitmap_mark_all(struct bitmap *b)
{
    int ret = hbits_set(b->bits, 0, hbits_size(b->bits));

    assert(ret == 0); /* filling the whole needs no memory */
    (void)ret;
}

void bitmap_give_up(struct bitmap *b)
{
    bitmap_mark_all(b);
    b->all_dirty = true;
}

void bitmap_mark(struct bitmap *b, uint64_t off, uint64_t len)
{
    uint64_t first, last;

    if (len == 0 || off >= b->size)
        return;
    len = min_u64(len, b->size - off);
    first = off >> granule_shift(b);
    last = (off + len - 1) >> granule_shift(b);
    if (hbits_set(b->bits, first, last - first + 1) < 0)
        bitmap_give_up(b);
}

int bitmap_unmark(struct bitmap *b, uint64_t off, uint64_t len)
{
    uint64_t first = div_round_up(off, b->granularity);
    uint64_t end = off + len >= b->size ? hbits_size(b->bits) : (off + len) >> granule_shift(b);

    return first < end ? hbits_clear(b->bits, first, end - first) : 0;
}

static bool check_not_busy(const struct bitmap *b, struct err **errp)
{
    return b->busy == 0 ||
           err_set(errp, EBUSY,
                   "Bitmap '%s' is currently in use by another operation and cannot be used",
                   b->name ? b->name : "");
}

bool bitmap_check_idle(const struct bitmap *b, struct err **errp)
{
    if (!check_not_busy(b, errp))
        return false;
    if (b->inconsistent)
        return err_set(errp, EBUSY,
                       "Bitmap '%s' is inconsistent and cannot be used; it can only be removed",
                       b->name ? b->name : "");
    return true;
}

static bool check_not_readonly(const struct bitmap *b, struct err **errp)
{
    return !b->readonly || err_set(errp, EPERM, "Bitmap '%s' is readonly and cannot be modified",
                                   b->name ? b->name : "");
}

bool bitmap_check_writable(const struct bitmap *b, struct err **errp)
{
    return bitmap_check_idle(b, errp) && check_not_readonly(b, errp);
}

bool bitmap_check_removable(const struct bitmap *b, struct err **errp)
{
    return check_not_busy(b, errp) && check_not_readonly(b, errp);
}

bool bitmap_clear(struct bitmap *b, struct err **errp)
{
    if (!bitmap_check_writable(b, errp))
        return false;
    hbits_clear(b->bits, 0, hbits_size(b->bits));
    b->all_dirty = false;
    return true;
}

bool bitmap_enable(struct bitmap *b, bool enable, struct err **errp)
{
    if (!bitmap_check_idle(b, errp))
        return false;
    b->enabled = enable;
    return true;
}

bool bitmap_renew(struct bitmap *b, struct err **errp)
{
    if (!check_not_busy(b, errp) || !check_not_readonly(b, errp))
        return false;
    if (b->foreign)
        return err_set(errp, ENOTSUP,
                       "Bitmap '%s' has properties that are not known here; it can only be removed",
                       b->name ? b->name : "");
    bitmap_mark_all(b);
    b->inconsistent = false;
    b->enabled = true;
    return true;
}

uint64_t bitmap_dirty_bytes(const struct bitmap *b)
{
    return b->inconsistent ? 0 : hbits_count(b->bits) * b->granularity;
}

bool bitmap_recording(const struct bitmap *b)
{
    return b->enabled || (b->successor && b->successor->enabled);
}

uint64_t bitmap_next(const struct bitmap *b, uint64_t off, bool *dirty)
{
    uint64_t end;

    assert(off < b->size);
    end = hbits_next(b->bits, off >> granule_shift(b), dirty);
    /* The last granule may be partial; comparing granules first keeps the product from wrapping. */
    return end == hbits_size(b->bits) ? b->size : end << granule_shift(b);
}
