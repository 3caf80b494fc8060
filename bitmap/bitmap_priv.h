/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files of bitmap/ share.
 */
#ifndef BITMAP_BITMAP_PRIV_H
#define BITMAP_BITMAP_PRIV_H

#include "bitmap/bitmap.h"

/* bitmap_granules: how many granules the first `bytes` bytes touch. */
uint64_t bitmap_granules(const struct bitmap *b, uint64_t bytes);
/* bitmap_mark_all: every granule; cannot fail. */
void bitmap_mark_all(struct bitmap *b);
/* bitmap_give_up: memory ran out; claim everything rather than lose a bit. */
void bitmap_give_up(struct bitmap *b);

#endif
