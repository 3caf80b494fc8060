/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Snapshots that cannot be true: refused with the kind of error that fits, before anything is
 * written to the image; and any damage to their tables, which may be refused but neither crash nor
 * hang.
 */
#include <errno.h>

#include "base/log.h"
#include "qcow2/snapshot.h"
#include "tests/unit/qcow2/image.h"

#define CLUSTER 4096

enum { OPEN = 1, LOAD = 2, APPLY = 4, DELETE = 8 }; /* what is refused */

struct lie {
    const char *what;
    uint64_t at; /* byte of the snapshot's entry; of the header if HEADER is set */
    unsigned bytes;
    uint64_t value;
    unsigned refused;
    int code; /* 0: it depends on what lies behind the table */
    bool header;
};

static const struct lie lies[] = {
    {"more snapshots than allowed", 60, 4, 65537, OPEN, EFBIG, true},
    {"more snapshots than there are", 60, 4, 65536, OPEN, 0, true},
    {"table not aligned", 64, 8, 0x10200, OPEN, EINVAL, true},
    {"table at the header", 64, 8, 0, OPEN, EINVAL, true},
    {"table past the end", 64, 8, UINT64_C(1) << 40, OPEN, EINVAL, true},
    {"table past the last offset", 64, 8, UINT64_C(0x7ffffffffffff000), OPEN, EINVAL, true},
    {"L1 table not aligned", 0, 8, 0x10200, OPEN, EINVAL, false},
    {"L1 table larger than 32 MiB", 8, 4, 0x400001, OPEN, EFBIG, false},
    {"L1 table of 2^32 entries", 8, 4, UINT32_MAX, OPEN, EFBIG, false},
    {"extra data of 1025 bytes", 36, 4, 1025, OPEN, EFBIG, false},
    {"extra data of 4 GiB", 36, 4, UINT32_MAX, OPEN, EFBIG, false},
    {"L1 table past the end", 0, 8, UINT64_C(1) << 40, LOAD | APPLY | DELETE, EINVAL, false},
    {"L1 table past the last offset", 0, 8, UINT64_C(0xfffffffffffff000), LOAD | APPLY | DELETE,
     EINVAL, false},
    {"L1 table too short for the disk", 8, 4, 0, LOAD | APPLY, EINVAL, false},
    {"L1 table beyond the file", 8, 4, 0x400000, APPLY | DELETE, EINVAL, false},
    {"disk size not in sectors", 48, 8, 1000001, LOAD | APPLY, EINVAL, false},
    {"disk of 8 EiB", 48, 8, UINT64_C(0x7ffffffffffffe00), LOAD | APPLY, EINVAL, false},
    {"disk of 16 EiB", 48, 8, UINT64_C(0xfffffffffffffe00), LOAD | APPLY, EINVAL, false},
};

static struct sim_disk *make(void)
{
    struct err *e = NULL;
    uint8_t *data = mem_alloc(64 * KiB);
    struct sim_disk *d =
        image_new(&(struct qc_create_opts){.size = 4 * MiB, .cluster_size = CLUSTER});
    struct node *n = image_open(d, &(struct qc_open_opts){0});
    for (unsigned i = 0; i < 3; i++) {
        char name[2] = {(char)('a' + (int)i)};
        memset(data, (int)i + 1, 64 * KiB);
        must(node_write(n, i * 40 * KiB, data, 64 * KiB, 0) == 0, "write");
        must(qc_snapshot_create(n, &(struct qc_new_snapshot){.name = name}, NULL, &e), "%s",
             err_msg(e));
    }
    must(node_write(n, 3 * MiB, data, 64 * KiB, 0) == 0, "write");
    node_unref(n);
    mem_free(data);
    return d;
}

static struct node *try_open(struct sim_disk *d, const struct qc_open_opts *o, struct err **errp)
{
    struct node *file = sim_open(d, o->read_only, errp);
    struct node *n = qc_open(file, o, errp);
    if (!n)
        node_unref(file);
    return n;
}

static void check_code(const struct lie *l, const char *op, bool refused, struct err *e)
{
    must(refused == (e != NULL), "%s, %s: %s", l->what, op, e ? err_msg(e) : "not refused");
    must(!e || !l->code || err_code(e) == l->code, "%s, %s: error %d: %s", l->what, op, err_code(e),
         err_msg(e));
    err_free(e);
}

