/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Power cuts: every state that one may leave on the host disk must be a sound image (leaks aside),
 * and every sector must hold what it held at the last completed flush, or anything written later.
 */
#include "tests/unit/qcow2/image.h"

#define SECTOR 512
#define MAX_OPS 200

struct past {        /* one value of one sector */
    uint64_t issued; /* when it could first be there */
    uint64_t stamp;
};

struct history {
    struct past v[MAX_OPS + 2];
    unsigned n;
    unsigned durable[MAX_OPS + 2]; /* after flush i: index of the oldest value allowed */
};

struct world {
    uint64_t seed;
    struct qc_create_opts create;
    bool backing;
    bool compressed; /* the prefilled clusters, and most that are written whole */
    unsigned ops;
    uint64_t l2_cache;
    uint64_t clusters, prefill; /* of the guest; of these, written before the log starts */
    uint64_t max_states;
    bool table_grows; /* the workload must have grown the refcount table */
    char what[128];

    struct rng rng;
    struct sim_disk *disk, *base_disk;
    struct node *node, *base;
    uint64_t size;
    uint64_t stamp;
    struct history *sector;
    uint64_t flushed_at[MAX_OPS + 2]; /* when flush i had returned */
    unsigned flushes;
    uint64_t states;
};

static void put_stamp(uint8_t *p, uint64_t stamp)
{
    for (unsigned i = 0; i < SECTOR; i += 8)
        memcpy(p + i, &stamp, 8);
}

static void note(struct world *w, uint64_t off, uint64_t len, uint64_t issued, uint64_t stamp)
{
    for (uint64_t s = off / SECTOR; s < (off + len) / SECTOR; s++) {
        struct history *h = &w->sector[s];
        h->v[h->n++] = (struct past){.issued = issued, .stamp = stamp ? stamp + s : 0};
    }
}

static void note_flush(struct world *w)
{
    w->flushed_at[w->flushes] = sim_seq(w->disk);
    for (uint64_t s = 0; s < w->size / SECTOR; s++)
        w->sector[s].durable[w->flushes] = w->sector[s].n - 1;
    w->flushes++;
}

static void write_some(struct world *w, uint64_t off, uint64_t len, uint32_t flags)
{
    uint64_t issued = sim_seq(w->disk);
    uint64_t stamp = (w->stamp += 1) << 32;
    uint8_t *buf = mem_alloc(len);
    for (uint64_t i = 0; i < len; i += SECTOR)
        put_stamp(buf + i, stamp + (off + i) / SECTOR);
    must(node_write(w->node, off, buf, len, flags) == 0, "%s: write", w->what);
    mem_free(buf);
    note(w, off, len, issued, stamp);
}

static void step(struct world *w)
{
    uint64_t cluster = w->create.cluster_size;
    uint64_t len = SECTOR * (1 + rng_below(&w->rng, 3 * cluster / SECTOR));
    uint64_t low = min_u64(w->prefill * cluster, w->size - 8 * cluster); /* mostly new space */
    uint64_t off = low + round_down(rng_below(&w->rng, w->size - low - len + 1), SECTOR);
    uint64_t issued = sim_seq(w->disk);
    bool whole = rng_below(&w->rng, 2);
    if (whole) {
        off = round_down(off, cluster);
        len = round_up(len, cluster);
        len = min_u64(len, w->size - off);
    }
    switch (rng_below(&w->rng, 8)) {
    case 0:
        must(node_zero(w->node, off, len, rng_below(&w->rng, 2) ? REQ_MAY_UNMAP : 0) == 0,
             "%s: zero", w->what);
        note(w, off, len, issued, 0);
        break;
    case 1:
        off = round_down(off, cluster);
        must(node_discard(w->node, off, cluster) == 0, "%s: discard", w->what);
        note(w, off, cluster, issued, 0);
        break;
    case 2:
    case 3:
        must(node_flush(w->node) == 0, "%s: flush", w->what);
        note_flush(w);
        break;
    default:
        write_some(w, off, len,
                   w->compressed && whole && rng_below(&w->rng, 3) ? REQ_COMPRESSED : 0);
    }
}

