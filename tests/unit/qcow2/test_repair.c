/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a repair does to the file, write by write. (That it changes no content, whatever the damage,
 * and can be cut off anywhere, is the business of mutate_repair and repair_steps.)
 */
#include <errno.h>

#include "qcow2/format.h"
#include "qcow2/repair.h"
#include "tests/unit/qcow2/image.h"

#define CLUSTER 1024
#define COPIED (UINT64_C(1) << 63)
#define OFFSET UINT64_C(0x00fffffffffffe00)

struct bench {
    struct sim_disk *d;
    uint8_t *was; /* the file before the repair */
    uint64_t len, l1, l2, reftable;
    struct qc_repair_report r;
    struct err *e;
    bool ok;
    enum qc_fix fix;
};

struct make {
    uint32_t refcount_bits;
    struct sim_disk *d;
};

static void make_body(void *arg)
{
    struct make *m = arg;
    const struct qc_create_opts o = {
        .size = 256 << 10, .cluster_size = CLUSTER, .refcount_bits = m->refcount_bits};
    struct qc_open_opts oo = {0};
    uint8_t data[20 * CLUSTER];
    m->d = image_new(&o);
    struct node *n = image_open(m->d, &oo);
    memset(data, 0xa5, sizeof(data));
    must(node_write(n, 0, data, sizeof(data), 0) == 0, "write");
    must(node_zero(n, 4 * CLUSTER, CLUSTER, 0) == 0, "zero");
    node_unref(n);
}

static uint64_t get(const struct bench *b, uint64_t at)
{
    uint8_t be[8];
    sim_disk_peek(b->d, at, be, sizeof(be));
    return get_be64(be);
}

static void begin(struct bench *b, uint32_t refcount_bits)
{
    struct make m = {.refcount_bits = refcount_bits};
    run_sim(make_body, &m);
    *b = (struct bench){.d = m.d, .fix = QC_FIX_ALL};
    b->len = sim_disk_size(b->d);
    b->was = mem_zalloc(b->len);
    sim_disk_peek(b->d, 0, b->was, b->len);
    b->l1 = get(b, 40);
    b->reftable = get(b, 48);
    b->l2 = get(b, b->l1) & OFFSET;
}

static void put(struct bench *b, uint64_t at, uint64_t value)
{
    put_be64(b->was + at, value);
}

static void repair_body(void *arg)
{
    struct bench *b = arg;
    const struct qc_repair_opts o = {.fix = b->fix};
    struct node *file = sim_open(b->d, false, NULL);
    b->ok = qc_repair(file, &o, &b->r, &b->e);
    node_unref(file);
}

/* Repair the bytes in b->was. */
static void repair(struct bench *b)
{
    must(sim_disk_load(b->d, b->was, b->len), "memory");
    run_sim(repair_body, b);
}

static void end(struct bench *b)
{
    err_free(b->e);
    mem_free(b->was);
    sim_disk_free(b->d);
}

static void is_clean(struct bench *b)
{
    must(b->ok, "%s", err_msg(b->e));
    must(b->r.found.corruptions + b->r.found.leaks > 0, "nothing was found");
    must(b->r.left.corruptions == 0 && b->r.left.leaks == 0,
         "%llu corruptions, %llu leaks are left", (unsigned long long)b->r.left.corruptions,
         (unsigned long long)b->r.left.leaks);
}

/* Every write from then on is to the header or behind the old end; returns how many to the header.
 */
static unsigned writes_only_beside(const struct bench *b)
{
    unsigned header = 0;
    for (uint64_t i = 0; i < sim_log_len(b->d); i++) {
        const struct sim_entry *w = sim_log_at(b->d, i);
        if (w->op == REQ_FLUSH)
            continue;
        must(w->op == REQ_WRITE, "%s", req_op_name(w->op));
        must(w->off + w->len <= 112 || w->off >= b->len, "a write to 0x%llx",
             (unsigned long long)w->off);
        header += w->off < 112;
    }
    return header;
}

