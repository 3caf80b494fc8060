/* SPDX-License-Identifier: BSD-3-Clause
 *
 * When things go wrong: failing I/O, failing memory, tables that lie, writes that come late.
 */
#include <errno.h>

#include "base/log.h"
#include "tests/unit/qcow2/image.h"

#define CLUSTER 4096

static const struct qc_create_opts small = {.size = 512 * KiB, .cluster_size = CLUSTER};
static char last_error[512];
static unsigned n_errors;

static void catch_log(enum log_level level, const char *line, void *arg)
{
    if (level > LOG_LEVEL_ERROR)
        return;
    snprintf(last_error, sizeof(last_error), "%s", line);
    n_errors++;
}

static int put_as(struct node *n, uint64_t off, uint64_t len, int byte, uint32_t flags)
{
    uint8_t *buf = malloc(len);
    memset(buf, byte, len);
    int r = node_write(n, off, buf, len, flags);
    free(buf);
    return r;
}

static int put(struct node *n, uint64_t off, uint64_t len, int byte)
{
    return put_as(n, off, len, byte, 0);
}

static bool holds(struct node *n, uint64_t off, uint64_t len, int byte)
{
    uint8_t *buf = malloc(len);
    bool ok = node_read(n, off, buf, len) == 0;
    for (uint64_t i = 0; i < len; i++)
        ok = ok && buf[i] == (uint8_t)byte;
    free(buf);
    return ok;
}

/* --- A filter that holds one data write back. --- */

static struct co_queue held;
static bool hold_next, is_held;

static int hold_submit(struct node *n, struct req *r)
{
    if (r->op == REQ_WRITE && r->kind == KIND_DATA && hold_next) {
        hold_next = false;
        is_held = true;
        co_queue_wait(&held);
    }
    return node_submit(n->child[0], r);
}

static const struct driver holder = {.name = "holder", .is_filter = true, .submit = hold_submit};

struct late {
    struct node *n;
    int result;
    bool done;
};

static void late_write(void *arg)
{
    struct late *l = arg;
    l->result = put(l->n, 0, CLUSTER, 0xaa);
    l->done = true;
}

static void late_body(void *arg)
{
    struct sim_disk *d = image_new(&small);
    struct node *rec = node_new(&holder, "holder", NULL);
    must(node_attach(rec, sim_open(d, false, NULL), NULL), "attach");
    struct qc_open_opts o = {0};
    struct node *n = qc_open(rec, &o, NULL);
    must(put(n, 0, CLUSTER, 1) == 0 && node_flush(n) == 0, "first write");
    struct late l = {.n = n};
    hold_next = true;
    must(co_start(late_write, &l) && is_held && !l.done, "the write is under way");
    /* Its cluster is given up and that is durable; many clusters are taken meanwhile. */
    must(node_discard(n, 0, CLUSTER) == 0 && node_flush(n) == 0 && node_flush(n) == 0, "discard");
    for (unsigned i = 1; i < 100; i++)
        must(put(n, i * CLUSTER, CLUSTER, 2) == 0, "write");
    co_queue_wake_all(&held);
    while (!l.done)
        co_reschedule();
    must(l.result == 0, "late write");
    for (unsigned i = 1; i < 100; i++)
        must(holds(n, i * CLUSTER, CLUSTER, 2), "the late write hit cluster %u", i);
    node_unref(n);
    image_judge(d, false, "late write");
    sim_disk_free(d);
}

/* --- Failing I/O --- */

