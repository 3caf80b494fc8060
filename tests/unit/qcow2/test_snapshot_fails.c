/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A snapshot that could not be made leaves nothing behind in memory: what its attempt had taken for
 * tables may be used for data afterwards. And what one that was made leaves on disk. A refcount
 * table that could not be replaced.
 */
#include <errno.h>

#include "base/log.h"
#include "qcow2/format.h"
#include "qcow2/snapshot.h"
#include "tests/unit/qcow2/image.h"

#define CLUSTER 512
#define SIZE (UINT64_C(512) << 10)
#define CORRUPT_AT 79
#define COPIED (UINT64_C(1) << 63)

static void no_log(enum log_level level, const char *line, void *arg)
{
}

static void fill(struct node *n, uint64_t from, uint64_t end, const char *what)
{
    static uint8_t buf[4096];
    memset(buf, 1, sizeof(buf));
    for (; from < end; from += sizeof(buf))
        must(node_write(n, from, buf, min_u64(sizeof(buf), end - from), 0) == 0, "%s", what);
}

static bool marked_corrupt(struct sim_disk *d)
{
    uint8_t byte;
    sim_disk_peek(d, CORRUPT_AT, &byte, 1);
    return byte & 2;
}

/* True if the attempt failed. */
static bool try_once(uint64_t used, uint64_t nth)
{
    const struct qc_create_opts co = {.size = SIZE, .cluster_size = CLUSTER};
    struct sim_disk *d = image_new(&co);
    struct node *n = image_open(d, &(struct qc_open_opts){0});
    char what[64];
    snprintf(what, sizeof(what), "write %llu with %llu bytes used", (unsigned long long)nth,
             (unsigned long long)used);
    fill(n, 0, used, what);
    must(node_flush(n) == 0, "%s", what);
    sim_fail_nth(d, &(struct sim_fail){.nth = nth, .error = ENOSPC, .op_mask = 1u << REQ_WRITE});
    bool ok = qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "x"}, NULL, NULL);
    bool fired = sim_fired(d);
    sim_fail_nth(d, &(struct sim_fail){0});
    must(ok || fired, "%s", what);
    /* When it was the header's, it is not known which tables are in force, and nothing goes on. */
    bool frozen = !ok && node_write(n, 0, "?", 1, 0) < 0;
    if (!frozen)
        fill(n, used, SIZE, what);
    must(!marked_corrupt(d), "%s: marked corrupt", what);
    node_unref(n);
    image_judge(d, true, what);
    sim_disk_free(d);
    return fired;
}

static void failed_body(void *arg)
{
    unsigned tries = 0;
    log_set_sink(no_log, NULL);
    for (uint64_t used = 80 << 10; used <= 128 << 10; used += 4 << 10)
        for (uint64_t nth = 1; try_once(used, nth); nth++)
            tries++;
    must(tries > 20, "%u tries", tries);
}

static uint64_t peek64(const struct sim_disk *d, uint64_t off)
{
    uint8_t be[8];
    sim_disk_peek(d, off, be, sizeof(be));
    return get_be64(be);
}

static void flags_body(void *arg)
{
    const struct qc_create_opts co = {.size = SIZE, .cluster_size = CLUSTER};
    struct sim_disk *d = image_new(&co);
    struct node *n = image_open(d, &(struct qc_open_opts){0});
    unsigned tables = 0;
    fill(n, 0, SIZE / 2, "fill");
    must(qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "x"}, NULL, NULL), "create");
    node_unref(n);
    uint64_t l1 = peek64(d, peek64(d, QCH_SNAPSHOTS_OFF));
    for (uint64_t i = 0; i < SIZE / (CLUSTER / 8 * CLUSTER); i++) {
        uint64_t entry = peek64(d, l1 + i * 8);
        tables += entry != 0;
        must(!(entry & COPIED), "entry %llu says unshared", (unsigned long long)i);
    }
    must(tables == 8, "%u tables", tables);
    sim_disk_free(d);
}

