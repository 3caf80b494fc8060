/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What happens in one step must not be seen half done: snapshots created, applied and deleted,
 * disks made smaller, images emptied. Each is done to a random image with two snapshots, and
 *   - the power is cut at every moment of it;
 *   - its Nth I/O fails, for every N, in several ways;
 *   - its Nth allocation fails, for every N.
 * What is left must be sound and hold exactly what it held before, or exactly what it holds after:
 * the disk, the list of snapshots and the content of each. If the operation said that it was done,
 * only the latter will do. One in eight is then written to and stripped of its snapshots, and must
 * still be sound. After one failure in two the image stays open, is written to, and the operation
 * is tried again: then the snapshots must still hold what they held.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/rng.h"
#include "block/node_bitmap.h"
#include "io/reactor.h"
#include "qcow2/qcow2.h"
#include "qcow2/snapshot.h"
#include "tests/lib/ask_qemu.h"
#include "tests/lib/image_state.h"
#include "tests/lib/sweep.h"
#include "tests/lib/workload.h"

#define USE_EVERY 8
#define QEMU_EVERY 500

enum op { CREATE, APPLY_A, APPLY_B, DELETE_A, DELETE_B, SHRINK, EMPTY, N_OPS };
static const char *const op_name[N_OPS] = {"create",   "apply-a", "apply-b", "delete-a",
                                           "delete-b", "shrink",  "empty"};

static uint64_t n_cuts, n_io, n_mem, n_used, n_leaky, n_qemu;
static uint64_t only;
static bool qemu;

/* An image, an operation on it, and what it holds before and after. */
struct trial {
    uint64_t seed;
    enum op op;
    uint64_t shrink_to;
    uint32_t version, cluster_size, refcount_bits;
    uint64_t size;
    uint8_t *base; /* the file before */
    uint64_t base_len;
    struct image_state before, after;
    uint64_t index;
    bool opened, ok; /* of the last attempt */
    bool go_on;      /* use the image after a failure */
    bool went_on;
    bool unknown; /* what failed is a flush, which stays so: nothing more can come into force */
    struct sim_disk *d;
};

static struct node *open_image(struct sim_disk *d)
{
    struct node *file = sim_open(d, false, NULL);
    struct node *n =
        file ? qc_open(file, &(struct qc_open_opts){.refcount_cache_bytes = 1}, NULL) : NULL;
    if (!n)
        node_unref(file);
    return n;
}

/* False if one failed. */
static bool some_writes(struct trial *t, struct node *n, struct rng *rng, unsigned ops)
{
    bool ok = true;
    for (unsigned i = 0; i < ops; i++) {
        uint64_t len = 1 + rng_below(rng, min_u64(4 * t->cluster_size, n->size / 2));
        uint64_t off = rng_below(rng, n->size - len), what = rng_below(rng, 8);
        bool whole = what <= 1;
        if (whole) {
            off = round_down(off, t->cluster_size);
            len = min_u64(t->cluster_size, n->size - off);
        }
        uint8_t *data = malloc(len);
        load_fill_soft(data, len, t->seed + rng_below(rng, 1 << 20), off);
        int r = what == 0   ? node_discard(n, off, len)
                : what == 2 ? node_zero(n, off, len, REQ_MAY_UNMAP)
                            : node_write(n, off, data, len, what == 1 ? REQ_COMPRESSED : 0);
        ok = ok && r == 0;
        free(data);
    }
    return ok;
}

static void prepare_co(void *arg)
{
    struct trial *t = arg;
    struct rng rng;
    rng_seed(&rng, rng_hash(t->seed));
    struct node *file = sim_open(t->d, false, NULL);
    const struct qc_create_opts o = {.size = t->size,
                                     .version = t->version,
                                     .cluster_size = t->cluster_size,
                                     .refcount_bits = t->refcount_bits};
    t->ok = file && qc_create(file, &o, NULL);
    node_unref(file);
    struct node *n = t->ok ? open_image(t->d) : NULL;
    t->ok = n != NULL;
    if (!n)
        return;
    t->ok = some_writes(t, n, &rng, 8) &&
            qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "a"}, NULL, NULL);
    t->ok = t->ok && some_writes(t, n, &rng, 6);
    if (t->version == 3 && rng_below(&rng, 2))
        t->ok = t->ok && node_truncate(n, t->size + 64 * KiB) == 0;
    t->ok = t->ok && qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "b"}, NULL, NULL);
    t->ok = t->ok && some_writes(t, n, &rng, (unsigned)rng_below(&rng, 6));
    t->shrink_to = round_down(rng_below(&rng, n->size), 512);
    if (t->version == 3 && rng_below(&rng, 2)) /* to be stored at every close */
        t->ok = t->ok && node_bitmap_add(n, "m", 512, true, NULL);
    node_unref(n);
}

