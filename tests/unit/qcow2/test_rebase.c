/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Power cuts during rebase and commit: after each the chain reads what it read before.
 */
#include <errno.h>

#include "qcow2/inspect.h"
#include "qcow2/rebase.h"
#include "tests/unit/qcow2/image.h"

#define CLUSTER 1024
#define CLUSTERS 40
#define SIZE (CLUSTERS * CLUSTER)
#define NEW_SIZE (SIZE - 5 * CLUSTER - 512) /* the other backing file is shorter */

struct world {
    struct sim_disk *old, *other, *top;
    uint8_t want[SIZE];
    bool compressed;
    uint64_t n_old, n_new;
};

static struct sim_disk *make(uint64_t size, const char *backing)
{
    const struct qc_create_opts o = {.size = size,
                                     .cluster_size = CLUSTER,
                                     .backing_name = backing,
                                     .backing_format = backing ? "qcow2" : NULL};
    return image_new(&o);
}

/* Runs of data with a chance of per_ten; the bytes tell whose they are. */
static void fill(struct node *n, struct rng *rng, uint64_t size, unsigned per_ten)
{
    uint8_t buf[CLUSTER];
    for (uint64_t off = 0; off < size; off += CLUSTER) {
        uint64_t len = min_u64(CLUSTER, size - off), what = rng_below(rng, 10);
        if (what >= per_ten)
            continue;
        memset(buf, (int)(1 + rng_below(rng, 3)), sizeof(buf));
        buf[rng_below(rng, len)] = (uint8_t)rng_below(rng, 256);
        int r = what == 0                     ? node_zero(n, off, len, 0)
                : what == 1 && len == CLUSTER ? node_write(n, off, buf, len, REQ_COMPRESSED)
                                              : node_write(n, off, buf, len, 0);
        must(r == 0, "filling: %d", r);
    }
}

static struct node *open_top(struct sim_disk *top, struct node *backing, bool read_only)
{
    return image_open(top, &(struct qc_open_opts){.backing = backing, .read_only = read_only});
}

static void build(struct world *w, uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    w->old = make(SIZE, NULL);
    w->other = make(NEW_SIZE, NULL);
    w->top = make(SIZE, "old.qcow2");
    struct node *n = image_open(w->other, &(struct qc_open_opts){0});
    fill(n, &rng, NEW_SIZE, 6);
    node_unref(n);
    struct node *old = image_open(w->old, &(struct qc_open_opts){0});
    fill(old, &rng, SIZE, 6);
    n = open_top(w->top, old, false);
    fill(n, &rng, SIZE, 4);
    must(node_read(n, 0, w->want, SIZE) == 0, "read");
    node_unref(n);
    node_unref(old);
    must(sim_log_mark(w->old) && sim_log_mark(w->other) && sim_log_mark(w->top), "memory");
}

static void end(struct world *w)
{
    sim_disk_free(w->old);
    sim_disk_free(w->other);
    sim_disk_free(w->top);
}

/* top over base reads as it should. */
static void expect(struct world *w, struct sim_disk *top, struct sim_disk *base, const char *what)
{
    static uint8_t got[SIZE];
    struct node *b = image_open(base, &(struct qc_open_opts){.read_only = true});
    struct node *n = open_top(top, b, true);
    must(node_read(n, 0, got, SIZE) == 0, "%s: read", what);
    for (unsigned i = 0; i < SIZE; i++)
        must(got[i] == w->want[i], "%s: byte %u is %u, not %u", what, i, got[i], w->want[i]);
    node_unref(n);
    node_unref(b);
}

static bool names_other(struct sim_disk *top)
{
    struct qc_image_info info = {0};
    struct err *e = NULL;
    struct node *file = sim_open(top, true, &e);
    must(file && qc_inspect(file, &info, &e), "%s", err_msg(e));
    bool other = strcmp(info.backing_name, "other.qcow2") == 0;
    must(other || strcmp(info.backing_name, "old.qcow2") == 0, "'%s'", info.backing_name);
    qc_image_info_free(&info);
    node_unref(file);
    return other;
}

static bool visit_rebase(struct sim_disk *state, const struct sim_crash *how, void *arg)
{
    struct world *w = arg;
    image_judge(state, true, "rebase");
    bool other = names_other(state);
    ++*(other ? &w->n_new : &w->n_old);
    expect(w, state, other ? w->other : w->old, "rebase");
    return true;
}

static bool rebase(struct world *w, struct err **errp)
{
    struct node *old = image_open(w->old, &(struct qc_open_opts){.read_only = true});
    struct node *other = image_open(w->other, &(struct qc_open_opts){.read_only = true});
    struct node *n = open_top(w->top, old, false);
    const struct qc_rebase_opts o = {
        .backing = other, .name = "other.qcow2", .format = "qcow2", .compressed = w->compressed};
    bool ok = qc_rebase(n, &o, errp);
    node_unref(n);
    node_unref(old);
    node_unref(other);
    return ok;
}

