/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Cut the power at every moment of short workloads, and judge every state that the disk may be in
 * then: subsets of what was volatile, torn writes included.
 *
 * A state is judged as it lies there, before anything could repair it: no corruption (leaks are
 * legal), every sector with a legal value, the same content through our driver; one in eight is
 * written to afterwards and judged again. One in 61 is used further by the same workload, and the
 * power is cut a second time: what a first cut leaves behind must not do harm later. With --qemu,
 * one in 500 also goes to `qemu-img check`. The creation of an image is cut, too: what it leaves is
 * refused or is a valid image.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/rng.h"
#include "io/reactor.h"
#include "qcow2/qcow2.h"
#include "tests/lib/ask_qemu.h"
#include "tests/lib/judge.h"
#include "tests/lib/sweep.h"
#include "tests/lib/workload.h"

#define WRITE_AFTER_EVERY 8
#define QEMU_EVERY 500
#define AGAIN_EVERY 61
#define AGAIN_STATES 60
#define CREATE "create"

static uint64_t n_states, n_again, n_leaky, n_qemu, n_refused, n_good;
static bool qemu;

struct exploration {
    const struct workload *w;
    const struct oracle *oracle;
    uint64_t seed, per_run;
    uint64_t index;             /* of this state, from 1 */
    uint64_t only;              /* judge only this one; 0: all */
    const struct load_run *run; /* NULL: its bitmaps are not judged */
    bool creating;
    bool again; /* after a first power cut */
};

struct open_args {
    struct sim_disk *d;
    bool opened;
};

static void open_co(void *arg)
{
    struct open_args *a = arg;
    const struct qc_open_opts opts = {.no_backing = true, .read_only = true};
    struct node *guest = load_open(a->d, &opts, NULL);
    a->opened = guest != NULL;
    node_unref(guest);
}

/* A state of an image that was being made: refused is fine. */
static bool refused(struct sim_disk *d)
{
    struct open_args a = {.d = d};
    if (!reactor_run_co(reactor_current(), open_co, &a))
        sweep_fail("no memory for a coroutine");
    return !a.opened;
}

static sim_state_fn judge_state;

/* The power is back: go on with the image as it is, and cut it again. */
static void go_on(const struct exploration *x, struct sim_disk *state)
{
    struct qck_source src = qck_sim(state);
    struct qck_report r;
    qck_check(&src, &r);
    uint8_t *content = malloc(r.guest_size + 1);
    if (!content || !sim_log_mark(state) || !qck_read(&src, 0, content, r.guest_size, &r))
        sweep_fail("no memory or no content");
    struct oracle *o = oracle_new(r.guest_size, max_u64(r.guest_size, x->w->max_size));
    oracle_end(o, oracle_begin(o, ORACLE_WRITE, 0, r.guest_size, content, 0), true, true, 1);
    free(content);
    struct load_run run = {.w = x->w,
                           .seed = rng_hash(x->seed + x->index),
                           .short_run = true,
                           .disk = state,
                           .oracle = o};
    load_run(&run);
    if (run.problem[0])
        sweep_fail("after a power cut: %s", run.problem);
    struct exploration next = {
        .w = x->w, .oracle = o, .seed = run.seed, .per_run = AGAIN_STATES, .again = true};
    const struct sim_explore bounds = {.seed = run.seed,
                                       .max_full_bits = 10,
                                       .samples = 20,
                                       .max_states = AGAIN_STATES,
                                       .unit = SECTOR};
    sim_explore(state, &bounds, judge_state, &next);
    load_snaps_free(&run);
    oracle_free(o);
}

static bool judge_state(struct sim_disk *state, const struct sim_crash *how, void *arg)
{
    struct exploration *x = arg;
    x->index++;
    if (x->only && x->index != x->only)
        return x->index < x->only;
    if (!x->again)
        sweep_step("--workload %s --seed %" PRIu64 " --per-run %" PRIu64 " --index %" PRIu64,
                   x->creating ? CREATE : x->w->name, x->seed, x->per_run, x->index);
    struct judge j = {.oracle = x->oracle,
                      .view = {.at = how->at},
                      .seed = rng_hash(x->seed + x->index),
                      .open = true,
                      .write_after = x->index % WRITE_AFTER_EVERY == 0,
                      .run = x->run};
    if (qemu && !x->creating && !x->w->data_file && n_states % QEMU_EVERY == 0) {
        ask_qemu(state, 3); /* 3: leaks */
        n_qemu++;
    }
    n_states++;
    if (x->creating && refused(state)) {
        n_refused++;
        return true;
    }
    if (!judge_image(&j, state))
        sweep_fail("%spower cut at moment %" PRIu64 ": %s", x->again ? "second " : "", how->at,
                   j.text);
    n_leaky += j.leaks != 0;
    n_good += j.good_bitmaps;
    n_again += x->again;
    if (!x->again && !x->creating && x->index % AGAIN_EVERY == 0)
        go_on(x, state);
    return true;
}

