/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Disturb repairs: an image is damaged as in mutate_repair, and while it is repaired
 *   - the power is cut at every moment (and, for one state in 20, again during the next repair);
 *   - its Nth I/O fails, for every N, in several ways, and then the power is cut, too;
 *   - its Nth allocation fails, for every N.
 * Whatever is left then says the same as before, entry by entry with the bytes behind it; and a
 * repair that is left in peace brings it to where it would have come without the disturbance.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "block/sim.h"
#include "io/reactor.h"
#include "qcow2/repair.h"
#include "tests/lib/damage.h"
#include "tests/lib/qcow2_view.h"
#include "tests/lib/sweep.h"

#define SECTOR 512
#define AGAIN_EVERY 20
#define AGAIN_STATES 30

#define WRITES (1u << REQ_WRITE | 1u << REQ_ZERO | 1u << REQ_TRUNCATE)

static const struct mode {
    const char *name;
    struct sim_fail fail;
} modes[] = {
    {"eio-once", {.error = EIO}},
    {"eio-always", {.error = EIO, .sticky = true}},
    {"enospc-always", {.error = ENOSPC, .op_mask = WRITES, .sticky = true}},
    {"partial-once", {.error = EIO, .op_mask = 1u << REQ_WRITE, .partial = true}},
    {"flush-once", {.error = EIO, .op_mask = 1u << REQ_FLUSH}},
    {"flush-always", {.error = EIO, .op_mask = 1u << REQ_FLUSH, .sticky = true}},
};

static char replay[512];
static uint64_t n_images, n_cuts, n_again, n_io, n_mem;

struct trial {
    const struct damage_image *im;
    uint64_t seed, per_run, stride;
    struct qcv before;
    uint64_t left; /* corruptions that an undisturbed repair leaves */
    uint64_t index;
    bool again;
};

struct attempt {
    struct sim_disk *d;
    uint64_t mem_nth;
    struct qc_repair_report r;
    struct err *e;
    bool ok, mem_fired;
};

static void attempt_co(void *arg)
{
    struct attempt *a = arg;
    const struct qc_repair_opts o = {.fix = QC_FIX_ALL};
    struct node *file = sim_open(a->d, false, NULL);
    mem_fail_nth(a->mem_nth, false);
    a->ok = file && qc_repair(file, &o, &a->r, &a->e);
    a->mem_fired = a->mem_nth && mem_count() >= a->mem_nth;
    mem_fail_nth(0, 0);
    node_unref(file);
}

static void repair(struct attempt *a)
{
    if (!reactor_run_co(reactor_current(), attempt_co, a))
        sweep_fail("no memory for a coroutine");
    if (!a->ok && (!a->e || !*err_msg(a->e)))
        sweep_fail("it failed without an error");
}

/* One attempt begins, and the watchdog's time with it. */
static struct sim_disk *fresh(const struct trial *t)
{
    sweep_step("%s", replay);
    struct sim_disk *d = sim_disk_new(0);
    if (!d || !sim_disk_load(d, t->im->data, t->im->len))
        sweep_fail("no memory");
    return d;
}

static void same_view(const struct trial *t, struct sim_disk *d, const char *when)
{
    struct qck_source src = qck_sim(d);
    struct qcv now;
    qcv_take(&src, &now);
    const char *difference = qcv_same(&t->before, &now);
    if (difference)
        sweep_fail("%s: %s", when, difference);
    qcv_free(&now);
}

/* Whatever the disturbance left: it says the same, and can be repaired as the image could. */
static void judge(const struct trial *t, struct sim_disk *d, const char *when)
{
    struct attempt a = {.d = d};
    same_view(t, d, when);
    repair(&a);
    if (!a.ok)
        sweep_fail("%s: the next repair fails: %s", when, err_msg(a.e));
    /* Fewer are possible: what the first repair placed behind the end has made the file longer, and
     * from there a reference past its end may be near enough to be believed. */
    if (a.r.left.corruptions > t->left)
        sweep_fail("%s: the next repair leaves %" PRIu64 " corruptions, not %" PRIu64, when,
                   a.r.left.corruptions, t->left);
    if (!t->left && a.r.left.leaks)
        sweep_fail("%s: the next repair leaves %" PRIu64 " leaks", when, a.r.left.leaks);
    same_view(t, d, "after the next repair");
}

static sim_state_fn judge_state;

static void cut_again(const struct trial *t, struct sim_disk *state)
{
    struct attempt a = {.d = state};
    struct trial next = *t;
    next.again = true;
    if (!sim_log_mark(state))
        sweep_fail("no memory");
    repair(&a);
    const struct sim_explore bounds = {.seed = t->seed + t->index,
                                       .max_full_bits = 6,
                                       .samples = 10,
                                       .max_states = AGAIN_STATES,
                                       .unit = SECTOR};
    sim_explore(state, &bounds, judge_state, &next);
}

static bool judge_state(struct sim_disk *state, const struct sim_crash *how, void *arg)
{
    struct trial *t = arg;
    char when[80];
    t->index++;
    snprintf(when, sizeof(when), "%spower cut at moment %" PRIu64, t->again ? "second " : "",
             how->at);
    n_cuts++;
    n_again += t->again;
    if (!t->again && n_cuts % AGAIN_EVERY == 0) {
        same_view(t, state, when);
        cut_again(t, state);
    } else {
        judge(t, state, when);
    }
    return true;
}

static void try_cuts(struct trial *t)
{
    struct attempt a = {.d = fresh(t)};
    const struct sim_explore bounds = {.seed = t->seed,
                                       .max_full_bits = 8,
                                       .samples = 40,
                                       .max_states = t->per_run,
                                       .unit = SECTOR};
    repair(&a);
    sim_explore(a.d, &bounds, judge_state, t);
    sim_disk_free(a.d);
}

