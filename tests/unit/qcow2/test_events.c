/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The events that the format announces to the host file, in order: blkdebug's rule files depend on
 * them. The first three traces were measured on QEMU 7.2 with a breakpoint on every event.
 */
#include "qcow2/snapshot.h"
#include "tests/unit/qcow2/image.h"

static char trace[32768];
static bool seen[EV_COUNT]; /* by any test */

static void record(struct node *n, enum blk_event ev)
{
    seen[ev] = true;
    size_t at = strlen(trace);
    snprintf(trace + at, sizeof(trace) - at, "%s%s", at ? " " : "", blk_event_name(ev));
    node_event(n->child[0], ev);
}

static const struct driver recorder = {.name = "recorder", .is_filter = true, .event = record};

/* P in an expectation stands for the two events around a host write. */
static void expect(const char *what, const char *wanted)
{
    static char full[sizeof(trace)];
    full[0] = '\0';
    for (const char *p = wanted; *p; p++) {
        size_t at = strlen(full);
        if (*p == 'P')
            snprintf(full + at, sizeof(full) - at, "pwritev pwritev_done");
        else
            snprintf(full + at, sizeof(full) - at, "%c", *p);
    }
    must(!strcmp(trace, full), "%s:\n  got    %s\n  wanted %s", what, trace, full);
    trace[0] = '\0';
}

static struct node *open_blocks(struct sim_disk *d, struct node *backing, uint32_t align)
{
    struct err *e = NULL;
    struct node *file = sim_open(d, false, &e);
    struct node *rec = node_new(&recorder, "recorder", &e);
    must(file && rec && node_attach(rec, file, &e), "%s", err_msg(e));
    rec->limits.align = align;
    struct qc_open_opts o = {.backing = backing};
    trace[0] = '\0';
    struct node *n = qc_open(rec, &o, &e);
    must(n, "%s", err_msg(e));
    return n;
}

static struct node *open_recorded(struct sim_disk *d, struct node *backing)
{
    return open_blocks(d, backing, 1);
}

static void put(struct node *n, uint64_t off, uint64_t len)
{
    uint8_t *buf = mem_alloc(len);
    memset(buf, 0x5a, len);
    must(node_write(n, off, buf, len, 0) == 0, "write");
    mem_free(buf);
}

static void get(struct node *n, uint64_t off, uint64_t len)
{
    uint8_t *buf = mem_alloc(len);
    must(node_read(n, off, buf, len) == 0, "read");
    mem_free(buf);
}

static const struct qc_create_opts plain = {.size = 64 * MiB};

static void golden_body(void *arg)
{
    struct sim_disk *d = image_new(&plain);
    struct node *n = open_recorded(d, NULL);
    expect("open", "reftable_load");
    get(n, 0, 4096);
    expect("read of nothing", "");
    put(n, 0, 65536);
    expect("first write",
           "cluster_alloc refblock_alloc refblock_load refblock_update_part P l2_alloc_write "
           "l2_update P l1_update P cluster_alloc refblock_alloc refblock_load write_aio P");
    put(n, 0, 65536);
    expect("overwrite", "write_aio P");
    must(node_flush(n) == 0, "flush");
    expect("flush", "flush_to_os refblock_update_part P l2_update P flush_to_disk");
    must(node_flush(n) == 0, "flush");
    expect("idle flush", "flush_to_os");
    get(n, 4096, 4096);
    expect("read", "read_aio");
    put(n, 1 * MiB + 4096, 4096);
    expect("part of a new cluster",
           "cluster_alloc refblock_alloc refblock_load cluster_alloc_space write_aio P");
    get(n, 0, 2 * MiB);
    expect("read of two runs", "read_aio read_aio");
    node_unref(n);
    expect("close", "flush_to_os refblock_update_part P l2_update P flush_to_disk");
    n = open_recorded(d, NULL);
    expect("reopen", "reftable_load");
    get(n, 0, 4096);
    expect("read with a cold cache", "l2_load read_aio");
    node_unref(n);
    sim_disk_free(d);
}

