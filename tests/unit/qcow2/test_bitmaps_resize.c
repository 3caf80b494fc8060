/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Stored bitmaps of disks that change their size: whatever goes wrong or comes in between, the
 * image can be opened again, with bitmaps for the disk as it is.
 */
#include <errno.h>

#include "base/log.h"
#include "block/node_bitmap.h"
#include "qcow2/snapshot.h"
#include "tests/unit/qcow2/image.h"

/* A change of size that fails must leave bitmaps that can be stored and loaded again. */
static void bitmap_failure_body(void *arg)
{
    const struct qc_truncate_opts yes = {.shrink = true};
    const struct qc_snapshot_ref s = {.any = "s"};
    uint8_t block[512] = {7};
    uint64_t fired = 0;
    log_set_level(LOG_LEVEL_ERROR);
    for (uint64_t nth = 1; fired == nth - 1; nth++) {
        struct err *e = NULL;
        struct sim_disk *d =
            image_new(&(struct qc_create_opts){.size = 9 * MiB, .cluster_size = 512});
        struct node *n = image_open(d, &(struct qc_open_opts){0});
        must(node_write(n, 8 * MiB, block, 512, 0) == 0, "write");
        must(node_bitmap_add(n, "b", 512, true, &e), "%s", err_msg(e));
        must(qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "s"}, NULL, &e), "create");
        must(qc_truncate(n, MiB, &yes, &e), "%s", err_msg(e));
        sim_fail_nth(d, &(struct sim_fail){.nth = nth, .error = ENOSPC, .op_mask = 1 << REQ_WRITE});
        bool ok = qc_snapshot_apply(n, &s, true, &e);
        fired += sim_fired(d);
        sim_fail_nth(d, &(struct sim_fail){0});
        must(ok || n->size == MiB, "size %llu", (unsigned long long)n->size);
        err_free(e);
        node_unref(n);
        n = image_open(d, &(struct qc_open_opts){0}); /* or the image is lost */
        struct bitmap *b = node_bitmap_find(n, "b");
        must(b && b->size == n->size, "write %llu: size", (unsigned long long)nth);
        node_unref(n);
        sim_disk_free(d);
    }
    log_set_level(LOG_LEVEL_ERROR);
    must(fired > 5, "%llu failures", (unsigned long long)fired);
}

struct shrinking {
    struct node *n;
    bool ok;
    struct co_group group;
};

static void shrinking_main(void *arg)
{
    struct shrinking *s = arg;
    s->ok = qc_snapshot_apply(s->n, &(struct qc_snapshot_ref){.any = "s"}, true, NULL);
    co_group_done(&s->group);
}

/* A bitmap that is being made while the disk shrinks holds them all up. */
static void bitmap_late_body(void *arg)
{
    for (unsigned seed = 0; seed < 40; seed++) {
        struct err *e = NULL;
        struct sim_disk *d = image_new(&(struct qc_create_opts){.size = MiB, .cluster_size = 512});
        struct node *n = image_open(d, &(struct qc_open_opts){0});
        must(qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "s"}, NULL, &e), "create");
        must(node_truncate(n, 9 * MiB) == 0, "grow");
        must(node_bitmap_add(n, "first", 512, true, &e), "%s", err_msg(e));
        struct shrinking s = {.n = n};
        sim_set_latency(d, 1000, 100 * 1000, seed);
        co_group_add(&s.group);
        must(co_start(shrinking_main, &s), "memory");
        co_sleep_until(clock_ns() + seed * 25 * 1000);
        must(node_bitmap_add(n, "late", 512, true, &e), "%s", err_msg(e));
        co_group_wait(&s.group);
        sim_set_latency(d, 0, 0, 0);
        must(s.ok ? n->size == MiB : n->size == 9 * MiB, "size");
        node_unref(n);
        n = image_open(d, &(struct qc_open_opts){0}); /* or the image is lost */
        must(node_bitmap_find(n, "late")->size == n->size, "seed %u: size", seed);
        node_unref(n);
        image_judge(d, false, "shrunk");
        sim_disk_free(d);
    }
}

static void a_bitmap_may_come_while_the_disk_shrinks(void **state)
{
    run_sim(bitmap_late_body, NULL);
}

static void bitmaps_survive_a_failed_change_of_size(void **state)
{
    run_sim(bitmap_failure_body, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bitmaps_survive_a_failed_change_of_size),
        cmocka_unit_test(a_bitmap_may_come_while_the_disk_shrinks),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
