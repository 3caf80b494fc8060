/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Makes every table and data cluster of an image look shared, as after an internal snapshot that
 * nobody lists: refcount 2, COPIED clear. A driver must then copy before it writes.
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "block/sim.h"
#include "tests/lib/qcow2_check_priv.h"

/* Clear the flag of the entry at `at` and set the refcount of its cluster. Returns its offset. */
static uint64_t share_entry(uint8_t *image, uint64_t at, const struct qck_image *im)
{
    uint64_t entry = get_be64(image + at), off = entry & QCK_OFFSET_MASK;
    uint64_t per_block = im->cluster / 2, cluster = off >> im->cluster_bits;
    if (off == 0)
        return 0;
    put_be64(image + at, entry & ~(UINT64_C(1) << 63));
    uint64_t block = get_be64(image + im->reftable_off + cluster / per_block * 8);
    put_be16(image + block + cluster % per_block * 2, 2);
    return off;
}

bool qck_share(struct sim_disk *d)
{
    struct qck_source src = qck_sim(d);
    struct qck_report r;
    struct qck_image im = {.src = &src, .r = &r};
    if (!qck_check(&src, &r) || !qck_load_header(&im) || im.refcount_order != 4)
        return false;
    uint64_t size = round_up(src.size, im.cluster);
    uint8_t *image = qck_alloc(size, 1);
    src.read(src.arg, 0, image, src.size);
    for (uint64_t i = 0; i < im.l1_size; i++) {
        uint64_t l2 = share_entry(image, im.l1_off + i * 8, &im);
        for (uint64_t k = 0; l2 && k < im.cluster; k += qck_entry_size(&im))
            share_entry(image, l2 + k, &im);
    }
    bool ok = sim_disk_load(d, image, size);
    free(image);
    return ok;
}
