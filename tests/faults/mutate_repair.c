/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Repair damaged images: one to three things are damaged in an image of some feature, then it is
 * repaired. Whatever the damage:
 *   - what the tables say, entry by entry, with the bytes that they refer to, is the same after the
 *     repair, in the active image and in the snapshots;
 *   - the check after the repair finds what the repair said was left: nothing, or only corruption
 *     that the repair refused to guess about (then the image is left with it);
 *   - a second repair writes nothing;
 *   - a dry run writes nothing and foretells the result;
 *   - what only concerns refcounts, flags and marks is repaired wholly;
 *   - the judge of the tests and (with --qemu, one in 16) qemu-img agree that it is sound;
 *   - it takes less than a second and 64 MiB.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/bytes.h"
#include "block/sim.h"
#include "io/reactor.h"
#include "qcow2/repair.h"
#include "tests/lib/ask_qemu.h"
#include "tests/lib/damage.h"
#include "tests/lib/qcow2_view.h"
#include "tests/lib/sweep.h"

#define QEMU_EVERY 16
#define MAX_SECONDS 1.0
#define MAX_MEMORY_KIB (64 << 10)

static uint64_t n_images, n_sound, n_clean, n_left, n_refused, n_leaks_only, n_qemu;
static uint64_t by_kind[DAMAGE_COUNT], clean_by_kind[DAMAGE_COUNT];
static double slowest;
static bool with_qemu, limits;

struct attempt {
    struct sim_disk *d;
    struct qc_repair_opts o;
    struct qc_repair_report r;
    struct err *e;
    bool ok;
};