static void sticky_body(void *arg)
{
    struct sim_disk *d = image_new(&small);
    struct qc_open_opts o = {0};
    struct node *n = image_open(d, &o);
    must(put(n, 0, CLUSTER, 1) == 0 && node_flush(n) == 0, "write");
    must(put(n, CLUSTER, CLUSTER, 2) == 0, "write");
    struct sim_fail f = {.nth = 1, .error = EIO, .op_mask = 1u << REQ_FLUSH};
    sim_fail_nth(d, &f);
    must(node_flush(n) == -EIO && sim_fired(d), "the flush must fail");
    for (unsigned i = 0; i < 3; i++) {
        must(node_flush(n) == -EIO, "a later flush succeeded");
        must(put(n, CLUSTER, CLUSTER, 3) == 0, "overwrites still work");
    }
    must(holds(n, 0, CLUSTER, 1), "reads still work");
    node_unref(n);
    image_judge(d, true, "after a failed flush");
    n = image_open(d, &o);
    must(holds(n, 0, CLUSTER, 1), "what was flushed is there");
    must(node_flush(n) == 0, "flush after reopening");
    node_unref(n);
    sim_disk_free(d);
}

static void undo_body(void *arg)
{
    struct sim_disk *d = image_new(&small);
    struct qc_open_opts o = {0};
    struct node *n = image_open(d, &o);
    struct sim_fail f = {.nth = 1, .error = EIO, .op_mask = 1u << REQ_WRITE};
    sim_fail_nth(d, &f); /* the refcount block, on the way to a new L2 table */
    must(put(n, 0, CLUSTER, 1) == -EIO && sim_fired(d), "the table cannot be made");
    must(put(n, 0, CLUSTER, 1) == 0, "it can now");
    sim_fail_nth(d, &f); /* the data */
    must(put(n, CLUSTER, CLUSTER, 1) == -EIO && sim_fired(d), "the data cannot be written");
    for (unsigned i = 0; i < 2; i++) { /* in a cluster of its own, and behind other data */
        sim_fail_nth(d, &f);
        must(put_as(n, 0, CLUSTER, 5, REQ_COMPRESSED) == -EIO && sim_fired(d),
             "the packed data cannot be written");
        must(holds(n, 0, CLUSTER, 1), "the old content is there");
        must(put_as(n, 2 * CLUSTER, CLUSTER, 2, REQ_COMPRESSED) == 0, "another one can");
    }
    node_unref(n);
    image_judge(d, false, "failed writes");
    sim_disk_free(d);
}

/* A short workload in which some calls may fail; what it reports as flushed must be there. */
static void workload(struct node *n, uint8_t *flushed)
{
    uint8_t now[32] = {0}, maybe[32] = {0};
    for (unsigned i = 0; i < 32; i++) {
        unsigned c = (i * 7) % 32;
        int r;
        if (i % 5 == 3)
            r = node_discard(n, c * CLUSTER, CLUSTER);
        else
            r = put_as(n, c * CLUSTER + (i % 3 ? 0 : 512), i % 3 ? CLUSTER : 1024, (int)i + 1,
                       i % 3 == 1 ? REQ_COMPRESSED : 0);
        now[c] = r == 0 && i % 3 && i % 5 != 3 ? (uint8_t)(i + 1) : 0;
        maybe[c] = 1;
        flushed[c] = 0; /* changed since: only a flush makes it certain again */
        if (i % 6 == 5 && node_flush(n) == 0)
            for (unsigned k = 0; k < 32; k++)
                if (maybe[k])
                    flushed[k] = now[k];
    }
}

static void io_sweep_body(void *arg)
{
    const bool sticky = *(const bool *)arg;
    for (uint64_t nth = 1;; nth++) {
        uint8_t flushed[32] = {0};
        char what[64];
        snprintf(what, sizeof(what), "I/O %llu fails%s", (unsigned long long)nth,
                 sticky ? " and all after it" : "");
        struct sim_disk *d = image_new(&small);
        struct qc_open_opts o = {.l2_cache_bytes = 1, .refcount_cache_bytes = 1};
        struct node *n = image_open(d, &o);
        struct sim_fail f = {.nth = nth, .error = EIO, .sticky = sticky, .partial = nth % 2};
        sim_fail_nth(d, &f);
        workload(n, flushed);
        bool fired = sim_fired(d);
        node_unref(n);
        fired = fired || sim_fired(d);
        sim_fail_nth(d, &(struct sim_fail){0});
        image_judge(d, true, what);
        n = image_open(d, &o);
        for (unsigned c = 0; c < 32; c++)
            must(!flushed[c] || holds(n, c * CLUSTER, CLUSTER, flushed[c]), "%s: cluster %u lost",
                 what, c);
        node_unref(n);
        sim_disk_free(d);
        if (!fired)
            break;
    }
}

