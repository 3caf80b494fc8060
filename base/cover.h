/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which bytes of a read have been answered: the chunks of a reply may come in any order, but must
 * not overlap and must leave nothing out.
 *
 * Chunks that touch are joined, so a server that answers in order needs one range, however many
 * chunks it sends.
 */
#ifndef BASE_COVER_H
#define BASE_COVER_H

#include <stdbool.h>
#include <stdint.h>

#define COVER_RANGES 32

struct cover {
    uint64_t start; /* of the read */
    unsigned n;
    bool overlap; /* bytes came twice, or from before the start */
    bool full;    /* more ranges that do not touch than there is room for */
    struct cover_range {
        uint64_t from, to;
    } v[COVER_RANGES]; /* ascending, with gaps between them */
};

void cover_init(struct cover *c, uint64_t start);
/* cover_add: bytes [off, off + len) have come. */
void cover_add(struct cover *c, uint64_t off, uint64_t len);
/* cover_is: exactly the first len bytes have come, each once. */
bool cover_is(const struct cover *c, uint64_t len);

#endif
