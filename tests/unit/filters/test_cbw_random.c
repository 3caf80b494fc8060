/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Copy-before-write under random concurrency, on the simulated disk: writers, zeroers and
 * discarders run against readers of any number of views, which come and go in any order. Every view
 * must show, at all times, what the disk held when it was opened. Replay a failure with SEED=n.
 */
#include "tests/unit/block/probe.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/rng.h"
#include "block/sim.h"
#include "filters/filters.h"

#define DISK (768 * KiB + 1536) /* no multiple of any unit but the smallest */
#define MAX_VIEWS 6
#define WRITERS 4
#define READERS 4
#define BLOCK 4096u

struct shown {
    struct node *node; /* NULL: free */
    uint8_t *want;     /* DISK bytes */
    unsigned readers;
    bool going;
};

struct world {
    struct rng rng;
    struct sim_disk *disk;
    struct node *cbw;
    struct shown view[MAX_VIEWS];
    uint8_t *model;  /* what the disk must hold in the end, if every block has one writer */
    bool own_blocks; /* each writer writes only its own blocks */
    uint64_t limit;  /* of each view's scratch */
    bool fail_reads; /* now and then a read of the disk fails */
    struct co_group group;
    bool stop;
    unsigned opened, dropped, broken, compared;
};

static uint64_t first_seed(void)
{
    const char *text = getenv("SEED");

    return text ? strtoull(text, NULL, 0) : 7;
}

static void nap(struct world *w, uint64_t max_ns)
{
    co_sleep_until(clock_ns() + rng_below(&w->rng, max_ns));
}

static void random_bytes(struct world *w, uint8_t *buf, uint64_t len)
{
    uint64_t v = rng_u64(&w->rng);

    /* Every other is zeros, which copy-before-write treats apart. */
    memset(buf, v & 1 ? v >> 8 & 0xff : 0, len);
    if (v & 2)
        for (uint64_t i = 0; i + 8 <= len; i += 512)
            memcpy(buf + i, &v, 8);
}

/* A block of its own for each writer, so that the outcome is known however they interleave. */
static void write_own_block(struct world *w, unsigned writer)
{
    uint64_t n = DISK / BLOCK / WRITERS;
    uint64_t off = (rng_below(&w->rng, n) * WRITERS + writer) * BLOCK;
    uint8_t buf[BLOCK];
    int ret;

    random_bytes(w, buf, BLOCK);
    if (rng_below(&w->rng, 4) == 0) {
        memset(buf, 0, BLOCK);
        ret = node_zero(w->cbw, off, BLOCK, 0);
    } else {
        ret = node_write(w->cbw, off, buf, BLOCK, 0);
    }
    assert_int_equal(ret, 0);
    memcpy(w->model + off, buf, BLOCK);
}

static void write_anywhere(struct world *w)
{
    uint64_t off = rng_below(&w->rng, DISK);
    uint64_t len = 1 + rng_below(&w->rng, min_u64(DISK - off, 150 * KiB));
    uint8_t *buf = malloc(len);
    int ret;

    random_bytes(w, buf, len);
    switch (rng_below(&w->rng, 6)) {
    case 0:
        ret = node_zero(w->cbw, off, len, 0);
        break;
    case 1:
        ret = node_discard(w->cbw, off, len);
        break;
    default:
        ret = node_write(w->cbw, off, buf, min_u64(len, 20 * KiB), 0);
        break;
    }
    free(buf);
    assert_int_equal(ret, 0);
}

static void writer(void *arg)
{
    struct world *w = arg;
    unsigned self = w->group.pending - 1;

    while (!w->stop) {
        if (w->own_blocks)
            write_own_block(w, self % WRITERS);
        else
            write_anywhere(w);
        nap(w, 3000);
    }
    co_group_done(&w->group);
}

static void assert_zero_where_it_says_so(const struct shown *s, uint64_t off,
                                         const struct extents *ext)
{
    for (size_t i = 0; i < ext->n; i++) {
        if (ext->v[i].flags & EXTENT_ZERO)
            assert_true(bytes_are_zero(s->want + off, ext->v[i].len));
        off += ext->v[i].len;
    }
}

static void compare(struct world *w, struct shown *s, uint64_t off, uint64_t len)
{
    uint8_t *buf = malloc(len);
    struct extents ext;
    int ret;

    s->readers++;
    extents_init(&ext, 1 + rng_below(&w->rng, 10));
    assert_int_equal(node_status(s->node, off, len, &ext), 0);
    assert_true(ext.n > 0 && ext.total <= len);
    assert_zero_where_it_says_so(s, off, &ext);
    extents_free(&ext);

    ret = node_read(s->node, off, buf, len);
    if (ret == 0) {
        if (memcmp(buf, s->want + off, len) != 0)
            fail_msg("the view differs in [%llu, +%llu)", (unsigned long long)off,
                     (unsigned long long)len);
        w->compared++;
    } else {
        assert_int_equal(ret, -EIO);
        assert_true(cbw_view_broken(s->node) || w->fail_reads);
    }
    s->readers--;
    free(buf);
}

static struct shown *pick_view(struct world *w)
{
    struct shown *s = &w->view[rng_below(&w->rng, MAX_VIEWS)];

    return s->node && !s->going ? s : NULL;
}

static void reader(void *arg)
{
    struct world *w = arg;

    while (!w->stop) {
        struct shown *s = pick_view(w);
        uint64_t off = rng_below(&w->rng, DISK);

        if (s)
            compare(w, s, off, 1 + rng_below(&w->rng, min_u64(DISK - off, 200 * KiB)));
        nap(w, 1000);
    }
    co_group_done(&w->group);
}

