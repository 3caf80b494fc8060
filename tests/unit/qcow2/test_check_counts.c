/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The checker's counters against a plain array, and its look through refcount blocks against
 * reading them one by one.
 */
#include "qcow2/check_priv.h"
#include "tests/unit/qcow2/image.h"

#define CLUSTERS (3 * QCC_PAGE)
#define STEPS 4000
#define ROUNDS 6

static uint64_t refs[CLUSTERS];
static bool one[CLUSTERS];

static uint64_t some(struct rng *r)
{
    static const uint64_t big[] = {100, 40000, UINT64_C(1) << 40};
    return rng_below(r, 40) ? 1 + rng_below(r, 2) : big[rng_below(r, 3)];
}

static void step(struct rng *r, struct qcc_counts *c, bool narrow)
{
    uint64_t at = rng_below(r, CLUSTERS - 300), n = narrow ? 1 : some(r), len = rng_below(r, 300);
    switch (rng_below(r, 4)) {
    case 0:
        must(qcc_counts_add(c, at, n) == 0, "add");
        refs[at] += n;
        break;
    case 1:
        must(qcc_counts_add_run(c, at, len, n) == 0, "add_run");
        for (uint64_t i = 0; i < len; i++)
            refs[at + i] += n;
        break;
    case 2:
        for (uint64_t i = 0; i < len; i++) {
            qcc_counts_drop(c, at + i);
            refs[at + i] -= refs[at + i] > 0;
        }
        break;
    default:
        at = round_down(at, 64);
        uint64_t ones = rng_u64(r);
        must(qcc_counts_set_ones(c, at, ones) == 0, "set_ones");
        for (unsigned i = 0; i < 64; i++)
            one[at + i] |= ones >> i & 1;
    }
}

static void compare(struct rng *r, const struct qcc_counts *c)
{
    for (uint64_t k = 0; k < CLUSTERS; k++) {
        must(qcc_counts_get(c, k) == refs[k], "cluster %llu: %llu, not %llu", (unsigned long long)k,
             (unsigned long long)qcc_counts_get(c, k), (unsigned long long)refs[k]);
        must(((qcc_counts_raw(c, k) & QCC_ONE) != 0) == one[k], "the bit of %llu",
             (unsigned long long)k);
    }
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t at = rng_below(r, CLUSTERS - 100), len = rng_below(r, 100);
        bool all = true;
        for (uint64_t k = 0; k < len; k++)
            all = all && one[at + k];
        must(qcc_counts_all_ones(c, at, len) == all, "all_ones of %llu+%llu",
             (unsigned long long)at, (unsigned long long)len);
    }
}

static void counters_agree_with_a_plain_array(void **state)
{
    for (uint64_t seed = 0; seed < ROUNDS; seed++) {
        struct qcc_counts c;
        struct rng r;
        rng_seed(&r, seed);
        memset(refs, 0, sizeof(refs));
        memset(one, 0, sizeof(one));
        must(qcc_counts_init(&c, CLUSTERS), "memory");
        for (unsigned i = 0; i < STEPS; i++)
            step(&r, &c, seed % 2);
        compare(&r, &c);
        qcc_counts_free(&c);
    }
}

static void ones_are_found_in_blocks_of_every_width(void **state)
{
    uint8_t block[64 * 8 * 2];
    struct rng r;
    rng_seed(&r, 1);
    for (unsigned i = 0; i < 3000; i++) {
        unsigned order = i % 7, n = rng_below(&r, 2) ? 64 : 1 + (unsigned)rng_below(&r, 64);
        uint64_t largest = order == 6 ? UINT64_MAX : (UINT64_C(1) << (1u << order)) - 1;
        bool plain = rng_below(&r, 2), other = false, expect_other = false;
        for (unsigned k = 0; k < 128; k++)
            qc_ref_write(order, block, k, plain ? rng_below(&r, 2) : rng_u64(&r) & largest);
        uint64_t ones = qcc_ones(order, block, 64, n, &other);
        for (unsigned k = 0; k < 64; k++) {
            uint64_t v = qc_ref_read(order, block, 64 + k);
            bool expect = k < n && v == 1;
            expect_other |= k < n && v > 1;
            must((ones >> k & 1) == expect, "order %u, entry %u", order, k);
        }
        must(other == expect_other, "order %u: other is %d", order, other);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_agree_with_a_plain_array),
        cmocka_unit_test(ones_are_found_in_blocks_of_every_width),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