static void memory_sweep_body(void *arg)
{
    for (uint64_t nth = 1;; nth++) {
        uint8_t flushed[32] = {0};
        char what[64];
        snprintf(what, sizeof(what), "allocation %llu fails", (unsigned long long)nth);
        struct sim_disk *d = image_new(&small);
        struct qc_open_opts o = {.l2_cache_bytes = 1, .refcount_cache_bytes = 1};
        struct node *file = sim_open(d, false, NULL);
        mem_fail_nth(nth, 0);
        struct err *e = NULL;
        struct node *n = qc_open(file, &o, &e);
        if (n)
            workload(n, flushed);
        bool done = mem_count() < nth;
        mem_fail_nth(0, 0);
        must(n || err_code(e) == ENOMEM, "%s: %s", what, err_msg(e));
        err_free(e);
        node_unref(n ? n : file);
        image_judge(d, true, what);
        n = image_open(d, &o);
        for (unsigned c = 0; c < 32; c++)
            must(!flushed[c] || holds(n, c * CLUSTER, CLUSTER, flushed[c]), "%s: cluster %u lost",
                 what, c);
        node_unref(n);
        sim_disk_free(d);
        if (done)
            break;
    }
}

/* --- Tables that lie --- */

struct lie {
    const char *name;
    const char *says;
    enum { IN_L1, IN_L2, IN_REFTABLE } where;
    uint64_t value; /* added to the entry if small_add, else replaces it */
    bool add;
    bool on_write_only;
    int code;
};

static const struct lie lies[] = {
    {"L1 entry with reserved bits", "L1 entry", IN_L1, UINT64_C(1) << 56, true, false, EIO},
    {"L1 entry unaligned", "L1 entry", IN_L1, 0x200, true, false, EIO},
    {"L1 entry past the end", "L1 entry", IN_L1, UINT64_C(0x8000000040000000), false, false, EIO},
    {"L1 entry: flag without table", "L1 entry", IN_L1, UINT64_C(1) << 63, false, false, EIO},
    {"L2 entry unaligned", "not aligned", IN_L2, 0x200, true, false, EIO},
    {"L2 entry past the end", "past the end", IN_L2, UINT64_C(0x8000000040000000), false, false,
     EIO},
    {"L2 entry at the header's place", "metadata", IN_L2, UINT64_C(0x8000000000000000) | 0x1000,
     false, true, EIO},
    {"L2 entry at the L1 table", "metadata", IN_L2, UINT64_C(0x8000000000000000) | 0x3000, false,
     true, EIO},
    {"L2 entry at an L2 table", "metadata", IN_L2, UINT64_C(0x8000000000000000) | 0x4000, false,
     true, EIO},
    {"compressed data past the end", "past the end", IN_L2, UINT64_C(0x4000000040000000), false,
     false, EIO},
    {"compressed data beyond 56 bits", "56 bits", IN_L2, UINT64_C(0x4100000000000000), false, false,
     EIO},
    {"compressed data at the L1 table", "metadata", IN_L2, UINT64_C(0x4000000000003e00), false,
     true, EIO},
    {"compressed data that runs into the L1 table", "metadata", IN_L2, UINT64_C(0x4400000000002fff),
     false, true, EIO},
    {"reftable entry unaligned", "refcount table entry", IN_REFTABLE, 0x200, true, true, EIO},
    {"reftable entry past the end", "refcount table entry", IN_REFTABLE, 0x40000000, false, true,
     EIO},
};

