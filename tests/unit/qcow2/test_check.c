/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The checker against the independent judge of the tests, and against failures.
 */
#include <errno.h>

#include "qcow2/check.h"
#include "qcow2/inspect.h"
#include "tests/unit/qcow2/image.h"

#define ROUNDS 1200
#define IMAGE_MAX (UINT64_C(1) << 20)

struct trial {
    struct sim_disk *d;
    struct qc_check_report r;
    struct err *e;
    bool ok;
    unsigned found;
};

static void count(void *arg, bool leak, const char *text)
{
    struct trial *t = arg;
    t->found++;
    must(*text, "an empty finding (leak %d)", leak);
}

static void check_body(void *arg)
{
    struct trial *t = arg;
    const struct qc_check_opts o = {.found = count, .arg = t};
    struct qc_image_info info;
    struct node *file = sim_open(t->d, true, NULL);
    if (!file) {
        t->ok = err_set(&t->e, ENOMEM, "no node");
        return;
    }
    t->ok = qc_check(file, &o, &t->r, &t->e);
    if (t->ok) {
        t->ok = qc_inspect(file, &info, &t->e);
        qc_image_info_free(&info);
    }
    node_unref(file);
}

static void write_some(void *arg)
{
    struct sim_disk *d = arg;
    struct qc_open_opts oo = {0};
    struct node *n = image_open(d, &oo);
    uint8_t buf[3000];
    for (unsigned i = 0; i < 40; i++) {
        memset(buf, (int)i + 1, sizeof(buf));
        must(node_write(n, (i * 37 % 100) * 1024, buf, sizeof(buf), 0) == 0, "write %u", i);
    }
    must(node_zero(n, 10 * 1024, 5 * 1024, 0) == 0, "zero");
    must(node_discard(n, 20 * 1024, 5 * 1024) == 0, "discard");
    must(node_flush(n) == 0, "flush");
    node_unref(n);
}

struct make {
    const struct qc_create_opts *o;
    struct sim_disk *d;
};

static void make_body(void *arg)
{
    struct make *m = arg;
    m->d = image_new(m->o);
}

static struct sim_disk *used_image(uint32_t cluster_size, uint32_t refcount_bits)
{
    const struct qc_create_opts o = {
        .size = 256 << 10, .cluster_size = cluster_size, .refcount_bits = refcount_bits};
    struct make m = {.o = &o};
    run_sim(make_body, &m);
    run_sim(write_some, m.d);
    return m.d;
}

static void images_of_our_driver_are_clean(void **state)
{
    for (uint32_t bits = 1; bits <= 64; bits *= 2) {
        struct trial t = {.d = used_image(512 << (bits % 3), bits)};
        run_sim(check_body, &t);
        must(t.ok, "%s", err_msg(t.e));
        must(t.r.corruptions == 0 && t.r.leaks == 0 && t.found == 0, "%u findings", t.found);
        must(t.r.allocated_clusters > 0, "nothing was counted");
        must(t.r.image_end_offset <= round_up(sim_disk_size(t.d), 512 << (bits % 3)),
             "the end is past the end");
        sim_disk_free(t.d);
    }
}

/* One 64-bit word of the metadata becomes something else. */
static void damage(struct rng *r, uint8_t *image, uint64_t len)
{
    uint64_t l1 = get_be64(image + 40), reftable = get_be64(image + 48);
    uint64_t l2 = get_be64(image + l1) & UINT64_C(0x00fffffffffffe00);
    uint64_t tables[] = {l1, reftable, l2, l2, get_be64(image + reftable)};
    uint64_t at = tables[rng_below(r, 5)] + 8 * rng_below(r, 64);
    uint64_t old, v = rng_below(r, len / 512 + 2) * 512;
    if (at + 8 > len)
        return;
    old = get_be64(image + at);
    switch (rng_below(r, 6)) {
    case 0:
        v = old ^ (UINT64_C(1) << rng_below(r, 64));
        break;
    case 1:
        v = 0;
        break;
    case 2:
        v |= UINT64_C(1) << 63;
        break;
    case 3:
        v = rng_u64(r);
        break;
    case 4:
        v = old + 512;
        break;
    }
    put_be64(image + at, v);
}