static void try_lie(const struct lie *l, const uint8_t *image, uint64_t len)
{
    const struct qc_snapshot_ref a = {.any = "a"};
    uint8_t *lying = mem_alloc(len), *after = mem_alloc(len);
    uint64_t entry = l->header ? 0 : get_be64(image + 64);
    memcpy(lying, image, len);
    for (unsigned i = 0; i < l->bytes; i++)
        lying[entry + l->at + i] = (uint8_t)(l->value >> (8 * (l->bytes - 1 - i)));
    for (unsigned op = OPEN; op <= DELETE; op *= 2) {
        struct err *e = NULL;
        struct sim_disk *d = sim_disk_new(0);
        must(sim_disk_load(d, lying, len), "memory");
        struct qc_open_opts o = {.read_only = op == LOAD, .snapshot = op == LOAD ? &a : NULL};
        struct node *n = try_open(d, &o, &e);
        if (op == OPEN || op == LOAD) {
            check_code(l, op == OPEN ? "open" : "load", l->refused & (op | OPEN), e);
        } else if (n) {
            (void)(op == APPLY ? qc_snapshot_apply(n, &a, true, &e)
                               : qc_snapshot_delete(n, &a, &e));
            if (l->refused & op)
                check_code(l, op == APPLY ? "apply" : "delete", true, e);
            else
                err_free(e);
        } else {
            err_free(e);
        }
        node_unref(n);
        if (l->refused & (op | OPEN)) {
            must(sim_disk_size(d) >= len, "%s: cut off", l->what);
            sim_disk_peek(d, 0, after, len);
            must(!memcmp(after, lying, 72), "%s: the header was changed", l->what);
            must((l->refused & OPEN) == 0 || !memcmp(after, lying, len), "%s: written to", l->what);
        }
        sim_disk_free(d);
    }
    mem_free(lying);
    mem_free(after);
}

static void lies_body(void *arg)
{
    struct sim_disk *d = make();
    uint64_t len = sim_disk_size(d);
    uint8_t *image = mem_alloc(len);
    sim_disk_peek(d, 0, image, len);
    for (size_t i = 0; i < ARRAY_LEN(lies); i++)
        try_lie(&lies[i], image, len);
    mem_free(image);
    sim_disk_free(d);
}

static void impossible_snapshots_are_refused_by_kind(void **state)
{
    run_sim(lies_body, NULL);
}

/* Where metadata of snapshots is: the table, their L1 tables, and what these point at. */
static uint64_t pick_place(struct rng *rng, const uint8_t *image, uint64_t len)
{
    uint64_t table = get_be64(image + 64), l1 = get_be64(image + table);
    uint64_t l2 = get_be64(image + l1) & UINT64_C(0x00fffffffffffe00);
    switch (rng_below(rng, 5)) {
    case 0:
        return table + rng_below(rng, 160);
    case 1:
        return l1 + rng_below(rng, 16);
    case 2:
        return l2 + rng_below(rng, 400);
    case 3:
        return 24 + rng_below(rng, 50);
    default:
        return rng_below(rng, len);
    }
}

static void damage_body(void *arg)
{
    struct rng rng;
    struct sim_disk *good = make();
    uint64_t len = sim_disk_size(good);
    uint8_t *image = mem_alloc(len), *bad = mem_alloc(len);
    unsigned refused = 0, done = 0;
    sim_disk_peek(good, 0, image, len);
    rng_seed(&rng, 4711);
    for (unsigned i = 0; i < 1500; i++) {
        struct err *e = NULL;
        const struct qc_snapshot_ref a = {.any = i % 2 ? "a" : "b"};
        struct sim_disk *d = sim_disk_new(0);
        memcpy(bad, image, len);
        for (unsigned k = 0; k <= i % 3; k++)
            bad[pick_place(&rng, image, len)] ^= (uint8_t)(1 << rng_below(&rng, 8));
        must(sim_disk_load(d, bad, len), "memory");
        struct node *n = try_open(
            d, &(struct qc_open_opts){.read_only = i % 5 == 4, .snapshot = i % 5 == 4 ? &a : NULL},
            &e);
        bool ok = n != NULL;
        if (n && i % 5 == 0)
            ok = qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "x"}, NULL, &e);
        else if (n && i % 5 == 1)
            ok = qc_snapshot_apply(n, &a, true, &e);
        else if (n && i % 5 == 2)
            ok = qc_snapshot_delete(n, &a, &e);
        else if (n && i % 5 == 3)
            ok = qc_truncate(n, MiB, &(struct qc_truncate_opts){.shrink = true}, &e);
        else if (n)
            ok = node_read(n, 0, bad, min_u64(len, n->size)) == 0;
        refused += !ok;
        done += ok;
        node_unref(n);
        err_free(e);
        sim_disk_free(d);
    }
    must(refused > 50 && done > 50, "%u refused, %u done", refused, done);
    mem_free(image);
    mem_free(bad);
    sim_disk_free(good);
}

static void damaged_snapshots_neither_crash_nor_hang(void **state)
{
    run_sim(damage_body, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(impossible_snapshots_are_refused_by_kind),
        cmocka_unit_test(damaged_snapshots_neither_crash_nor_hang),
    };
    log_set_level((enum log_level) - 1); /* what is found wrong would fill the screen */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
