/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Many compressed writes at a time: they are laid out in the order in which they came, as densely
 * as one after the other, in few writes.
 */
#include "io/lock.h"
#include "qcow2/codec.h"
#include "qcow2/format.h"
#include "tests/unit/qcow2/image.h"

#define CLUSTER 16384
#define WRITERS 8
#define EACH 16 /* clusters */
#define ALL (WRITERS * EACH)

static uint8_t content[ALL * CLUSTER];

struct writer {
    struct node *n;
    unsigned i;
    int result;
    struct co_group *group;
};

/* Clusters of different compressibility; one in `plain` is not compressible at all. */
static void fill(unsigned plain)
{
    struct rng rng;
    rng_seed(&rng, 7);
    memset(content, 0, sizeof(content));
    for (unsigned c = 0; c < ALL; c++) {
        uint64_t len = plain && c % plain == plain - 1 ? CLUSTER : 100 + rng_below(&rng, 9000);
        for (uint64_t i = 0; i < len; i++)
            content[c * CLUSTER + i] = (uint8_t)rng_below(&rng, 256);
    }
}

static void write_main(void *arg)
{
    struct writer *w = arg;
    uint64_t len = EACH * CLUSTER;
    w->result = node_write(w->n, w->i * len, content + w->i * len, len, REQ_COMPRESSED);
    if (w->group)
        co_group_done(w->group);
}

static struct sim_disk *write_all(bool side_by_side, uint64_t seed)
{
    const struct qc_create_opts o = {.size = sizeof(content), .cluster_size = CLUSTER};
    struct sim_disk *d = image_new(&o);
    struct node *n = image_open(d, &(struct qc_open_opts){0});
    struct writer w[WRITERS];
    struct co_group group = {0};
    sim_set_latency(d, 1000, 1000000, seed);
    for (unsigned i = 0; i < WRITERS; i++) {
        w[i] = (struct writer){.n = n, .i = i, .group = side_by_side ? &group : NULL};
        if (!side_by_side) {
            write_main(&w[i]);
            continue;
        }
        co_group_add(&group);
        must(co_start(write_main, &w[i]), "memory");
    }
    co_group_wait(&group);
    for (unsigned i = 0; i < WRITERS; i++)
        must(w[i].result == 0, "writer %u: %d", i, w[i].result);
    static uint8_t back[sizeof(content)];
    must(node_read(n, 0, back, sizeof(back)) == 0, "read");
    must(memcmp(back, content, sizeof(back)) == 0, "other content");
    sim_set_latency(d, 0, 0, 0);
    node_unref(n);
    image_judge(d, false, "afterwards");
    return d;
}

/* The host offset of a guest cluster, compressed or not. */
static uint64_t host_of(struct sim_disk *d, unsigned cluster, bool *compressed)
{
    uint8_t be[8];
    sim_disk_peek(d, QCH_L1_OFF, be, 8);
    sim_disk_peek(d, get_be64(be), be, 8);
    sim_disk_peek(d, (get_be64(be) & QC_OFFSET_MASK) + cluster * 8, be, 8);
    uint64_t e = get_be64(be);
    *compressed = e & QC_COMPRESSED;
    return *compressed ? e & ((UINT64_C(1) << (62 - (14 - 8))) - 1) : e & QC_OFFSET_MASK;
}

static void in_order(void *arg)
{
    fill(0);
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct sim_disk *d = write_all(true, seed);
        uint64_t last = 0;
        for (unsigned c = 0; c < ALL; c++) {
            bool compressed;
            uint64_t host = host_of(d, c, &compressed);
            must(compressed, "cluster %u is not compressed", c);
            must(host > last, "seed %lu: cluster %u is at 0x%lx, the one before at 0x%lx",
                 (unsigned long)seed, c, (unsigned long)host, (unsigned long)last);
            last = host;
        }
        sim_disk_free(d);
    }
}

static void clusters_lie_in_the_order_in_which_they_were_written(void **state)
{
    run_sim(in_order, NULL);
}

static void dense(void *arg)
{
    fill(5);
    struct sim_disk *one = write_all(false, 1), *many = write_all(true, 1);
    must(sim_disk_size(many) == sim_disk_size(one), "%lu bytes, one by one %lu",
         (unsigned long)sim_disk_size(many), (unsigned long)sim_disk_size(one));
    bool compressed;
    host_of(many, 4, &compressed);
    must(!compressed, "what does not shrink was compressed");
    sim_disk_free(one);
    sim_disk_free(many);
}

static void writing_side_by_side_takes_no_more_space(void **state)
{
    run_sim(dense, NULL);
}

