/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The tools that tool_steps.c disturbs. Each begins and ends its disturbance itself, so that the
 * simulated disk's own memory is not refused before the image is reached.
 */
#include "tests/faults/tools.h"

#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "block/node_bitmap.h"
#include "block/sim.h"
#include "qcow2/inspect.h"
#include "qcow2/map.h"
#include "qcow2/measure.h"
#include "qcow2/qcow2.h"
#include "qcow2/rebase.h"
#include "qcow2/repair.h"
#include "qcow2/snapshot.h"

#define BLOCK 4096

static void mix(struct tool_run *r, const void *data, size_t len)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i++)
        r->digest = (r->digest ^ p[i]) * UINT64_C(0x100000001b3);
}

static void mix_text(struct tool_run *r, const char *text)
{
    mix(r, text ? text : "-", text ? strlen(text) + 1 : 1);
}

static bool result(struct tool_run *r, int code, const char *what)
{
    return code == 0 || err_set_errno(&r->e, -code, "%s", what);
}

struct session {
    struct node *file, *second, *n;
};

static bool session_open(struct tool_run *r, struct session *s, struct qc_open_opts o)
{
    *s = (struct session){.file = sim_open(r->disk, o.read_only, &r->e)};
    s->second = s->file ? sim_open_second(r->disk, o.read_only, &r->e) : NULL;
    mem_fail_nth(r->mem_nth, r->mem_sticky);
    if (!s->second)
        return false;
    o.no_backing = true;
    o.data_file = s->second;
    s->n = qc_open(s->file, &o, &r->e);
    return s->n != NULL;
}

static void calm(struct tool_run *r)
{
    r->mem_fired = r->mem_nth && mem_count() >= r->mem_nth;
    mem_fail_nth(0, 0);
}

/* The disturbance lasts until everything is closed. */
static bool session_close(struct tool_run *r, struct session *s, bool ok)
{
    if (s->n)
        node_unref(s->n);
    else
        node_unref(s->file);
    node_unref(s->second);
    calm(r);
    return ok;
}

static bool read_all(struct tool_run *r, struct node *n)
{
    static uint8_t buf[BLOCK];
    for (uint64_t off = 0; off < n->size; off += BLOCK) {
        uint64_t len = min_u64(BLOCK, n->size - off);
        if (!result(r, node_read(n, off, buf, len), "read"))
            return false;
        mix(r, buf, len);
    }
    return true;
}

static bool look_at(struct tool_run *r, struct node *n)
{
    struct extents x;
    extents_init(&x, 10000);
    int code = node_status(n, 0, n->size, &x);
    bool ok = result(r, code, "status") && read_all(r, n);
    extents_free(&x);
    return ok;
}

static bool tool_read(struct tool_run *r)
{
    struct session s;
    bool ok = session_open(r, &s, (struct qc_open_opts){.read_only = true}) && look_at(r, s.n);
    return session_close(r, &s, ok);
}

static bool tool_read_snapshot(struct tool_run *r)
{
    struct session s;
    const struct qc_snapshot_ref ref = {.any = "1"};
    bool ok = session_open(r, &s, (struct qc_open_opts){.read_only = true, .snapshot = &ref}) &&
              look_at(r, s.n);
    return session_close(r, &s, ok);
}

static bool tool_map(struct tool_run *r)
{
    struct session s;
    struct qc_extent x;
    bool ok = session_open(r, &s, (struct qc_open_opts){.read_only = true});
    for (uint64_t off = 0; ok && off < s.n->size; off += x.length) {
        ok = result(r, qc_map(s.n, off, s.n->size - off, &x), "map");
        if (ok) {
            uint64_t v[] = {x.start, x.length, x.depth, x.present, x.zero, x.data, x.offset};
            mix(r, v, sizeof(v));
        }
    }
    return session_close(r, &s, ok);
}

static bool tool_measure(struct tool_run *r)
{
    struct session s;
    struct qc_measured m;
    const struct qc_create_opts o = {.cluster_size = 4096, .preallocation = QC_PREALLOC_OFF};
    bool ok = session_open(r, &s, (struct qc_open_opts){.read_only = true}) &&
              qc_measure(s.n, &o, &m, &r->e);
    if (ok)
        mix(r, &m, sizeof(m));
    return session_close(r, &s, ok);
}