static void new_structures_lie_behind_everything_and_one_write_switches_to_them(void **state)
{
    for (uint32_t bits = 1; bits <= 64; bits *= 2) {
        struct bench b;
        begin(&b, bits);
        put(&b, b.reftable, 0x4000000000000200);
        repair(&b);
        is_clean(&b);
        must(writes_only_beside(&b) == 1, "the header is written more than once");
        must(get(&b, 48) >= b.len, "the refcount table is where it was");
        uint64_t last = 0;
        for (uint64_t i = 0; i < sim_log_len(b.d); i++)
            if (sim_log_at(b.d, i)->op == REQ_WRITE && sim_log_at(b.d, i)->off >= b.len)
                last = i;
        must(sim_log_at(b.d, last + 1)->op == REQ_FLUSH, "no flush behind the new structures");
        const struct sim_entry *w = sim_log_at(b.d, last + 2);
        must(w->op == REQ_WRITE && w->off == 48 && w->len == 24, "no switch behind the flush");
        must(sim_log_at(b.d, last + 3)->op == REQ_FLUSH, "no flush behind the switch");
        end(&b);
    }
}

static void reserved_bits_go_and_offsets_of_zeros(void **state)
{
    struct bench b;
    begin(&b, 16);
    put(&b, b.l1, get(&b, b.l1) | UINT64_C(0x0100000000000080));
    put(&b, b.l1 + 8, COPIED | 0x100);
    put(&b, b.l2, get(&b, b.l2) | 0x1e);
    put(&b, b.l2 + 8 * 4, UINT64_C(0x0000000000000201)); /* not aligned, but zeros */
    put(&b, b.l2 + 8 * 30, COPIED);
    uint64_t l1 = get(&b, b.l1), l2 = get(&b, b.l2);
    repair(&b);
    must(b.ok && b.r.left.corruptions == 0, "%llu are left",
         (unsigned long long)b.r.left.corruptions);
    must(get(&b, b.l1) == l1, "L1 entry 0 is 0x%llx", (unsigned long long)get(&b, b.l1));
    must(get(&b, b.l1 + 8) == 0, "L1 entry 1");
    must(get(&b, b.l2) == l2, "L2 entry 0 is 0x%llx", (unsigned long long)get(&b, b.l2));
    must(get(&b, b.l2 + 8 * 30) == 0, "L2 entry 30");
    end(&b);
}

static void refcounts_stay_as_high_while_something_is_unknown(void **state)
{
    struct bench b;
    begin(&b, 16);
    uint64_t block = get(&b, b.reftable);
    put(&b, b.l1 + 8, (b.l2 + 512) | COPIED); /* no table can be there */
    put_be16(b.was + block + 2 * (get(&b, b.l2) & OFFSET) / CLUSTER, 0);
    put_be16(b.was + block + 2 * (get(&b, b.l2 + 8) & OFFSET) / CLUSTER, 7);
    repair(&b);
    must(b.ok && b.r.left.corruptions > 0, "nothing is left");
    writes_only_beside(&b);
    uint64_t now = get(&b, get(&b, 48));
    uint8_t count[2];
    must(now >= b.len, "no new refcount block");
    sim_disk_peek(b.d, now + 2 * (get(&b, b.l2) & OFFSET) / CLUSTER, count, 2);
    must(get_be16(count) == 1, "what is known to be in use has refcount %u", get_be16(count));
    sim_disk_peek(b.d, now + 2 * (get(&b, b.l2 + 8) & OFFSET) / CLUSTER, count, 2);
    must(get_be16(count) == 7, "what looks too high became %u", get_be16(count));
    end(&b);
}

static void a_reference_far_outside_is_left_and_nothing_grows_to_it(void **state)
{
    struct bench b;
    begin(&b, 16);
    put(&b, b.l2 + 8 * 2, UINT64_C(1) << 40 | COPIED);
    repair(&b);
    must(b.ok && b.r.left.corruptions > 0, "nothing is left");
    must(sim_disk_size(b.d) == b.len, "the file has grown");
    must(get(&b, b.l2 + 8 * 2) == (UINT64_C(1) << 40 | COPIED), "the entry has changed");
    end(&b);
}

static void a_lost_end_comes_back_as_zeros_and_is_occupied(void **state)
{
    struct bench b;
    begin(&b, 16);
    uint64_t at = round_up(b.len, CLUSTER) + 3 * CLUSTER;
    put(&b, b.l2 + 8 * 2, at | COPIED);
    put(&b, b.reftable, 0); /* so that new structures are needed, too */
    repair(&b);
    is_clean(&b);
    must(get(&b, b.l2 + 8 * 2) == (at | COPIED), "the entry has changed");
    must(get(&b, 48) >= at + CLUSTER, "the refcount table was put onto the cluster");
    for (uint64_t i = 0; i < CLUSTER; i += 8)
        must(get(&b, at + i) == 0, "the cluster is not zeros");
    end(&b);
}

