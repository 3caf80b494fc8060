/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Images with extended L2 entries: what a request allocates, copies and marks is what it touches,
 * to the subcluster; entries that cannot be true are corruption.
 */
#include <errno.h>

#include "tests/unit/qcow2/image.h"

#define CLUSTER (64 * KiB)
#define SUB (2 * KiB)
#define COPIED (UINT64_C(1) << 63)

static const struct qc_create_opts plain = {
    .size = 1 * MiB, .cluster_size = CLUSTER, .extended_l2 = true};

struct entry {
    uint64_t at; /* in the file */
    uint64_t word, map;
};

/* As the specification has it: L1 entry 0, then 16 bytes a cluster. */
static struct entry entry_of(struct sim_disk *d, uint64_t guest_cluster)
{
    uint8_t b[16];
    sim_disk_peek(d, 40, b, 8);
    sim_disk_peek(d, get_be64(b), b, 8);
    struct entry e = {.at = (get_be64(b) & ~COPIED) + guest_cluster * 16};
    sim_disk_peek(d, e.at, b, 16);
    e.word = get_be64(b);
    e.map = get_be64(b + 8);
    return e;
}

static void expect(struct sim_disk *d, struct node *n, uint64_t cluster, bool placed, uint64_t map,
                   const char *what)
{
    must(node_flush(n) == 0, "flush");
    struct entry e = entry_of(d, cluster);
    must((e.word != 0) == placed && e.map == map, "%s: entry 0x%llx, map 0x%llx, wanted 0x%llx",
         what, (unsigned long long)e.word, (unsigned long long)e.map, (unsigned long long)map);
}

static void fill(struct node *n, uint8_t *shadow, uint64_t off, uint64_t len, int byte)
{
    memset(shadow + off, byte, len);
    must(node_write(n, off, shadow + off, len, 0) == 0, "write");
}

static void same(struct node *n, const uint8_t *shadow)
{
    uint8_t *buf = mem_alloc(n->size);
    must(node_read(n, 0, buf, n->size) == 0 && !memcmp(buf, shadow, n->size), "content");
    mem_free(buf);
}

static void touched_body(void *arg)
{
    struct sim_disk *d = image_new(&plain);
    struct node *n = image_open(d, &(struct qc_open_opts){0});
    uint8_t *shadow = mem_zalloc(n->size);

    fill(n, shadow, 8 * KiB, 4 * KiB, 1);
    expect(d, n, 0, true, 0x30, "two whole ones");
    uint64_t host = entry_of(d, 0).word;
    fill(n, shadow, 10 * SUB + 100, 100, 2);
    expect(d, n, 0, true, 0x430, "a part of one more");
    fill(n, shadow, 11 * SUB - 1, SUB + 2, 3);
    expect(d, n, 0, true, 0x1c30, "parts of three, one of which is there");
    fill(n, shadow, CLUSTER - SUB, 2 * SUB, 4);
    expect(d, n, 0, true, 0x80001c30, "the last");
    expect(d, n, 1, true, 1, "the first of the next");
    must(entry_of(d, 0).word == host, "the cluster moved");
    fill(n, shadow, 3 * CLUSTER - 1, CLUSTER + 2, 5);
    expect(d, n, 2, true, 0x80000000, "before a whole cluster");
    expect(d, n, 3, true, 0xffffffff, "a whole cluster");
    expect(d, n, 4, true, 1, "after it");
    same(n, shadow);
    node_unref(n);
    image_judge(d, false, "writes");
    mem_free(shadow);
    sim_disk_free(d);
}