static bool tool_info(struct tool_run *r)
{
    struct qc_image_info info = {0};
    struct node *file = sim_open(r->disk, true, &r->e);
    mem_fail_nth(r->mem_nth, r->mem_sticky);
    bool ok = qc_inspect(file, &info, &r->e);
    if (ok) {
        mix_text(r, info.backing_name);
        mix_text(r, info.data_file);
        for (size_t i = 0; i < info.n_snapshots; i++)
            mix_text(r, info.snapshots[i].name);
        for (size_t i = 0; i < info.n_bitmaps; i++)
            mix_text(r, info.bitmaps[i].name);
        uint64_t need = qc_measure_bitmaps(&info, 65536);
        mix(r, &need, sizeof(need));
    }
    qc_image_info_free(&info);
    node_unref(file);
    calm(r);
    return ok;
}

static bool tool_check(struct tool_run *r)
{
    const struct qc_check_opts o = {0};
    struct qc_check_report c = {0};
    struct node *file = sim_open(r->disk, true, &r->e);
    mem_fail_nth(r->mem_nth, r->mem_sticky);
    bool ok = qc_check(file, &o, &c, &r->e);
    node_unref(file);
    calm(r);
    mix(r, &c, sizeof(c));
    return ok;
}

static bool repair(struct tool_run *r, enum qc_fix fix, bool dry_run)
{
    const struct qc_repair_opts o = {.fix = fix, .dry_run = dry_run};
    struct qc_repair_report c = {0};
    struct node *file = sim_open(r->disk, dry_run, &r->e);
    mem_fail_nth(r->mem_nth, r->mem_sticky);
    bool ok = qc_repair(file, &o, &c, &r->e);
    node_unref(file);
    calm(r);
    mix(r, &c, sizeof(c));
    return ok;
}

static bool tool_repair_dry(struct tool_run *r)
{
    return repair(r, QC_FIX_ALL, true);
}

static bool tool_repair_leaks(struct tool_run *r)
{
    return repair(r, QC_FIX_LEAKS, false);
}

static bool tool_repair_all(struct tool_run *r)
{
    return repair(r, QC_FIX_ALL, false);
}

static bool tool_write(struct tool_run *r)
{
    static uint8_t buf[TOOL_WRITTEN];
    struct session s;
    bool ok = session_open(r, &s, (struct qc_open_opts){0});
    memset(buf, 7, sizeof(buf));
    ok = ok && result(r, node_write(s.n, 0, buf, min_u64(sizeof(buf), s.n->size), 0), "write") &&
         result(r, node_flush(s.n), "flush") && node_bitmap_store(s.n, &r->e);
    return session_close(r, &s, ok);
}

static bool resize(struct tool_run *r, uint64_t by, struct qc_truncate_opts o)
{
    struct session s;
    bool ok = session_open(r, &s, (struct qc_open_opts){0});
    if (ok)
        ok =
            qc_truncate(s.n, o.shrink ? round_down(s.n->size / 2, 512) : s.n->size + by, &o, &r->e);
    return session_close(r, &s, ok);
}

static bool tool_grow(struct tool_run *r)
{
    return resize(r, 512 << 10, (struct qc_truncate_opts){0});
}

static bool tool_grow_metadata(struct tool_run *r)
{
    return resize(r, 48 << 10, (struct qc_truncate_opts){.preallocation = QC_PREALLOC_METADATA});
}

static bool tool_grow_full(struct tool_run *r)
{
    return resize(r, 20 << 10, (struct qc_truncate_opts){.preallocation = QC_PREALLOC_FULL});
}

static bool tool_shrink(struct tool_run *r)
{
    return resize(r, 0, (struct qc_truncate_opts){.shrink = true});
}

static bool tool_empty(struct tool_run *r)
{
    struct session s;
    bool ok = session_open(r, &s, (struct qc_open_opts){0}) && qc_make_empty(s.n, &r->e);
    return session_close(r, &s, ok);
}

static bool tool_set_backing(struct tool_run *r)
{
    struct session s;
    bool ok = session_open(r, &s, (struct qc_open_opts){0}) &&
              qc_set_backing(s.n, "other.raw", "raw", &r->e);
    return session_close(r, &s, ok);
}

static bool tool_bitmap_add(struct tool_run *r)
{
    struct session s;
    bool ok = session_open(r, &s, (struct qc_open_opts){0}) &&
              node_bitmap_add(s.n, "new", 512, true, &r->e) &&
              node_bitmap_add(s.n, "second", 65536, true, &r->e) && node_bitmap_store(s.n, &r->e);
    return session_close(r, &s, ok);
}

static bool tool_bitmap_remove(struct tool_run *r)
{
    struct session s;
    bool ok = session_open(r, &s, (struct qc_open_opts){0}) &&
              node_bitmap_remove(s.n, "one", &r->e) && node_bitmap_store(s.n, &r->e);
    return session_close(r, &s, ok);
}