/* A refcount table of one cluster counts 2 MiB, and must not grow while a new one is made. */
static void table_body(void *arg)
{
    const struct qc_create_opts co = {
        .size = 4 * MiB, .cluster_size = CLUSTER, .refcount_bits = 64};
    log_set_sink(no_log, NULL);
    bool ok = false;
    for (unsigned nth = 1; !ok; nth++) {
        struct sim_disk *d = image_new(&co);
        struct node *n = image_open(d, &(struct qc_open_opts){0});
        const struct sim_fail fail = {.nth = nth, .error = ENOSPC, .op_mask = 1u << REQ_WRITE};
        fill(n, 0, MiB, "fill");
        must(node_flush(n) == 0, "flush");
        sim_fail_nth(d, &fail);
        ok = qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "x"}, NULL, NULL);
        sim_fail_nth(d, &(struct sim_fail){0});
        if (ok || node_write(n, 0, "?", 1, 0) == 0) /* or it was the header's */
            fill(n, MiB, 4 * MiB, "the refcount table does not grow");
        node_unref(n);
        image_judge(d, true, "after a snapshot");
        sim_disk_free(d);
    }
}

/* Fill until the refcount table is a larger one. nth: this write fails; 0: none. Which write was
 * the header's, 0 if none was. */
static uint64_t grow_table(uint64_t nth)
{
    const struct qc_create_opts co = {
        .size = 4 * MiB, .cluster_size = CLUSTER, .refcount_bits = 64};
    struct sim_disk *d = image_new(&co);
    struct node *n = image_open(d, &(struct qc_open_opts){0});
    const struct sim_fail fail = {.nth = nth, .error = EIO, .op_mask = 1u << REQ_WRITE};
    uint8_t buf[CLUSTER] = {1};
    uint64_t off = 0, header = 0, writes = 0;
    int r = 0;
    must(sim_log_mark(d), "memory");
    sim_fail_nth(d, &fail);
    for (; r == 0 && off < 3 * MiB; off += CLUSTER)
        r = node_write(n, off, buf, CLUSTER, 0);
    for (uint64_t i = 0; i < sim_log_len(d) && !header; i++) {
        const struct sim_entry *e = sim_log_at(d, i);
        writes += e->op == REQ_WRITE;
        if (e->op == REQ_WRITE && e->kind == KIND_HEADER) {
            header = writes;
            must(nth || sim_log_at(d, i + 1)->op == REQ_FLUSH,
                 "the new table is used before it is durable");
        }
    }
    must((r == 0) == !nth, "result %d", r);
    if (nth) { /* nobody knows which table is in force: nothing may change until there is one */
        sim_fail_nth(d, &(struct sim_fail){0});
        must(node_flush(n) == -EIO, "a flush after it succeeds");
    }
    node_unref(n);
    image_judge(d, true, "the refcount table grows");
    sim_disk_free(d);
    return header;
}

static void switch_body(void *arg)
{
    log_set_sink(no_log, NULL);
    uint64_t header = grow_table(0);
    must(header > 0, "the table does not grow");
    grow_table(header);
}

static void a_switch_of_refcount_tables_that_fails_ends_all_changes(void **state)
{
    run_sim(switch_body, NULL);
}

static void the_refcount_table_may_grow_after_an_attempt(void **state)
{
    run_sim(table_body, NULL);
}

static void a_failed_attempt_leaves_nothing_behind(void **state)
{
    run_sim(failed_body, NULL);
}

static void the_table_of_a_snapshot_says_nothing_of_unshared(void **state)
{
    run_sim(flags_body, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_attempt_leaves_nothing_behind),
        cmocka_unit_test(the_refcount_table_may_grow_after_an_attempt),
        cmocka_unit_test(a_switch_of_refcount_tables_that_fails_ends_all_changes),
        cmocka_unit_test(the_table_of_a_snapshot_says_nothing_of_unshared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