static void zeros_body(void *arg)
{
    struct sim_disk *d = image_new(&plain);
    struct node *n = image_open(d, &(struct qc_open_opts){0});
    uint8_t *shadow = mem_zalloc(n->size);

    fill(n, shadow, 0, CLUSTER, 1);
    memset(shadow + 100, 0, 3 * SUB);
    must(node_zero(n, 100, 3 * SUB, 0) == 0, "zero");
    expect(d, n, 0, true, UINT64_C(0x6fffffff9), "whole ones are marked, parts written");
    same(n, shadow);
    must(node_zero(n, 0, CLUSTER - SUB, REQ_MAY_UNMAP) == 0, "zero");
    memset(shadow, 0, CLUSTER - SUB);
    expect(d, n, 0, true, UINT64_C(0x7fffffff80000000), "all but the last");
    fill(n, shadow, SUB, SUB, 2);
    expect(d, n, 0, true, UINT64_C(0x7ffffffd80000002), "written again");
    must(node_zero(n, 0, 2 * SUB, REQ_MAY_UNMAP) == 0, "zero");
    must(node_zero(n, CLUSTER - SUB, SUB, REQ_MAY_UNMAP) == 0, "zero");
    memset(shadow, 0, CLUSTER);
    expect(d, n, 0, false, UINT64_C(0xffffffff00000000), "the place goes with the last");
    fill(n, shadow, CLUSTER, CLUSTER, 3);
    must(node_zero(n, CLUSTER, CLUSTER, 0) == 0, "zero");
    memset(shadow + CLUSTER, 0, CLUSTER);
    expect(d, n, 1, true, UINT64_C(0xffffffff00000000), "the place is kept");
    must(node_discard(n, CLUSTER, CLUSTER) == 0, "discard");
    expect(d, n, 1, false, UINT64_C(0xffffffff00000000), "and given up");
    same(n, shadow);
    node_unref(n);
    image_judge(d, false, "zeros");
    mem_free(shadow);
    sim_disk_free(d);
}

static void status_body(void *arg)
{
    static const struct extent want[] = {{2 * SUB, EXTENT_HOLE | EXTENT_ZERO},
                                         {2 * SUB, 0},
                                         {SUB, EXTENT_ZERO},
                                         {SUB, 0},
                                         {MiB - 6 * SUB, EXTENT_HOLE | EXTENT_ZERO}};
    struct sim_disk *d = image_new(&plain);
    struct node *n = image_open(d, &(struct qc_open_opts){0});
    uint8_t *shadow = mem_zalloc(n->size);
    struct extents ext;
    fill(n, shadow, 2 * SUB, 4 * SUB, 7);
    must(node_zero(n, 4 * SUB, SUB, 0) == 0, "zero");
    extents_init(&ext, 100);
    must(node_status(n, 0, n->size, &ext) == 0 && ext.n == ARRAY_LEN(want), "%zu extents", ext.n);
    for (size_t i = 0; i < ext.n; i++)
        must(ext.v[i].len == want[i].len && ext.v[i].flags == want[i].flags,
             "extent %zu: %llu 0x%x", i, (unsigned long long)ext.v[i].len, ext.v[i].flags);
    extents_free(&ext);
    node_unref(n);
    mem_free(shadow);
    sim_disk_free(d);
}

/* How many data bytes have reached the file since `from`. */
static uint64_t data_written(struct sim_disk *d, uint64_t from)
{
    uint64_t sum = 0;
    for (uint64_t i = from; i < sim_log_len(d); i++) {
        const struct sim_entry *e = sim_log_at(d, i);
        if (e->op == REQ_WRITE && e->kind == KIND_DATA)
            sum += e->len;
    }
    return sum;
}

static void copies_body(void *arg)
{
    struct sim_disk *d = image_new(&plain);
    struct node *n = image_open(d, &(struct qc_open_opts){0});
    uint8_t *shadow = mem_zalloc(n->size);
    fill(n, shadow, 0, 512, 1);
    uint64_t from = sim_log_len(d);
    fill(n, shadow, 5 * SUB, SUB, 2);
    must(data_written(d, from) == SUB, "more than the data was written");
    from = sim_log_len(d);
    fill(n, shadow, 7 * SUB + 10, 20, 3);
    must(data_written(d, from) == SUB, "more than the subcluster was written");

    from = sim_log_len(d);
    fill(n, shadow, 8 * SUB - 50, 60, 3);
    must(data_written(d, from) == 50 + SUB, "what is there was copied onto itself");
    from = sim_log_len(d);
    fill(n, shadow, 7 * SUB - 50, 60, 3);
    must(data_written(d, from) == SUB + 10, "what is there was copied onto itself");

    /* What is packed is unpacked as a whole. */
    for (uint64_t i = 0; i < CLUSTER; i++)
        shadow[CLUSTER + i] = (uint8_t)(i / 100);
    must(node_write(n, CLUSTER, shadow + CLUSTER, CLUSTER, REQ_COMPRESSED) == 0, "write");
    must(node_flush(n) == 0 && (entry_of(d, 1).word >> 62) == 1, "not compressed");
    expect(d, n, 1, true, 0, "compressed");
    fill(n, shadow, CLUSTER + 3 * SUB, 10, 4);
    expect(d, n, 1, true, 0xffffffff, "a part of it rewritten");
    must(node_write(n, 0, shadow, CLUSTER, REQ_COMPRESSED) == 0, "write");
    expect(d, n, 0, true, 0, "compressed in its turn");
    must(node_zero(n, 2 * SUB, SUB, 0) == 0, "zero");
    memset(shadow + 2 * SUB, 0, SUB);
    expect(d, n, 0, true, 0xffffffff, "zeros in a packed cluster");
    same(n, shadow);
    node_unref(n);
    image_judge(d, false, "copies");
    mem_free(shadow);
    sim_disk_free(d);
}