static bool tool_snapshot_create(struct tool_run *r)
{
    struct session s;
    const struct qc_new_snapshot o = {.name = "new"};
    bool ok =
        session_open(r, &s, (struct qc_open_opts){0}) && qc_snapshot_create(s.n, &o, NULL, &r->e);
    return session_close(r, &s, ok);
}

static bool tool_snapshot_apply(struct tool_run *r)
{
    struct session s;
    const struct qc_snapshot_ref ref = {.any = "1"};
    bool ok =
        session_open(r, &s, (struct qc_open_opts){0}) && qc_snapshot_apply(s.n, &ref, true, &r->e);
    return session_close(r, &s, ok);
}

static bool tool_snapshot_delete(struct tool_run *r)
{
    struct session s;
    const struct qc_snapshot_ref ref = {.any = "1"};
    bool ok = session_open(r, &s, (struct qc_open_opts){0}) && qc_snapshot_delete(s.n, &ref, &r->e);
    return session_close(r, &s, ok);
}

static bool make(struct tool_run *r, struct qc_create_opts o)
{
    struct node *file = sim_open(r->disk, false, &r->e), *second = NULL;
    if (o.data_file)
        second = sim_open_second(r->disk, false, &r->e);
    mem_fail_nth(r->mem_nth, r->mem_sticky);
    o.size = 200 << 10;
    bool ok = qc_create(file, &o, &r->e) && (!second || qc_create_data(second, &o, &r->e));
    node_unref(second);
    node_unref(file);
    calm(r);
    return ok;
}

static bool tool_create(struct tool_run *r)
{
    return make(r, (struct qc_create_opts){.backing_name = "b", .backing_format = "raw"});
}

static bool tool_create_small(struct tool_run *r)
{
    return make(r, (struct qc_create_opts){.cluster_size = 512,
                                           .refcount_bits = 1,
                                           .zstd = true,
                                           .preallocation = QC_PREALLOC_METADATA});
}

static bool tool_create_v2(struct tool_run *r)
{
    return make(r, (struct qc_create_opts){
                       .version = 2, .cluster_size = 4096, .preallocation = QC_PREALLOC_FULL});
}

static bool tool_create_extended(struct tool_run *r)
{
    return make(r, (struct qc_create_opts){.cluster_size = 16384,
                                           .extended_l2 = true,
                                           .preallocation = QC_PREALLOC_FALLOC});
}

static bool tool_create_data(struct tool_run *r)
{
    return make(r, (struct qc_create_opts){.cluster_size = 4096,
                                           .data_file = "data.raw",
                                           .data_file_raw = true,
                                           .preallocation = QC_PREALLOC_FULL});
}

const struct tool tools[] = {
    {"read", TOOL_LOOKS, tool_read},
    {"read-snapshot", TOOL_LOOKS, tool_read_snapshot},
    {"map", TOOL_LOOKS, tool_map},
    {"measure", TOOL_LOOKS, tool_measure},
    {"info", TOOL_LOOKS, tool_info},
    {"check", TOOL_LOOKS, tool_check},
    {"repair-dry", TOOL_LOOKS, tool_repair_dry},
    {"repair-leaks", TOOL_REPAIRS, tool_repair_leaks},
    {"repair-all", TOOL_REPAIRS, tool_repair_all},
    {"write", TOOL_WRITES, tool_write},
    {"grow", TOOL_WRITES, tool_grow},
    {"grow-metadata", TOOL_WRITES, tool_grow_metadata},
    {"grow-full", TOOL_WRITES, tool_grow_full},
    {"shrink", TOOL_WRITES, tool_shrink},
    {"empty", TOOL_ALTERS, tool_empty},
    {"set-backing", TOOL_WRITES, tool_set_backing},
    {"bitmap-add", TOOL_WRITES, tool_bitmap_add},
    {"bitmap-remove", TOOL_WRITES, tool_bitmap_remove},
    {"snapshot-create", TOOL_WRITES, tool_snapshot_create},
    {"snapshot-apply", TOOL_ALTERS, tool_snapshot_apply},
    {"snapshot-delete", TOOL_WRITES, tool_snapshot_delete},
    {"create", TOOL_MAKES, tool_create},
    {"create-small", TOOL_MAKES, tool_create_small},
    {"create-v2", TOOL_MAKES, tool_create_v2},
    {"create-extended", TOOL_MAKES, tool_create_extended},
    {"create-data", TOOL_MAKES, tool_create_data},
    {NULL, TOOL_LOOKS, NULL},
};
