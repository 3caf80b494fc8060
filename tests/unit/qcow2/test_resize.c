/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Smaller disks and emptied images: the content that stays is what it was, the rest is gone, no
 * cluster leaks, and the file gets smaller.
 */
#include <errno.h>

#include "base/log.h"
#include "tests/unit/qcow2/image.h"

struct shape {
    uint32_t version, cluster_size, refcount_bits;
    uint64_t size;
};

static const struct shape shapes[] = {
    {3, 512, 1, 700 * KiB},    {3, 512, 64, 700 * KiB},      {3, 4096, 2, 5 * MiB},
    {2, 4096, 16, 5 * MiB},    {3, 65536, 16, 20 * MiB},     {3, 65536, 8, 520 * MiB},
    {3, 2 * MiB, 4, 40 * MiB}, {3, 1024, 32, 3 * MiB + 512},
};

static struct sim_disk *make(const struct shape *s)
{
    return image_new(&(struct qc_create_opts){.size = s->size,
                                              .version = s->version,
                                              .cluster_size = s->cluster_size,
                                              .refcount_bits = s->refcount_bits});
}

/* Writes of one to five clusters all over the disk, into the shadow, too. */
static void scatter(struct node *n, uint8_t *shadow, const struct shape *s, struct rng *rng)
{
    for (unsigned i = 0; i < 40; i++) {
        uint64_t len = min_u64((1 + rng_below(rng, 5)) * s->cluster_size, s->size / 4);
        uint64_t off = round_down(rng_below(rng, s->size - len), 512);
        memset(shadow + off, 1 + (int)rng_below(rng, 255), len);
        must(node_write(n, off, shadow + off, len, 0) == 0, "write");
        if (i % 9 == 0)
            must(node_zero(n, off, len / 2, REQ_MAY_UNMAP) == 0 || s->version == 2, "zero");
        if (i % 9 == 0)
            memset(shadow + off, 0, len / 2);
    }
}

static void expect(struct node *n, const uint8_t *shadow, uint64_t size)
{
    uint8_t *buf = mem_alloc(size);
    must(n->size == size, "size %llu", (unsigned long long)n->size);
    must(node_read(n, 0, buf, size) == 0, "read");
    for (uint64_t i = 0; i < size; i++)
        must(buf[i] == shadow[i], "byte 0x%llx", (unsigned long long)i);
    mem_free(buf);
}

static void shrink_body(void *arg)
{
    const struct shape *s = arg;
    struct err *e = NULL;
    struct rng rng;
    uint8_t *shadow = mem_zalloc(s->size);
    struct sim_disk *d = make(s);
    struct node *n = image_open(d, &(struct qc_open_opts){0});
    const struct qc_truncate_opts yes = {.shrink = true};
    rng_seed(&rng, s->cluster_size + s->refcount_bits);
    uint64_t size = s->size;
    scatter(n, shadow, s, &rng);
    must(!qc_truncate(n, size - 512, &(struct qc_truncate_opts){0}, &e) && err_code(e) == EINVAL,
         "shrunk without being asked to");
    err_free(e);
    e = NULL;
    expect(n, shadow, size);
    while (size > 0) {
        uint64_t file = sim_disk_size(d);
        size = round_down(rng_below(&rng, size), 512);
        if (size < s->size / 50)
            size = 0;
        must(qc_truncate(n, size, &yes, &e), "%s", err_msg(e));
        expect(n, shadow, size);
        must(sim_disk_size(d) <= file + 8 * s->cluster_size, "the file grew");
        must(node_flush(n) == 0, "flush");
        image_judge(d, false, "shrunk");
    }
    must(sim_disk_size(d) <= 6 * s->cluster_size, "file of %llu bytes",
         (unsigned long long)sim_disk_size(d));
    /* And larger again: all zeros, whatever is left of old clusters. */
    memset(shadow, 0, s->size);
    must(qc_truncate(n, s->size, &yes, &e), "%s", err_msg(e));
    expect(n, shadow, s->size);
    scatter(n, shadow, s, &rng);
    expect(n, shadow, s->size);
    node_unref(n);
    image_judge(d, false, "used again");
    sim_disk_free(d);
    mem_free(shadow);
}

