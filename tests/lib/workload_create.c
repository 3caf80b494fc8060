/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The image that a workload begins with, and what the oracle knows of it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "block/node_bitmap.h"
#include "io/reactor.h"
#include "qcow2/qcow2.h"
#include "tests/lib/qcow2_check.h"
#include "tests/lib/workload.h"

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "workload: out of memory\n");
        abort();
    }
    return p;
}

struct create_args {
    const struct workload *w;
    struct sim_disk *disk;
    bool ok;
};

static bool prefill(struct node *file, const struct workload *w, struct err **errp)
{
    const struct qc_open_opts opts = {.no_backing = true};
    struct node *guest = qc_open(node_ref(file), &opts, errp);
    if (!guest) {
        node_unref(file);
        return false;
    }
    uint8_t *data = must(malloc(w->prefill));
    (w->packed ? load_fill_soft : load_fill)(data, w->prefill, 0, 0);
    bool ok = node_write(guest, 0, data, w->prefill, w->packed ? REQ_COMPRESSED : 0) == 0 &&
              node_flush(guest) == 0;
    free(data);
    node_unref(guest);
    return ok;
}

static bool add_bitmap(struct node *file, struct err **errp)
{
    const struct qc_open_opts opts = {.no_backing = true};
    struct node *guest = qc_open(node_ref(file), &opts, errp);
    if (!guest) {
        node_unref(file);
        return false;
    }
    bool ok = node_bitmap_add(guest, "since", LOAD_BITMAP_GRANULARITY, true, errp) &&
              node_bitmap_store(guest, errp);
    node_unref(guest);
    return ok;
}

static void create_co(void *arg)
{
    struct create_args *a = arg;
    struct qc_create_opts opts = {.size = a->w->size,
                                  .version = a->w->version,
                                  .cluster_size = a->w->cluster_size,
                                  .refcount_bits = a->w->refcount_bits,
                                  .extended_l2 = a->w->extended_l2};
    struct err *e = NULL;
    struct node *file = sim_open(a->disk, false, &e);
    a->ok = file && qc_create(file, &opts, &e) && (!a->w->prefill || prefill(file, a->w, &e)) &&
            (!a->w->bitmaps || add_bitmap(file, &e));
    if (!a->ok)
        fprintf(stderr, "workload %s: create: %s\n", a->w->name, err_msg(e));
    err_free(e);
    node_unref(file);
}

struct sim_disk *load_create(const struct workload *w)
{
    struct create_args a = {.w = w, .disk = must(sim_disk_new(0))};
    if (!reactor_run_co(reactor_current(), create_co, &a) || !a.ok ||
        (w->shared && !qck_share(a.disk)) || !sim_log_mark(a.disk)) {
        sim_disk_free(a.disk);
        return NULL;
    }
    return a.disk;
}

struct oracle *load_oracle(const struct workload *w)
{
    struct oracle *o = oracle_new(w->size, w->max_size ? w->max_size : w->size);
    if (w->prefill) {
        uint8_t *data = must(malloc(w->prefill));
        (w->packed ? load_fill_soft : load_fill)(data, w->prefill, 0, 0);
        /* Moment 1 is before everything in a log. */
        oracle_end(o, oracle_begin(o, ORACLE_WRITE, 0, w->prefill, data, 0), true, true, 1);
        free(data);
    }
    return o;
}
