/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Growing a disk in use with preallocation: whoever writes to the new space as soon as it is there
 * keeps what he wrote; after an error or a power cut there is the old size or the new one, all
 * zeros.
 */
#include <errno.h>

#include "base/log.h"
#include "tests/unit/qcow2/image.h"

enum { CLUSTER = 16 * KiB, OLD = 5 * CLUSTER + 1024, NEW = 3 * MiB + 512 };

struct shape {
    enum qc_preallocation mode;
    bool extended, data_file, raw, backing;
    bool stale; /* the data file is longer than the disk */
    uint64_t seed;
};

static const struct shape shapes[] = {
    {QC_PREALLOC_METADATA, .seed = 1},
    {QC_PREALLOC_FALLOC, .seed = 2},
    {QC_PREALLOC_FULL, .seed = 3},
    {QC_PREALLOC_METADATA, .backing = true, .seed = 4},
    {QC_PREALLOC_FULL, .extended = true, .backing = true, .seed = 5},
    {QC_PREALLOC_FALLOC, .data_file = true, .seed = 6},
    {QC_PREALLOC_FULL, .data_file = true, .seed = 7},
    {QC_PREALLOC_FULL, .data_file = true, .raw = true, .seed = 8},
    {QC_PREALLOC_METADATA, .data_file = true, .raw = true, .seed = 9},
    {QC_PREALLOC_OFF, .data_file = true, .raw = true, .stale = true, .seed = 10},
};

struct bench {
    const struct shape *s;
    struct sim_disk *d, *below;
    struct node *n, *base;
    uint8_t *shadow;
    bool grown, ok;
    struct err *e;
    struct co_group group;
};

static void bench_open(struct bench *b, struct sim_disk *d)
{
    struct err *e = NULL;
    struct node *file = sim_open(d, false, NULL);
    struct node *data = b->s->data_file ? sim_open_second(d, false, NULL) : NULL;
    b->n = qc_open(file, &(struct qc_open_opts){.data_file = data, .backing = b->base}, &e);
    must(b->n, "%s", err_msg(e));
    node_unref(data);
}

static void bench_new(struct bench *b, const struct shape *s)
{
    struct qc_create_opts o = {.size = OLD,
                               .cluster_size = CLUSTER,
                               .extended_l2 = s->extended,
                               .data_file = s->data_file ? "second" : NULL,
                               .data_file_raw = s->raw,
                               .backing_name = s->backing ? "below" : NULL,
                               .backing_format = s->backing ? "raw" : NULL};
    *b = (struct bench){.s = s, .shadow = mem_zalloc(NEW)};
    b->d = image_new(&o);
    if (s->data_file) {
        struct node *data = sim_open_second(b->d, false, NULL);
        must(qc_create_data(data, &o, NULL), "create");
        for (unsigned i = 0; s->stale && i < 30; i++)
            must(node_write(data, OLD + i * 1000, "left over", 10, 0) == 0, "write");
        node_unref(data);
    }
    if (s->backing) { /* longer than the disk: what is beyond must not come to light */
        b->below = sim_disk_new(20 * CLUSTER);
        uint8_t *x = mem_alloc(20 * CLUSTER);
        memset(x, 0xbb, 20 * CLUSTER);
        must(sim_disk_load(b->below, x, 20 * CLUSTER), "memory");
        memcpy(b->shadow, x, OLD);
        mem_free(x);
        b->base = sim_open(b->below, true, NULL);
    }
    bench_open(b, b->d);
    memset(b->shadow + CLUSTER, 0x11, 3000);
    must(node_write(b->n, CLUSTER, b->shadow + CLUSTER, 3000, 0) == 0, "write");
    must(node_flush(b->n) == 0, "flush");
}

static void bench_free(struct bench *b)
{
    node_unref(b->n);
    node_unref(b->base);
    image_judge(b->d, false, "grown");
    sim_disk_free(b->d);
    sim_disk_free(b->below);
    mem_free(b->shadow);
    err_free(b->e);
}

