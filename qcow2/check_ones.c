/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Looking through a refcount block for refcounts of one. This, and the walk over the L2 entries, is
 * where checking a large image spends its time; so 16-bit refcounts, which nearly all images have,
 * are compared eight at a time.
 */
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "qcow2/check_priv.h"

#ifdef __SSE2__
/* 64 refcounts of 16 bits. */
static uint64_t ones_16(const uint8_t *p, bool *other)
{
    const __m128i one = _mm_set1_epi16(0x0100), zero = _mm_setzero_si128(); /* big-endian */
    uint64_t ones = 0, known = 0;
    for (unsigned i = 0; i < 64; i += 16) {
        __m128i a = _mm_loadu_si128((const void *)(p + i * 2)),
                b = _mm_loadu_si128((const void *)(p + i * 2 + 16));
        __m128i is_one = _mm_packs_epi16(_mm_cmpeq_epi16(a, one), _mm_cmpeq_epi16(b, one));
        __m128i is_zero = _mm_packs_epi16(_mm_cmpeq_epi16(a, zero), _mm_cmpeq_epi16(b, zero));
        ones |= (uint64_t)(unsigned)_mm_movemask_epi8(is_one) << i;
        known |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_or_si128(is_one, is_zero)) << i;
    }
    *other = *other || ~known;
    return ones;
}
#endif

uint64_t qcc_ones(unsigned order, const uint8_t *block, uint64_t first, unsigned n, bool *other)
{
    uint64_t ones = 0;
#ifdef __SSE2__
    if (order == 4 && n == 64)
        return ones_16(block + first * 2, other);
#endif
    for (unsigned i = 0; i < n; i++) {
        uint64_t v = qc_ref_read(order, block, first + i);
        ones |= (uint64_t)(v == 1) << i;
        *other = *other || v > 1;
    }
    return ones;
}