static void attempt_co(void *arg)
{
    struct attempt *a = arg;
    struct node *file = sim_open(a->d, false, NULL);
    a->ok = file && qc_repair(file, &a->o, &a->r, &a->e);
    node_unref(file);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Returns how many writes and the like it took. */
static uint64_t repair(struct attempt *a)
{
    uint64_t before = sim_log_len(a->d);
    double started = now_s();
    err_free(a->e);
    a->e = NULL;
    if (!reactor_run_co(reactor_current(), attempt_co, a))
        sweep_fail("no memory for a coroutine");
    if (now_s() - started > slowest)
        slowest = now_s() - started;
    if (limits && slowest > MAX_SECONDS)
        sweep_fail("the repair took %.1f s", slowest);
    if (!a->ok && !a->e)
        sweep_fail("it failed without an error");
    uint64_t writes = 0;
    for (uint64_t i = before; i < sim_log_len(a->d); i++)
        writes += sim_log_at(a->d, i)->op != REQ_FLUSH;
    return writes;
}

static void same_view(const struct qcv *before, struct sim_disk *d, const char *when)
{
    struct qck_source src = qck_sim(d);
    struct qcv after;
    qcv_take(&src, &after);
    const char *difference = qcv_same(before, &after);
    if (difference)
        sweep_fail("%s: %s", when, difference);
    qcv_free(&after);
}

/* Two entries may have one table or one data cluster, if its refcount says so; the judge, which is
 * made for images of our driver, does not think so. And it knows no bitmaps: to it they are leaks.
 */
static bool is_no_corruption(const char *line)
{
    uint64_t count, refs;
    if (sscanf(line, "cluster 0x%*x: refcount %" SCNu64 ", but %" SCNu64, &count, &refs) == 2)
        return count > refs;
    if (strncmp(line, "L1 entry", 8) == 0)
        return strstr(line, "also in use as an L2 table");
    return strncmp(line, "L2 entry", 8) == 0 &&
           (strstr(line, "also in use as data") || strstr(line, "also in use as compressed data"));
}

static bool only_shares(char *text)
{
    char *rest = NULL;
    size_t len = strlen(text);
    if (len + 3 >= QCK_TEXT_LEN) { /* the last line is cut off */
        text[len - 1] = '\0';
        *(strrchr(text, '\n') + 1) = '\0';
    }
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        if (!is_no_corruption(line))
            return false;
    return true;
}

/* The judge does not know every feature. */
static void ask_judge(const struct damage_image *im, struct sim_disk *d)
{
    struct qck_source src = qck_sim(d);
    struct qck_report r;
    bool v3 = get_be32(im->data + 4) >= 3;
    if (v3 && (im->data[79] & 0x14))
        return;
    char text[QCK_TEXT_LEN];
    bool ok = qck_check(&src, &r);
    memcpy(text, r.text, sizeof(text));
    if (!ok && !only_shares(text))
        sweep_fail("the judge finds %" PRIu64 " corruptions:\n%s", r.corruptions, r.text);
}

static void judge_repaired(struct attempt *a, const struct damage_image *im, bool soft)
{
    const struct qc_check_report *left = &a->r.left;
    if (soft && left->corruptions)
        sweep_fail("%" PRIu64 " corruptions are left of damage that can be repaired",
                   left->corruptions);
    if (a->o.fix == QC_FIX_ALL && !left->corruptions && left->leaks)
        sweep_fail("%" PRIu64 " leaks are left", left->leaks);
    if (left->corruptions || a->o.fix == QC_FIX_LEAKS)
        return;
    ask_judge(im, a->d);
    if (with_qemu && n_clean % QEMU_EVERY == 0) {
        /* 1: qemu-img cannot open it, for lack of a data file, say. */
        ask_qemu(a->d, 1);
        n_qemu++;
    }
}

/* A second repair finds what the first has left, and has nothing to do. */
static void repair_again(struct attempt *a)
{
    struct qc_repair_report first = a->r;
    uint64_t writes = repair(a);
    if (!a->ok)
        sweep_fail("a second repair fails: %s", err_msg(a->e));
    if (a->r.found.corruptions != first.left.corruptions || a->r.found.leaks != first.left.leaks)
        sweep_fail("a second check finds %" PRIu64 " corruptions and %" PRIu64
                   " leaks; the first had left %" PRIu64 " and %" PRIu64,
                   a->r.found.corruptions, a->r.found.leaks, first.left.corruptions,
                   first.left.leaks);
    if (writes)
        sweep_fail("a second repair writes %" PRIu64 " times", writes);
    a->r = first;
}

static void one_repair(struct damage_image *im, struct rng *r, bool soft)
{
    struct attempt a = {.d = sim_disk_new(0)}, dry;
    bool foretell = rng_below(r, 4) == 0;
    struct qcv before;
    if (!a.d || !sim_disk_load(a.d, im->data, im->len))
        sweep_fail("no memory");
    struct qck_source src = qck_sim(a.d);
    qcv_take(&src, &before);
    a.o.fix = !soft && rng_below(r, 8) == 0 ? QC_FIX_LEAKS : QC_FIX_ALL;
    dry = a;
    dry.o.dry_run = true;
    if (foretell && repair(&dry))
        sweep_fail("a dry run writes");
    uint64_t writes = repair(&a);
    if (!a.ok) {
        if (soft || writes)
            sweep_fail("it fails after %" PRIu64 " writes: %s", writes, err_msg(a.e));
        n_refused++;
    } else {
        n_sound += !a.r.found.corruptions && !a.r.found.leaks;
        n_clean += !a.r.left.corruptions;
        n_left += a.r.left.corruptions != 0;
        n_leaks_only += a.o.fix == QC_FIX_LEAKS;
        judge_repaired(&a, im, soft);
        repair_again(&a);
    }
    if (foretell && (dry.ok != a.ok || memcmp(&dry.r, &a.r, sizeof(a.r)) != 0))
        sweep_fail("a dry run foretold %" PRIu64 " corruptions, %" PRIu64 " are left",
                   dry.r.left.corruptions, a.r.left.corruptions);
    if (before.readable)
        same_view(&before, a.d, "after the repair");
    err_free(a.e);
    err_free(dry.e);
    qcv_free(&before);
    sim_disk_free(a.d);
}

static void one_image(const struct damage_image *base, uint64_t seed, int only)
{
    struct damage_image im;
    struct rng r;
    unsigned kinds;
    rng_seed(&r, rng_hash(seed));
    bool soft = damage_draw(&r, base, only, &im, &kinds);
    uint64_t clean = n_clean;
    one_repair(&im, &r, soft);
    for (unsigned k = 0; k < DAMAGE_COUNT; k++) {
        by_kind[k] += kinds >> k & 1;
        clean_by_kind[k] += (kinds >> k & 1) && n_clean > clean;
    }
    n_images++;
    damage_copy_free(&im);
}

static void print_kinds(void)
{
    for (unsigned k = 0; k < DAMAGE_COUNT; k++)
        printf("  %-14s %6" PRIu64 " images, %6" PRIu64 " without corruption afterwards\n",
               damage_name(k), by_kind[k], clean_by_kind[k]);
}

int main(int argc, char **argv)
{
    const char *folders[3] = {NULL};
    uint64_t seed = 1, images = 1000, one = 0, qemu = 0, limit = 0, kind = DAMAGE_COUNT,
             verbose = 0;
    const struct sweep_option options[] = {
        {"images", &images, NULL, "how many (1000)"},
        {"seed", &seed, NULL, "of the first one (1)"},
        {"one", &one, NULL, "1: only the image of this seed, with log messages"},
        {"kind", &kind, NULL, "only damage of this kind (a number)"},
        {"from", NULL, &folders[0], "a folder of images to damage, too"},
        {"from2", NULL, &folders[1], "another one"},
        {"qemu", &qemu, NULL, "1: let qemu-img judge one in 16, too"},
        {"limits", &limit, NULL, "1: fail above a second or 64 MiB"},
        {"verbose", &verbose, NULL, "1: print how each kind of damage fared"},
        {NULL, NULL, NULL, NULL},
    };
    struct rusage usage;
    sweep_options(argc, argv, "Damage images, repair them, and judge the repair.", options);
    with_qemu = qemu;
    limits = limit;
    struct reactor *r;
    if (!reactor_new(REACTOR_SIM, &r, NULL))
        return 1;
    if (!one)
        sweep_quiet();
    unsigned n;
    struct damage_image *bases = damage_bases(folders, &n);
    for (uint64_t i = 0; i < (one ? 1 : images); i++) {
        const struct damage_image *base = &bases[(seed + i) % n];
        sweep_step("--one 1 --seed %" PRIu64 "%s%s%s%s (%s)", seed + i,
                   folders[0] ? " --from " : "", folders[0] ? folders[0] : "",
                   folders[1] ? " --from2 " : "", folders[1] ? folders[1] : "", base->name);
        one_image(base, seed + i, kind < DAMAGE_COUNT ? (int)kind : -1);
    }
    damage_bases_free(bases, n);
    reactor_free(r);
    getrusage(RUSAGE_SELF, &usage);
    if (limits && usage.ru_maxrss > MAX_MEMORY_KIB)
        sweep_fail("%ld KiB of memory", usage.ru_maxrss);
    if (verbose)
        print_kinds();
    return sweep_end("%" PRIu64 " damaged images (%" PRIu64 " only for leaks): %" PRIu64
                     " were sound, %" PRIu64 " without corruption after the repair, %" PRIu64
                     " with some left, %" PRIu64 " refused; %" PRIu64
                     " judged by qemu-img; slowest %.3f s, %ld MiB; 0 changed",
                     n_images, n_leaks_only, n_sound, n_clean, n_left, n_refused, n_qemu, slowest,
                     usage.ru_maxrss >> 10);
}