static void what_stays_of_a_smaller_disk_is_what_it_was(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        if (shapes[i].size < 100 * MiB)
            run_sim(shrink_body, (void *)&shapes[i]);
}

static void empty_body(void *arg)
{
    const struct shape *s = arg;
    struct err *e = NULL;
    struct rng rng;
    uint8_t *shadow = mem_zalloc(s->size);
    struct sim_disk *d = make(s);
    struct node *n = image_open(d, &(struct qc_open_opts){0});
    uint64_t was = sim_disk_size(d);
    rng_seed(&rng, s->cluster_size);
    for (unsigned round = 0; round < 2; round++) {
        scatter(n, shadow, s, &rng);
        must(qc_make_empty(n, &e), "%s", err_msg(e));
        memset(shadow, 0, s->size);
        if (s->size < 100 * MiB)
            expect(n, shadow, s->size);
        must(sim_disk_size(d) <= was + 4 * s->cluster_size, "file of %llu bytes, %llu when new",
             (unsigned long long)sim_disk_size(d), (unsigned long long)was);
        image_judge(d, false, "emptied");
    }
    node_unref(n);
    image_judge(d, false, "closed");
    sim_disk_free(d);
    mem_free(shadow);
}

static void an_emptied_image_is_as_small_as_a_new_one(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        run_sim(empty_body, (void *)&shapes[i]);
}

/* --- Growing --- */

/* A disk that ends within a cluster whose first part is read from the backing file. */
static void tail_body(void *arg)
{
    enum { CLUSTER = 64 * KiB, OLD = CLUSTER + 1024, NEW = 5 * CLUSTER + 512 };
    static const uint64_t base_sizes[] = {OLD, CLUSTER + 512, 2 * CLUSTER + 512};
    const struct qc_truncate_opts *how = arg;
    struct err *e = NULL;
    struct rng rng;
    uint8_t *content = mem_zalloc(NEW);
    rng_seed(&rng, 1);
    for (unsigned i = 0; i < 2 * ARRAY_LEN(base_sizes); i++) {
        uint64_t base_size = base_sizes[i / 2];
        struct sim_disk *below = sim_disk_new(base_size), *d;
        memset(content, 0, NEW);
        for (uint64_t k = 0; k < base_size; k++)
            content[k] = (uint8_t)(1 + rng_below(&rng, 255));
        must(sim_disk_load(below, content, base_size), "memory");
        memset(content + OLD, 0, NEW - OLD);
        d = image_new(&(struct qc_create_opts){.size = OLD,
                                               .cluster_size = CLUSTER,
                                               .extended_l2 = i % 2,
                                               .backing_name = "below",
                                               .backing_format = "raw"});
        struct node *base = sim_open(below, true, NULL);
        struct node *n = image_open(d, &(struct qc_open_opts){.backing = base});
        expect(n, content, OLD);
        must(qc_truncate(n, NEW, how, &e), "%s", err_msg(e));
        expect(n, content, NEW);
        node_unref(n);
        node_unref(base);
        image_judge(d, false, "grown");
        sim_disk_free(d);
        sim_disk_free(below);
    }
    mem_free(content);
}

static void preallocated_growth_leaves_what_the_backing_file_shows(void **state)
{
    static const enum qc_preallocation modes[] = {QC_PREALLOC_OFF, QC_PREALLOC_METADATA,
                                                  QC_PREALLOC_FALLOC, QC_PREALLOC_FULL};
    for (size_t i = 0; i < ARRAY_LEN(modes); i++)
        run_sim(tail_body, &(struct qc_truncate_opts){.preallocation = modes[i]});
}

struct growth {
    struct node *n;
    uint64_t size;
    int result;
    struct co_group *group;
};

static void grow_main(void *arg)
{
    struct growth *g = arg;
    g->result = node_truncate(g->n, g->size);
    co_group_done(g->group);
}

