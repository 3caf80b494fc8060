/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Random changes of an image in a file, then the verdict of qemu-img on it: free of errors and
 * leaks, and equal to the shadow copy kept here.
 */
#ifndef TESTS_UNIT_QCOW2_CHURN_H
#define TESTS_UNIT_QCOW2_CHURN_H

#include "tests/unit/qcow2/files.h"

struct world {
    struct rng rng;
    struct node *node;
    uint8_t *shadow;
    uint64_t size, cluster;
};

static inline void step(struct world *w)
{
    uint64_t len = 1 + rng_below(&w->rng, min_u64(4 * w->cluster, w->size / 2));
    uint64_t off = rng_below(&w->rng, w->size - len);
    switch (rng_below(&w->rng, 6)) {
    case 0:
        must(node_zero(w->node, off, len, rng_below(&w->rng, 2) ? REQ_MAY_UNMAP : 0) == 0, "zero");
        memset(w->shadow + off, 0, len);
        break;
    case 1:
        off = round_down(off, w->cluster);
        len = min_u64(w->cluster, w->size - off);
        must(node_discard(w->node, off, len) == 0, "discard");
        memset(w->shadow + off, 0, len);
        break;
    case 2:
        must(node_flush(w->node) == 0, "flush");
        break;
    default:
        memset(w->shadow + off, (int)rng_below(&w->rng, 256), len);
        must(node_write(w->node, off, w->shadow + off, len, 0) == 0, "write");
    }
}

static inline void judge(struct world *w, const char *image)
{
    sh(0, "qemu-img check %s", image); /* also no leaks: that would be exit code 3 */
    FILE *f = fopen(at("raw"), "wb");
    must(f && fwrite(w->shadow, 1, w->size, f) == w->size && fclose(f) == 0, "raw");
    sh(0, "qemu-img compare -f qcow2 -F raw %s raw", image);
}

static inline void churn(struct world *w, const char *image, uint64_t seed, unsigned ops)
{
    rng_seed(&w->rng, seed);
    w->node = open_file(image, false);
    must(w->node->size == w->size, "size");
    for (unsigned i = 0; i < ops; i++)
        step(w);
    node_unref(w->node);
    judge(w, image);
}

#endif
