/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Building serve's node graph from its options, from the file upwards.
 */
#include "cli/serve_graph.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "block/file.h"
#include "faults/replay.h"
#include "filters/cache.h"
#include "filters/filters.h"
#include "qcow2/qcow2.h"

#define TRACE_SIZE (UINT64_C(64) << 20)

/* Each step puts a node on top of *top, which owns its child from then on. */

static void show_warning(void *arg, const char *text)
{
    log_warn("%s", text);
}

static bool load_replay(const struct serve_export *x, struct rules *rules,
                        struct fault_limits *limits, struct err **errp)
{
    struct replay_info info;

    if (!rules_load_trace(rules, x->fault_replay, limits, errp))
        return false;
    rules_replay_info(rules, &info);
    log_info("%s decides: %" PRIu64 " requests, %" PRIu64
             " faults, written with the seed 0x%" PRIx64 "%s",
             x->fault_replay, info.recorded, info.faults_recorded, rules_seed(rules),
             info.full ? "; the trace was full before the end" : "");
    return true;
}

static bool load_faults(const struct serve_export *x, struct rules *rules,
                        struct fault_limits *limits, struct err **errp)
{
    bool named = x->blkdebug_config && *x->blkdebug_config;
    const char *file = named ? x->blkdebug_config : x->faults;

    if (x->fault_replay)
        return load_replay(x, rules, limits, errp);
    if (file && !rules_load_file(rules, file, errp))
        return false;
    if (x->blkdebug && !rules_load_blkdebug(rules, x->blkdebug->v, x->blkdebug->n, limits, errp))
        return false;
    for (unsigned i = 0; i < x->n_fault; i++)
        if (!rules_load_option(rules, x->fault[i], i + 1, errp))
            return false;
    if (x->name && !rules_check_exports(rules, &x->name, 1, errp))
        return false;
    if (x->fault_seed_given)
        rules_set_seed(rules, x->fault_seed);
    rules_warn(rules, show_warning, NULL);
    if (x->fault_trace || rules_has_layer(rules, FAULT_HOST) || rules_has_layer(rules, FAULT_GUEST))
        log_info("faults are drawn with --fault-seed 0x%" PRIx64, rules_seed(rules));
    return true;
}

/* Said at the start, not when the power shall be cut. */
static bool check_cache(const struct rules *rules, struct err **errp)
{
    const char *who = rules_need_cache(rules);

    return !who || rules_cache(rules)->on ||
           err_set(errp, EINVAL, "%s: it needs a disk with a volatile cache: add a section [cache]",
                   who);
}

static bool add_cache(struct serve_graph *g, const struct rules *rules, enum fault_layer layer,
                      struct err **errp)
{
    struct cache_conf conf = *rules_cache(rules);
    struct node *n;

    if (!conf.on || conf.layer != layer)
        return true;
    conf.seed = rules_seed(rules);
    n = cache_open(g->top, &conf, errp);
    if (!n)
        return false;
    g->top = g->cache = n;
    return true;
}

static bool add_faults(const struct serve_export *x, struct serve_graph *g, struct err **errp)
{
    struct rules *rules = rules_new(fault_names());
    struct fault_limits limits = {0};
    struct node *n = NULL;

    if (!rules)
        return err_set(errp, ENOMEM, "out of memory for fault rules");
    if (load_faults(x, rules, &limits, errp) && check_cache(rules, errp) &&
        add_cache(g, rules, FAULT_HOST, errp))
        n = fault_open(g->top, rules, errp);
    if (!n) {
        rules_free(rules);
        return false;
    }
    g->top = g->host_faults = n;
    g->rules = rules;
    if (g->cache)
        fault_set_cache(n, g->cache);
    return fault_set_limits(n, &limits, errp) &&
           (!x->fault_trace ||
            fault_trace_start(n, x->fault_trace,
                              x->fault_trace_size ? x->fault_trace_size : TRACE_SIZE, errp));
}

/* A cache of the guest's disk lies between its faults and the format. */
static bool add_guest_cache(struct serve_graph *g, struct err **errp)
{
    if (!add_cache(g, g->rules, FAULT_GUEST, errp))
        return false;
    if (g->cache)
        fault_set_cache(g->host_faults, g->cache);
    return true;
}

static bool add_guest_faults(struct serve_graph *g, struct err **errp)
{
    struct node *n = fault_guest_open(g->top, g->rules, errp);

    if (!n)
        return false;
    g->top = g->guest_faults = n;
    if (g->cache)
        fault_set_cache(n, g->cache);
    return true;
}

static bool add_qcow2(const struct serve_export *x, struct node **top, struct err **errp)
{
    struct qc_open_opts qo = {
        .path = x->image,
        .backing_dir = x->backing_dir,
        .read_only = x->read_only || x->temporary,
        .direct = x->cache == CACHE_NONE,
        .no_lock = x->no_lock,
        .snapshot = x->has_snapshot ? &x->snapshot : NULL,
        .l2_cache_bytes = x->l2_cache_bytes,
    };
    struct node *n = qc_open(*top, &qo, errp);

    if (!n)
        return false;
    *top = n;
    return true;
}