/* Whichever is the last one: it grows the disk or it is refused, but never cuts it. */
static void growths_body(void *arg)
{
    uint8_t block[512];
    memset(block, 9, sizeof(block));
    for (unsigned seed = 0; seed < 40; seed++) {
        struct sim_disk *d =
            image_new(&(struct qc_create_opts){.size = 100 * KiB, .cluster_size = 512});
        struct node *n = image_open(d, &(struct qc_open_opts){0});
        struct co_group group = {0};
        struct growth g[2] = {{n, 3 * MiB, 0, &group}, {n, 2 * MiB + 512, 0, &group}};
        sim_set_latency(d, 1000, 1000 * 1000, seed);
        for (unsigned i = 0; i < 2; i++) {
            co_group_add(&group);
            must(co_start(grow_main, &g[(i + seed) % 2]), "memory");
        }
        co_group_wait(&group);
        sim_set_latency(d, 0, 0, 0);
        must(g[0].result == 0 && n->size == 3 * MiB, "seed %u: %llu bytes", seed,
             (unsigned long long)n->size);
        must(node_write(n, 3 * MiB - 512, block, 512, 0) == 0, "write");
        node_unref(n);
        image_judge(d, false, "grown twice");
        n = image_open(d, &(struct qc_open_opts){0});
        must(n->size == 3 * MiB, "seed %u: %llu bytes stored", seed, (unsigned long long)n->size);
        node_unref(n);
        sim_disk_free(d);
    }
}

static void shrink_main(void *arg)
{
    struct growth *g = arg;
    struct err *e = NULL;
    bool ok = qc_truncate(g->n, g->size, &(struct qc_truncate_opts){.shrink = true}, &e);
    g->result = ok ? 0 : -err_code(e);
    err_free(e);
    co_group_done(g->group);
}

/* The second one finds a disk that is smaller already, and must not make it larger: nothing has
 * been zeroed for that, and the L1 table is too short. */
static void shrinkings_body(void *arg)
{
    uint8_t block[512];
    memset(block, 9, sizeof(block));
    for (unsigned seed = 0; seed < 10; seed++) {
        struct sim_disk *d =
            image_new(&(struct qc_create_opts){.size = 4 * MiB, .cluster_size = 512});
        struct node *n = image_open(d, &(struct qc_open_opts){0});
        must(node_write(n, 2 * MiB, block, 512, 0) == 0, "write");
        struct co_group group = {0};
        struct growth g[2] = {{n, 1 * MiB, 0, &group}, {n, 3 * MiB, 0, &group}};
        sim_set_latency(d, 1000, 1000 * 1000, seed);
        for (unsigned i = 0; i < 2; i++) {
            co_group_add(&group);
            must(co_start(shrink_main, &g[(i + seed) % 2]), "memory");
        }
        co_group_wait(&group);
        sim_set_latency(d, 0, 0, 0);
        must(g[0].result == 0 && n->size == 1 * MiB, "seed %u: %llu bytes", seed,
             (unsigned long long)n->size);
        must(g[1].result == (seed % 2 ? 0 : -EBUSY), "seed %u: result %d", seed, g[1].result);
        node_unref(n);
        image_judge(d, false, "shrunk twice");
        n = image_open(d, &(struct qc_open_opts){0});
        must(n->size == 1 * MiB, "seed %u: %llu bytes stored", seed, (unsigned long long)n->size);
        node_unref(n);
        sim_disk_free(d);
    }
}

static void two_shrinkings_at_once_leave_the_smaller_disk(void **state)
{
    run_sim(shrinkings_body, NULL);
}

static void two_growths_at_once_leave_the_larger_disk(void **state)
{
    run_sim(growths_body, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_stays_of_a_smaller_disk_is_what_it_was),
        cmocka_unit_test(an_emptied_image_is_as_small_as_a_new_one),
        cmocka_unit_test(preallocated_growth_leaves_what_the_backing_file_shows),
        cmocka_unit_test(two_growths_at_once_leave_the_larger_disk),
        cmocka_unit_test(two_shrinkings_at_once_leave_the_smaller_disk),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