static bool do_op(struct trial *t, struct node *n)
{
    const struct qc_truncate_opts yes = {.shrink = true};
    const struct qc_snapshot_ref a = {.any = "a"}, b = {.any = "b"};
    switch (t->op) {
    case CREATE:
        return qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "c"}, NULL, NULL);
    case APPLY_A:
    case APPLY_B:
        return qc_snapshot_apply(n, t->op == APPLY_A ? &a : &b, true, NULL);
    case DELETE_A:
    case DELETE_B:
        return qc_snapshot_delete(n, t->op == DELETE_A ? &a : &b, NULL);
    case SHRINK:
        return qc_truncate(n, t->shrink_to, &yes, NULL);
    default:
        return qc_make_empty(n, NULL);
    }
}

static void op_co(void *arg)
{
    struct trial *t = arg;
    struct node *n = open_image(t->d);
    t->opened = n != NULL;
    t->ok = n && do_op(t, n);
    t->went_on = t->go_on && n && !t->ok && n->size > 1024;
    if (t->went_on) {
        struct rng rng;
        rng_seed(&rng, t->seed + t->index);
        some_writes(t, n, &rng, 12);
        do_op(t, n);
    }
    node_unref(n);
}

static void run(struct trial *t, co_fn *fn)
{
    size_t alive = co_alive();
    if (!reactor_run_co(reactor_current(), fn, t))
        t->opened = t->ok = false; /* no memory for a coroutine: that is a failed attempt, too */
    reactor_run_until_idle(reactor_current());
    if (co_alive() != alive)
        sweep_fail("it hangs");
}

struct use_args {
    struct trial *t;
    struct sim_disk *d;
    const char *problem;
};

static void use_co(void *arg)
{
    struct use_args *u = arg;
    struct rng rng;
    rng_seed(&rng, u->t->seed + u->t->index);
    struct node *n = open_image(u->d);
    u->problem = n ? NULL : "our driver refuses it";
    if (!n)
        return;
    if (n->size > 1024)
        some_writes(u->t, n, &rng, 5);
    for (const char *name = "abc"; *name; name++) {
        char s[2] = {*name};
        qc_snapshot_delete(n, &(struct qc_snapshot_ref){.name = s}, NULL);
    }
    node_unref(n);
}

static const struct image_disk *find_disk(const struct image_state *s, const char *name)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (!strcmp(s->snap[i].name, name))
            return &s->snap[i];
    return NULL;
}

/* The image was used after the failure: what do its snapshots hold? A new one holds what the disk
 * held at some moment since. */
static void judge_snapshots(struct trial *t, struct sim_disk *d, const char *what, uint64_t at)
{
    struct image_state s;
    if (!image_state_take(&s, d))
        sweep_fail("%s %" PRIu64 ", then used: %s", what, at, s.text);
    for (uint32_t i = 0; i < s.n; i++) {
        const struct image_disk *k = &s.snap[i], *old = find_disk(&t->before, k->name);
        if (old && (old->size != k->size || memcmp(old->data, k->data, k->size)))
            sweep_fail("%s %" PRIu64 ": snapshot %s has changed", what, at, k->name);
    }
    if (t->op == CREATE && s.n == 3 && t->unknown &&
        memcmp(s.snap[2].data, t->before.now.data, s.snap[2].size))
        sweep_fail("%s %" PRIu64 ": the new snapshot has changed", what, at);
    image_state_free(&s);
    n_used++;
}