static void expect(struct bench *b, uint64_t size, const char *when)
{
    uint8_t *buf = mem_alloc(size);
    must(b->n->size == size, "shape %u, %s: size %llu", (unsigned)b->s->seed, when,
         (unsigned long long)b->n->size);
    must(node_read(b->n, 0, buf, size) == 0, "read");
    for (uint64_t i = 0; i < size; i++)
        must(buf[i] == b->shadow[i], "shape %u, %s: byte 0x%llx is %02x", (unsigned)b->s->seed,
             when, (unsigned long long)i, buf[i]);
    mem_free(buf);
}

/* What the guest's disk and its data file have clusters for, beyond the old end. */
static uint64_t allocated(struct bench *b)
{
    struct extents x;
    uint64_t off = 6 * CLUSTER, sum = 0;
    extents_init(&x, 100);
    while (off < b->n->size) {
        must(node_status(b->n, off, b->n->size - off, &x) == 0, "status");
        for (size_t i = 0; i < x.n; i++)
            sum += x.v[i].flags & EXTENT_HOLE ? 0 : x.v[i].len;
        off += x.total;
    }
    extents_free(&x);
    return sum;
}

static void grow(struct bench *b)
{
    const struct qc_truncate_opts o = {.preallocation = b->s->mode};
    b->ok = qc_truncate(b->n, NEW, &o, &b->e);
}

static void grow_main(void *arg)
{
    struct bench *b = arg;
    grow(b);
    b->grown = true;
    co_group_done(&b->group);
}

/* Writes to all of the disk that is there, and so to new space in the very moment. */
static void write_main(void *arg)
{
    struct bench *b = arg;
    struct rng rng;
    rng_seed(&rng, b->s->seed);
    for (unsigned after = 0; after<60; after += b->n->size> OLD) {
        uint64_t size = b->n->size, low = size > OLD ? OLD - 2000 : 0;
        uint64_t len = 1 + rng_below(&rng, 9000), off = low + rng_below(&rng, size - low - len);
        memset(b->shadow + off, 1 + (int)rng_below(&rng, 255), len);
        must(node_write(b->n, off, b->shadow + off, len, 0) == 0, "write");
    }
    co_group_done(&b->group);
}

static void in_use_body(void *arg)
{
    struct bench b;
    bench_new(&b, arg);
    sim_set_latency(b.d, 1000, 100 * 1000, b.s->seed);
    co_group_add(&b.group);
    co_group_add(&b.group);
    must(co_start(grow_main, &b) && co_start(write_main, &b), "memory");
    co_group_wait(&b.group);
    must(b.ok, "%s", err_msg(b.e));
    expect(&b, NEW, "while open");
    if (!b.s->raw) /* of a raw data file the holes are reported */
        must(allocated(&b) == NEW - 6 * CLUSTER, "shape %u: %llu bytes are allocated",
             (unsigned)b.s->seed, (unsigned long long)allocated(&b));
    must(!b.s->data_file || sim_second_size(b.d) == NEW, "data file of %llu bytes",
         (unsigned long long)sim_second_size(b.d));
    node_unref(b.n);
    bench_open(&b, b.d);
    expect(&b, NEW, "opened again");
    bench_free(&b);
}

static void a_write_to_new_space_is_never_overwritten(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        run_sim(in_use_body, (void *)&shapes[i]);
}

/* The nth write or zeroing of the growth fails: the disk is as large as it was, and what was set
 * aside is given back; unless it was the header: then the image changes no more. */
