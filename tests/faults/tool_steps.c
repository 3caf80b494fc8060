/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Disturb what tools do to an image (tests/faults/tools.c has the list), each on images of every
 * feature: refuse the Nth allocation, fail the Nth I/O, for N = 1, 2, 3... until the tool ends
 * before it.
 *
 * A tool then fails with the error that it was given, and no other, or does all of its work (where
 * it may do without). One that only looks then says what it says undisturbed, and has written
 * nothing. After one that changes the image, it is sound, and the disk holds what it held, as far
 * as both sizes go. (What half a repair leaves besides is judged by repair_steps.)
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/rng.h"
#include "block/sim.h"
#include "io/reactor.h"
#include "tests/faults/tools.h"
#include "tests/lib/damage.h"
#include "tests/lib/qcow2_check.h"
#include "tests/lib/sweep.h"

enum mode { MEMORY, MEMORY_ALL, READ_WRITE, FLUSH, MODES };
static const char *const mode_name[MODES] = {"memory", "memory-all", "eio", "flush"};

struct trial {
    const struct damage_image *im;
    const struct tool *tool;
    struct tool_run plain; /* undisturbed */
    uint8_t *content;      /* of the guest disk before */
    uint64_t size;
};

static uint64_t n_runs, n_fired, n_failed;

static struct sim_disk *fresh(const struct damage_image *im)
{
    struct sim_disk *d = sim_disk_new(0);
    if (!d || (im && !sim_disk_load(d, im->data, im->len)))
        sweep_fail("no memory");
    sim_log_mark(d);
    return d;
}

static void run_co(void *arg)
{
    struct tool_run *r = arg;
    r->ok = r->tool->fn(r);
}

static void run(struct tool_run *r)
{
    if (!reactor_run_co(reactor_current(), run_co, r))
        sweep_fail("no memory for a coroutine");
    reactor_run_until_idle(reactor_current());
    if (co_alive())
        sweep_fail("%zu coroutines hang", co_alive());
    if (!r->ok && !*err_msg(r->e))
        sweep_fail("it failed without a message");
}

static struct qck_report rep; /* the last one */

static uint8_t *content(struct sim_disk *d, bool may_be_half, uint64_t *size)
{
    struct qck_source src = qck_sim(d);
    bool sound = qck_check(&src, &rep) || may_be_half;
    uint8_t *p = sound ? calloc(rep.guest_size + 1, 1) : NULL;
    *size = rep.guest_size;
    if (!sound || !p || !qck_read(&src, 0, p, *size, &rep)) {
        free(p);
        return NULL;
    }
    return p;
}

/* After a tool that writes. What was made by it, and is not finished, may be anything. */
static void judge_left(const struct trial *t, const struct tool_run *r, struct sim_disk *d)
{
    uint64_t size, n;
    if (t->tool->kind == TOOL_MAKES && !r->ok)
        return;
    uint8_t *now = content(d, t->tool->kind == TOOL_REPAIRS && !r->ok, &size);
    if (!now)
        sweep_fail("%sthe image is not sound afterwards (%s)", rep.text,
                   r->ok ? "success" : err_msg(r->e));
    n = min_u64(size, t->size);
    if (t->tool->kind != TOOL_ALTERS && t->tool->kind != TOOL_MAKES && n > TOOL_WRITTEN &&
        memcmp(now + TOOL_WRITTEN, t->content + TOOL_WRITTEN, n - TOOL_WRITTEN) != 0)
        sweep_fail("the disk holds something else afterwards (%s)",
                   r->ok ? "success" : err_msg(r->e));
    free(now);
}

static void judge(const struct trial *t, const struct tool_run *r, struct sim_disk *d, int error)
{
    if (!r->ok && err_code(r->e) != error && err_code(r->e) != err_code(t->plain.e))
        sweep_fail("it fails with %d, not with %d: %s", err_code(r->e), error, err_msg(r->e));
    if (r->ok && !t->plain.ok)
        sweep_fail("it succeeds, and does not undisturbed: %s", err_msg(t->plain.e));
    if (t->tool->kind != TOOL_LOOKS) {
        judge_left(t, r, d);
        return;
    }
    if (sim_log_len(d))
        sweep_fail("it writes");
    if (r->ok && r->digest != t->plain.digest)
        sweep_fail("it says something else than undisturbed");
}

