/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Seeded random workloads against a plain copy of the disk in memory: every cluster size, every
 * refcount width, both versions, with and without a backing file, with caches of two slices.
 */
#include <errno.h>

#include "tests/unit/qcow2/image.h"

struct world {
    uint64_t seed;
    struct qc_create_opts create;
    bool backing;
    unsigned ops;
    char what[128];

    struct rng rng;
    struct sim_disk *disk, *base_disk;
    struct node *node, *base;
    uint8_t *shadow, *buf;
    uint64_t size, max_size;
};

static void fill(struct rng *r, uint8_t *p, uint64_t len)
{
    uint64_t x = rng_u64(r) | 1;
    for (uint64_t i = 0; i < len; i++)
        p[i] = (uint8_t)((x >> (i & 31)) + i * 7 + (i >> 9));
}

static void open_all(struct world *w)
{
    struct qc_open_opts o = {.l2_cache_bytes = 1, .refcount_cache_bytes = 1, .backing = w->base};
    w->node = image_open(w->disk, &o);
    must(w->node->size == w->size, "%s: size", w->what);
}

static void range(struct world *w, uint64_t *off, uint64_t *len)
{
    uint64_t cluster = w->create.cluster_size;
    uint64_t max =
        rng_below(&w->rng, 4) ? min_u64(w->size, 2 * cluster) : min_u64(w->size, 8 * cluster);
    *len = 1 + rng_below(&w->rng, max);
    *off = rng_below(&w->rng, w->size - *len + 1);
    switch (rng_below(&w->rng, 4)) {
    case 0: /* bytes */
        break;
    case 1: /* whole clusters */
        *off = round_down(*off, cluster);
        *len = min_u64(round_up(*len, cluster), w->size - *off);
        break;
    default: /* sectors */
        *off = round_down(*off, 512);
        *len = min_u64(round_up(*len, 512), w->size - *off);
    }
}

static void model_discard(struct world *w, uint64_t off, uint64_t len)
{
    uint64_t cluster = w->create.cluster_size, end = off + len;
    uint64_t first = round_up(off, cluster);
    uint64_t last = end == w->size ? end : round_down(end, cluster);
    if (w->create.version == 2 && w->backing)
        return;
    if (first < last)
        memset(w->shadow + first, 0, last - first);
}

static void check_status(struct world *w, uint64_t off, uint64_t len)
{
    struct extents x;
    extents_init(&x, 64);
    int r = node_status(w->node, off, len, &x);
    must(r == 0 && x.n > 0 && x.total <= len, "%s: status %d", w->what, r);
    for (size_t i = 0; i < x.n; i++) {
        must(!(x.v[i].flags & EXTENT_ZERO) || bytes_are_zero(w->shadow + off, x.v[i].len),
             "%s: called zero, is not, at %llu", w->what, (unsigned long long)off);
        off += x.v[i].len;
    }
    extents_free(&x);
}

static void compare(struct world *w, uint64_t off, uint64_t len)
{
    int r = node_read(w->node, off, w->buf, len);
    must(r == 0, "%s: read %d", w->what, r);
    for (uint64_t i = 0; i < len; i++)
        must(w->buf[i] == w->shadow[off + i], "%s: byte %llu is %02x, not %02x", w->what,
             (unsigned long long)(off + i), w->buf[i], w->shadow[off + i]);
}

static int write_some(struct world *w, uint64_t off, uint64_t len)
{
    uint64_t cluster = w->create.cluster_size;
    uint32_t flags = rng_below(&w->rng, 8) ? 0 : REQ_FUA;
    bool whole = is_aligned(off, cluster) && (is_aligned(len, cluster) || off + len == w->size);
    if (whole && rng_below(&w->rng, 2))
        flags |= REQ_COMPRESSED;
    fill(&w->rng, w->shadow + off, len);
    return node_write(w->node, off, w->shadow + off, len, flags);
}

static void grow(struct world *w)
{
    uint64_t to = w->size + 512 * rng_below(&w->rng, (w->max_size - w->size) / 512 / 4 + 1);
    int r = node_truncate(w->node, to);
    must(r == 0, "%s: grow to %llu: %d", w->what, (unsigned long long)to, r);
    w->size = to;
    must(w->node->size == to, "%s: size after growing", w->what);
}

