/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The driver fault: our own filter, under a format (layer host) or above it (layer guest), with all
 * that rule files know. Filters of both sides of one format share an engine, so that rules, states
 * and counters are one: whichever is above joins the one below.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/blockdev.h"
#include "faults/cache.h"
#include "faults/live.h"
#include "filters/filters.h"

#define TRACE_SIZE (UINT64_C(64) << 20)
#define TRACE_SIZE_MIN 4096

static void show_warning(void *arg, const char *text)
{
    log_warn("%s", text);
}

/* Without a filter under the format nobody hears its events. */
static bool check_guest(const struct rules *rules, struct err **errp)
{
    const struct cache_conf *cache = rules_cache(rules);
    struct rules_info info;

    for (unsigned i = 0; rules_info(rules, i, &info); i++)
        if (strcmp(info.section, "fault") != 0 || info.layer == FAULT_HOST)
            return err_set(errp, EINVAL,
                           "%s: it is about requests of the format: put a node with driver 'fault' "
                           "under it, and the rules there",
                           info.where);
    return !cache->on || cache->layer == FAULT_GUEST ||
           err_set(errp, EINVAL,
                   "[cache]: its layer is host: put a node with driver 'fault' under the format");
}

static bool load(struct blockdev_open *o, bool guest, struct rules *rules, struct err **errp)
{
    const char *config = arg_str(o->options, "config"), *text = arg_str(o->options, "rules");
    const json_t *list = arg_get(o->options, "faults"), *one;
    const char *who;
    size_t i;

    if (config) {
        AUTO_FREE char *path = path_allow(o->ctl, config, errp);

        if (!path || !rules_load_file(rules, path, errp))
            return false;
    }
    if (text && !rules_load(rules, "rules", text, strlen(text), errp))
        return false;
    json_array_foreach(list, i, one)
    {
        AUTO_FREE char *label = mem_printf("faults.%zu", i);

        if (!label || !rules_load_rule(rules, json_string_value(one), label, errp))
            return label ? false : err_set(errp, ENOMEM, "out of memory for fault rules");
    }
    if (guest && !check_guest(rules, errp))
        return false;
    who = rules_need_cache(rules);
    if (who && !rules_cache(rules)->on)
        return err_set(errp, EINVAL,
                       "%s: it needs a disk with a volatile cache: add a section [cache]", who);
    rules_warn(rules, show_warning, NULL);
    return true;
}

static bool start_trace(struct blockdev_open *o, struct node *n, struct err **errp)
{
    const char *name = arg_str(o->options, "trace");
    uint64_t size = (uint64_t)arg_int(o->options, "trace-size", (int64_t)TRACE_SIZE);
    AUTO_FREE char *path = name ? path_allow(o->ctl, name, errp) : NULL;

    if (!name)
        return true;
    if (path && size < TRACE_SIZE_MIN)
        return err_set(errp, EINVAL, "'trace-size' must be at least 4k");
    return path && fault_trace_start(n, path, size, errp);
}

/* The engine of a fresh filter: the one of the filter below, or a new one. A reference. */
static struct rules *engine(struct blockdev_open *o, bool guest, struct node *lower,
                            struct err **errp)
{
    struct rules *r;

    if (lower) {
        static const char *const below[] = {"config", "rules", "faults", "seed", "trace"};

        for (size_t i = 0; i < sizeof(below) / sizeof(below[0]); i++)
            if (arg_has(o->options, below[i])) {
                err_set(errp, EINVAL,
                        "'%s' belongs to the fault filter below the format, whose rules this one "
                        "shares",
                        below[i]);
                return NULL;
            }
        return rules_ref(fault_rules(lower));
    }
    r = path_rules_new(o->ctl);
    if (!r)
        err_set(errp, ENOMEM, "out of memory for fault rules");
    if (r && arg_has(o->options, "seed"))
        rules_set_seed(r, (uint64_t)arg_int(o->options, "seed", 0));
    if (r && load(o, guest, r, errp))
        return r;
    rules_free(r);
    return NULL;
}

static struct node *open_fault(struct blockdev_open *o, struct err **errp)
{
    const char *layer = arg_str(o->options, "layer");
    bool guest = layer && strcmp(layer, "guest") == 0;
    struct node *lower = guest ? fault_lower(o->child[0]) : NULL, *n;
    struct rules *r;

    if (fault_find(o->child[0]) && fault_find(o->child[0]) != lower) {
        err_set(errp, EINVAL, "There is a fault filter of this layer below it already");
        return NULL;
    }
    r = engine(o, guest, lower, errp);
    if (!r)
        return NULL;
    n = fault_stack_open(node_ref(o->child[0]), r, guest ? FAULT_GUEST : FAULT_HOST, errp);
    if (!n) {
        node_unref(o->child[0]);
        rules_free(r);
        return NULL;
    }
    if (guest)
        rules_free(r); /* the node has its own reference */
    n->read_only |= o->read_only;
    if (!lower)
        log_info("%s: faults are drawn with seed 0x%" PRIx64, n->name, rules_seed(r));
    if (start_trace(o, n, errp))
        return n;
    node_unref(n);
    return NULL;
}

const struct blockdev_driver blockdev_fault = {
    .name = "fault",
    .child = {{"file", "file", ROLE_FILTER, false}},
    .open = open_fault,
};