static bool failing(const struct shape *s, uint64_t nth)
{
    struct bench b;
    bench_new(&b, s);
    must(node_write(b.n, 0, b.shadow, OLD, 0) == 0 && node_flush(b.n) == 0, "write");
    const struct sim_fail fail = {
        .nth = nth, .error = ENOSPC, .op_mask = 1u << REQ_WRITE | 1u << REQ_ZERO};
    sim_fail_nth(b.d, &fail);
    grow(&b);
    bool fired = sim_fired(b.d);
    sim_fail_nth(b.d, &(struct sim_fail){0});
    must(b.ok != fired || err_code(b.e) == ENOSPC, "write %u", (unsigned)nth);
    if (!b.ok) {
        expect(&b, OLD, "refused");
        must(sim_second_size(b.d) <= NEW, "data file of %llu bytes",
             (unsigned long long)sim_second_size(b.d));
        bool stuck = node_flush(b.n) < 0;
        node_unref(b.n);
        image_judge(b.d, true, "refused");
        bench_open(&b, b.d);
        must(b.n->size == OLD || b.n->size == NEW, "size");
        must(node_truncate(b.n, NEW) == 0, "grow");
        if (!stuck && !s->raw)
            must(allocated(&b) == 0, "shape %u, write %u: %llu bytes are left allocated",
                 (unsigned)s->seed, (unsigned)nth, (unsigned long long)allocated(&b));
    }
    expect(&b, NEW, "at last");
    node_unref(b.n);
    image_judge(b.d, true, "failed");
    bench_open(&b, b.d);
    expect(&b, NEW, "opened again");
    node_unref(b.n);
    node_unref(b.base);
    sim_disk_free(b.d);
    sim_disk_free(b.below);
    mem_free(b.shadow);
    err_free(b.e);
    return fired;
}

static void fails_body(void *arg)
{
    for (uint64_t nth = 1; failing(arg, nth); nth++)
        must(nth < 200, "no end");
}

static void a_growth_that_fails_keeps_nothing(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        run_sim(fails_body, (void *)&shapes[i]);
}

static bool judge_state(struct sim_disk *state, const struct sim_crash *how, void *arg)
{
    struct bench *b = arg, x = *b;
    image_judge(state, true, "power cut");
    bench_open(&x, state);
    must(x.n->size == OLD || x.n->size == NEW, "size %llu", (unsigned long long)x.n->size);
    expect(&x, x.n->size, "power cut");
    if (x.n->size == OLD) { /* what is left of the first one is not in the way */
        must(node_truncate(x.n, NEW) == 0, "grow");
        expect(&x, NEW, "grown after a power cut");
    }
    node_unref(x.n);
    image_judge(state, true, "used after a power cut");
    return true;
}

/* How many bytes of the log are written, or set aside, as data. */
static uint64_t logged(const struct bench *b, enum req_op op)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < sim_log_len(b->d); i++) {
        const struct sim_entry *e = sim_log_at(b->d, i);
        sum += e->op == op && e->kind == KIND_DATA ? e->len : 0;
    }
    return sum;
}

static void cut_body(void *arg)
{
    struct bench b;
    bench_new(&b, arg);
    must(sim_log_mark(b.d), "memory");
    grow(&b);
    must(b.ok, "%s", err_msg(b.e));
    must((logged(&b, REQ_WRITE) >= NEW - OLD) == (b.s->mode == QC_PREALLOC_FULL),
         "shape %u: %llu bytes are written", (unsigned)b.s->seed,
         (unsigned long long)logged(&b, REQ_WRITE));
    must(b.s->mode != QC_PREALLOC_FALLOC || logged(&b, REQ_ZERO) >= NEW - 6 * CLUSTER,
         "%llu bytes are set aside", (unsigned long long)logged(&b, REQ_ZERO));
    const struct sim_explore x = {
        .seed = b.s->seed, .max_full_bits = 4, .samples = 3, .max_states = 30, .unit = 512};
    must(sim_explore(b.d, &x, judge_state, &b) > 3, "too few states");
    bench_free(&b);
}

static void after_a_power_cut_there_is_the_old_size_or_the_new_one(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        run_sim(cut_body, (void *)&shapes[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_to_new_space_is_never_overwritten),
        cmocka_unit_test(a_growth_that_fails_keeps_nothing),
        cmocka_unit_test(after_a_power_cut_there_is_the_old_size_or_the_new_one),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
