/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the qcow2 tests share: a body that runs as a coroutine on a simulated reactor, images on
 * simulated disks, and the judge's verdict on them.
 */
#ifndef TESTS_UNIT_QCOW2_IMAGE_H
#define TESTS_UNIT_QCOW2_IMAGE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/rng.h"
#include "block/sim.h"
#include "io/reactor.h"
#include "qcow2/qcow2.h"
#include "tests/lib/qcow2_check.h"

/* fail_msg cannot leave a coroutine by longjmp, so a failed check in one ends the program. */
#define must(cond, ...)                                                                            \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #cond);                             \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\n");                                                                 \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static inline void run_as(enum reactor_kind kind, co_fn *fn, void *arg)
{
    struct reactor *r;
    assert_true(reactor_new(kind, &r, NULL));
    assert_true(reactor_run_co(r, fn, arg));
    if (kind == REACTOR_SIM)
        reactor_run_until_idle(r);
    must(co_alive() == 0, "%zu coroutines hang", co_alive());
    reactor_free(r);
}

static inline void run_sim(co_fn *fn, void *arg)
{
    run_as(REACTOR_SIM, fn, arg);
}

static inline struct sim_disk *image_new(const struct qc_create_opts *o)
{
    struct err *e = NULL;
    struct sim_disk *d = sim_disk_new(0);
    struct node *file = sim_open(d, false, &e);
    must(file, "%s", err_msg(e));
    must(qc_create(file, o, &e), "%s", err_msg(e));
    node_unref(file);
    return d;
}

/* image_set_zstd: make zstd the type of an image that has no compressed cluster yet. */
static inline void image_set_zstd(struct sim_disk *d)
{
    uint64_t len = sim_disk_size(d);
    uint8_t *image = malloc(len);
    sim_disk_peek(d, 0, image, len);
    image[79] |= 8; /* incompatible feature 3 */
    image[104] = 1;
    must(sim_disk_load(d, image, len), "memory");
    free(image);
}

static inline struct node *image_open(struct sim_disk *d, const struct qc_open_opts *o)
{
    struct err *e = NULL;
    struct node *file = sim_open(d, o->read_only, &e);
    must(file, "%s", err_msg(e));
    struct node *n = qc_open(file, o, &e);
    must(n, "%s", err_msg(e));
    return n;
}

/* The image must be sound; without leaks if so wanted. */
static inline void image_judge(struct sim_disk *d, bool leaks_allowed, const char *what)
{
    struct qck_report rep;
    struct qck_source src = qck_sim(d);
    must(qck_check(&src, &rep), "%s: %s", what, rep.text);
    must(leaks_allowed || rep.leaks == 0, "%s: %llu leaks: %s", what, (unsigned long long)rep.leaks,
         rep.text);
}

#endif
