/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Bytes that lie over a disk: a sparse store that knows of each byte whether it holds it. What a
 * volatile cache has not written yet, what differs from the truth, what was written to a copy.
 */
#ifndef FAULTS_PAGES_H
#define FAULTS_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct page;
struct pages { /* zeroed: empty */
    struct page **slot;
    size_t size, n; /* size: 0 or a power of two; at most half of the slots are used */
};

/* pages_write: hold these bytes; buf NULL: zeros. False without memory: then what was held is as it
 * was, in part with the new content. */
bool pages_write(struct pages *p, uint64_t off, const void *buf, uint64_t len);
/* pages_reserve: memory for a pages_write of this range, which then cannot fail. */
bool pages_reserve(struct pages *p, uint64_t off, uint64_t len);
/* pages_drop: hold them no more. Cannot fail. */
void pages_drop(struct pages *p, uint64_t off, uint64_t len);
/* pages_patch: put what is held of [off, off + len) over buf. */
void pages_patch(const struct pages *p, uint64_t off, void *buf, uint64_t len);
/* pages_run: length (at most len) of the run at off of which all bytes are held, or none; *held
 * says which. */
uint64_t pages_run(const struct pages *p, uint64_t off, uint64_t len, bool *held);
/* pages_bytes: memory in use, about. */
uint64_t pages_bytes(const struct pages *p);
void pages_free(struct pages *p);

#endif