/* Which values may sector s have after a power cut at `at`? */
static bool allowed(const struct world *w, uint64_t s, uint64_t at, uint64_t stamp)
{
    const struct history *h = &w->sector[s];
    unsigned from = 0;
    for (unsigned f = 0; f < w->flushes && w->flushed_at[f] <= at; f++)
        from = h->durable[f];
    for (unsigned i = from; i < h->n; i++)
        if (h->v[i].stamp == stamp && (i == from || h->v[i].issued <= at))
            return true;
    return false;
}

static bool visit(struct sim_disk *state, const struct sim_crash *how, void *arg)
{
    struct world *w = arg;
    uint8_t buf[SECTOR];
    char what[256];
    snprintf(what, sizeof(what), "%s, cut at %llu", w->what, (unsigned long long)how->at);
    image_judge(state, true, what);
    struct qc_open_opts o = {.backing = w->base};
    struct node *n = image_open(state, &o);
    for (uint64_t s = 0; s < w->size / SECTOR; s++) {
        uint64_t stamp;
        must(node_read(n, s * SECTOR, buf, SECTOR) == 0, "%s: sector %llu unreadable", what,
             (unsigned long long)s);
        memcpy(&stamp, buf, 8);
        must(!memcmp(buf, buf + 8, SECTOR - 8), "%s: sector %llu is torn", what,
             (unsigned long long)s);
        must(allowed(w, s, how->at, stamp), "%s: sector %llu holds %llx", what,
             (unsigned long long)s, (unsigned long long)stamp);
    }
    node_unref(n);
    return true;
}

static void make_base(struct world *w)
{
    uint8_t *data = mem_zalloc(w->size);
    for (uint64_t s = 0; s < w->size / SECTOR / 2; s++)
        put_stamp(data + s * SECTOR, UINT64_C(0xbb0000000000) + s);
    for (uint64_t s = 0; s < w->size / SECTOR; s++)
        memcpy(&w->sector[s].v[0].stamp, data + s * SECTOR, 8);
    w->base_disk = sim_disk_new(0);
    must(sim_disk_load(w->base_disk, data, w->size), "memory");
    mem_free(data);
    w->base = sim_open(w->base_disk, true, NULL);
    w->create.backing_name = "base";
    w->create.backing_format = "raw";
}

static uint32_t reftable_clusters(const struct world *w)
{
    uint8_t be[4];
    sim_disk_peek(w->disk, 56, be, 4);
    return get_be32(be);
}

static void world_body(void *arg)
{
    struct world *w = arg;
    rng_seed(&w->rng, w->seed);
    w->size = w->create.size = w->clusters * w->create.cluster_size;
    w->sector = mem_array(w->size / SECTOR, sizeof(struct history));
    for (uint64_t s = 0; s < w->size / SECTOR; s++)
        w->sector[s].n = 1;
    if (w->backing)
        make_base(w);
    w->disk = image_new(&w->create);
    if (w->compressed && w->seed % 2)
        image_set_zstd(w->disk);
    struct qc_open_opts o = {
        .backing = w->base, .l2_cache_bytes = w->l2_cache, .refcount_cache_bytes = w->l2_cache};
    w->node = image_open(w->disk, &o);
    if (w->prefill)
        write_some(w, 0, w->prefill * w->create.cluster_size, w->compressed ? REQ_COMPRESSED : 0);
    must(node_flush(w->node) == 0 && sim_log_mark(w->disk), "%s: mark", w->what);
    must(reftable_clusters(w) == 1, "%s: the refcount table grew too early", w->what);
    note_flush(w);
    for (unsigned i = 0; i < w->ops; i++)
        step(w);
    node_unref(w->node);
    if (w->table_grows)
        must(reftable_clusters(w) > 1, "%s: the refcount table did not grow", w->what);
    struct sim_explore x = {.seed = w->seed,
                            .max_full_bits = 6,
                            .samples = 20,
                            .max_states = w->max_states,
                            .unit = SECTOR};
    w->states = sim_explore(w->disk, &x, visit, w);
    must(w->states > 20, "%s: only %llu states", w->what, (unsigned long long)w->states);
    node_unref(w->base);
    sim_disk_free(w->disk);
    sim_disk_free(w->base_disk);
    mem_free(w->sector);
}