/* False if the tool ended before the nth. */
static bool disturb(const struct trial *t, enum mode mode, uint64_t nth)
{
    struct sim_disk *d = fresh(t->tool->kind == TOOL_MAKES ? NULL : t->im);
    struct tool_run r = {.tool = t->tool, .disk = d};
    struct sim_fail f = {.nth = nth, .error = EIO, .op_mask = mode == FLUSH ? 1u << REQ_FLUSH : 0};
    bool memory = mode == MEMORY || mode == MEMORY_ALL;
    sweep_step("--image %s --tool %s --mode %s --n %" PRIu64, t->im->name, t->tool->name,
               mode_name[mode], nth);
    if (memory)
        r.mem_nth = nth, r.mem_sticky = mode == MEMORY_ALL;
    else
        sim_fail_nth(d, &f);
    run(&r);
    bool fired = memory ? r.mem_fired : sim_fired(d);
    sim_fail_nth(d, &(struct sim_fail){0});
    judge(t, &r, d, memory ? ENOMEM : EIO);
    n_runs++;
    n_fired += fired;
    n_failed += !r.ok;
    err_free(r.e);
    sim_disk_free(d);
    return fired;
}

static bool begin(struct trial *t)
{
    struct sim_disk *d = fresh(t->im);
    uint64_t before;
    sweep_step("--image %s --tool %s", t->im->name, t->tool->name);
    t->content = content(d, false, &before);
    t->size = before;
    sim_disk_free(d);
    if (!t->content) /* damaged as it is: other sweeps have them */
        return false;
    d = fresh(t->tool->kind == TOOL_MAKES ? NULL : t->im);
    t->plain = (struct tool_run){.tool = t->tool, .disk = d};
    run(&t->plain);
    judge(t, &t->plain, d, 0);
    sim_disk_free(d);
    return true;
}

static void sweep(struct trial *t, const char *only_mode, uint64_t n, uint64_t stride,
                  uint64_t seed)
{
    bool ready = begin(t);
    for (enum mode m = 0; ready && m < MODES; m++) {
        if (only_mode && strcmp(only_mode, mode_name[m]) != 0)
            continue;
        uint64_t at = n ? n : 1 + rng_hash(seed += 1000) % stride;
        while (disturb(t, m, at) && !n)
            at += stride;
    }
    err_free(t->plain.e);
    free(t->content);
}

int main(int argc, char **argv)
{
    const char *image = NULL, *tool = NULL, *mode = NULL, *folders[3] = {0};
    uint64_t n = 0, stride = 1, seed = 1, runs = 0;
    const struct sweep_option options[] = {
        {"image", NULL, &image, "only this one"},
        {"tool", NULL, &tool, "only this one"},
        {"mode", NULL, &mode, "only this one: memory, memory-all, eio, flush"},
        {"n", &n, NULL, "disturb only the Nth"},
        {"stride", &stride, NULL, "try every STRIDEth N (1)"},
        {"seed", &seed, NULL, "where to begin (1)"},
        {"runs", &runs, NULL, "go on with the next seeds until so many runs are done"},
        {"from", NULL, &folders[0], "a folder of images"},
        {"from2", NULL, &folders[1], "another"},
        {NULL, NULL, NULL, NULL},
    };
    sweep_options(argc, argv, "Refuse memory and fail I/O while tools work on images.", options);
    struct reactor *r;
    if (stride == 0 || !reactor_new(REACTOR_SIM, &r, NULL))
        return 2;
    if (!n)
        sweep_quiet();
    unsigned count;
    struct damage_image *v = damage_bases(folders, &count);
    do {
        for (unsigned i = 0; i < count; i++)
            for (const struct tool *t = tools; t->name; t++) {
                struct trial trial = {.im = &v[i], .tool = t};
                if ((t->kind != TOOL_MAKES || i == 0) && (!image || !strcmp(image, v[i].name)) &&
                    (!tool || !strcmp(tool, t->name)))
                    sweep(&trial, mode, n, stride, seed * 977 + i * 31 + (uint64_t)(t - tools));
            }
        seed++;
    } while (n_runs < runs && !n);
    damage_bases_free(v, count);
    reactor_free(r);
    return sweep_end("%" PRIu64 " runs, %" PRIu64 " disturbed, %" PRIu64
                     " of them failed cleanly, 0 wrong",
                     n_runs, n_fired, n_failed);
}
