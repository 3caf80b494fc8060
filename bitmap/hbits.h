/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A large sparse bit array: leaves exist only where bits are set, so an empty one costs next to
 * nothing and iteration skips clean regions. It knows nothing of names or granularity.
 */
#ifndef BITMAP_HBITS_H
#define BITMAP_HBITS_H

#include <stdbool.h>
#include <stdint.h>

struct hbits;

/* hbits_new: n_bits bits (0 .. 2^60), all clear. NULL without memory. */
struct hbits *hbits_new(uint64_t n_bits);
void hbits_free(struct hbits *b);
uint64_t hbits_size(const struct hbits *b);
/* hbits_count: set bits; constant time. */
uint64_t hbits_count(const struct hbits *b);
/* Ranges are [first, first + n) within size. Both return 0 or -ENOMEM; a part of the range may then
 * be as it was before, everything outside it is untouched. Filling or clearing the whole array
 * needs no memory and cannot fail: a caller that must not lose a bit sets them all when it runs
 * out. */
int hbits_set(struct hbits *b, uint64_t first, uint64_t n);
int hbits_clear(struct hbits *b, uint64_t first, uint64_t n);
bool hbits_test(const struct hbits *b, uint64_t bit);
/* hbits_test_all: true if the whole range (n > 0) is set. A few nanoseconds for a short range. */
bool hbits_test_all(const struct hbits *b, uint64_t first, uint64_t n);
/* hbits_next: the run of equal bits that starts at `from` (< size): *value says which, the result
 * is its first bit past the end (<= size). Cheap over long runs. */
uint64_t hbits_next(const struct hbits *b, uint64_t from, bool *value);
/* hbits_or: dst |= src; equal sizes. 0 or -ENOMEM (dst may hold a part). */
int hbits_or(struct hbits *dst, const struct hbits *src);
/* hbits_union: a new one with the bits of both, of equal sizes; NULL without memory. */
struct hbits *hbits_union(const struct hbits *a, const struct hbits *b);
/* hbits_resize: bits past the new end are dropped, new ones are `value`. 0, or -ENOMEM with nothing
 * changed. Shrinking cannot fail. */
int hbits_resize(struct hbits *b, uint64_t n_bits, bool value);
/* Bits as bytes, the lowest bit first. hbits_save: bits [first, first +
 * n) into out; what lies past the end of the array is zero. hbits_load: set the bits that are set
 * in `in`; those past the end are dropped. 0 or -ENOMEM (a part is set then). first and n are
 * multiples of HBITS_PIECE. */
#define HBITS_PIECE 4096u
void hbits_save(const struct hbits *b, uint64_t first, uint64_t n, uint8_t *out);
int hbits_load(struct hbits *b, uint64_t first, uint64_t n, const uint8_t *in);
/* hbits_memory: bytes of heap held. */
uint64_t hbits_memory(const struct hbits *b);
/* hbits_pack_above: from how much memory on new changes are kept packed where that saves space. */
#define HBITS_PACK_ABOVE (UINT64_C(16) << 20)
void hbits_pack_above(struct hbits *b, uint64_t bytes);

#endif