static uint64_t peek64(struct sim_disk *d, uint64_t off)
{
    uint8_t be[8];
    sim_disk_peek(d, off, be, 8);
    return get_be64(be);
}

static struct sim_disk *lying_disk(const struct lie *l)
{
    struct sim_disk *d = image_new(&small);
    struct qc_open_opts o = {0};
    struct node *n = image_open(d, &o);
    must(put(n, 0, CLUSTER, 1) == 0, "write");
    node_unref(n);
    uint64_t l1 = peek64(d, 40), reftable = peek64(d, 48);
    uint64_t l2 = peek64(d, l1) & UINT64_C(0x00fffffffffffe00);
    must(l1 == 0x3000 && l2 == 0x4000, "layout: L1 at %llx, L2 at %llx", (unsigned long long)l1,
         (unsigned long long)l2);
    uint64_t at = l->where == IN_L1 ? l1 : l->where == IN_L2 ? l2 : reftable;
    uint64_t len = sim_disk_size(d);
    uint8_t *image = malloc(len);
    sim_disk_peek(d, 0, image, len);
    put_be64(image + at, l->add ? get_be64(image + at) + l->value : l->value);
    must(sim_disk_load(d, image, len), "memory");
    free(image);
    return d;
}

static void try_lie(const struct lie *l)
{
    struct sim_disk *d = lying_disk(l);
    struct qc_open_opts o = {0};
    struct node *n = image_open(d, &o);
    uint8_t buf[512];
    n_errors = 0;
    int r = l->on_write_only ? 0 : node_read(n, 0, buf, sizeof(buf));
    must(l->on_write_only || r == -l->code, "%s: read gave %d", l->name, r);
    r = put(n, l->where == IN_REFTABLE ? 8 * CLUSTER : 0, CLUSTER, 3);
    must(r == -l->code, "%s: write gave %d", l->name, r);
    must(n_errors == 1, "%s: logged %u times", l->name, n_errors);
    must(strstr(last_error, l->says), "%s: says \"%s\"", l->name, last_error);
    if (l->code == EIO) {
        must(peek64(d, 72) & 2, "%s: not marked corrupt", l->name);
        must(put(n, 300 * KiB, CLUSTER, 4) == -EIO, "%s: writes go on", l->name);
        must(node_flush(n) == -EIO, "%s: flush goes on", l->name);
        must(node_read(n, 300 * KiB, buf, sizeof(buf)) == 0 || l->where == IN_L1,
             "%s: what is readable must stay so", l->name);
    }
    node_unref(n);
    sim_disk_free(d);
}

static void lies_body(void *arg)
{
    log_set_sink(catch_log, NULL);
    for (size_t i = 0; i < ARRAY_LEN(lies); i++)
        try_lie(&lies[i]);
    log_set_sink(NULL, NULL);
}

/* A cluster that starts just where the file ends, as after a crash that lost the growth. */
static void cut_body(void *arg)
{
    struct sim_disk *d = image_new(&small);
    struct qc_open_opts o = {0};
    struct node *n = image_open(d, &o);
    must(put(n, 0, CLUSTER, 1) == 0 && put(n, CLUSTER, CLUSTER, 2) == 0, "write");
    node_unref(n);
    uint64_t len = sim_disk_size(d) - CLUSTER;
    uint8_t *image = malloc(len);
    sim_disk_peek(d, 0, image, len);
    must(sim_disk_load(d, image, len), "memory");
    free(image);

    n = image_open(d, &o);
    must(holds(n, 0, CLUSTER, 1) && holds(n, CLUSTER, CLUSTER, 0), "content");
    must(put(n, CLUSTER, CLUSTER, 3) == 0 && node_flush(n) == 0, "write to the lost cluster");
    must(holds(n, CLUSTER, CLUSTER, 3), "content after the write");
    node_unref(n);
    image_judge(d, false, "cut");
    sim_disk_free(d);
}