static uint64_t run_world(struct world w)
{
    snprintf(w.what, sizeof(w.what), "v%u cluster %u width %u%s seed %llu", w.create.version,
             w.create.cluster_size, w.create.refcount_bits,
             w.compressed ? " compressed"
             : w.backing  ? " backing"
                          : "",
             (unsigned long long)w.seed);
    run_sim(world_body, &w);
    return w.states;
}

static void no_power_cut_corrupts_or_mixes_content(void **state)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < 10; i++)
        n += run_world((struct world){.create.version = 3,
                                      .create.cluster_size = 512u << (i % 4),
                                      .create.refcount_bits = 16,
                                      .backing = i % 2,
                                      .seed = 100 + i,
                                      .ops = 24,
                                      .clusters = 20,
                                      .max_states = 1500,
                                      .l2_cache = i % 3 ? 0 : 1});
    print_message("%llu states\n", (unsigned long long)n);
}

static void refcount_blocks_are_added_safely(void **state)
{
    /* 64-bit counts in clusters of 512 bytes: a refcount block for each 32 KiB of file. */
    uint64_t n = 0;
    for (unsigned i = 0; i < 4; i++)
        n += run_world((struct world){.create.version = 3,
                                      .create.cluster_size = 512,
                                      .create.refcount_bits = 64,
                                      .backing = i % 2,
                                      .seed = 200 + i,
                                      .ops = 60,
                                      .clusters = 150,
                                      .max_states = 800,
                                      .l2_cache = i % 2});
    print_message("%llu states\n", (unsigned long long)n);
}

static void the_refcount_table_grows_safely(void **state)
{
    /* 64 blocks of 64 counts fill the first table; the guest's clusters and their tables get
     * there within the workload. */
    uint64_t n = 0;
    for (unsigned i = 0; i < 2; i++)
        n += run_world((struct world){.create.version = 3,
                                      .create.cluster_size = 512,
                                      .create.refcount_bits = 64,
                                      .seed = 400 + i,
                                      .ops = 50,
                                      .clusters = 4050,
                                      .prefill = 3945,
                                      .table_grows = true,
                                      .max_states = 150});
    print_message("%llu states\n", (unsigned long long)n);
}

static void compressed_clusters_are_written_and_replaced_safely(void **state)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < 10; i++)
        n += run_world((struct world){.create.version = 3,
                                      .create.cluster_size = 1024u << (i % 3),
                                      .create.refcount_bits = i % 4 == 3 ? 1 : 16,
                                      .compressed = true,
                                      .seed = 500 + i,
                                      .ops = 24,
                                      .clusters = 20,
                                      .prefill = i % 2 ? 20 : 12,
                                      .max_states = 1500,
                                      .l2_cache = i % 3 ? 0 : 1});
    print_message("%llu states\n", (unsigned long long)n);
}

static void version_2_is_safe_too(void **state)
{
    for (unsigned i = 0; i < 3; i++)
        run_world((struct world){.create.version = 2,
                                 .create.cluster_size = 1024,
                                 .create.refcount_bits = 16,
                                 .seed = 300 + i,
                                 .ops = 24,
                                 .clusters = 20,
                                 .max_states = 1000});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_power_cut_corrupts_or_mixes_content),
        cmocka_unit_test(refcount_blocks_are_added_safely),
        cmocka_unit_test(the_refcount_table_grows_safely),
        cmocka_unit_test(compressed_clusters_are_written_and_replaced_safely),
        cmocka_unit_test(version_2_is_safe_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