static void open_view(struct world *w)
{
    struct cbw_view_opts opts = {
        .cluster = 512u << rng_below(&w->rng, 9),
        .scratch_limit = w->limit,
        .scratch_fd = -1,
    };

    for (int i = 0; i < MAX_VIEWS; i++) {
        struct shown *s = &w->view[i];

        if (s->node)
            continue;
        node_drain_begin(w->cbw);
        s->want = malloc(DISK);
        sim_disk_peek(w->disk, 0, s->want, DISK);
        s->node = cbw_view_open(w->cbw, &opts, NULL);
        node_drain_end(w->cbw);
        assert_non_null(s->node);
        s->going = false;
        w->opened++;
        return;
    }
}

static void drop_view(struct world *w, struct shown *s)
{
    struct node *n = s->node;

    s->going = true;
    while (s->readers)
        nap(w, 1000);
    w->broken += cbw_view_broken(n);
    node_unref(n);
    free(s->want);
    s->want = NULL;
    s->node = NULL;
    w->dropped++;
}

static void dropper(void *arg)
{
    struct world *w = arg;
    struct shown *s = pick_view(w);

    if (s)
        drop_view(w, s);
    co_group_done(&w->group);
}

/* Several may be dropped at the same time. */
static void manage(struct world *w)
{
    for (int i = 0; i < 60; i++) {
        nap(w, 40000);
        if (rng_below(&w->rng, 5) < 3) {
            open_view(w);
        } else {
            for (uint64_t n = 1 + rng_below(&w->rng, 3); n > 0; n--) {
                co_group_add(&w->group);
                assert_true(co_start(dropper, w));
            }
        }
        if (w->fail_reads) {
            struct sim_fail f = {
                .nth = 1 + rng_below(&w->rng, 60), .error = EIO, .op_mask = 1u << REQ_READ};

            sim_fail_nth(w->disk, &f);
        }
    }
}

static void compare_all(struct world *w)
{
    for (int i = 0; i < MAX_VIEWS; i++)
        if (w->view[i].node)
            compare(w, &w->view[i], 0, DISK);
}

static void fill_disk(struct world *w)
{
    w->disk = sim_disk_new(DISK);
    w->model = malloc(DISK);
    for (uint64_t off = 0; off < DISK; off += BLOCK)
        random_bytes(w, w->model + off, min_u64(BLOCK, DISK - off));
    memset(w->model + 200 * KiB, 0, 300 * KiB);
    assert_true(sim_disk_load(w->disk, w->model, DISK));
    sim_set_latency(w->disk, 1, 1 + rng_below(&w->rng, 3000), rng_u64(&w->rng));
}

static void run_world(void *arg)
{
    struct world *w = arg;

    fill_disk(w);
    w->cbw = cbw_open(sim_open(w->disk, false, NULL), NULL);
    assert_non_null(w->cbw);
    for (int i = 0; i < WRITERS + READERS; i++) {
        co_group_add(&w->group);
        assert_true(co_start(i < WRITERS ? writer : reader, w));
    }
    manage(w);
    w->stop = true;
    co_group_wait(&w->group);
    sim_fail_nth(w->disk, &(struct sim_fail){0});
    w->fail_reads = false;

    compare_all(w);
    for (int i = 0; i < MAX_VIEWS; i++) {
        int k = (i * 5 + 2) % MAX_VIEWS; /* the middle first */

        if (w->view[k].node)
            drop_view(w, &w->view[k]);
        compare_all(w);
    }
    node_unref(w->cbw);
    if (w->own_blocks) {
        uint8_t *now = malloc(DISK);

        sim_disk_peek(w->disk, 0, now, DISK);
        assert_memory_equal(now, w->model, DISK);
        free(now);
    }
    free(w->model);
    sim_disk_free(w->disk);
}

/* Rounds of one kind of world, each from its own seed. */
static struct world run_rounds(const struct world *kind, uint64_t rounds)
{
    struct world sum = {0};

    for (uint64_t i = 0; i < rounds; i++) {
        struct world w = *kind;

        print_message("SEED=%llu\n", (unsigned long long)(first_seed() + i));
        rng_seed(&w.rng, first_seed() + i);
        run_sim(run_world, &w);
        sum.opened += w.opened;
        sum.dropped += w.dropped;
        sum.broken += w.broken;
        sum.compared += w.compared;
    }
    print_message("views opened %u, dropped %u, broken %u; %u ranges compared\n", sum.opened,
                  sum.dropped, sum.broken, sum.compared);
    assert_true(sum.opened > 2 * rounds && sum.dropped == sum.opened);
    assert_true(sum.compared > 10 * rounds); /* most views break early in some worlds */
    return sum;
}

static void every_view_shows_its_instant_at_all_times(void **state)
{
    const struct world kind = {.limit = 16 * MiB};

    assert_int_equal(run_rounds(&kind, 6).broken, 0);
}

static void writes_reach_the_disk_as_if_there_were_no_views(void **state)
{
    const struct world kind = {.limit = 16 * MiB, .own_blocks = true};

    assert_int_equal(run_rounds(&kind, 4).broken, 0);
}

static void views_that_run_out_of_scratch_break_alone(void **state)
{
    const struct world kind = {.limit = 96 * KiB};

    assert_true(run_rounds(&kind, 4).broken > 0);
}

static void failing_reads_break_views_but_never_writes(void **state)
{
    const struct world kind = {.limit = 16 * MiB, .fail_reads = true, .own_blocks = true};

    assert_true(run_rounds(&kind, 4).broken > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_view_shows_its_instant_at_all_times),
        cmocka_unit_test(writes_reach_the_disk_as_if_there_were_no_views),
        cmocka_unit_test(views_that_run_out_of_scratch_break_alone),
        cmocka_unit_test(failing_reads_break_views_but_never_writes),
    };

    log_set_level(LOG_LEVEL_ERROR); /* views break by the dozen here */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