static void free_body(void *arg)
{
    struct sim_disk *d = image_new(&plain);
    struct node *n = open_recorded(d, NULL);
    put(n, 0, 2 * 65536);
    must(node_flush(n) == 0, "flush");
    trace[0] = '\0';
    must(node_discard(n, 0, 2 * 65536) == 0, "discard");
    expect("discard of two clusters", "cluster_free refblock_alloc refblock_load "
                                      "cluster_free refblock_alloc refblock_load");
    must(node_flush(n) == 0, "flush");
    expect("flush after discard", "flush_to_os l2_update P flush_to_disk");
    node_unref(n);
    sim_disk_free(d);
}

static void cow_body(void *arg)
{
    struct sim_disk *base_disk = sim_disk_new(8 * MiB);
    struct node *base = sim_open(base_disk, true, NULL);
    struct qc_create_opts o = plain;
    o.backing_name = "base";
    o.backing_format = "raw";
    struct sim_disk *d = image_new(&o);
    struct node *n = open_recorded(d, base);
    get(n, 0, 4096);
    trace[0] = '\0';
    put(n, 0, 512);
    trace[0] = '\0';
    get(n, 65536, 4096);
    expect("read of the backing file", "read_backing_aio");
    put(n, 65536 + 4096, 4096);
    expect("small write between head and tail",
           "cluster_alloc refblock_alloc refblock_load cow_read read_backing_aio "
           "write_aio cow_write P");
    put(n, 3 * 65536 - 32768, 65536);
    expect("long write: head and tail are read apart",
           "cluster_alloc refblock_alloc refblock_load cow_read read_backing_aio "
           "cow_read read_backing_aio write_aio cow_write P");
    put(n, 10 * MiB + 4096, 4096);
    expect("beyond the backing file",
           "cluster_alloc refblock_alloc refblock_load cluster_alloc_space write_aio P");
    node_unref(n);
    node_unref(base);
    sim_disk_free(d);
    sim_disk_free(base_disk);
}

static void zip_body(void *arg)
{
    struct sim_disk *d = image_new(&plain);
    struct node *n = open_recorded(d, NULL);
    uint8_t *buf = mem_zalloc(65536);
    put(n, 1 * MiB, 65536); /* makes the table */
    trace[0] = '\0';
    must(node_write(n, 0, buf, 65536, REQ_COMPRESSED) == 0, "write");
    expect("compressed write", "cluster_alloc_bytes refblock_alloc refblock_load "
                               "l2_update_compressed write_compressed P");
    must(node_write(n, 65536, buf, 65536, REQ_COMPRESSED) == 0, "write");
    expect("a second one into the same host cluster",
           "cluster_alloc_bytes refblock_alloc refblock_load "
           "l2_update_compressed write_compressed P");
    get(n, 1000, 2000);
    expect("compressed read", "read_compressed");
    get(n, 5000, 2000);
    expect("more of a cluster that is still at hand", "");
    put(n, 65536, 65536);
    expect("overwrite of all of it", "cluster_alloc refblock_alloc refblock_load write_aio P "
                                     "cluster_free refblock_alloc refblock_load");
    put(n, 0, 4096);
    expect("overwrite of a part",
           "cluster_alloc refblock_alloc refblock_load cow_read write_aio cow_write P "
           "cluster_free refblock_alloc refblock_load");
    mem_free(buf);
    node_unref(n);
    sim_disk_free(d);
}

static void growth_body(void *arg)
{
    /* A refcount block counts 64 clusters of 512 bytes, an L2 table maps 64. */
    struct qc_create_opts o = {.size = 32 * KiB, .cluster_size = 512, .refcount_bits = 64};
    struct sim_disk *d = image_new(&o);
    struct node *n = open_recorded(d, NULL);
    must(node_truncate(n, 4 * MiB) == 0, "grow");
    expect("growing the L1 table",
           "reftable_load l1_grow_alloc_table cluster_alloc refblock_alloc refblock_load "
           "refblock_update_part P l1_grow_write_table P l1_grow_activate_table P "
           "cluster_free refblock_alloc refblock_load P");
    put(n, 0, 57 * 512); /* header 1, reftable 1, block 1, L1 1 + 2, L2 1: 57 are left */
    trace[0] = '\0';
    put(n, 57 * 512, 512);
    expect("a new refcount block",
           "cluster_alloc refblock_alloc refblock_alloc_write refblock_update_part P "
           "refblock_alloc_hookup P refblock_alloc refblock_load write_aio P");
    node_unref(n);
    sim_disk_free(d);
}

