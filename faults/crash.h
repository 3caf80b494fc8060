/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a power cut may leave: the legal contents of a disk whose volatile cache held some writes.
 *
 * Each write of the cache survives, vanishes, or tears at the atomic unit; what was forced to the
 * medium survives. So a unit holds what the medium has or any later write of it, never an earlier
 * one. There are too many such states to try all; those that find bugs soonest come first: all
 * prefixes, all but one or two, one or two alone, torn writes, then seeded samples. States of equal
 * content are one. Pure: no I/O.
 */
#ifndef FAULTS_CRASH_H
#define FAULTS_CRASH_H

#include "faults/cache.h"

struct crash_set;

/* crash_new: of the records of c, which are taken over (c is cleared). NULL without memory, then c
 * is as it was. Next, in this order: crash_unit and crash_base for each unit, crash_find. */
struct crash_set *crash_new(struct cache *c);
void crash_free(struct crash_set *s);
/* crash_unit: where the i-th unit lies that some write touched; false past the last.
 * crash_base: what the medium holds there. False without memory. */
bool crash_unit(const struct crash_set *s, uint64_t i, uint64_t *off, uint32_t *len);
bool crash_base(struct crash_set *s, uint64_t i, const void *content);
/* crash_find: tell the states apart. False without memory: then only some are known. */
bool crash_find(struct crash_set *s);

unsigned crash_count(const struct crash_set *s);
unsigned crash_volatile(const struct crash_set *s);
/* crash_build: state i as the bytes that differ from the medium (or may): empty pages in. False
 * without memory. */
bool crash_build(const struct crash_set *s, unsigned i, struct pages *out);
/* crash_key: tells contents of state i apart from others, also from those of other sets with the
 * same unit: it is the sum, over all units that state i changes, of crash_unit_key of the new
 * content minus that of the medium's. unit_key: content of one unit, with its number (its offset
 * divided by its size). */
uint64_t crash_key(const struct crash_set *s, unsigned i);
uint64_t crash_unit_key(const void *content, uint32_t unit, uint64_t number);
/* crash_describe: "the first 3 of 8 volatile writes". False past the end. */
bool crash_describe(const struct crash_set *s, unsigned i, char *buf, size_t len);

#endif
