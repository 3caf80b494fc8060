/* SPDX-License-Identifier: BSD-3-Clause
 *
 * REQ_KEEP: an image makes its own what it shows of its backing image, beside guests that write.
 */
#include <errno.h>

#include "block/mem_disk.h"
#include "qcow2/map.h"
#include "tests/unit/qcow2/image.h"

#define SIZE (UINT64_C(2) << 20)
#define PIECE (UINT64_C(256) << 10)
#define GUESTS 4
#define WRITES 100

struct world {
    uint64_t seed;
    struct qc_create_opts create;
    struct rng rng;
    struct node *node, *base;
    uint8_t *below, *shadow;
    unsigned next;
    struct co_group group;
};

/* What was read long ago. */
static void keeper(void *arg)
{
    struct world *w = arg;

    for (uint64_t off = 0; off < SIZE; off += PIECE) {
        uint8_t *old = mem_alloc(PIECE);
        memcpy(old, w->below + off, PIECE);
        co_sleep_until(clock_ns() + (int64_t)rng_below(&w->rng, 200000));
        must(node_write(w->node, off, old, PIECE, REQ_KEEP) == 0, "keep at %llu",
             (unsigned long long)off);
        mem_free(old);
    }
    co_group_done(&w->group);
}

/* Each has a part of its own of every piece. */
static void guest(void *arg)
{
    struct world *w = arg;
    uint64_t part = PIECE / GUESTS, mine = w->next++ * part;

    for (unsigned i = 0; i < WRITES; i++) {
        uint64_t len = 512 * (1 + rng_below(&w->rng, 60)), off = rng_below(&w->rng, part - len);
        bool zero = rng_below(&w->rng, 3) == 0;

        off = off - off % 512 + mine + rng_below(&w->rng, SIZE / PIECE) * PIECE;
        co_sleep_until(clock_ns() + (int64_t)rng_below(&w->rng, 40000));
        memset(w->shadow + off, zero ? 0 : (int)rng_below(&w->rng, 255) + 1, len);
        must((zero ? node_zero(w->node, off, len, REQ_MAY_UNMAP)
                   : node_write(w->node, off, w->shadow + off, len, 0)) == 0,
             "write");
    }
    co_group_done(&w->group);
}

static void expect_content(struct world *w, const char *when)
{
    uint8_t *buf = mem_alloc(SIZE);

    must(node_read(w->node, 0, buf, SIZE) == 0, "%s", when);
    for (uint64_t i = 0; i < SIZE; i++)
        must(buf[i] == w->shadow[i], "seed %llu, %s: byte %llu", (unsigned long long)w->seed, when,
             (unsigned long long)i);
    mem_free(buf);
}

static void fill_base(struct world *w)
{
    w->base = mem_open(SIZE, NULL);
    w->below = mem_zalloc(SIZE);
    w->shadow = mem_alloc(SIZE);
    for (uint64_t off = 0; off < SIZE; off += 32768) {
        if (rng_below(&w->rng, 2))
            memset(w->below + off, (int)(off / 32768) + 1, 32768);
    }
    memcpy(w->shadow, w->below, SIZE);
    must(node_write(w->base, 0, w->below, SIZE, 0) == 0, "base");
}

static void keep_body(void *arg)
{
    struct world *w = arg;
    struct qc_extent x;

    rng_seed(&w->rng, w->seed);
    fill_base(w);
    struct sim_disk *d = image_new(&w->create);
    w->node = image_open(d, &(struct qc_open_opts){.backing = w->base, .l2_cache_bytes = 1024});
    sim_set_latency(d, 100, 100000, w->seed);
    must(node_write(w->node, 1, w->below, 65536, REQ_KEEP) == -EINVAL, "no whole clusters");
    for (unsigned i = 0; i <= GUESTS; i++) {
        co_group_add(&w->group);
        must(co_start(i < GUESTS ? guest : keeper, w), "start");
    }
    co_group_wait(&w->group);
    sim_set_latency(d, 0, 0, 0);
    expect_content(w, "with its backing image");
    for (uint64_t off = 0; off < SIZE; off += x.length) {
        must(qc_map(w->node, off, SIZE - off, &x) == 0 && x.depth == 0, "%llu is not its own",
             (unsigned long long)off);
    }
    mem_free(w->below);
    node_unref(w->node);
    node_unref(w->base);
    image_judge(d, false, "after keeping");
    w->node = image_open(d, &(struct qc_open_opts){.no_backing = true});
    expect_content(w, "without its backing image");
    node_unref(w->node);
    mem_free(w->shadow);
    sim_disk_free(d);
}

static void what_guests_write_is_not_overwritten(void **state)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct world w = {.seed = seed,
                          .create = {.size = SIZE,
                                     .version = seed % 3 == 0 ? 2 : 3,
                                     .extended_l2 = seed % 3 == 1,
                                     .cluster_size = seed % 3 == 1 ? 65536
                                                     : seed % 2    ? 512
                                                                   : 16384,
                                     .backing_name = "b",
                                     .backing_format = "raw"}};
        run_sim(keep_body, &w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_guests_write_is_not_overwritten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
