/* SPDX-License-Identifier: BSD-3-Clause
 *
 * xoshiro256** by Blackman and Vigna (public domain algorithm), seeded through splitmix64: small,
 * fast, and the same everywhere, which is what replaying a seed needs.
 */
#include "base/rng.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t rng_hash(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

void rng_seed(struct rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        r->s[i] = rng_hash(seed + (uint64_t)i * UINT64_C(0x9e3779b97f4a7c15));
}

uint64_t rng_u64(struct rng *r)
{
    uint64_t *s = r->s;
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
    /* Reject the uneven tail, so that every value is equally likely. */
    uint64_t tail = (UINT64_MAX % n + 1) % n;
    uint64_t v;
    do {
        v = rng_u64(r);
    } while (v > UINT64_MAX - tail);
    return v % n;
}

uint64_t rng_entropy(void)
{
    uint64_t v;
    ssize_t n;
    do {
        n = getrandom(&v, sizeof(v), 0);
    } while (n < 0 && errno == EINTR);
    if (n == (ssize_t)sizeof(v))
        return v;
    /* No getrandom (very old kernel): the clock is poor, but this is no secret. */
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return rng_hash((uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec);
}
