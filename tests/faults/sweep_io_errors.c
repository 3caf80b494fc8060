/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fail the Nth I/O of every workload, for N = 1, 2, 3... until the workload ends before it.
 *
 * After each run: nothing waits for ever; the image has no corruption (leaks are legal); every
 * sector is legal by the oracle, read independently and by our driver; the image can be written to
 * and is still sound; a flush that failed stays failed. The same is then asked of the image after a
 * power cut at the end of the run, with all that was volatile lost and with a part of it lost:
 * there, everything that was flushed with success must be.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/rng.h"
#include "io/reactor.h"
#include "tests/lib/judge.h"
#include "tests/lib/sweep.h"
#include "tests/lib/workload.h"

#define WRITES (1u << REQ_WRITE | 1u << REQ_ZERO | 1u << REQ_TRUNCATE)

static const struct mode {
    const char *name;
    struct sim_fail fail; /* nth is filled in */
} modes[] = {
    {"eio-once", {.error = EIO}},
    {"eio-always", {.error = EIO, .sticky = true}},
    {"enospc-once", {.error = ENOSPC, .op_mask = WRITES}},
    {"enospc-always", {.error = ENOSPC, .op_mask = WRITES, .sticky = true}},
    {"partial-once", {.error = EIO, .op_mask = 1u << REQ_WRITE, .partial = true}},
    {"partial-always", {.error = EIO, .op_mask = 1u << REQ_WRITE, .partial = true, .sticky = true}},
    {"flush-once", {.error = EIO, .op_mask = 1u << REQ_FLUSH}},
    {"flush-always", {.error = EIO, .op_mask = 1u << REQ_FLUSH, .sticky = true}},
};

static uint64_t n_runs, n_cuts, n_leaky;

/* The image as a power cut now leaves it. lose_all: nothing that was volatile is there. */
static void judge_cut(struct judge *j, struct sim_disk *d, uint64_t at, bool lose_all)
{
    unsigned n = sim_volatile(d, at, NULL, 0);
    uint8_t *keep = calloc(n + 1, 1);
    struct rng rng;
    rng_seed(&rng, j->seed);
    for (unsigned i = 0; keep && i < n && !lose_all; i++)
        keep[i] = (uint8_t)rng_below(&rng, 3);
    struct sim_crash how = {.at = at, .keep = keep, .tear_seed = j->seed, .unit = SECTOR};
    struct sim_disk *state = sim_crash_disk(d, &how);
    if (!keep || !state)
        sweep_fail("no memory");
    j->view.at = at;
    if (!judge_image(j, state))
        sweep_fail("after a power cut that kept %s: %s", lose_all ? "nothing" : "a part", j->text);
    sim_disk_free(state);
    free(keep);
    n_cuts++;
}

/* One run. False if it ended before the nth I/O. */
static bool run_one(const struct workload *w, const struct mode *m, uint64_t n, uint64_t seed)
{
    struct sim_fail fail = m->fail;
    sweep_step("--workload %s --mode %s --n %" PRIu64 " --seed %" PRIu64, w->name, m->name, n,
               seed);
    struct load_run run = {.w = w,
                           .seed = seed,
                           .sticky_flush = fail.op_mask == 1u << REQ_FLUSH,
                           .partial = fail.partial,
                           .disk = load_create(w),
                           .oracle = load_oracle(w)};
    if (!run.disk)
        sweep_fail("the image cannot be created");
    fail.nth = n;
    sim_fail_nth(run.disk, &fail);
    load_run(&run);
    bool fired = sim_fired(run.disk);
    if (run.problem[0])
        sweep_fail("%s", run.problem);
    sim_fail_nth(run.disk, &(struct sim_fail){0});

    struct judge j = {
        .oracle = run.oracle, .run = &run, .seed = seed + n, .open = true, .write_after = true};
    uint64_t at = sim_seq(run.disk);
    judge_cut(&j, run.disk, at, true);
    judge_cut(&j, run.disk, at, false);
    /* What was acknowledged but could not be flushed may be missing after closing. */
    j.view.at = run.flushed ? 0 : at;
    if (!judge_image(&j, run.disk))
        sweep_fail("%s", j.text);
    n_leaky += j.leaks != 0;
    load_snaps_free(&run);
    oracle_free(run.oracle);
    sim_disk_free(run.disk);
    n_runs++;
    return fired;
}

static const struct mode *mode_find(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
        if (!strcmp(modes[i].name, name))
            return &modes[i];
    }
    return NULL;
}

static void sweep_seed(const char *workload, const char *mode, uint64_t n, uint64_t stride,
                       uint64_t seed)
{
    for (unsigned i = 0; i < n_workloads * ARRAY_LEN(modes); i++) {
        const struct workload *w = &workloads[i / ARRAY_LEN(modes)];
        const struct mode *m = &modes[i % ARRAY_LEN(modes)];
        if ((workload && strcmp(workload, w->name) != 0) || (mode && strcmp(mode, m->name) != 0))
            continue;
        uint64_t at = n ? n : 1 + rng_hash(seed * 1000 + i) % stride;
        while (run_one(w, m, at, seed) && !n)
            at += stride;
    }
}

int main(int argc, char **argv)
{
    const char *workload = NULL, *mode = NULL;
    uint64_t n = 0, stride = 1, seed = 1, runs = 0;
    const struct sweep_option options[] = {
        {"workload", NULL, &workload, "only this one"},
        {"mode", NULL, &mode, "only this one: eio, enospc, partial, flush, each -once or -always"},
        {"n", &n, NULL, "fail only the Nth I/O"},
        {"stride", &stride, NULL, "try every STRIDEth N (1)"},
        {"seed", &seed, NULL, "of the operations and their order (1)"},
        {"runs", &runs, NULL, "go on with the next seeds until so many runs are done"},
        {NULL, NULL, NULL, NULL},
    };
    sweep_options(argc, argv, "Fail the Nth I/O of each workload and judge what is left.", options);
    if ((workload && !workload_find(workload)) || (mode && !mode_find(mode)) || stride == 0) {
        fprintf(stderr, "%s: no such workload, mode or stride\n", argv[0]);
        return 2;
    }
    struct reactor *r;
    if (!reactor_new(REACTOR_SIM, &r, NULL))
        return 1;
    if (!n)
        sweep_quiet();
    do {
        sweep_seed(workload, mode, n, stride, seed);
        seed++;
    } while (n_runs < runs && !n);
    reactor_free(r);
    return sweep_end("%" PRIu64 " runs, %" PRIu64 " power cuts, %" PRIu64
                     " images left with leaks, 0 illegal",
                     n_runs, n_cuts, n_leaky);
}