/* False: the repair ended before the nth I/O. */
static bool try_io(struct trial *t, const struct mode *m, uint64_t n)
{
    struct attempt a = {.d = fresh(t)};
    struct sim_fail fail = m->fail;
    fail.nth = n;
    sim_fail_nth(a.d, &fail);
    repair(&a);
    bool fired = sim_fired(a.d);
    sim_fail_nth(a.d, &(struct sim_fail){0});
    if (!fired && !a.ok)
        sweep_fail("%s: it fails, which it should not: %s", m->name, err_msg(a.e));
    if (fired && a.ok && fail.sticky)
        sweep_fail("%s, %" PRIu64 ": it says that it succeeded", m->name, n);
    err_free(a.e);
    const struct sim_crash lost = {.at = sim_seq(a.d), .keep = NULL, .unit = SECTOR};
    unsigned volatile_n = sim_volatile(a.d, lost.at, NULL, 0);
    uint8_t *keep = calloc(volatile_n + 1, 1);
    struct sim_crash how = lost;
    how.keep = keep;
    struct sim_disk *state = keep ? sim_crash_disk(a.d, &how) : NULL;
    if (!state)
        sweep_fail("no memory");
    judge(t, state, "an I/O error, then a power cut");
    judge(t, a.d, "an I/O error");
    sim_disk_free(state);
    sim_disk_free(a.d);
    free(keep);
    n_io++;
    return fired;
}

static bool try_mem(struct trial *t, uint64_t n)
{
    struct attempt a = {.d = fresh(t), .mem_nth = n};
    repair(&a);
    if (!a.ok && err_code(a.e) != ENOMEM)
        sweep_fail("allocation %" PRIu64 " is refused: %s", n, err_msg(a.e));
    if (!a.ok && !a.mem_fired)
        sweep_fail("it fails, which it should not: %s", err_msg(a.e));
    err_free(a.e);
    judge(t, a.d, "a refused allocation");
    sim_disk_free(a.d);
    n_mem++;
    return a.mem_fired;
}

static void disturb(struct trial *t)
{
    try_cuts(t);
    for (unsigned m = 0; m < ARRAY_LEN(modes); m++) {
        uint64_t n = 1 + rng_hash(t->seed + m) % t->stride;
        while (try_io(t, &modes[m], n))
            n += t->stride;
    }
    uint64_t n = 1 + rng_hash(t->seed) % t->stride;
    while (try_mem(t, n))
        n += t->stride;
}

/* Images that are refused, or sound, have nothing to disturb. */
static void one_image(const struct damage_image *base, uint64_t seed, uint64_t per_run,
                      uint64_t stride)
{
    struct damage_image im;
    struct rng r;
    unsigned kinds;
    rng_seed(&r, rng_hash(seed));
    damage_draw(&r, base, -1, &im, &kinds);
    struct trial t = {.im = &im, .seed = seed, .per_run = per_run, .stride = stride};
    struct attempt a = {.d = fresh(&t)};
    struct qck_source src = qck_sim(a.d);
    qcv_take(&src, &t.before);
    repair(&a);
    t.left = a.r.left.corruptions;
    bool wrote = a.ok && sim_log_len(a.d) > 0;
    sim_disk_free(a.d);
    err_free(a.e);
    if (wrote) {
        disturb(&t);
        n_images++;
    }
    qcv_free(&t.before);
    damage_copy_free(&im);
}

int main(int argc, char **argv)
{
    const char *folders[3] = {NULL};
    uint64_t seed = 1, images = 100, one = 0, per_run = 300, stride = 1, cuts = 0;
    const struct sweep_option options[] = {
        {"images", &images, NULL, "so many damaged images (100)"},
        {"cuts", &cuts, NULL, "or more, until so many power cuts are judged"},
        {"seed", &seed, NULL, "of the first one (1)"},
        {"one", &one, NULL, "1: only the image of this seed, with log messages"},
        {"per-run", &per_run, NULL, "at most so many power cuts of one repair (300)"},
        {"stride", &stride, NULL, "fail every STRIDEth I/O and allocation (1)"},
        {"from", NULL, &folders[0], "a folder of images to damage, too"},
        {"from2", NULL, &folders[1], "another one"},
        {NULL, NULL, NULL, NULL},
    };
    sweep_options(argc, argv, "Disturb the repair of damaged images, and judge what is left.",
                  options);
    struct reactor *r;
    if (!stride || !reactor_new(REACTOR_SIM, &r, NULL))
        return 1;
    if (!one)
        sweep_quiet();
    unsigned n;
    struct damage_image *bases = damage_bases(folders, &n);
    for (uint64_t i = 0; i < (one ? 1 : images) || n_cuts < cuts; i++) {
        const struct damage_image *base = &bases[(seed + i) % n];
        snprintf(
            replay, sizeof(replay),
            "--one 1 --seed %" PRIu64 " --per-run %" PRIu64 " --stride %" PRIu64 "%s%s%s%s (%s)",
            seed + i, per_run, stride, folders[0] ? " --from " : "", folders[0] ? folders[0] : "",
            folders[1] ? " --from2 " : "", folders[1] ? folders[1] : "", base->name);
        one_image(base, seed + i, per_run, stride);
    }
    damage_bases_free(bases, n);
    reactor_free(r);
    return sweep_end("%" PRIu64 " repairs disturbed: %" PRIu64 " power cuts (%" PRIu64
                     " of them second ones), %" PRIu64 " failed I/Os, %" PRIu64
                     " refused allocations; 0 illegal",
                     n_images, n_cuts, n_again, n_io, n_mem);
}
