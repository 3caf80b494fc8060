/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Dirty bitmaps: which granules of a disk were written since some moment.
 *
 * Life cycle (QEMU's): active or disabled; busy while a job or export holds it; inconsistent when
 * loaded after a crash. freeze puts an anonymous successor in front that records from then on;
 * abdicate (success) makes the successor the bitmap, reclaim (failure) merges it back.
 * A bitmap that ran out of memory while recording turns to "all dirty" rather than lose a bit.
 */
#ifndef BITMAP_BITMAP_H
#define BITMAP_BITMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "bitmap/hbits.h"

#define BITMAP_NAME_MAX 1023
#define BITMAP_DEFAULT_GRANULARITY 65536

struct bitmap {
    char *name;           /* NULL: anonymous (a successor, or for internal use) */
    uint64_t size;        /* of the disk, bytes */
    uint32_t granularity; /* bytes, power of two, 512 .. 2 GiB */
    struct hbits *bits;
    bool enabled; /* records writes */
    bool persistent;
    bool readonly; /* stored in an image that is not written: may be read and merged from */
    bool inconsistent;
    bool foreign;   /* inconsistent for good: it has properties that are unknown here */
    bool all_dirty; /* memory ran out: counts as wholly dirty */
    unsigned busy;  /* holders; > 0 refuses removal, clear, enable, disable, merge */
    struct bitmap *successor;
    struct bitmap *next; /* in the set */
};

/* A bitmap_set is all bitmaps of one disk. */
struct bitmap_set {
    struct bitmap *head, *tail;
    uint64_t size; /* of the disk, bytes */
};

void bitmap_set_init(struct bitmap_set *s, uint64_t disk_size);
/* bitmap_set_clear: free all bitmaps, busy or not. */
void bitmap_set_clear(struct bitmap_set *s);

/* bitmap_check_granularity: power of two within limits. */
bool bitmap_check_granularity(uint64_t granularity, struct err **errp);
/* bitmap_default_granularity: cluster size clamped to 4 KiB .. 64 KiB; 0 -> 64 KiB. */
uint32_t bitmap_default_granularity(uint32_t cluster);

/* bitmap_check_new: may a bitmap of that name be added? Errors: as bitmap_add. */
bool bitmap_check_new(const struct bitmap_set *s, const char *name, struct err **errp);
/* bitmap_set_insert: put a free-standing bitmap into the set, behind the others; it belongs to the
 * set then. Its size is the set's. bitmap_set_take: the reverse; b is in s. */
void bitmap_set_insert(struct bitmap_set *s, struct bitmap *b);
void bitmap_set_take(struct bitmap_set *s, struct bitmap *b);
/* bitmap_add: a new, clear, enabled bitmap; it belongs to the set. granularity 0 = default.
 * Errors: EEXIST "Bitmap already exists: N", EINVAL name or granularity. */
struct bitmap *bitmap_add(struct bitmap_set *s, const char *name, uint32_t granularity,
                          struct err **errp);
struct bitmap *bitmap_find(const struct bitmap_set *s, const char *name);
/* bitmap_check_idle: false with QEMU's text (EBUSY) when the bitmap is busy or inconsistent. */
bool bitmap_check_idle(const struct bitmap *b, struct err **errp);
/* bitmap_check_writable: that, and not read-only (EPERM). */
bool bitmap_check_writable(const struct bitmap *b, struct err **errp);
/* bitmap_check_removable: neither busy nor read-only; it may be inconsistent. */
bool bitmap_check_removable(const struct bitmap *b, struct err **errp);
bool bitmap_remove(struct bitmap_set *s, const char *name, struct err **errp);
bool bitmap_clear(struct bitmap *b, struct err **errp);
bool bitmap_enable(struct bitmap *b, bool enable, struct err **errp);
/* bitmap_renew: an inconsistent bitmap goes on, dirty all over and recording: so it holds whatever
 * it has missed. Errors: EBUSY in use, EPERM readonly, ENOTSUP foreign. */
bool bitmap_renew(struct bitmap *b, struct err **errp);
/* bitmap_merge: dst |= src; equal disk size, any granularities. All or nothing. */
bool bitmap_merge(struct bitmap *dst, const struct bitmap *src, struct err **errp);

/* A free-standing bitmap that is in no set (a frozen copy, a union). */
struct bitmap *bitmap_new(const char *name, uint64_t disk_size, uint32_t granularity);
struct bitmap *bitmap_copy(const struct bitmap *b, const char *name);
void bitmap_free(struct bitmap *b);
/* bitmap_swap: exchange what two bitmaps of one size and granularity have recorded. */
void bitmap_swap(struct bitmap *a, struct bitmap *b);

/* freeze: b becomes busy and stops recording; a successor takes over. Drain before.
 * abdicate: the successor's bits become b's (success). reclaim: both are joined (failure).
 * Neither abdicate nor reclaim can fail: short of memory b becomes all_dirty. */
bool bitmap_freeze(struct bitmap *b, struct err **errp);
void bitmap_abdicate(struct bitmap *b);
void bitmap_reclaim(struct bitmap *b);

/* bitmap_mark: set the granules that [off, off + len) touches, in one bitmap or in all recording
 * bitmaps of a set (and their successors). Never fails. Fast when they are set already. */
void bitmap_mark(struct bitmap *b, uint64_t off, uint64_t len);
void bitmap_set_mark(struct bitmap_set *s, uint64_t off, uint64_t len);
/* bitmap_set_resize: growing marks the new range dirty. False: busy or inconsistent, or ENOMEM. */
bool bitmap_set_resize(struct bitmap_set *s, uint64_t new_size, struct err **errp);

/* bitmap_dirty_bytes: set granules x granularity (may exceed the disk: partial tail granule). */
uint64_t bitmap_dirty_bytes(const struct bitmap *b);
bool bitmap_recording(const struct bitmap *b);
/* bitmap_unmark: clear the granules that lie in [off, off + len) whole. -ENOMEM: all is dirty. */
int bitmap_unmark(struct bitmap *b, uint64_t off, uint64_t len);
/* bitmap_next: the run of equal state at off (< size): *dirty, and the result is its end in bytes
 * (<= size). What a frozen bitmap's successor records is not seen. */
uint64_t bitmap_next(const struct bitmap *b, uint64_t off, bool *dirty);

/* Bytes of a bitmap as they are stored: a bit a granule, the lowest bit of a byte first. pos and
 * len are multiples of 512. bitmap_save: what lies past its end is zero. bitmap_load: set the bits
 * that are set in buf; 0 or -ENOMEM. bitmap_stored_size: of the whole. bitmap_piece_kind: is the
 * piece all clear, all set (with no byte past the end), or neither? */
enum bitmap_piece { BITMAP_PIECE_CLEAR, BITMAP_PIECE_SET, BITMAP_PIECE_MIXED };
uint64_t bitmap_stored_size(uint64_t disk_size, uint32_t granularity);
enum bitmap_piece bitmap_piece_kind(const struct bitmap *b, uint64_t pos, uint64_t len);
void bitmap_save(const struct bitmap *b, uint64_t pos, uint8_t *buf, uint64_t len);
int bitmap_load(struct bitmap *b, uint64_t pos, const uint8_t *buf, uint64_t len);

#endif