static const struct sim_explore bounds = {
    .seed = 1, .max_full_bits = 6, .samples = 20, .max_states = 400, .unit = 512};

static void rebase_cuts(void *arg)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        static struct world w;
        w = (struct world){.compressed = seed % 2};
        struct err *e = NULL;
        build(&w, seed);
        must(rebase(&w, &e), "%s", err_msg(e));
        must(names_other(w.top), "the name did not change");
        sim_explore(w.top, &bounds, visit_rebase, &w);
        must(w.n_old > 0 && w.n_new > 0, "states: %lu, %lu", (unsigned long)w.n_old,
             (unsigned long)w.n_new);
        end(&w);
    }
}

static void a_power_cut_during_rebase_changes_nothing_that_is_read(void **state)
{
    run_sim(rebase_cuts, NULL);
}

static void rebase_failures(void *arg)
{
    for (uint64_t nth = 1, fired = 1; fired; nth += 1 + nth / 8) {
        static struct world w;
        w = (struct world){0};
        struct err *e = NULL;
        build(&w, 3);
        sim_fail_nth(w.top,
                     &(struct sim_fail){.nth = nth, .error = ENOSPC, .op_mask = 1u << REQ_WRITE});
        bool ok = rebase(&w, &e);
        fired = sim_fired(w.top);
        must(ok || fired, "%s", err_msg(e));
        err_free(e);
        sim_fail_nth(w.top, &(struct sim_fail){0});
        image_judge(w.top, true, "after a failure");
        expect(&w, w.top, names_other(w.top) ? w.other : w.old, "after a failure");
        end(&w);
    }
}

static void a_failed_rebase_changes_nothing_that_is_read(void **state)
{
    run_sim(rebase_failures, NULL);
}

/* --- commit --- */

static struct sim_disk *top_before;

static bool visit_base(struct sim_disk *state, const struct sim_crash *how, void *arg)
{
    image_judge(state, true, "commit, base");
    expect(arg, top_before, state, "commit, base");
    return true;
}

static struct sim_disk *durable_base;

static bool visit_top(struct sim_disk *state, const struct sim_crash *how, void *arg)
{
    struct world *w = arg;
    image_judge(state, true, "commit, top");
    expect(w, state, durable_base, "commit, top");
    w->n_new++;
    return true;
}

static struct sim_disk *copy_of(struct sim_disk *d)
{
    uint64_t len = sim_disk_size(d);
    uint8_t *data = mem_alloc(len);
    struct sim_disk *copy = sim_disk_new(0);
    sim_disk_peek(d, 0, data, len);
    must(sim_disk_load(copy, data, len), "memory");
    mem_free(data);
    return copy;
}

/* What a power cut leaves of the base that loses all it can lose. */
static struct sim_disk *worst_of(struct sim_disk *d)
{
    static const uint8_t lost[4096];
    struct sim_crash how = {.at = sim_seq(d), .keep = lost, .unit = 512};
    return sim_crash_disk(d, &how);
}

static void commit_cuts(void *arg)
{
    for (uint64_t seed = 11; seed <= 16; seed++) {
        static struct world w;
        w = (struct world){0};
        struct err *e = NULL;
        build(&w, seed);
        top_before = copy_of(w.top);
        struct node *base = image_open(w.old, &(struct qc_open_opts){0});
        struct node *n = open_top(w.top, base, false);
        const struct qc_commit_opts o = {.depth = 1, .empty = true};
        must(qc_commit(n, &o, &e), "%s", err_msg(e));
        /* Before the nodes are closed, which flushes once more. */
        durable_base = worst_of(w.old);
        node_unref(n);
        node_unref(base);
        static uint8_t got[SIZE];
        base = image_open(w.old, &(struct qc_open_opts){.read_only = true});
        must(node_read(base, 0, got, SIZE) == 0 && memcmp(got, w.want, SIZE) == 0, "the base");
        node_unref(base);
        must(sim_explore(w.old, &bounds, visit_base, &w) > 10, "too few states");
        sim_explore(w.top, &bounds, visit_top, &w);
        must(w.n_new > 1, "too few states");
        sim_disk_free(durable_base);
        sim_disk_free(top_before);
        end(&w);
    }
}

static void a_power_cut_during_commit_changes_nothing_that_is_read(void **state)
{
    run_sim(commit_cuts, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_power_cut_during_rebase_changes_nothing_that_is_read),
        cmocka_unit_test(a_failed_rebase_changes_nothing_that_is_read),
        cmocka_unit_test(a_power_cut_during_commit_changes_nothing_that_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
