/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Many requests at once on a disk that answers in seeded random order. Each worker owns every
 * WORKERS-th sector, so all of them meet in the same clusters while what each sector must hold
 * stays exact; discards and zeroes of whole clusters come from the owner of the whole cluster.
 */
#include "tests/unit/qcow2/image.h"

#define SECTOR 512
#define WORKERS 16

struct world {
    uint64_t seed;
    struct qc_create_opts create;
    uint64_t cache;
    unsigned ops;
    bool judge_crash;
    char what[96];

    struct rng rng;
    struct sim_disk *disk;
    struct node *node;
    uint64_t size, shared; /* [shared, size): clusters owned whole, by number */
    uint8_t *shadow;
    struct co_group group;
    unsigned next_id;
};

static void own_write(struct world *w, unsigned id, uint64_t s)
{
    uint8_t *p = w->shadow + s * SECTOR;
    uint64_t x = rng_u64(&w->rng) | 1;
    for (unsigned i = 0; i < SECTOR; i += 8)
        memcpy(p + i, &x, 8);
    must(node_write(w->node, s * SECTOR, p, SECTOR, 0) == 0, "%s: write", w->what);
}

static void own_check(struct world *w, uint64_t off, uint64_t len)
{
    uint8_t *buf = mem_alloc(len);
    must(node_read(w->node, off, buf, len) == 0, "%s: read", w->what);
    must(!memcmp(buf, w->shadow + off, len), "%s: wrong content at %llu", w->what,
         (unsigned long long)off);
    mem_free(buf);
}

static void cluster_op(struct world *w, unsigned id)
{
    uint64_t cluster = w->create.cluster_size;
    uint64_t n = (w->size - w->shared) / cluster / WORKERS;
    uint64_t off = w->shared + (rng_below(&w->rng, n) * WORKERS + id) * cluster;
    switch (rng_below(&w->rng, 5)) {
    case 0:
        memset(w->shadow + off, 0, cluster);
        must(node_zero(w->node, off, cluster, REQ_MAY_UNMAP) == 0, "%s: zero", w->what);
        break;
    case 1:
        memset(w->shadow + off, 0, cluster);
        must(node_discard(w->node, off, cluster) == 0, "%s: discard", w->what);
        break;
    case 2:
        own_check(w, off, cluster);
        break;
    default:
        memset(w->shadow + off, (int)rng_below(&w->rng, 255) + 1, cluster);
        must(node_write(w->node, off, w->shadow + off, cluster,
                        rng_below(&w->rng, 2) ? REQ_COMPRESSED : 0) == 0,
             "%s: write", w->what);
    }
}

static void worker(void *arg)
{
    struct world *w = arg;
    unsigned id = w->next_id++;
    for (unsigned i = 0; i < w->ops; i++) {
        uint64_t n = w->shared / SECTOR / WORKERS;
        uint64_t s = rng_below(&w->rng, n) * WORKERS + id;
        switch (rng_below(&w->rng, 8)) {
        case 0:
            must(node_flush(w->node) == 0, "%s: flush", w->what);
            break;
        case 1:
            own_check(w, s * SECTOR, SECTOR);
            break;
        case 2:
        case 3:
        case 4:
            cluster_op(w, id);
            break;
        default:
            own_write(w, id, s);
        }
    }
    co_group_done(&w->group);
}

static bool visit(struct sim_disk *state, const struct sim_crash *how, void *arg)
{
    struct world *w = arg;
    image_judge(state, true, w->what);
    return true;
}

static void explore(struct world *w)
{
    struct sim_explore x = {
        .seed = w->seed, .max_full_bits = 4, .samples = 10, .max_states = 2000, .unit = SECTOR};
    uint64_t n = sim_explore(w->disk, &x, visit, w);
    must(n > 100, "%s: %llu states", w->what, (unsigned long long)n);
}

static void world_body(void *arg)
{
    struct world *w = arg;
    uint64_t cluster = w->create.cluster_size;
    rng_seed(&w->rng, w->seed);
    w->shared = 8 * max_u64(cluster, WORKERS * SECTOR);
    w->size = w->create.size = w->shared + 6 * WORKERS * cluster;
    w->shadow = mem_zalloc(w->size);
    w->disk = image_new(&w->create);
    if (w->seed % 4 > 1)
        image_set_zstd(w->disk);
    struct qc_open_opts o = {.l2_cache_bytes = w->cache, .refcount_cache_bytes = w->cache};
    w->node = image_open(w->disk, &o);
    if (w->seed % 2) /* the workers then copy out of compressed clusters */
        must(node_write(w->node, 0, w->shadow, w->shared, REQ_COMPRESSED) == 0 &&
                 node_flush(w->node) == 0,
             "%s: write", w->what);
    must(sim_log_mark(w->disk), "memory");
    sim_set_latency(w->disk, 1000, 1000000, w->seed);
    for (unsigned i = 0; i < WORKERS; i++) {
        co_group_add(&w->group);
        must(co_start(worker, w), "memory");
    }
    co_group_wait(&w->group);
    sim_set_latency(w->disk, 0, 0, 0);
    own_check(w, 0, w->size);
    node_unref(w->node);
    image_judge(w->disk, false, w->what);
    if (w->judge_crash)
        explore(w);
    w->node = image_open(w->disk, &o);
    own_check(w, 0, w->size);
    node_unref(w->node);
    sim_disk_free(w->disk);
    mem_free(w->shadow);
}

static void run_world(uint32_t cluster, uint32_t width, uint64_t cache, uint64_t seed, unsigned ops,
                      bool crash)
{
    struct world w = {.seed = seed, .cache = cache, .ops = ops, .judge_crash = crash};
    w.create.cluster_size = cluster;
    w.create.refcount_bits = width;
    snprintf(w.what, sizeof(w.what), "cluster %u width %u cache %llu seed %llu ops %u", cluster,
             width, (unsigned long long)cache, (unsigned long long)seed, ops);
    run_sim(world_body, &w);
}

static void requests_that_meet_in_a_cluster_keep_their_sectors(void **state)
{
    for (unsigned i = 0; i < 14; i++)
        run_world(512u << (i % 8), 1u << (i % 7), i % 3 ? 0 : 1, 500 + i, 80, false);
}

static void a_power_cut_under_load_leaves_a_sound_image(void **state)
{
    for (unsigned i = 0; i < 4; i++)
        run_world(512u << (i % 4), i % 2 ? 64 : 16, i % 2, 600 + i, 12, true);
}

int main(int argc, char **argv)
{
    if (argc == 6) { /* replay: cluster width cache seed ops */
        run_world((uint32_t)atoi(argv[1]), (uint32_t)atoi(argv[2]), strtoull(argv[3], NULL, 0),
                  strtoull(argv[4], NULL, 0), (unsigned)atoi(argv[5]), false);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_that_meet_in_a_cluster_keep_their_sectors),
        cmocka_unit_test(a_power_cut_under_load_leaves_a_sound_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