/* Not to guess the format, but because a guest would see, and overwrite, the container. */
static bool check_raw(const struct serve_export *x, struct node *top, struct err **errp)
{
    uint8_t magic[4];

    if (top->size < sizeof(magic) || node_read(top, 0, magic, sizeof(magic)) != 0 ||
        memcmp(magic, "QFI\xfb", sizeof(magic)) != 0)
        return true;
    if (x->format_assumed)
        return err_set(
            errp, EINVAL,
            "what is the format of '%s'? It begins like a qcow2 image, which a guest may "
            "have written there: say -f qcow2 or -f raw",
            x->image);
    log_warn("'%s' is served as a raw disk, as asked, but it begins like a qcow2 image; for the "
             "disk inside of it say -f qcow2",
             x->image);
    return true;
}

static bool add_offset(const struct serve_export *x, struct node **top, struct err **errp)
{
    if (x->offset >= (*top)->size)
        return err_set(errp, EINVAL, "--offset %llu is past the end of '%s', which has %llu bytes",
                       (unsigned long long)x->offset, x->image, (unsigned long long)(*top)->size);
    struct node *n = offset_open(*top, x->offset, 0, x->read_only, errp);
    if (!n)
        return false;
    *top = n;
    return true;
}

static bool add_cbw(struct serve_graph *g, struct err **errp)
{
    struct node *n = cbw_open(g->top, errp);

    if (!n)
        return false;
    g->top = g->cbw = n;
    return true;
}

static bool add_format(const struct serve_export *x, struct serve_graph *g, struct err **errp)
{
    if (x->format == FORMAT_QCOW2) {
        if (!add_qcow2(x, &g->top, errp))
            return false;
        g->format = g->top;
    }
    if (x->temporary && g->cache)
        return err_set(errp, EINVAL,
                       "-s and [cache] exclude each other: what is lost at a power "
                       "cut would not be what is shown then");
    if (x->temporary && !serve_overlay_add(x, g, errp))
        return false;
    g->top->detect_zeroes = x->detect_zeroes;
    return true;
}

/* What lies above the cache in the graph, and is no fault, comes again above the state. */
struct node *serve_graph_crash(void *arg, unsigned i, struct err **errp)
{
    struct serve_graph *g = arg;
    const struct serve_export *x = g->x;
    struct node *top = cache_crash_open(g->cache, i, errp);

    if (!top || rules_cache(g->rules)->layer == FAULT_GUEST)
        return top;
    if ((x->format == FORMAT_QCOW2 && !add_qcow2(x, &top, errp)) ||
        (x->offset > 0 && !add_offset(x, &top, errp))) {
        node_unref(top);
        return NULL;
    }
    return top;
}

/* With a control socket rules may come later: two filters without rules cost some nanoseconds. */
static bool wants_faults(const struct serve_export *x)
{
    return serve_has_faults(x) || x->faults_may_come;
}

/* A trace shall have its requests, too. */
static bool wants_guest_faults(const struct serve_export *x, const struct serve_graph *g)
{
    return g->rules && (x->faults_may_come || x->fault_trace || x->fault_replay ||
                        rules_has_layer(g->rules, FAULT_GUEST));
}

bool serve_graph_open(const struct serve_export *x, struct serve_graph *g, struct err **errp)
{
    struct file_opts fo = {
        .path = x->image,
        .read_only = x->read_only || x->temporary,
        .direct = x->cache == CACHE_NONE,
        .no_lock = x->no_lock,
        .no_flush = x->cache == CACHE_UNSAFE,
    };

    *g = (struct serve_graph){.x = x};
    g->top = file_open(&fo, errp);
    if (!g->top)
        return false;
    if ((x->format == FORMAT_RAW && !check_raw(x, g->top, errp)) ||
        (wants_faults(x) && !add_faults(x, g, errp)) || !add_format(x, g, errp) ||
        (x->offset > 0 && !add_offset(x, &g->top, errp)) ||
        (g->rules && !add_guest_cache(g, errp)) ||
        (wants_guest_faults(x, g) && !add_guest_faults(g, errp)) ||
        (x->checkpoints && !add_cbw(g, errp)) ||
        (x->n_bitmaps > 0 && !serve_bitmaps_add(x, g, errp))) {
        node_unref(g->top);
        serve_graph_close(g);
        return false;
    }
    return true;
}

bool serve_graph_is_cut(const struct serve_graph *g)
{
    return g->cache && cache_is_cut(g->cache);
}

void serve_graph_let_hang(struct serve_graph *g, bool may)
{
    if (g->host_faults)
        fault_let_hang(g->host_faults, may);
    if (g->guest_faults)
        fault_let_hang(g->guest_faults, may);
}

void serve_graph_close(struct serve_graph *g)
{
    mem_free(g->bitmaps);
    *g = (struct serve_graph){0};
}