static void explore(struct exploration *x, struct sim_disk *d)
{
    const struct sim_explore bounds = {.seed = x->seed,
                                       .max_full_bits = 10,
                                       .samples = 200,
                                       .max_states = x->per_run,
                                       .unit = SECTOR};
    sim_explore(d, &bounds, judge_state, x);
    if (x->only && x->index < x->only)
        sweep_fail("there are only %" PRIu64 " states", x->index);
}

static void explore_workload(struct exploration *x)
{
    sweep_step("--workload %s --seed %" PRIu64 " --per-run %" PRIu64, x->w->name, x->seed,
               x->per_run);
    struct load_run run = {.w = x->w,
                           .seed = x->seed,
                           .short_run = true,
                           .disk = load_create(x->w),
                           .oracle = load_oracle(x->w)};
    if (!run.disk)
        sweep_fail("the image cannot be created");
    load_run(&run);
    if (run.problem[0])
        sweep_fail("%s", run.problem);
    x->oracle = run.oracle;
    x->run = &run;
    explore(x, run.disk);
    load_snaps_free(&run);
    x->run = NULL;
    oracle_free(run.oracle);
    sim_disk_free(run.disk);
}

struct create_args {
    const struct workload *w;
    struct sim_disk *d;
    bool ok;
};

static void create_co(void *arg)
{
    struct create_args *a = arg;
    const struct qc_create_opts opts = load_create_opts(a->w);
    struct node *file = sim_open(a->d, false, NULL);
    a->ok = file && qc_create(file, &opts, NULL);
    node_unref(file);
}

/* Creation has its own log: nothing is durable when it begins. */
static void explore_creation(struct exploration *x)
{
    for (unsigned i = 0; i < n_workloads && !(x->only && x->index >= x->only); i++) {
        struct create_args a = {.w = &workloads[i], .d = sim_disk_new(0)};
        if (!a.d || !reactor_run_co(reactor_current(), create_co, &a) || !a.ok)
            sweep_fail("the image cannot be created");
        struct oracle *o = oracle_new(a.w->size, a.w->size);
        x->oracle = o;
        x->w = a.w;
        const struct sim_explore bounds = {.seed = x->seed,
                                           .max_full_bits = 10,
                                           .samples = 50,
                                           .max_states = x->per_run,
                                           .unit = SECTOR};
        sim_explore(a.d, &bounds, judge_state, x);
        oracle_free(o);
        sim_disk_free(a.d);
    }
}

static void explore_seed(const char *workload, uint64_t seed, uint64_t per_run, uint64_t only)
{
    struct exploration x = {.seed = seed, .per_run = per_run, .only = only};
    for (unsigned i = 0; i < n_workloads; i++) {
        x.w = &workloads[i];
        x.index = 0;
        if (!workload || !strcmp(workload, x.w->name))
            explore_workload(&x);
    }
    if (!workload || !strcmp(workload, CREATE)) {
        x.index = 0;
        x.creating = true;
        explore_creation(&x);
    }
}

int main(int argc, char **argv)
{
    const char *workload = NULL;
    uint64_t seed = 1, states = 0, per_run = 2000, only = 0, with_qemu = 0;
    const struct sweep_option options[] = {
        {"workload", NULL, &workload, "only this one, or " CREATE},
        {"seed", &seed, NULL, "of the operations, their order and the choice of states (1)"},
        {"states", &states, NULL, "go on with the next seeds until so many states are judged"},
        {"per-run", &per_run, NULL, "at most so many states of one workload and seed (2000)"},
        {"index", &only, NULL, "judge only the state of this number"},
        {"qemu", &with_qemu, NULL, "1: let qemu-img judge one in 500, too"},
        {NULL, NULL, NULL, NULL},
    };
    sweep_options(argc, argv, "Judge every state that a power cut may leave of short workloads.",
                  options);
    if (workload && !workload_find(workload) && strcmp(workload, CREATE) != 0) {
        fprintf(stderr, "%s: no workload %s\n", argv[0], workload);
        return 2;
    }
    qemu = with_qemu;
    struct reactor *r;
    if (!reactor_new(REACTOR_SIM, &r, NULL))
        return 1;
    sweep_quiet();
    do {
        explore_seed(workload, seed++, per_run, only);
    } while (n_states < states && !only);
    reactor_free(r);
    return sweep_end("%" PRIu64 " states, %" PRIu64 " of them after a second cut, %" PRIu64
                     " with leaks, %" PRIu64 " unfinished images refused, %" PRIu64
                     " judged by qemu-img, %" PRIu64 " good bitmaps, 0 illegal",
                     n_states, n_again, n_leaky, n_refused, n_qemu, n_good);
}
