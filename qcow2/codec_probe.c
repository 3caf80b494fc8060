/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Is there anything that deflate could make smaller?
 *
 * On noise (encrypted or packed already) deflate works longest and gains nothing; what half of a
 * disk often is. It gains in two ways: from bytes that are more frequent than others, and from
 * strings that were seen within its window. Both can be counted in a small part of the time. For
 * noise, the squared deviation of the byte counts (chi-square, 255 degrees of freedom) is about
 * 255, hardly ever above 400, where coding them would gain less than a byte in a thousand; and four
 * bytes are the same as four of the last 4096 once in a million times.
 */
#include "base/bytes.h"
#include "qcow2/codec.h"

#define MIN_LEN 4096 /* less is too little to tell, and quickly packed */
#define CHI_SQUARE_MAX 400
#define WINDOW 4096
#define HASH_BITS 13
#define NO_GAIN 1024 /* one match in so many bytes is none */

static bool bytes_are_even(const uint8_t *p, size_t n)
{
    uint32_t count[4][256] = {0}; /* four: equal neighbours must not wait for each other */
    for (size_t i = 0; i + 4 <= n; i += 4)
        for (unsigned k = 0; k < 4; k++)
            count[k][p[i + k]]++;
    double expected = (double)(n & ~(size_t)3) / 256, sum = 0;
    for (unsigned b = 0; b < 256; b++) {
        double off = (double)(count[0][b] + count[1][b] + count[2][b] + count[3][b]) - expected;
        sum += off * off;
    }
    return sum < CHI_SQUARE_MAX * expected;
}

static uint32_t load32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static bool nothing_repeats(const uint8_t *p, size_t n)
{
    uint32_t last[1 << HASH_BITS] = {0}; /* where a string was seen last, plus 1 */
    size_t found = 0, max = n / NO_GAIN;
    for (size_t i = 0; i + 4 <= n; i++) {
        uint32_t v = load32(p + i), h = (v * UINT32_C(2654435761)) >> (32 - HASH_BITS);
        size_t before = last[h];
        last[h] = (uint32_t)i + 1;
        if (before && i + 1 - before <= WINDOW && load32(p + before - 1) == v && ++found > max)
            return false;
    }
    return true;
}

bool qc_codec_hopeless(const uint8_t *src, size_t len)
{
    return len >= MIN_LEN && bytes_are_even(src, len) && nothing_repeats(src, len);
}
