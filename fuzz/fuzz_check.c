/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Any bytes as an image are checked and repaired. A repair changes nothing of what the tables say,
 * a second one finds what the first has left and writes nothing, and a dry run foretells it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/sim.h"
#include "fuzz/fuzz.h"
#include "io/reactor.h"
#include "qcow2/repair.h"
#include "tests/lib/qcow2_view.h"

#define MAX_LEN (UINT64_C(1) << 20)

struct attempt {
    struct sim_disk *d;
    struct qc_repair_opts o;
    struct qc_repair_report r;
    struct qcv before;
    bool ok;
};

static void no_log(enum log_level level, const char *line, void *arg)
{
}

static void repair_co(void *arg)
{
    struct attempt *a = arg;
    struct err *e = NULL;
    struct node *file = sim_open(a->d, false, NULL);
    a->ok = qc_repair(file, &a->o, &a->r, &e);
    if (!a->ok && (!err_code(e) || !*err_msg(e)))
        abort();
    err_free(e);
    node_unref(file);
}

static void repair(struct reactor *r, struct attempt *a)
{
    if (!reactor_run_co(r, repair_co, a))
        abort();
    reactor_run_until_idle(r);
    if (co_alive() != 0)
        abort(); /* something hangs */
}

static uint64_t writes(const struct sim_disk *d)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < sim_log_len(d); i++)
        n += sim_log_at(d, i)->op != REQ_FLUSH;
    return n;
}

static void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    abort();
}

static void compare(struct attempt *a)
{
    struct qck_source src = qck_sim(a->d);
    struct qcv after;
    qcv_take(&src, &after);
    const char *difference = qcv_same(&a->before, &after);
    if (difference)
        die(difference);
    qcv_free(&after);
}

static void run(struct reactor *r, struct attempt *a, enum qc_fix fix)
{
    a->o = (struct qc_repair_opts){.fix = fix, .dry_run = true};
    repair(r, a);
    if (sim_log_len(a->d))
        die("a dry run writes");
    struct qc_repair_report dry = a->r;
    bool dry_ok = a->ok;
    a->o.dry_run = false;
    repair(r, a);
    if (a->ok != dry_ok || memcmp(&dry, &a->r, sizeof(dry)) != 0)
        die("a dry run foretold something else");
    if (a->before.readable)
        compare(a);
    struct qc_check_report left = a->r.left;
    uint64_t written = writes(a->d);
    if (!a->ok)
        return;
    repair(r, a);
    if (!a->ok || a->r.found.corruptions != left.corruptions || a->r.found.leaks != left.leaks)
        die("a second check finds something else");
    if (writes(a->d) != written)
        die("a second repair writes");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reactor *r;
    if (size == 0 || size > MAX_LEN)
        return 0;
    log_set_sink(no_log, NULL);
    if (!reactor_new(REACTOR_SIM, &r, NULL))
        abort();
    for (enum qc_fix fix = QC_FIX_LEAKS; fix <= QC_FIX_ALL; fix++) {
        struct attempt a = {.d = sim_disk_new(0)};
        if (!a.d || !sim_disk_load(a.d, data, size))
            abort();
        struct qck_source src = qck_sim(a.d);
        qcv_take(&src, &a.before);
        run(r, &a, fix);
        qcv_free(&a.before);
        sim_disk_free(a.d);
    }
    reactor_free(r);
    return 0;
}