static void more_references_than_fit_are_left_and_never_copied_in_place(void **state)
{
    struct bench b;
    begin(&b, 1);
    put(&b, b.l2 + 8, get(&b, b.l2));
    repair(&b);
    must(b.ok && b.r.left.corruptions > 0, "two references fit into one bit");
    must(!(get(&b, b.l2) & COPIED) && !(get(&b, b.l2 + 8) & COPIED), "it may be written in place");
    end(&b);
}

static void leaks_alone_change_refcounts_alone(void **state)
{
    struct bench b;
    begin(&b, 16);
    uint64_t block = get(&b, b.reftable), free_one = b.len / CLUSTER - 1;
    b.fix = QC_FIX_LEAKS;
    put(&b, b.l2 + 8 * 2, get(&b, b.l2 + 8 * 2) | 2);                    /* an error */
    put_be16(b.was + block + 2 * (get(&b, b.l2) & OFFSET) / CLUSTER, 0); /* another one */
    put(&b, b.l2 + 8 * 19, 0);                                           /* a leak */
    /* Of a cluster in use: to lower it to one would need another flag. */
    put_be16(b.was + block + 2 * (get(&b, b.l2 + 8 * 3) & OFFSET) / CLUSTER, 3);
    repair(&b);
    must(b.ok && b.r.leaks_fixed == 1 && b.r.left.leaks == 1, "%llu leaks fixed, %llu left",
         (unsigned long long)b.r.leaks_fixed, (unsigned long long)b.r.left.leaks);
    must(b.r.left.corruptions == b.r.found.corruptions, "corruptions changed");
    for (uint64_t i = 0; i < sim_log_len(b.d); i++)
        must(sim_log_at(b.d, i)->op == REQ_FLUSH || sim_log_at(b.d, i)->kind == KIND_REFBLOCK,
             "a write of kind %d", (int)sim_log_at(b.d, i)->kind);
    must(free_one > 0, "an empty file");
    end(&b);
}

static void marks_go_last_and_unknown_autoclear_bits_first(void **state)
{
    struct bench b;
    begin(&b, 16);
    put(&b, 72, 3);
    put(&b, 88, 0x70);
    put(&b, b.l2, get(&b, b.l2) | 2);
    repair(&b);
    is_clean(&b);
    uint64_t n = sim_log_len(b.d);
    must(n >= 5 && sim_log_at(b.d, 0)->off == 88 && sim_log_at(b.d, 1)->op == REQ_FLUSH,
         "auto-clear bits do not go first");
    must(sim_log_at(b.d, n - 2)->off == 72 && sim_log_at(b.d, n - 1)->op == REQ_FLUSH,
         "the marks do not go last");
    must(get(&b, 72) == 0 && get(&b, 88) == 0, "bits are left");
    put(&b, b.l2 + 8, get(&b, b.l2 + 8) + 512);
    repair(&b);
    must(get(&b, 72) == 3, "marks are gone although corruption is left");
    end(&b);
}

/* Whatever its L1 table refers to may be in use: nothing that is there is written to. */
static void a_snapshot_whose_table_cannot_be_is_left_alone(void **state)
{
    const struct {
        uint64_t l1_off;
        uint32_t l1_size;
    } lies[] = {{0x10200, 1}, {CLUSTER, QC_MAX_L1_BYTES / 8 + 1}, {0, 1}};
    for (unsigned i = 0; i < ARRAY_LEN(lies); i++) {
        struct bench b;
        begin(&b, 16);
        uint64_t at = round_up(b.len, CLUSTER);
        uint8_t *image = mem_zalloc(at + CLUSTER);
        memcpy(image, b.was, b.len);
        mem_free(b.was);
        b.was = image;
        b.len = at + CLUSTER;
        put_be32(image + 60, 1);
        put_be64(image + 64, at);
        put_be64(image + at, lies[i].l1_off);
        put_be32(image + at + 8, lies[i].l1_size);
        put_be32(image + at + 36, 16);
        repair(&b);
        must(b.ok && b.r.left.corruptions > 0, "lie %u: %llu corruptions are left", i,
             (unsigned long long)b.r.left.corruptions);
        writes_only_beside(&b);
        uint8_t e[12];
        sim_disk_peek(b.d, get(&b, 64), e, sizeof(e));
        must(get_be64(e) == lies[i].l1_off && get_be32(e + 8) == lies[i].l1_size,
             "lie %u: the entry has changed", i);
        end(&b);
    }
}

