/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The fault filter under the qcow2 format: which of the 48 events come, and two writes to one
 * cluster of which the first is held at an event, at each that it announces.
 */
#include "tests/unit/qcow2/image.h"

#include <errno.h>

#include "filters/filters.h"
#include "qcow2/snapshot.h"

#define CLUSTER (64 * KiB)

/* --- Which events come --- */

static uint64_t seen;
static char order[4096] = " "; /* names, with blanks around them, from here on */

static void record(struct node *n, enum blk_event ev)
{
    size_t len = strlen(order);

    seen |= UINT64_C(1) << ev;
    if (ev != EV_PWRITEV && ev != EV_PWRITEV_DONE && ev != EV_PWRITEV_ZERO)
        snprintf(order + len, sizeof(order) - len, "%s ", blk_event_name(ev));
    node_event(n->child[0], ev);
}

static const struct driver recorder = {.name = "recorder", .is_filter = true, .event = record};

/* qcow2 over blkdebug's limits over a recorder that stands where blkdebug does. */
static struct node *open_recorded(struct sim_disk *d, struct node *backing, uint32_t align)
{
    struct err *e = NULL;
    struct node *rec = node_new(&recorder, "recorder", &e);

    must(node_attach(rec, sim_open(d, false, &e), &e), "%s", err_msg(e));
    rec->limits.align = align;
    struct qc_open_opts o = {.backing = backing};
    struct node *n = qc_open(rec, &o, &e);
    must(n, "%s", err_msg(e));
    return n;
}

static void put(struct node *n, uint64_t off, uint64_t len, uint32_t flags)
{
    uint8_t *buf = mem_alloc(len);

    memset(buf, 0x5a, len);
    must(node_write(n, off, buf, len, flags) == 0, "write");
    mem_free(buf);
}

static void get(struct node *n, uint64_t off, uint64_t len)
{
    uint8_t *buf = mem_alloc(len);

    must(node_read(n, off, buf, len) == 0, "read");
    mem_free(buf);
}

static void use_ordinary(uint32_t align)
{
    struct qc_create_opts o = {.size = 64 * MiB};
    struct sim_disk *base_disk = sim_disk_new(8 * MiB);
    struct node *base = sim_open(base_disk, true, NULL);
    o.backing_name = "base";
    o.backing_format = "raw";
    struct sim_disk *d = image_new(&o);
    struct node *n = open_recorded(d, base, align);

    get(n, 0, 4096);
    put(n, 4096, 4096, 0);
    put(n, 0, CLUSTER, 0);
    put(n, 20 * MiB + 512, 512, 0);
    get(n, 20 * MiB, 4096);
    put(n, 30 * MiB, CLUSTER, REQ_COMPRESSED);
    get(n, 30 * MiB, 512);
    put(n, 31 * MiB, CLUSTER, REQ_COMPRESSED);
    must(node_zero(n, 40 * MiB, 4096, 0) == 0, "zero");
    must(node_discard(n, 0, CLUSTER) == 0, "discard");
    must(node_flush(n) == 0, "flush");
    node_unref(n);
    n = open_recorded(d, base, align);
    get(n, 4096, 65536);
    put(n, 50 * MiB + 4096, 4096, 0); /* into a cluster that was freed */
    node_unref(n);
    node_unref(base);
    sim_disk_free(base_disk);
    sim_disk_free(d);
}

/* Tables that grow: small clusters, wide refcounts. */
static void use_growing(void)
{
    struct qc_create_opts o = {.size = 32 * KiB, .cluster_size = 512, .refcount_bits = 64};
    struct sim_disk *d = image_new(&o);
    struct node *n = open_recorded(d, NULL, 1);

    must(node_truncate(n, 16 * MiB) == 0, "grow");
    put(n, 0, 8 * MiB, 0);
    must(node_flush(n) == 0, "flush");
    node_unref(n);
    sim_disk_free(d);
}

/* These come in this order, and nothing of absent comes. Other events may come between. */
static void expect_order(const char *what, const char *absent, const char *const *names)
{
    const char *at = order;

    for (unsigned i = 0; names[i]; i++) {
        char word[64];

        snprintf(word, sizeof(word), " %s ", names[i]);
        at = strstr(at, word);
        must(at, "%s: no %s (%u) in%s", what, names[i], i, order);
        at += strlen(word) - 1;
    }
    must(!absent || !strstr(order, absent), "%s announced %s:%s", what, absent, order);
    strcpy(order, " ");
}
#define ORDER(...) ((const char *const[]){__VA_ARGS__, NULL})

/* What changes in one step: shrinking, emptying, snapshots. Of QEMU's places those are left that
 * are there: the others (docs/faults.md) update refcounts and tables one by one. */