static void first_write_overwrite_and_flush_match_the_measured_traces(void **state)
{
    run_sim(golden_body, NULL);
}

static void frees_are_announced_where_they_happen(void **state)
{
    run_sim(free_body, NULL);
}

static void copy_on_write_is_announced(void **state)
{
    run_sim(cow_body, NULL);
}

static void compressed_clusters_are_announced(void **state)
{
    run_sim(zip_body, NULL);
}

static void growing_tables_is_announced(void **state)
{
    run_sim(growth_body, NULL);
}

/* The trace holds these events in this order, among others. */
static void expect_among(const char *what, const char *const *wanted)
{
    const char *at = trace;
    for (; *wanted; wanted++) {
        at = strstr(at, *wanted);
        must(at, "%s: no %s, or too early, in %s", what, *wanted, trace);
        at += strlen(*wanted);
    }
    trace[0] = '\0';
}

static void shrink_body(void *arg)
{
    static const char *const shrinking[] = {"l1_shrink_write_table", "pwritev",
                                            "l1_shrink_free_l2_clusters", NULL};
    static const char *const emptying[] = {
        "l1_update",       "pwritev", "empty_image_prepare", "l1_update",
        "reftable_update", "pwritev", "refblock_alloc",      NULL};
    struct err *e = NULL;
    struct sim_disk *d = image_new(&(struct qc_create_opts){.size = 2 * MiB, .cluster_size = 4096});
    struct node *n = open_recorded(d, NULL);
    put(n, 0, 4096);
    put(n, 2 * MiB - 4096, 4096);
    trace[0] = '\0';
    must(qc_truncate(n, MiB, &(struct qc_truncate_opts){.shrink = true}, &e), "%s", err_msg(e));
    expect_among("shrinking", shrinking);
    must(qc_make_empty(n, &e), "%s", err_msg(e));
    expect_among("emptying", emptying);
    node_unref(n);
    sim_disk_free(d);
}

static void shrinking_and_emptying_are_announced(void **state)
{
    run_sim(shrink_body, NULL);
}

/* A write to a table that a snapshot shares. */
static void shared_body(void *arg)
{
    struct err *e = NULL;
    struct sim_disk *d = image_new(&plain);
    struct node *n = open_recorded(d, NULL);
    put(n, 0, 65536);
    must(qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "one"}, NULL, &e), "%s",
         err_msg(e));
    node_unref(n);
    n = open_recorded(d, NULL);
    expect("reopen", "reftable_load");
    get(n, 0, 4096);
    expect("read through a shared table", "l2_load read_aio");
    put(n, 65536, 65536);
    expect("first write to a shared table",
           "cluster_alloc refblock_alloc refblock_load refblock_update_part P l2_alloc_cow_read "
           "l2_alloc_write l2_update P l1_update P cluster_free refblock_alloc refblock_load "
           "cluster_alloc refblock_alloc refblock_load write_aio P");
    node_unref(n);
    sim_disk_free(d);
}

