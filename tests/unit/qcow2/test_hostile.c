/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Hostile images: good ones with their metadata damaged at random. Whatever they say, opening and
 * using them neither crashes nor hangs.
 */
#include <errno.h>

#include "base/log.h"
#include "tests/unit/qcow2/image.h"

#define ROUNDS 1500

static unsigned n_opened;

static void no_log(enum log_level level, const char *line, void *arg)
{
}

static void put(struct node *n, uint64_t off, uint64_t len, int byte)
{
    uint8_t *buf = malloc(len);
    memset(buf, byte, len);
    node_write(n, off, buf, len, 0);
    free(buf);
}

static uint8_t *good_image(const struct qc_create_opts *o, uint64_t *len)
{
    struct sim_disk *d = image_new(o);
    struct qc_open_opts oo = {0};
    struct node *n = image_open(d, &oo);
    for (unsigned i = 0; i < 40; i++)
        put(n, (i * 37 % 100) * o->cluster_size, o->cluster_size + 512, (int)i + 1);
    node_zero(n, 10 * o->cluster_size, 5 * o->cluster_size, 0);
    node_unref(n);
    *len = sim_disk_size(d);
    uint8_t *image = malloc(*len);
    sim_disk_peek(d, 0, image, *len);
    sim_disk_free(d);
    return image;
}

/* A value that is likely to be believed. */
static uint64_t lie(struct rng *r, uint64_t cluster, uint64_t len)
{
    uint64_t v = rng_below(r, len / cluster + 2) * cluster;
    switch (rng_below(r, 8)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return rng_u64(r);
    case 3:
        return v | (UINT64_C(1) << 62);
    case 4:
        return v + 512;
    case 5:
        return v | 1;
    default:
        return v | (UINT64_C(1) << 63);
    }
}

static void damage(struct rng *r, uint8_t *image, uint64_t len, uint64_t cluster)
{
    uint64_t tables[] = {get_be64(image + 40), get_be64(image + 48)};
    uint64_t l2 = get_be64(image + tables[0]) & UINT64_C(0x00fffffffffffe00);
    uint64_t refblock = get_be64(image + tables[1]);
    for (unsigned n = 1 + (unsigned)rng_below(r, 4); n; n--) {
        uint64_t at, v = lie(r, cluster, len);
        switch (rng_below(r, 6)) {
        case 0: /* a header field */
            at = 4 * rng_below(r, 28);
            put_be32(image + at, rng_below(r, 2) ? (uint32_t)v : (uint32_t)rng_below(r, 70));
            continue;
        case 1:
            at = tables[0];
            break;
        case 2:
            at = tables[1];
            break;
        case 3:
            at = refblock;
            break;
        default:
            at = l2;
        }
        put_be64(image + at + 8 * rng_below(r, 32), v);
    }
}

static void use(struct rng *r, struct node *n, uint64_t cluster)
{
    uint8_t *buf = malloc(3 * cluster);
    uint64_t size = min_u64(n->size, 128 * cluster);
    for (unsigned i = 0; i < 30 && size > 3 * cluster; i++) {
        uint64_t off = rng_below(r, size - 3 * cluster), len = 1 + rng_below(r, 3 * cluster);
        struct extents x;
        switch (rng_below(r, 8)) {
        case 0:
            node_zero(n, off, len, rng_below(r, 2) ? REQ_MAY_UNMAP : 0);
            break;
        case 1:
            node_discard(n, off, len);
            break;
        case 2:
            node_flush(n);
            break;
        case 3:
            extents_init(&x, 16);
            node_status(n, off, len, &x);
            extents_free(&x);
            break;
        case 4:
        case 5:
            node_read(n, off, buf, len);
            break;
        default:
            put(n, off, len, 1);
        }
    }
    free(buf);
}

static void body(void *arg)
{
    uint64_t seed = *(const uint64_t *)arg, len;
    struct rng r;
    rng_seed(&r, seed);
    struct qc_create_opts o = {.cluster_size = 512u << rng_below(&r, 4),
                               .refcount_bits = 1u << rng_below(&r, 7)};
    o.size = 128 * o.cluster_size;
    uint8_t *image = good_image(&o, &len);
    damage(&r, image, len, o.cluster_size);
    struct sim_disk *d = sim_disk_new(0);
    must(sim_disk_load(d, image, len), "memory");
    struct err *e = NULL;
    struct qc_open_opts oo = {.read_only = rng_below(&r, 4) == 0, .l2_cache_bytes = 1};
    struct node *file = sim_open(d, oo.read_only, NULL);
    struct node *n = qc_open(file, &oo, &e);
    if (n) {
        n_opened++;
        use(&r, n, o.cluster_size);
        node_unref(n);
    } else {
        must(err_code(e) > 0 && *err_msg(e), "seed %llu: refused without a reason",
             (unsigned long long)seed);
        err_free(e);
        node_unref(file);
    }
    sim_disk_free(d);
    free(image);
}

static void damaged_metadata_neither_crashes_nor_hangs(void **state)
{
    log_set_sink(no_log, NULL);
    for (uint64_t seed = 1; seed <= ROUNDS; seed++)
        run_sim(body, &seed);
    assert_in_range(n_opened, ROUNDS / 4, ROUNDS - ROUNDS / 20); /* both ways were taken */
}

int main(int argc, char **argv)
{
    if (argc == 2) { /* replay: seed */
        uint64_t seed = strtoull(argv[1], NULL, 0);
        run_sim(body, &seed);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_metadata_neither_crashes_nor_hangs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