static void use_remaking(void)
{
    struct qc_create_opts o = {.size = 64 * MiB};
    struct qc_truncate_opts shrink = {.shrink = true};
    struct sim_disk *d = image_new(&o);
    struct node *n = open_recorded(d, NULL, 1);
    struct qc_new_snapshot s = {.name = "s"};
    struct err *e = NULL;
    char id[24];

    put(n, 0, CLUSTER, 0);
    put(n, 40 * MiB, CLUSTER, 0);
    must(node_flush(n) == 0, "flush");
    strcpy(order, " ");
    must(qc_snapshot_create(n, &s, id, &e), "%s", err_msg(e));
    expect_order("a snapshot", " l1_update ", ORDER("cluster_alloc", "refblock_update_part"));
    put(n, 0, 512, 0); /* the L2 table is the snapshot's, too */
    expect_order("the first write after it", NULL,
                 ORDER("l2_load", "cluster_alloc", "l2_alloc_cow_read", "l2_alloc_write",
                       "l2_update", "l1_update", "cluster_free", "cluster_alloc", "cow_read",
                       "write_aio", "cow_write"));
    must(qc_snapshot_apply(n, &(struct qc_snapshot_ref){.id = id}, false, &e), "%s", err_msg(e));
    expect_order("going back to it", " cluster_free ",
                 ORDER("refblock_update_part", "cluster_alloc"));
    must(qc_snapshot_delete(n, &(struct qc_snapshot_ref){.id = id}, &e), "%s", err_msg(e));
    expect_order("forgetting it", " cluster_free ", ORDER("cluster_alloc", "refblock_update_part"));
    must(qc_truncate(n, 32 * MiB, &shrink, &e), "%s", err_msg(e));
    expect_order("shrinking", " cluster_free ",
                 ORDER("l1_shrink_write_table", "l1_shrink_free_l2_clusters"));
    must(qc_make_empty(n, &e), "%s", err_msg(e));
    expect_order("emptying", " cluster_free ",
                 ORDER("l1_update", "empty_image_prepare", "l1_update", "reftable_update"));
    node_unref(n);
    sim_disk_free(d);
}

#define BIT(id) (UINT64_C(1) << EV_##id)
#define NEVER BIT(REFBLOCK_UPDATE)
/* Of blkdebug itself: the filter's own opening. */
#define ELSEWHERE BIT(NONE)
/* Those of features that are not there, or that other tests see: what comes here must be taken off
 * this list. */
#define NOT_HERE (BIT(VMSTATE_LOAD) | BIT(VMSTATE_SAVE) | BIT(COR_WRITE))

static void events_body(void *arg)
{
    seen = 0;
    use_ordinary(1);
    use_ordinary(4096);
    use_growing();
    use_remaking();
    for (unsigned ev = 0; ev < EV_COUNT; ev++) {
        bool wanted = !((NEVER | ELSEWHERE | NOT_HERE) >> ev & 1);

        must((seen >> ev & 1) == wanted, "%s was %sseen", blk_event_name((enum blk_event)ev),
             wanted ? "not " : "");
    }
}

static void every_event_comes_that_is_not_known_to_be_absent(void **state)
{
    run_sim(events_body, NULL);
}

/* --- Two writes to one cluster --- */

struct writer {
    struct node *n;
    uint64_t off, len;
    uint8_t fill;
    int ret;
    bool done;
};

static void write_run(void *arg)
{
    struct writer *w = arg;
    uint8_t *buf = mem_alloc(w->len);

    memset(buf, w->fill, w->len);
    w->ret = node_write(w->n, w->off, buf, w->len, 0);
    w->done = true;
    mem_free(buf);
}

static void start(struct writer *w, struct node *n, uint64_t off, uint64_t len, uint8_t fill)
{
    *w = (struct writer){.n = n, .off = off, .len = len, .fill = fill, .ret = 1};
    must(co_start(write_run, w), "coroutine");
}

static void settle(void)
{
    for (int i = 0; i < 50; i++)
        co_reschedule();
}

static void expect(struct node *n, uint64_t off, uint64_t len, uint8_t fill, const char *what)
{
    uint8_t *buf = mem_alloc(len);

    must(node_read(n, off, buf, len) == 0, "%s: read", what);
    for (uint64_t i = 0; i < len; i++)
        must(buf[i] == fill, "%s: byte %llu is 0x%02x, not 0x%02x", what,
             (unsigned long long)(off + i), buf[i], fill);
    mem_free(buf);
}

struct race {
    const char *event;
    uint64_t a_off, a_len, b_off, b_len;
    bool overlap; /* both write [b_off, b_off + b_len) */
};