/* Is d as it was before, or as it is after? done: only the latter will do. */
static void judge(struct trial *t, struct sim_disk *d, bool done, const char *what, uint64_t at)
{
    struct image_state s;
    if (t->went_on) {
        judge_snapshots(t, d, what, at);
        return;
    }
    if (!image_state_take(&s, d))
        sweep_fail("%s %" PRIu64 ": %s", what, at, s.text);
    if (!image_state_equal(&s, &t->after) && (done || !image_state_equal(&s, &t->before)))
        sweep_fail("%s %" PRIu64 ": neither the state before nor the one after", what, at);
    n_leaky += s.leaks != 0;
    image_state_free(&s);
    if (qemu && (n_cuts + n_io + n_mem) % QEMU_EVERY == 0) {
        ask_qemu(d, 3); /* 3: leaks */
        n_qemu++;
    }
    if (t->index % USE_EVERY)
        return;
    struct use_args u = {.t = t, .d = d};
    sim_set_latency(d, 0, 0, 0);
    if (!reactor_run_co(reactor_current(), use_co, &u) || u.problem)
        sweep_fail("%s %" PRIu64 ": %s", what, at, u.problem ? u.problem : "no memory");
    if (!image_state_take(&s, d))
        sweep_fail("%s %" PRIu64 ": after it was used: %s", what, at, s.text);
    if (s.n)
        sweep_fail("%s %" PRIu64 ": its snapshots cannot be deleted", what, at);
    image_state_free(&s);
}

static bool judge_cut(struct sim_disk *state, const struct sim_crash *how, void *arg)
{
    struct trial *t = arg;
    t->index++;
    if (only && t->index != only)
        return t->index < only;
    sweep_step("--op %s --seed %" PRIu64 " --index %" PRIu64, op_name[t->op], t->seed, t->index);
    judge(t, state, false, "power cut at moment", how->at);
    n_cuts++;
    return true;
}

static void prepare(struct trial *t)
{
    static const uint32_t clusters[] = {512, 1024, 4096}, bits[] = {16, 8, 64, 4};
    t->cluster_size = clusters[rng_hash(t->seed) % ARRAY_LEN(clusters)];
    t->refcount_bits = bits[rng_hash(t->seed + 1) % ARRAY_LEN(bits)];
    t->version = t->refcount_bits == 16 && rng_hash(t->seed + 2) % 2 ? 2 : 3;
    t->size = round_down(t->cluster_size * 24 + rng_hash(t->seed + 3) % (96 * KiB), 512);
    t->d = sim_disk_new(0);
    run(t, prepare_co);
    if (!t->ok && t->refcount_bits == 4) { /* many compressed neighbours */
        t->refcount_bits = 16;
        sim_disk_free(t->d);
        t->d = sim_disk_new(0);
        run(t, prepare_co);
    }
    if (!t->ok)
        sweep_fail("the image cannot be prepared");
    t->base_len = sim_disk_size(t->d);
    t->base = malloc(t->base_len);
    sim_disk_peek(t->d, 0, t->base, t->base_len);
    if (!image_state_take(&t->before, t->d) || t->before.leaks)
        sweep_fail("prepared: %s", t->before.text);
}

static void cut_power(struct trial *t, uint64_t per_run)
{
    const struct sim_explore bounds = {
        .seed = t->seed, .max_full_bits = 8, .samples = 60, .max_states = per_run, .unit = SECTOR};
    if (!sim_log_mark(t->d))
        sweep_fail("no memory");
    sim_set_latency(t->d, 0, INT64_C(1000000), t->seed);
    run(t, op_co);
    if (t->version == 2 && t->op == SHRINK) { /* refused: with snapshots */
        if (t->ok)
            sweep_fail("shrunk an image of version 2 with snapshots");
        t->ok = true;
    }
    if (!t->ok || !image_state_take(&t->after, t->d) || t->after.leaks)
        sweep_fail("it fails, or leaks: %s", t->after.text);
    if (!only || only <= per_run)
        sim_explore(t->d, &bounds, judge_cut, t);
}

/* The image as it was, in a disk without a log. */
static void begin_again(struct trial *t)
{
    sim_disk_free(t->d);
    t->d = sim_disk_new(0);
    if (!t->d || !sim_disk_load(t->d, t->base, t->base_len))
        sweep_fail("no memory");
}

