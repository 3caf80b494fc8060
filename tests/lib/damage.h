/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Images damaged on purpose, from a seed.
 */
#ifndef TESTS_LIB_DAMAGE_H
#define TESTS_LIB_DAMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"

struct damage_image {
    char name[256];
    uint8_t *data; /* with room for DAMAGE_SPARE bytes more */
    uint64_t len;
};
#define DAMAGE_SPARE (64 << 10)

/* damage_bases: images to begin with: one of each small workload, made by our driver, and the files
 * of the folders (NULL-terminated) but those that are called bad_something. *n: how many. In new
 * memory; aborts without, or without a file. Outside coroutines, on a REACTOR_SIM reactor. */
struct damage_image *damage_bases(const char *const *folders, unsigned *n);
void damage_bases_free(struct damage_image *v, unsigned n);

enum damage_kind {
    DAMAGE_REFCOUNT, /* one becomes something else */
    DAMAGE_BLOCK,    /* many of them */
    DAMAGE_REFTABLE, /* an entry */
    DAMAGE_COPIED,   /* a flag of the active image */
    DAMAGE_MARKS,    /* dirty and corrupt bit, an unknown auto-clear bit */
    DAMAGE_NO_TABLE, /* the header's refcount table */
    /* From here on it may be more than what can be repaired. */
    DAMAGE_L2,
    DAMAGE_L1,
    DAMAGE_TRUNCATE,
    DAMAGE_SNAPSHOTS,
    DAMAGE_HEADER,
    DAMAGE_BYTES, /* in the metadata, anywhere */
    DAMAGE_COUNT
};
#define DAMAGE_LAST_SOFT DAMAGE_NO_TABLE

/* damage_apply: do it; im->len may change. False if the image has nothing of the kind. */
bool damage_apply(struct rng *r, struct damage_image *im, enum damage_kind kind);
/* damage_draw: one to three kinds, or only one of them if `only` is not negative, on a copy of
 * base, which is free'd by damage_copy_free. *kinds: bit (1 << kind) of each. True: it is only of
 * kinds that can be repaired wholly. */
bool damage_draw(struct rng *r, const struct damage_image *base, int only, struct damage_image *im,
                 unsigned *kinds);
void damage_copy_free(struct damage_image *im);
const char *damage_name(enum damage_kind kind);

#endif