/* A snapshot table of which nothing is known but the extra data of its first entry, and some byte
 * behind its last one. */
struct blank_table {
    uint32_t version, extra, n;
    uint64_t mark; /* from the table's start; 0: none */
    uint32_t left; /* snapshots after the repair */
};

static const struct blank_table blank_tables[] = {
    {3, 0, 20, 1016, 20},  /* the last ones come to lie across the end of a cluster */
    {3, 0, 9, 0, 0},       /* padding from the first one on: the table goes */
    {3, 16, 20, 0, 1},     /* only padding follows */
    {2, 1032, 4, 2047, 4}, /* what is cut off moves the others, zeros come to lie behind them */
    {2, 16, 9, 0, 1},      /* padding */
    {2, 944, 2, 2047, 1},  /* ends with the cluster */
    {2, 952, 2, 2047, 2},  /* reaches into the next one, and something is there */
    {2, 952, 2, 2048, 1},  /* ... nothing is there */
    {2, 952, 2, UINT64_MAX, 1}, /* ... the file ends */
};

static void load_blank_table(struct bench *b, const struct blank_table *t)
{
    uint64_t at = round_up(b->len, CLUSTER), len = at + 3 * CLUSTER;
    if (t->mark == UINT64_MAX)
        len = at + 1016 + 40;
    uint8_t *image = mem_zalloc(len);
    memcpy(image, b->was, b->len);
    mem_free(b->was);
    b->was = image;
    b->len = len;
    put_be32(image + 4, t->version);
    put_be64(image + b->l2 + 8 * 4, 0); /* there are no zero clusters in version 2 */
    put_be32(image + 60, t->n);
    put_be64(image + 64, at);
    put_be32(image + at + 36, t->extra);
    if (t->mark && t->mark < UINT64_MAX)
        image[at + t->mark] = 1;
}

static void snapshots_of_nothing_stay_and_padding_is_none(void **state)
{
    for (unsigned i = 0; i < ARRAY_LEN(blank_tables); i++) {
        const struct blank_table *t = &blank_tables[i];
        struct bench b;
        uint8_t n[4];
        begin(&b, 16);
        load_blank_table(&b, t);
        for (unsigned turn = 0; turn < 2; turn++) {
            if (turn == 0)
                repair(&b);
            else
                run_sim(repair_body, &b);
            must(b.ok && b.r.left.corruptions == 0, "row %u: corruption is left", i);
            sim_disk_peek(b.d, 60, n, sizeof(n));
            must(get_be32(n) == t->left, "row %u: %u snapshots became %u", i, t->n, get_be32(n));
            must((get(&b, 64) == 0) == (t->left == 0), "row %u: the table is at 0x%llx", i,
                 (unsigned long long)get(&b, 64));
        }
        must(b.r.found.corruptions == 0, "row %u: the second check finds corruption", i);
        end(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_structures_lie_behind_everything_and_one_write_switches_to_them),
        cmocka_unit_test(reserved_bits_go_and_offsets_of_zeros),
        cmocka_unit_test(refcounts_stay_as_high_while_something_is_unknown),
        cmocka_unit_test(a_reference_far_outside_is_left_and_nothing_grows_to_it),
        cmocka_unit_test(a_lost_end_comes_back_as_zeros_and_is_occupied),
        cmocka_unit_test(more_references_than_fit_are_left_and_never_copied_in_place),
        cmocka_unit_test(leaks_alone_change_refcounts_alone),
        cmocka_unit_test(marks_go_last_and_unknown_autoclear_bits_first),
        cmocka_unit_test(snapshots_of_nothing_stay_and_padding_is_none),
        cmocka_unit_test(a_snapshot_whose_table_cannot_be_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