/* The judge also dislikes refcounts of clusters that are not there (leaks), and counts otherwise.
 */
static void what_the_judge_calls_corrupt_is_never_called_clean(void **state)
{
    static uint8_t image[IMAGE_MAX], copy[IMAGE_MAX];
    struct sim_disk *good = used_image(512, 16);
    uint64_t len = sim_disk_size(good);
    unsigned corrupt = 0, clean = 0, leaks = 0;
    must(len <= IMAGE_MAX, "%llu bytes", (unsigned long long)len);
    sim_disk_peek(good, 0, image, len);
    sim_disk_free(good);
    for (uint64_t seed = 0; seed < ROUNDS; seed++) {
        struct rng r;
        struct trial t = {.d = sim_disk_new(0)};
        struct qck_report judge;
        rng_seed(&r, seed);
        memcpy(copy, image, len);
        damage(&r, copy, len);
        must(sim_disk_load(t.d, copy, len), "memory");
        struct qck_source src = qck_sim(t.d);
        qck_check(&src, &judge);
        run_sim(check_body, &t);
        must(t.ok, "seed %llu: %s", (unsigned long long)seed, err_msg(t.e));
        must((t.r.corruptions > 0) == (judge.corruptions > 0), "seed %llu: %llu corruptions, %s",
             (unsigned long long)seed, (unsigned long long)t.r.corruptions, judge.text);
        must(judge.leaks > 0 || judge.corruptions > 0 || t.r.leaks == 0,
             "seed %llu: leaks that the judge does not see", (unsigned long long)seed);
        must((t.found > 0) == (t.r.corruptions + t.r.leaks > 0), "findings do not match counts");
        corrupt += t.r.corruptions > 0;
        leaks += t.r.corruptions == 0 && t.r.leaks > 0;
        clean += t.r.corruptions + t.r.leaks == 0;
        sim_disk_free(t.d);
    }
    must(corrupt > ROUNDS / 4 && clean > 20 && leaks > 20, "%u corrupt, %u leaks, %u clean",
         corrupt, leaks, clean);
}

static void a_failed_read_is_never_a_clean_image(void **state)
{
    struct sim_disk *d = used_image(512, 16);
    unsigned failed = 0;
    for (uint64_t nth = 1;; nth++) {
        struct trial t = {.d = d};
        struct sim_fail f = {.nth = nth, .error = EIO, .op_mask = 1u << REQ_READ};
        sim_fail_nth(d, &f);
        run_sim(check_body, &t);
        bool fired = sim_fired(d);
        must(t.ok == !fired, "read %llu failed: %s", (unsigned long long)nth, err_msg(t.e));
        must(t.ok || err_code(t.e) == EIO, "error %d", err_code(t.e));
        err_free(t.e);
        if (!fired)
            break;
        failed++;
    }
    must(failed > 10, "only %u reads", failed);
    sim_disk_free(d);
}

static void a_failed_allocation_is_out_of_memory(void **state)
{
    struct sim_disk *d = used_image(512, 16);
    struct reactor *r;
    unsigned failed = 0;
    assert_true(reactor_new(REACTOR_SIM, &r, NULL));
    for (uint64_t nth = 1;; nth++) {
        struct trial t = {.d = d};
        mem_fail_nth(nth, 0);
        bool ran = reactor_run_co(r, check_body, &t);
        bool fired = mem_count() >= nth;
        mem_fail_nth(0, 0);
        must(fired || (ran && t.ok), "%s", err_msg(t.e));
        must(!ran || t.ok || err_code(t.e) == ENOMEM, "allocation %llu: %s",
             (unsigned long long)nth, err_msg(t.e));
        failed += ran && !t.ok;
        err_free(t.e);
        if (!fired)
            break;
    }
    must(failed > 10, "only %u allocations", failed);
    reactor_free(r);
    sim_disk_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_of_our_driver_are_clean),
        cmocka_unit_test(what_the_judge_calls_corrupt_is_never_called_clean),
        cmocka_unit_test(a_failed_read_is_never_a_clean_image),
        cmocka_unit_test(a_failed_allocation_is_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
