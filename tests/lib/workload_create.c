/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The image that a workload begins with, and what the oracle knows of it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
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

struct node *load_open(struct sim_disk *d, const struct qc_open_opts *opts, struct err **errp)
{
    struct qc_open_opts o = *opts;
    uint8_t b[8];
    sim_disk_peek(d, 72, b, sizeof(b)); /* incompatible features */
    struct node *file = sim_open(d, o.read_only, errp);
    if (!file)
        return NULL;
    if (get_be64(b) & 4)
        o.data_file = sim_open_second(d, o.read_only, errp);
    struct node *n = o.data_file || !(get_be64(b) & 4) ? qc_open(file, &o, errp) : NULL;
    node_unref(o.data_file); /* the image has a reference of its own */
    if (!n)
        node_unref(file);
    return n;
}

struct qc_create_opts load_create_opts(const struct workload *w)
{
    return (struct qc_create_opts){.size = w->size,
                                   .version = w->version,
                                   .cluster_size = w->cluster_size,
                                   .refcount_bits = w->refcount_bits,
                                   .data_file = w->data_file ? "second" : NULL,
                                   .data_file_raw = w->data_raw,
                                   .extended_l2 = w->extended_l2};
}

struct create_args {
    const struct workload *w;
    struct sim_disk *disk;
    bool ok;
};

static bool prefill(struct sim_disk *d, const struct workload *w, struct err **errp)
{
    const struct qc_open_opts opts = {.no_backing = true};
    struct node *guest = load_open(d, &opts, errp);
    if (!guest)
        return false;
    uint8_t *data = must(malloc(w->prefill));
    (w->packed ? load_fill_soft : load_fill)(data, w->prefill, 0, 0);
    bool ok = node_write(guest, 0, data, w->prefill, w->packed ? REQ_COMPRESSED : 0) == 0 &&
              node_flush(guest) == 0;
    free(data);
    node_unref(guest);
    return ok;
}

static bool add_bitmap(struct sim_disk *d, struct err **errp)
{
    const struct qc_open_opts opts = {.no_backing = true};
    struct node *guest = load_open(d, &opts, errp);
    if (!guest)
        return false;
    bool ok = node_bitmap_add(guest, "since", LOAD_BITMAP_GRANULARITY, true, errp) &&
              node_bitmap_store(guest, errp);
    node_unref(guest);
    return ok;
}

static void create_co(void *arg)
{
    struct create_args *a = arg;
    struct qc_create_opts opts = load_create_opts(a->w);
    struct err *e = NULL;
    struct node *file = sim_open(a->disk, false, &e);
    struct node *data = opts.data_file && file ? sim_open_second(a->disk, false, &e) : NULL;
    a->ok = file && qc_create(file, &opts, &e) && (!data || qc_create_data(data, &opts, &e));
    node_unref(data);
    node_unref(file);
    a->ok = a->ok && (!a->w->prefill || prefill(a->disk, a->w, &e)) &&
            (!a->w->bitmaps || add_bitmap(a->disk, &e));
    if (!a->ok)
        fprintf(stderr, "workload %s: create: %s\n", a->w->name, err_msg(e));
    err_free(e);
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
