/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Refuse the Nth allocation of every workload, for N = 1, 2, 3... until it ends before that.
 *
 * What meets the refusal fails with ENOMEM and nothing else; nothing waits for ever, nothing leaks
 * (the leak sanitizer sees to that at the end), the image is sound and its content legal.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "io/reactor.h"
#include "tests/lib/judge.h"
#include "tests/lib/sweep.h"
#include "tests/lib/workload.h"

static uint64_t n_runs, n_leaky;

/* One run. False if it ended before the nth allocation. */
static bool run_one(const struct workload *w, bool always, uint64_t n, uint64_t seed)
{
    sweep_step("--workload %s --mode %s --n %" PRIu64 " --seed %" PRIu64, w->name,
               always ? "always" : "once", n, seed);
    struct load_run run = {.w = w,
                           .seed = seed,
                           .short_run = true,
                           .mem_nth = n,
                           .mem_sticky = always,
                           .disk = load_create(w),
                           .oracle = load_oracle(w)};
    if (!run.disk)
        sweep_fail("the image cannot be created");
    load_run(&run);
    if (run.problem[0])
        sweep_fail("%s", run.problem);
    struct judge j = {.oracle = run.oracle,
                      .run = &run,
                      .view = {.at = run.flushed ? 0 : sim_seq(run.disk)},
                      .seed = seed + n,
                      .open = true,
                      .write_after = true};
    if (!judge_image(&j, run.disk))
        sweep_fail("%s", j.text);
    n_leaky += j.leaks != 0;
    load_snaps_free(&run);
    oracle_free(run.oracle);
    sim_disk_free(run.disk);
    n_runs++;
    return run.mem_fired;
}

static void sweep_seed(const char *workload, const char *mode, uint64_t n, uint64_t stride,
                       uint64_t seed)
{
    for (unsigned i = 0; i < 2 * n_workloads; i++) {
        const struct workload *w = &workloads[i / 2];
        bool always = i % 2;
        if ((workload && strcmp(workload, w->name) != 0) ||
            (mode && strcmp(mode, always ? "always" : "once") != 0))
            continue;
        uint64_t at = n ? n : 1 + rng_hash(seed * 1000 + i) % stride;
        while (run_one(w, always, at, seed) && !n)
            at += stride;
    }
}

int main(int argc, char **argv)
{
    const char *workload = NULL, *mode = NULL;
    uint64_t n = 0, stride = 1, seed = 1, runs = 0;
    const struct sweep_option options[] = {
        {"workload", NULL, &workload, "only this one"},
        {"mode", NULL, &mode, "once: only the Nth is refused; always: and all after it"},
        {"n", &n, NULL, "refuse only the Nth allocation"},
        {"stride", &stride, NULL, "try every STRIDEth N (1)"},
        {"seed", &seed, NULL, "of the operations and their order (1)"},
        {"runs", &runs, NULL, "go on with the next seeds until so many runs are done"},
        {NULL, NULL, NULL, NULL},
    };
    sweep_options(argc, argv, "Refuse the Nth allocation of each workload and judge what is left.",
                  options);
    if ((workload && !workload_find(workload)) || stride == 0 ||
        (mode && strcmp(mode, "once") != 0 && strcmp(mode, "always") != 0)) {
        fprintf(stderr, "%s: no such workload, mode or stride\n", argv[0]);
        return 2;
    }
    struct reactor *r;
    if (!reactor_new(REACTOR_SIM, &r, NULL))
        return 1;
    if (!n)
        sweep_quiet();
    do {
        sweep_seed(workload, mode, n, stride, seed++);
    } while (n_runs < runs && !n);
    reactor_free(r);
    return sweep_end("%" PRIu64 " runs, %" PRIu64 " images left with leaks, 0 illegal", n_runs,
                     n_leaky);
}
