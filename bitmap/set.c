/* SPDX-License-Identifier: BSD-3-Clause
 *
 * All bitmaps of one disk: names, marking them together, following the size of the disk.
 *
 * A list, because a disk has a handful of bitmaps and marking visits all of them anyway.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "bitmap/bitmap_priv.h"

void bitmap_set_init(struct bitmap_set *s, uint64_t disk_size)
{
    *s = (struct bitmap_set){.size = disk_size};
}

void bitmap_set_clear(struct bitmap_set *s)
{
    while (s->head) {
        struct bitmap *b = s->head;

        s->head = b->next;
        bitmap_free(b);
    }
    s->tail = NULL;
}

struct bitmap *bitmap_find(const struct bitmap_set *s, const char *name)
{
    for (struct bitmap *b = s->head; b; b = b->next)
        if (b->name && strcmp(b->name, name) == 0)
            return b;
    return NULL;
}

bool bitmap_check_new(const struct bitmap_set *s, const char *name, struct err **errp)
{
    size_t len = strlen(name);

    if (len == 0)
        return err_set(errp, EINVAL, "Bitmap name cannot be empty");
    if (len > BITMAP_NAME_MAX)
        return err_set(errp, EINVAL, "Bitmap name is %zu bytes long: the limit is %d", len,
                       BITMAP_NAME_MAX);
    return !bitmap_find(s, name) || err_set(errp, EEXIST, "Bitmap already exists: %s", name);
}

void bitmap_set_insert(struct bitmap_set *s, struct bitmap *b)
{
    assert(b->size == s->size && !b->next);
    /* In the order of creation: it is what people see in lists. */
    if (s->tail)
        s->tail->next = b;
    else
        s->head = b;
    s->tail = b;
}

void bitmap_set_take(struct bitmap_set *s, struct bitmap *b)
{
    struct bitmap **at, *before = NULL;

    for (at = &s->head; *at != b; at = &(*at)->next) {
        assert(*at);
        before = *at;
    }
    *at = b->next;
    if (s->tail == b)
        s->tail = before;
    b->next = NULL;
}

struct bitmap *bitmap_add(struct bitmap_set *s, const char *name, uint32_t granularity,
                          struct err **errp)
{
    struct bitmap *b;

    if (granularity == 0)
        granularity = BITMAP_DEFAULT_GRANULARITY;
    if (!bitmap_check_new(s, name, errp) || !bitmap_check_granularity(granularity, errp))
        return NULL;
    b = bitmap_new(name, s->size, granularity);
    if (!b) {
        err_set(errp, ENOMEM, "No memory for bitmap '%s'", name);
        return NULL;
    }
    bitmap_set_insert(s, b);
    return b;
}

bool bitmap_remove(struct bitmap_set *s, const char *name, struct err **errp)
{
    struct bitmap *b = bitmap_find(s, name);

    if (!b)
        return err_set(errp, ENOENT, "Bitmap not found: %s", name);
    if (!bitmap_check_removable(b, errp))
        return false;
    bitmap_set_take(s, b);
    bitmap_free(b);
    return true;
}

void bitmap_set_mark(struct bitmap_set *s, uint64_t off, uint64_t len)
{
    for (struct bitmap *b = s->head; b; b = b->next) {
        struct bitmap *recorder = b->successor ? b->successor : b;

        if (recorder->enabled)
            bitmap_mark(recorder, off, len);
    }
}

/* Growing: resize every bitmap or none. Bits become clear; the caller marks. */
static bool grow_all(struct bitmap_set *s, uint64_t new_size, struct err **errp)
{
    struct bitmap *b, *failed = NULL;

    for (b = s->head; b; b = b->next) {
        if (hbits_resize(b->bits, bitmap_granules(b, new_size), false) < 0) {
            failed = b;
            break;
        }
    }
    if (!failed)
        return true;
    for (b = s->head; b != failed; b = b->next)
        hbits_resize(b->bits, bitmap_granules(b, s->size), false);
    return err_set(errp, ENOMEM, "No memory to grow bitmap '%s' to %" PRIu64 " bytes",
                   failed->name ? failed->name : "", new_size);
}

bool bitmap_set_resize(struct bitmap_set *s, uint64_t new_size, struct err **errp)
{
    uint64_t old = s->size;

    for (const struct bitmap *b = s->head; b; b = b->next)
        if (!bitmap_check_idle(b, errp))
            return false;
    if (new_size > old && !grow_all(s, new_size, errp))
        return false;
    s->size = new_size;
    for (struct bitmap *b = s->head; b; b = b->next) {
        b->size = new_size;
        if (new_size < old)
            hbits_resize(b->bits, bitmap_granules(b, new_size), false);
        else if (b->all_dirty)
            bitmap_mark_all(b);
        else
            bitmap_mark(b, old, new_size - old);
    }
    return true;
}