/* A shared cluster moves with all it has, and with nothing else. */
static void shared_body(void *arg)
{
    struct sim_disk *d = image_new(&plain);
    struct node *n = image_open(d, &(struct qc_open_opts){0});
    uint8_t *shadow = mem_zalloc(n->size);
    fill(n, shadow, 4 * SUB, SUB, 1);
    fill(n, shadow, 9 * SUB, SUB, 2);
    must(node_zero(n, 20 * SUB, SUB, 0) == 0, "zero");
    node_unref(n);
    must(qck_share(d), "share");
    uint64_t host = entry_of(d, 0).word;
    n = image_open(d, &(struct qc_open_opts){0});
    fill(n, shadow, 6 * SUB + 1, 1, 3);
    expect(d, n, 0, true, 0x3f0 | UINT64_C(1) << 52, "from the first to the last");
    must(entry_of(d, 0).word != (host | COPIED), "the cluster was written in place");
    same(n, shadow);
    node_unref(n);
    image_judge(d, true, "shared");
    mem_free(shadow);
    sim_disk_free(d);
}

static void hostile_body(void *arg)
{
    static const struct {
        const char *name;
        uint64_t flip, word, map; /* word: 0: as it is, with these bits flipped */
    } rows[] = {
        {"T9 allocated and zero", 0, 0, 0x100000003},
        {"T9 allocated without a cluster", 0, COPIED, 1},
        {"T9 a map on a compressed cluster", 0, UINT64_C(1) << 62 | 0x50000, 1},
        {"T6 a zero flag", 1, 0, 3},
        {"T4 unaligned", 0x200, 0, 3},
        {"T4 past the end", 0, COPIED | 0x7000000000, 3},
    };
    uint8_t buf[SUB] = {0}, b[16];
    for (size_t i = 0; i < ARRAY_LEN(rows) * 3; i++) {
        struct sim_disk *d = image_new(&plain);
        struct node *n = image_open(d, &(struct qc_open_opts){0});
        must(node_write(n, 0, buf, SUB, 0) == 0, "write");
        node_unref(n);
        struct entry e = entry_of(d, 0);
        uint64_t len = sim_disk_size(d);
        uint8_t *image = malloc(len);
        sim_disk_peek(d, 0, image, len);
        put_be64(image + e.at, rows[i / 3].word ? rows[i / 3].word : e.word ^ rows[i / 3].flip);
        put_be64(image + e.at + 8, rows[i / 3].map);
        must(sim_disk_load(d, image, len), "memory");
        free(image);
        n = image_open(d, &(struct qc_open_opts){0});
        int r = i % 3 == 0   ? node_read(n, 0, buf, SUB)
                : i % 3 == 1 ? node_write(n, 5 * SUB, buf, SUB, 0)
                             : node_zero(n, 5 * SUB, SUB, 0);
        must(r == -EIO, "%s: %d", rows[i / 3].name, r);
        sim_disk_peek(d, 72, b, 8);
        must(get_be64(b) & 2, "%s: not marked corrupt", rows[i / 3].name);
        node_unref(n);
        sim_disk_free(d);
    }
}

static void requests_touch_no_other_subclusters(void **state)
{
    run_sim(touched_body, NULL);
}

static void zeros_mark_subclusters(void **state)
{
    run_sim(zeros_body, NULL);
}

static void status_tells_subclusters_apart(void **state)
{
    run_sim(status_body, NULL);
}

static void no_more_is_copied_than_the_subcluster(void **state)
{
    run_sim(copies_body, NULL);
}

static void shared_clusters_move_with_what_they_hold(void **state)
{
    run_sim(shared_body, NULL);
}

static void entries_that_cannot_be_are_corruption(void **state)
{
    run_sim(hostile_body, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_touch_no_other_subclusters),
        cmocka_unit_test(zeros_mark_subclusters),
        cmocka_unit_test(status_tells_subclusters_apart),
        cmocka_unit_test(no_more_is_copied_than_the_subcluster),
        cmocka_unit_test(shared_clusters_move_with_what_they_hold),
        cmocka_unit_test(entries_that_cannot_be_are_corruption),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