/* --- Memory --- */

static void cache_body(void *arg)
{
    struct qc_create_opts co = {.size = 64 * MiB, .cluster_size = 512};
    struct sim_disk *d = image_new(&co);
    struct qc_open_opts o = {.l2_cache_bytes = 16 * KiB, .refcount_cache_bytes = 4 * KiB};
    struct node *n = image_open(d, &o);
    struct rng r;
    rng_seed(&r, 7);
    for (unsigned i = 0; i < 3000; i++) {
        must(put(n, rng_below(&r, 64 * MiB / 512) * 512, 512, 1) == 0, "write");
        struct qc_info info;
        qc_get_info(n, &info);
        must(info.cache_bytes <= 20 * KiB, "the caches hold %llu bytes",
             (unsigned long long)info.cache_bytes);
    }
    node_unref(n);
    image_judge(d, false, "small caches");
    sim_disk_free(d);
}

static void churn_body(void *arg)
{
    /* Each round frees a cluster and takes another; none is flushed by the guest. */
    struct qc_create_opts co = {.size = 64 * MiB, .cluster_size = 2 * MiB};
    struct sim_disk *d = image_new(&co);
    struct qc_open_opts o = {0};
    struct node *n = image_open(d, &o);
    for (unsigned i = 0; i < 1000; i++) {
        must(put(n, 0, 512, 1) == 0, "write");
        must(node_discard(n, 0, 2 * MiB) == 0, "discard");
    }
    must(sim_disk_size(d) < 300 * MiB, "the file grew to %llu",
         (unsigned long long)sim_disk_size(d));
    node_unref(n);
    image_judge(d, false, "churn");
    sim_disk_free(d);
}

static void a_late_write_never_lands_in_anothers_cluster(void **state)
{
    run_sim(late_body, NULL);
}

static void a_failed_flush_sticks_until_reopen(void **state)
{
    run_sim(sticky_body, NULL);
}

static void a_failed_write_leaks_nothing(void **state)
{
    run_sim(undo_body, NULL);
}

static void any_one_failing_io_leaves_a_sound_image(void **state)
{
    bool sticky = false;
    run_sim(io_sweep_body, &sticky);
}

static void io_that_fails_from_some_point_on_leaves_a_sound_image(void **state)
{
    bool sticky = true;
    run_sim(io_sweep_body, &sticky);
}

static void any_one_failing_allocation_leaves_a_sound_image(void **state)
{
    run_sim(memory_sweep_body, NULL);
}

static void false_table_entries_are_found_and_the_image_is_marked(void **state)
{
    run_sim(lies_body, NULL);
}

static void a_cluster_cut_off_at_the_end_of_the_file_reads_as_zeros(void **state)
{
    run_sim(cut_body, NULL);
}

static void unflushed_discards_do_not_grow_the_file_without_bound(void **state)
{
    run_sim(churn_body, NULL);
}

static void caches_stay_within_their_bounds(void **state)
{
    run_sim(cache_body, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_late_write_never_lands_in_anothers_cluster),
        cmocka_unit_test(a_failed_flush_sticks_until_reopen),
        cmocka_unit_test(a_failed_write_leaks_nothing),
        cmocka_unit_test(any_one_failing_io_leaves_a_sound_image),
        cmocka_unit_test(io_that_fails_from_some_point_on_leaves_a_sound_image),
        cmocka_unit_test(any_one_failing_allocation_leaves_a_sound_image),
        cmocka_unit_test(false_table_entries_are_found_and_the_image_is_marked),
        cmocka_unit_test(a_cluster_cut_off_at_the_end_of_the_file_reads_as_zeros),
        cmocka_unit_test(caches_stay_within_their_bounds),
        cmocka_unit_test(unflushed_discards_do_not_grow_the_file_without_bound),
    };
    log_set_sink(catch_log, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
