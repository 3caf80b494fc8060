/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Seeded random numbers (xoshiro256**, seeded by splitmix64). Not for secrets.
 * The same seed gives the same sequence on every machine.
 */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t s[4];
};

void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_u64(struct rng *r);
/* rng_below: uniform in [0, n), n > 0. */
uint64_t rng_below(struct rng *r, uint64_t n);
/* rng_hash: a fixed 64-bit mix of x, for draws that must not depend on order. */
uint64_t rng_hash(uint64_t x);
/* rng_entropy: a fresh seed from the operating system. */
uint64_t rng_entropy(void);

#endif