/* Where both wrote it is one of the two, and the same one everywhere. */
static void expect_both(struct node *n, const struct race *c, const char *what)
{
    uint64_t b_end = c->b_off + c->b_len;
    uint8_t first = 0xbb;

    if (c->overlap) {
        must(node_read(n, c->b_off, &first, 1) == 0, "%s: read", what);
        must(first == 0xaa || first == 0xbb, "%s: neither wrote 0x%02x", what, first);
        expect(n, c->a_off, c->b_off - c->a_off, 0xaa, what);
        expect(n, b_end, c->a_off + c->a_len - b_end, 0xaa, what);
    } else {
        expect(n, c->a_off, c->a_len, 0xaa, what);
    }
    expect(n, c->b_off, c->b_len, first, what);
}

static struct node *open_faulty(struct sim_disk *d, struct node *base, struct node **fault)
{
    struct err *e = NULL;

    *fault = fault_open(sim_open(d, false, &e), rules_new(fault_names()), &e);
    must(*fault, "%s", err_msg(e));
    fault_let_hang(*fault, true);
    struct qc_open_opts o = {.backing = base};
    struct node *n = qc_open(*fault, &o, &e);
    must(n, "%s", err_msg(e));
    return n;
}

/* A is held at the event; B runs as far as it can; then A goes on. Whatever the order, each has
 * what it wrote, the rest is the backing file's, and the image is sound. */
static void race(const struct race *c, bool *held)
{
    char what[100];
    struct sim_disk *base_disk = sim_disk_new(8 * MiB), *d;
    struct node *base = sim_open(base_disk, false, NULL), *fault, *n;
    struct qc_create_opts co = {.size = 8 * MiB, .backing_name = "base", .backing_format = "raw"};
    struct writer a, b;

    snprintf(what, sizeof(what), "%s, %llu+%llu and %llu+%llu", c->event,
             (unsigned long long)c->a_off, (unsigned long long)c->a_len,
             (unsigned long long)c->b_off, (unsigned long long)c->b_len);
    put(base, 0, 8 * MiB, 0);
    d = image_new(&co);
    n = open_faulty(d, base, &fault);
    put(n, 4 * MiB, 512, 0); /* the L2 table is there */
    must(fault_break(fault, c->event, "A") == 0, "%s", what);
    start(&a, n, c->a_off, c->a_len, 0xaa);
    settle();
    *held = fault_is_suspended(fault, "A");
    must(*held == !a.done, "%s: A is neither held nor done", what);
    start(&b, n, c->b_off, c->b_len, 0xbb);
    settle();
    fault_remove_break(fault, "A");
    settle();
    must(a.done && b.done && a.ret == 0 && b.ret == 0, "%s: results %d, %d", what, a.ret, b.ret);
    expect_both(n, c, what);
    expect(n, 2 * CLUSTER, 512, 0x5a, what);
    expect(n, 8 * CLUSTER - 512, 512, 0x5a, what);
    must(node_flush(n) == 0, "%s: flush", what);
    node_unref(n);
    image_judge(d, false, what);
    node_unref(base);
    sim_disk_free(base_disk);
    sim_disk_free(d);
}

static void races_body(void *arg)
{
    /* In one cluster, side by side; the same bytes; a run of clusters against its middle. */
    static const struct race shapes[] = {
        {NULL, 3 * CLUSTER + 4096, 4096, 3 * CLUSTER + 32768, 8192, false},
        {NULL, 3 * CLUSTER, CLUSTER, 3 * CLUSTER + 512, 1024, true},
        {NULL, 3 * CLUSTER + 512, 2 * CLUSTER, 4 * CLUSTER + 1024, 512, true},
        {NULL, 3 * CLUSTER + 512, 512, 4 * CLUSTER, CLUSTER, false},
    };
    static const char *const must_hold[] = {"cluster_alloc", "refblock_alloc",   "refblock_load",
                                            "cow_read",      "read_backing_aio", "write_aio",
                                            "cow_write",     "pwritev",          "pwritev_done"};
    unsigned holds = 0;

    for (size_t s = 0; s < ARRAY_LEN(shapes); s++) {
        for (unsigned ev = 0; ev < EV_COUNT; ev++) {
            struct race c = shapes[s];
            bool held;

            c.event = blk_event_name((enum blk_event)ev);
            race(&c, &held);
            for (size_t i = 0; i < ARRAY_LEN(must_hold); i++)
                must(held || strcmp(c.event, must_hold[i]) || c.a_len == CLUSTER, "%s held nothing",
                     c.event);
            holds += held;
        }
    }
    must(holds >= 30, "only %u holds", holds);
}

static void two_writes_to_a_cluster_survive_a_hold_at_each_event(void **state)
{
    run_sim(races_body, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_event_comes_that_is_not_known_to_be_absent),
        cmocka_unit_test(two_writes_to_a_cluster_survive_a_hold_at_each_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