static void few_writes(void *arg)
{
    fill(0);
    const struct qc_create_opts o = {.size = sizeof(content), .cluster_size = CLUSTER};
    struct sim_disk *d = image_new(&o);
    struct node *n = image_open(d, &(struct qc_open_opts){0});
    must(sim_log_mark(d), "memory");
    must(node_write(n, 0, content, sizeof(content), REQ_COMPRESSED) == 0, "write");
    unsigned data = 0;
    for (uint64_t i = 0; i < sim_log_len(d); i++)
        data += sim_log_at(d, i)->op == REQ_WRITE && sim_log_at(d, i)->kind == KIND_DATA;
    must(data <= 2 * ALL * CLUSTER / 1048576 + 2, "%u writes for %u clusters", data, ALL);
    node_unref(n);
    sim_disk_free(d);
}

static void neighbours_are_written_at_once(void **state)
{
    run_sim(few_writes, NULL);
}

/* A write that fails leaves the others alone, and the next ones in their order. */
static void one_fails(void *arg)
{
    fill(0);
    for (uint64_t nth = 1; nth < 12; nth++) {
        const struct qc_create_opts o = {.size = sizeof(content), .cluster_size = CLUSTER};
        struct sim_disk *d = image_new(&o);
        struct node *n = image_open(d, &(struct qc_open_opts){0});
        struct writer w[WRITERS];
        struct co_group group = {0};
        must(node_write(n, 0, content, CLUSTER, 0) == 0, "write"); /* there is an L2 table */
        sim_set_latency(d, 1000, 1000000, nth);
        sim_fail_nth(d, &(struct sim_fail){.nth = nth, .error = 5, .op_mask = 1u << REQ_WRITE});
        for (unsigned i = 0; i < WRITERS; i++) {
            w[i] = (struct writer){.n = n, .i = i, .group = &group};
            co_group_add(&group);
            must(co_start(write_main, &w[i]), "memory");
        }
        co_group_wait(&group);
        sim_set_latency(d, 0, 0, 0);
        unsigned failed = 0;
        for (unsigned i = 0; i < WRITERS; i++)
            failed += w[i].result < 0;
        must(failed <= 1 && sim_fired(d) == (failed == 1), "%u writers failed", failed);
        sim_fail_nth(d, &(struct sim_fail){0});
        node_unref(n);
        image_judge(d, false, "after a failure");
        sim_disk_free(d);
    }
}

static void a_failed_write_concerns_nobody_else(void **state)
{
    run_sim(one_fails, NULL);
}

/* --- The probe --- */

static void noise(uint8_t *p, size_t n, uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)rng_below(&rng, 256);
}

static void what_deflate_cannot_shrink_is_seen_and_nothing_else(void **state)
{
    static uint8_t data[65536], packed[65536 + 1024];
    unsigned hopeless = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct rng rng;
        size_t len = 4096u << (seed % 5);
        noise(data, len, seed);
        rng_seed(&rng, seed);
        uint64_t from = rng_below(&rng, len / 2), n = rng_below(&rng, len / 2);
        switch (seed % 6) {
        case 1: /* a part has fewer different bytes */
            for (uint64_t i = from; i < from + n; i++)
                data[i] &= (uint8_t)rng_below(&rng, 256) | 0x3f;
            break;
        case 2: /* repeats, some out of reach */
            memmove(data + from + rng_below(&rng, 6000) % (len / 2 - n + 1), data + from, n);
            break;
        case 3: /* even counts, but no noise at all */
            for (uint64_t i = 0; i < len; i++)
                data[i] = (uint8_t)(i * 37);
            break;
        case 4: /* some zeros */
            memset(data + from, 0, rng_below(&rng, 300));
            break;
        default: /* noise as it is */
            break;
        }
        size_t got = qc_codec_pack(QC_CODEC_DEFLATE, data, len, packed, sizeof(packed));
        bool said = qc_codec_hopeless(data, len);
        hopeless += said;
        assert_true(got > 0);
        if (said && got < len - len / 200)
            fail_msg("seed %lu: %zu bytes become %zu", (unsigned long)seed, len, got);
        if (!said && (seed % 6 == 0 || seed % 6 == 5))
            fail_msg("seed %lu: noise of %zu bytes was not seen", (unsigned long)seed, len);
    }
    assert_true(hopeless > 50 && hopeless < 250);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clusters_lie_in_the_order_in_which_they_were_written),
        cmocka_unit_test(writing_side_by_side_takes_no_more_space),
        cmocka_unit_test(neighbours_are_written_at_once),
        cmocka_unit_test(a_failed_write_concerns_nobody_else),
        cmocka_unit_test(what_deflate_cannot_shrink_is_seen_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