static void step(struct world *w)
{
    uint64_t off, len;
    int r = 0;
    range(w, &off, &len);
    switch (rng_below(&w->rng, 16)) {
    case 0:
    case 1:
        r = node_zero(w->node, off, len, rng_below(&w->rng, 2) ? REQ_MAY_UNMAP : 0);
        memset(w->shadow + off, 0, len);
        break;
    case 2:
    case 3:
        r = node_discard(w->node, off, len);
        model_discard(w, off, len);
        break;
    case 4:
        r = node_flush(w->node);
        break;
    case 5:
        check_status(w, off, len);
        break;
    case 6:
        if (rng_below(&w->rng, 4) == 0)
            grow(w);
        else if (rng_below(&w->rng, 4) == 0) {
            node_unref(w->node);
            image_judge(w->disk, false, w->what);
            open_all(w);
        }
        break;
    case 7:
    case 8:
    case 9:
        compare(w, off, len);
        break;
    default:
        r = write_some(w, off, len);
    }
    must(r == 0, "%s: error %d", w->what, r);
}

static void judge_content(struct world *w)
{
    struct qck_report rep;
    struct qck_source src = qck_sim(w->disk);
    must(qck_read(&src, 0, w->buf, w->size, &rep), "%s: %s", w->what, rep.text);
    must(!memcmp(w->buf, w->shadow, w->size), "%s: the judge reads other content", w->what);
}

static void make_base(struct world *w)
{
    struct err *e = NULL;
    uint64_t len = round_down(w->max_size / 2 + 3 * 512, 512);
    w->base_disk = sim_disk_new(0);
    fill(&w->rng, w->shadow, len);
    must(sim_disk_load(w->base_disk, w->shadow, len), "memory");
    w->base = sim_open(w->base_disk, true, &e);
    must(w->base, "%s", err_msg(e));
    w->create.backing_name = "base";
    w->create.backing_format = "raw";
    memset(w->shadow + w->size, 0, w->max_size - w->size);
}

static void world_body(void *arg)
{
    struct world *w = arg;
    uint64_t cluster = w->create.cluster_size;
    rng_seed(&w->rng, w->seed);
    w->size = w->create.size = 40 * KiB + 6 * cluster + 512 * rng_below(&w->rng, 8);
    w->max_size = 4 * w->size;
    w->shadow = mem_zalloc(w->max_size);
    w->buf = mem_alloc(w->max_size);
    if (w->backing)
        make_base(w);
    w->disk = image_new(&w->create);
    if (w->create.version == 3 && w->seed % 3 == 0)
        image_set_zstd(w->disk);
    open_all(w);
    for (unsigned i = 0; i < w->ops; i++)
        step(w);
    compare(w, 0, w->size);
    node_unref(w->node);
    image_judge(w->disk, false, w->what);
    if (!w->backing)
        judge_content(w);
    open_all(w);
    compare(w, 0, w->size);
    node_unref(w->node);
    node_unref(w->base);
    sim_disk_free(w->disk);
    sim_disk_free(w->base_disk);
    mem_free(w->shadow);
    mem_free(w->buf);
}

static void run_world(uint32_t version, unsigned cluster_bits, unsigned order, bool backing,
                      uint64_t seed, unsigned ops)
{
    struct world w = {.seed = seed, .backing = backing, .ops = ops};
    w.create.version = version;
    w.create.cluster_size = 1u << cluster_bits;
    w.create.refcount_bits = 1u << order;
    snprintf(w.what, sizeof(w.what), "v%u cluster 2^%u refcount 2^%u %s seed %llu", version,
             cluster_bits, order, backing ? "with backing" : "alone", (unsigned long long)seed);
    run_sim(world_body, &w);
}

static void every_geometry_matches_the_shadow(void **state)
{
    for (unsigned bits = 9; bits <= 21; bits++)
        for (unsigned order = 0; order <= 6; order++)
            run_world(3, bits, order, (bits + order) % 2, 100 * bits + order,
                      bits < 16   ? 120
                      : bits < 19 ? 40
                                  : 12);
}

static void version_2_matches_the_shadow(void **state)
{
    for (unsigned bits = 9; bits <= 16; bits++)
        for (unsigned backing = 0; backing < 2; backing++)
            run_world(2, bits, 4, backing, 7000 + 2 * bits + backing, 120);
}

static void long_runs_match_the_shadow(void **state)
{
    for (unsigned i = 0; i < 12; i++)
        run_world(3, 9 + i % 4, i % 7, i % 2, 9000 + i, 1500);
}

int main(int argc, char **argv)
{
    if (argc == 7) { /* replay: version cluster_bits order backing seed ops */
        run_world((uint32_t)atoi(argv[1]), (unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]),
                  atoi(argv[4]), strtoull(argv[5], NULL, 0), (unsigned)atoi(argv[6]));
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_geometry_matches_the_shadow),
        cmocka_unit_test(version_2_matches_the_shadow),
        cmocka_unit_test(long_runs_match_the_shadow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