static void fail_io(struct trial *t, uint64_t stride)
{
    static const struct sim_fail modes[] = {
        {.error = EIO},
        {.error = EIO, .sticky = true},
        {.error = ENOSPC, .op_mask = 1u << REQ_WRITE | 1u << REQ_TRUNCATE},
        {.error = EIO, .op_mask = 1u << REQ_WRITE, .partial = true},
        {.error = EIO, .op_mask = 1u << REQ_FLUSH},
    };
    for (unsigned m = 0; m < ARRAY_LEN(modes); m++) {
        bool fired = true;
        for (uint64_t nth = 1 + rng_hash(t->seed + m) % stride; fired; nth += stride) {
            struct sim_fail f = modes[m];
            f.nth = nth;
            t->index++;
            sweep_step("--op %s --seed %" PRIu64 ", I/O %" PRIu64 " in mode %u", op_name[t->op],
                       t->seed, nth, m);
            begin_again(t);
            t->go_on = t->index % 2;
            t->unknown = f.op_mask == 1u << REQ_FLUSH; /* no flush succeeds, nor a second attempt */
            sim_fail_nth(t->d, &f);
            run(t, op_co);
            fired = sim_fired(t->d);
            sim_fail_nth(t->d, &(struct sim_fail){0});
            judge(t, t->d, t->ok, "failed I/O", nth);
            n_io++;
        }
    }
}

static void fail_memory(struct trial *t, uint64_t stride)
{
    bool fired = true;
    for (uint64_t nth = 1 + rng_hash(t->seed) % stride; fired; nth += stride) {
        t->index++;
        sweep_step("--op %s --seed %" PRIu64 ", allocation %" PRIu64, op_name[t->op], t->seed, nth);
        begin_again(t);
        t->go_on = t->index % 2;
        t->unknown = false;
        mem_fail_nth(nth, 0);
        run(t, op_co);
        fired = mem_count() >= nth;
        mem_fail_nth(0, 0);
        judge(t, t->d, t->ok, "failed allocation", nth);
        n_mem++;
    }
}

static void one_trial(enum op op, uint64_t seed, uint64_t per_run, uint64_t stride)
{
    struct trial t = {.op = op, .seed = seed};
    sweep_step("--op %s --seed %" PRIu64, op_name[op], seed);
    prepare(&t);
    cut_power(&t, per_run);
    if (!only) {
        fail_io(&t, stride);
        fail_memory(&t, stride);
    }
    image_state_free(&t.before);
    image_state_free(&t.after);
    free(t.base);
    sim_disk_free(t.d);
}

int main(int argc, char **argv)
{
    const char *op = NULL;
    uint64_t seed = 1, states = 0, per_run = 2000, stride = 1, with_qemu = 0;
    const struct sweep_option options[] = {
        {"op", NULL, &op, "create, apply-a, apply-b, delete-a, delete-b, shrink or empty"},
        {"seed", &seed, NULL, "of the image, the failures and the choice of states (1)"},
        {"states", &states, NULL, "go on with the next seeds until so many states are judged"},
        {"per-run", &per_run, NULL, "at most so many power cuts of one operation (2000)"},
        {"stride", &stride, NULL, "fail every STRIDEth I/O and allocation (1)"},
        {"index", &only, NULL, "judge only the power cut of this number"},
        {"qemu", &with_qemu, NULL, "1: let qemu-img judge one in 500, too"},
        {NULL, NULL, NULL, NULL},
    };
    sweep_options(argc, argv, "Cut the power and fail I/O during changes of all metadata.",
                  options);
    qemu = with_qemu;
    struct reactor *r;
    if (!stride || !reactor_new(REACTOR_SIM, &r, NULL))
        return 1;
    sweep_quiet();
    do {
        for (enum op i = 0; i < N_OPS; i++)
            if (!op || !strcmp(op, op_name[i]))
                one_trial(i, seed, per_run, stride);
        seed++;
    } while (n_cuts + n_io + n_mem < states && !only);
    reactor_free(r);
    return sweep_end("%" PRIu64 " power cuts, %" PRIu64 " failed I/Os, %" PRIu64
                     " failed allocations, %" PRIu64 " used afterwards, %" PRIu64
                     " left leaks, %" PRIu64 " judged by qemu-img, 0 illegal",
                     n_cuts, n_io, n_mem, n_used, n_leaky, n_qemu);
}
