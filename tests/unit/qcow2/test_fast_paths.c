/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What must stay cheap: a lookup in cached tables allocates no memory and waits for nobody, and
 * many allocations in a row cost few writes of metadata.
 */
#include "block/mem_disk.h"
#include "qcow2/qcow2_priv.h"
#include "tests/unit/qcow2/image.h"

enum { CLUSTER = 64 * KiB, CLUSTERS = 512 };

struct shape {
    bool extended, wide; /* wide: refcounts of 64 bits */
};

static const struct shape shapes[] = {{false, false}, {true, false}, {false, true}};

static struct qc_create_opts options(const struct shape *s)
{
    return (struct qc_create_opts){.size = CLUSTERS * CLUSTER,
                                   .cluster_size = CLUSTER,
                                   .extended_l2 = s->extended,
                                   .refcount_bits = s->wide ? 64 : 16};
}

/* Reads and writes of what has its place, in cached tables, while everything that could be locked
 * is: by somebody who waits for the disk. */
static void cached_body(void *arg)
{
    const struct qc_create_opts o = options(arg);
    struct err *e = NULL;
    struct node *file = mem_open(0, &e);
    must(file, "%s", err_msg(e));
    file->growable = true;
    must(qc_create(file, &o, &e), "%s", err_msg(e));
    struct node *n = qc_open(file, &(struct qc_open_opts){0}, &e);
    must(n, "%s", err_msg(e));
    struct qc *q = n->state;
    uint8_t *buf = mem_zalloc(CLUSTER);
    for (uint64_t off = 0; off < o.size; off += CLUSTER)
        must(node_write(n, off, buf, CLUSTER, 0) == 0, "write");
    must(node_flush(n) == 0, "flush");

    struct rng rng;
    rng_seed(&rng, 1);
    co_lock(&q->lock);
    co_lock(&q->sync_lock);
    co_lock(&q->resize_lock);
    q->l2_frozen = true;
    mem_fail_nth(0, 0);
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t off = rng_below(&rng, o.size / 4096) * 4096;
        must(node_read(n, off, buf, 4096) == 0, "read");
        must(mem_count() == 0, "read %u allocates", i);
        must(node_write(n, off, buf, 4096, 0) == 0, "write");
        must(mem_count() == 0, "overwrite %u allocates", i);
    }
    q->l2_frozen = false;
    co_unlock(&q->resize_lock);
    co_unlock(&q->sync_lock);
    co_unlock(&q->lock);
    mem_free(buf);
    node_unref(n);
}

static void cached_lookups_allocate_nothing_and_take_no_lock(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        run_sim(cached_body, (void *)&shapes[i]);
}

struct tally {
    uint64_t data, metadata, flushes;
};

static struct tally count_log(const struct sim_disk *d)
{
    struct tally t = {0};
    for (uint64_t i = 0; i < sim_log_len(d); i++) {
        const struct sim_entry *w = sim_log_at(d, i);
        t.flushes += w->op == REQ_FLUSH;
        t.data += w->op == REQ_WRITE && w->kind == KIND_DATA;
        t.metadata += w->op == REQ_WRITE && w->kind != KIND_DATA;
    }
    return t;
}

struct writer {
    struct node *n;
    uint64_t from, end, len;
    struct co_group *group;
};

static void write_main(void *arg)
{
    const struct writer *w = arg;
    uint8_t *buf = mem_zalloc(w->len);
    for (uint64_t off = w->from; off < w->end; off += w->len)
        must(node_write(w->n, off, buf, w->len, 0) == 0, "write");
    mem_free(buf);
    co_group_done(w->group);
}

/* All of the disk, by as many writers, in pieces of len bytes. */
static struct tally fill(const struct shape *s, unsigned writers, uint64_t len)
{
    const struct qc_create_opts o = options(s);
    struct sim_disk *d = image_new(&o);
    struct node *n = image_open(d, &(struct qc_open_opts){0});
    struct co_group group = {0};
    struct writer w[4];
    sim_set_latency(d, 1000, 100 * 1000, 1);
    must(sim_log_mark(d), "memory");
    for (unsigned i = 0; i < writers; i++) {
        w[i] = (struct writer){n, o.size / writers * i, o.size / writers * (i + 1), len, &group};
        co_group_add(&group);
        must(co_start(write_main, &w[i]), "memory");
    }
    co_group_wait(&group);
    must(node_flush(n) == 0, "flush");
    struct tally t = count_log(d);
    node_unref(n);
    image_judge(d, false, "filled");
    sim_disk_free(d);
    return t;
}

/* Each of 512 clusters of 64 KiB is one write of data. Beside them: the L1 entry; a slice of the L2
 * table and one of the refcount block, each when the table is made and at the flush. */
static void batch_body(void *arg)
{
    const struct shape *s = arg;
    for (unsigned writers = 1; writers <= 4; writers *= 4) {
        struct tally t = fill(s, writers, CLUSTER);
        must(t.data == CLUSTERS, "%llu writes of data", (unsigned long long)t.data);
        must(t.metadata <= 5, "%llu writes of metadata for %d clusters",
             (unsigned long long)t.metadata, CLUSTERS);
        must(t.flushes <= 3, "%llu flushes", (unsigned long long)t.flushes);
    }
    /* A longer write is one, whatever it allocates. */
    struct tally t = fill(s, 1, 16 * CLUSTER);
    must(t.data == CLUSTERS / 16, "%llu writes of data", (unsigned long long)t.data);
    must(t.metadata <= 5, "%llu writes of metadata", (unsigned long long)t.metadata);
}

static void many_allocations_cost_few_writes_of_metadata(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        run_sim(batch_body, (void *)&shapes[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cached_lookups_allocate_nothing_and_take_no_lock),
        cmocka_unit_test(many_allocations_cost_few_writes_of_metadata),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