/* A refcount table of one cluster of 512 bytes has 64 entries, for blocks of 64 clusters each. */
static void reftable_body(void *arg)
{
    static const char *const growing[] = {"refblock_alloc",
                                          "reftable_grow",
                                          "refblock_alloc_write_blocks",
                                          "pwritev",
                                          "refblock_alloc_write_table",
                                          "pwritev",
                                          "refblock_alloc_switch_table",
                                          "pwritev",
                                          "cluster_free",
                                          NULL};
    struct qc_create_opts o = {.size = 8 * MiB, .cluster_size = 512, .refcount_bits = 64};
    struct sim_disk *d = image_new(&o);
    struct node *n = open_recorded(d, NULL);
    for (uint64_t off = 0; !strstr(trace, "reftable_grow"); off += 32 * KiB) {
        must(off < 3 * MiB, "the table does not grow");
        trace[0] = '\0';
        put(n, off, 32 * KiB);
    }
    expect_among("growing the refcount table", growing);
    node_unref(n);
    sim_disk_free(d);
}

/* A host file that takes blocks of 4 KiB only. */
static void blocks_body(void *arg)
{
    struct sim_disk *d = image_new(&plain);
    struct node *n = open_blocks(d, NULL, 4096);
    put(n, 0, 65536);
    trace[0] = '\0';
    put(n, 1000, 8192);
    expect("both ends of a write are parts of blocks",
           "write_aio pwritev_rmw_head pwritev_rmw_after_head pwritev_rmw_tail "
           "pwritev_rmw_after_tail P");
    put(n, 1000, 1000);
    expect("within one block", "write_aio pwritev_rmw_head pwritev_rmw_tail "
                               "pwritev_rmw_after_head pwritev_rmw_after_tail P");
    node_unref(n);
    sim_disk_free(d);
}

/* Zeros around a write into a cluster that was used before. */
static void reused_body(void *arg)
{
    struct sim_disk *d = image_new(&plain);
    struct node *n = open_recorded(d, NULL);
    put(n, 0, 65536);
    must(node_flush(n) == 0 && node_discard(n, 0, 65536) == 0 && node_flush(n) == 0, "discard");
    trace[0] = '\0';
    put(n, 65536 + 4096, 4096);
    expect("part of a cluster that has been used",
           "cluster_alloc refblock_alloc refblock_load cluster_alloc_space "
           "pwritev_zero pwritev_done pwritev_zero pwritev_done write_aio P");
    node_unref(n);
    sim_disk_free(d);
}

static void a_shared_table_is_announced(void **state)
{
    run_sim(shared_body, NULL);
}

static void growing_the_refcount_table_is_announced(void **state)
{
    run_sim(reftable_body, NULL);
}

static void blocks_read_to_be_written_are_announced(void **state)
{
    run_sim(blocks_body, NULL);
}

static void zeros_around_a_write_are_announced(void **state)
{
    run_sim(reused_body, NULL);
}

/* The last test. */
static void the_tests_above_have_seen_all_events_that_exist(void **state)
{
    static const enum blk_event elsewhere[] = {
        EV_REFBLOCK_UPDATE,                  /* QEMU has no place for it either */
        EV_VMSTATE_SAVE,    EV_VMSTATE_LOAD, /* there is no machine */
        EV_COR_WRITE,       EV_NONE,         /* of filters: tests/unit/filters */
    };
    for (unsigned i = 0; i < ARRAY_LEN(elsewhere); i++) {
        must(!seen[elsewhere[i]], "%s is seen", blk_event_name(elsewhere[i]));
        seen[elsewhere[i]] = true;
    }
    for (enum blk_event ev = 0; ev < EV_COUNT; ev++)
        must(seen[ev], "%s is never announced", blk_event_name(ev));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_write_overwrite_and_flush_match_the_measured_traces),
        cmocka_unit_test(frees_are_announced_where_they_happen),
        cmocka_unit_test(copy_on_write_is_announced),
        cmocka_unit_test(compressed_clusters_are_announced),
        cmocka_unit_test(shrinking_and_emptying_are_announced),
        cmocka_unit_test(growing_tables_is_announced),
        cmocka_unit_test(a_shared_table_is_announced),
        cmocka_unit_test(growing_the_refcount_table_is_announced),
        cmocka_unit_test(blocks_read_to_be_written_are_announced),
        cmocka_unit_test(zeros_around_a_write_are_announced),
        cmocka_unit_test(the_tests_above_have_seen_all_events_that_exist),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
