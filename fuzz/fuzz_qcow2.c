/* SPDX-License-Identifier: BSD-3-Clause
 *
 * qcow2 images. All are checked; what opens is read, mapped, written, zeroed, discarded and grown.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/sim.h"
#include "fuzz/fuzz.h"
#include "io/reactor.h"
#include "qcow2/check.h"
#include "qcow2/inspect.h"
#include "qcow2/map.h"
#include "qcow2/qcow2.h"

#define STEP (UINT64_C(13) << 9)
#define MAX_LEN (UINT64_C(4) << 20)

struct input {
    const uint8_t *data;
    size_t size;
};

static void no_log(enum log_level level, const char *line, void *arg)
{
}

static void change(struct node *n, uint8_t *buf, uint64_t off, uint64_t len)
{
    node_write(n, off, buf, len, 0);
    node_zero(n, off + len / 2, len / 2, off % 2 ? REQ_MAY_UNMAP : 0);
    node_discard(n, off, len / 4);
}

static void use(struct node *n, bool write)
{
    static uint8_t buf[3 << 10];
    uint64_t len = min_u64(sizeof(buf), n->size);
    struct extents x;
    extents_init(&x, 8);
    for (unsigned i = 0; i < 24 && len; i++) {
        uint64_t off = min_u64(i * STEP, n->size - len);
        node_read(n, off, buf, len);
        node_status(n, off, n->size - off, &x);
        if (write)
            change(n, buf, off, len);
    }
    extents_free(&x);
    if (write && n->size < MAX_LEN)
        node_truncate(n, n->size + STEP);
    node_flush(n);
}

static void try_open(const struct input *in, bool write)
{
    struct sim_disk *d = sim_disk_new(0);
    struct err *e = NULL;
    if (!d || !sim_disk_load(d, in->data, in->size))
        abort();
    struct node *file = sim_open(d, !write, NULL);
    struct node *data = sim_open_second(d, !write, NULL); /* for those that want a data file */
    struct qc_open_opts o = {.read_only = !write,
                             .no_backing = true,
                             .data_file = data,
                             .l2_cache_bytes = 1,
                             .refcount_cache_bytes = 1};
    struct node *n = qc_open(file, &o, &e);
    node_unref(data);
    if (n)
        use(n, write);
    else if (!err_code(e) || !*err_msg(e))
        abort();
    err_free(e);
    node_unref(n ? n : file);
    sim_disk_free(d);
}

/* What needs no open image; and the map of one that can be opened. */
static void inspect(const struct input *in)
{
    struct sim_disk *d = sim_disk_new(0);
    const struct qc_check_opts co = {.found = NULL};
    struct qc_check_report report;
    struct qc_image_info info;
    if (!d || !sim_disk_load(d, in->data, in->size))
        abort();
    struct node *file = sim_open(d, true, NULL);
    qc_check(file, &co, &report, NULL);
    qc_inspect(file, &info, NULL);
    qc_image_info_free(&info);
    struct qc_open_opts o = {.read_only = true, .no_backing = true, .no_data = true};
    struct node *n = qc_open(file, &o, NULL);
    uint64_t off = 0;
    struct qc_extent x;
    for (unsigned i = 0; n && i < 1000 && off < n->size; i++, off += x.length)
        if (qc_map(n, off, n->size - off, &x) < 0)
            break;
        else if (x.length == 0 || x.length > n->size - off)
            abort();
    node_unref(n ? n : file);
    sim_disk_free(d);
}

static void body(void *arg)
{
    inspect(arg);
    try_open(arg, false);
    try_open(arg, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct reactor *r;
    if (size > MAX_LEN)
        return 0;
    log_set_sink(no_log, NULL);
    if (!reactor_new(REACTOR_SIM, &r, NULL) || !reactor_run_co(r, body, &in))
        abort();
    reactor_run_until_idle(r);
    if (co_alive() != 0)
        abort(); /* something hangs */
    reactor_free(r);
    return 0;
}
