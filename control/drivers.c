/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The drivers of blockdev-add: their options become calls of the constructors of the rooms below.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "block/file.h"
#include "block/null.h"
#include "control/blockdev.h"
#include "faults/cache.h"
#include "filters/filters.h"
#include "qcow2/qcow2.h"

/* The constructors take over a reference on success only. */
static struct node *give(struct node *child, struct node *made)
{
    if (!made)
        node_unref(child);
    return made;
}

/* Errors that QEMU words in one way; all others carry a better text of their own. */
static bool is_about_opening(int code)
{
    return code == ENOENT || code == EACCES || code == EPERM || code == EROFS || code == ENOTDIR;
}

static struct node *open_file(struct blockdev_open *o, struct err **errp)
{
    const char *locking = arg_str(o->options, "locking");
    AUTO_FREE char *path = path_allow(o->ctl, arg_str(o->options, "filename"), errp);
    struct file_opts fo = {
        .path = path,
        .read_only = o->read_only,
        .direct = o->direct,
        .no_flush = o->no_flush,
        .no_lock = o->force_share || (locking && strcmp(locking, "off") == 0),
    };
    struct err *e = NULL;
    struct node *n;

    if (!path)
        return NULL;
    if (*path == '\0') {
        err_set(errp, EINVAL, "The 'file' block driver requires a file name");
        return NULL;
    }
    n = file_open(&fo, &e);
    if (!n && !o->read_only && o->auto_read_only &&
        (err_code(e) == EACCES || err_code(e) == EROFS || err_code(e) == EPERM)) {
        fo.read_only = true;
        err_free(e);
        e = NULL;
        n = file_open(&fo, &e);
    }
    if (!n && is_about_opening(err_code(e))) {
        err_set_errno(errp, err_code(e), "Could not open '%s'", arg_str(o->options, "filename"));
        err_free(e);
    } else {
        err_move(errp, e);
    }
    return n;
}

const struct blockdev_driver blockdev_file = {.name = "file", .open = open_file};

static struct node *open_null(struct blockdev_open *o, struct err **errp)
{
    int64_t size = arg_int(o->options, "size", (int64_t)GiB);

    if (size < 0) {
        err_set(errp, EINVAL, "size is invalid");
        return NULL;
    }
    return null_open((uint64_t)size, arg_bool(o->options, "read-zeroes", false),
                     arg_int(o->options, "latency-ns", 0), o->read_only, errp);
}

const struct blockdev_driver blockdev_null_co = {.name = "null-co", .open = open_null};
const struct blockdev_driver blockdev_null_aio = {.name = "null-aio", .open = open_null};

static struct node *open_raw(struct blockdev_open *o, struct err **errp)
{
    struct node *child = o->child[0], *n;
    int64_t offset = arg_int(o->options, "offset", 0), size = arg_int(o->options, "size", -1);

    if (!arg_has(o->options, "offset") && !arg_has(o->options, "size"))
        return give(child, raw_open(node_ref(child), o->read_only, errp));
    if (offset < 0 || (arg_has(o->options, "size") && size < 0)) {
        err_set(errp, EINVAL, "Invalid value for '%s': it is negative",
                offset < 0 ? "offset" : "size");
        return NULL;
    }
    if ((uint64_t)offset > child->size) {
        err_set(errp, EINVAL,
                "Offset (%" PRId64 ") cannot be greater than size of the containing file (%" PRIu64
                ")",
                offset, child->size);
        return NULL;
    }
    if (size > 0 && (uint64_t)size > child->size - (uint64_t)offset) {
        err_set(errp, EINVAL,
                "The sum of offset (%" PRId64 ") and size (%" PRId64
                ") has to be smaller or equal to the  actual size of the containing file (%" PRIu64
                ")",
                offset, size, child->size);
        return NULL;
    }
    if (size == 0) {
        err_set(errp, EINVAL, "A raw node of size 0 has nothing to show; leave 'size' out for all");
        return NULL;
    }
    n = offset_open(node_ref(child), (uint64_t)offset, size < 0 ? 0 : (uint64_t)size, o->read_only,
                    errp);
    return give(child, n);
}

const struct blockdev_driver blockdev_raw = {
    .name = "raw",
    .child = {{"file", "file", ROLE_FILTER, false}},
    .open = open_raw,
};

static struct node *open_qcow2(struct blockdev_open *o, struct err **errp)
{
    struct qc_open_opts qo = {
        .path = o->child[0]->name,
        .read_only = o->read_only,
        .no_backing = o->no_child[1],
        .backing = o->child[1],
        .direct = o->direct,
        .no_lock = o->force_share,
        .l2_cache_bytes = (uint64_t)arg_int(o->options, "l2-cache-size", 0),
        .refcount_cache_bytes = (uint64_t)arg_int(o->options, "refcount-cache-size", 0),
    };
    struct node *n = give(o->child[0], qc_open(node_ref(o->child[0]), &qo, errp));
    struct qc_info info;

    if (!n || !o->child[1])
        return n;
    qc_get_info(n, &info);
    if (info.backing_name)
        return n;
    err_set(errp, ENOTSUP,
            "The image names no backing file, so that it can be given none; make it "
            "with one (qemu-img create -b)");
    node_unref(n);
    return NULL;
}

const struct blockdev_driver blockdev_qcow2 = {
    .name = "qcow2",
    .child = {{"file", "file", ROLE_FORMAT, false}, {"backing", "backing", ROLE_BACKING, true}},
    .open = open_qcow2,
};

/* One rule as a section of a rule file, whose reader checks the values. */
static char *rule_text(const char *section, const json_t *rule)
{
    char *text = mem_printf("[%s]\n", section);
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)rule, key, v)
    {
        char *longer;

        if (json_is_string(v))
            longer = mem_printf("%s%s = \"%s\"\n", text, key, json_string_value(v));
        else if (json_is_boolean(v))
            longer = mem_printf("%s%s = \"%s\"\n", text, key, json_is_true(v) ? "on" : "off");
        else
            longer = mem_printf("%s%s = \"%" JSON_INTEGER_FORMAT "\"\n", text, key,
                                json_integer_value(v));
        mem_free(text);
        text = longer;
        if (!text)
            break;
    }
    return text;
}

static bool load_list(struct rules *rules, const char *section, const json_t *list,
                      struct err **errp)
{
    size_t i;
    json_t *rule;

    json_array_foreach(list, i, rule)
    {
        AUTO_FREE char *text = rule_text(section, rule);
        AUTO_FREE char *where = mem_printf("%s.%zu", section, i);

        if (!text || !where)
            return err_set(errp, ENOMEM, "out of memory for fault rules");
        if (!rules_load(rules, where, text, strlen(text), errp))
            return false;
    }
    return true;
}

/* What needs more than one node under the format. */
static bool check_rules(const struct rules *rules, struct err **errp)
{
    if (rules_cache(rules)->on || rules_need_cache(rules))
        return err_set(errp, ENOTSUP,
                       "Driver 'blkdebug' has no [cache] and cuts no power; driver 'fault' does");
    return true;
}

static bool load_rules(struct blockdev_open *o, struct rules *rules, struct err **errp)
{
    const char *config = arg_str(o->options, "config");

    if (config && *config) {
        AUTO_FREE char *path = path_allow(o->ctl, config, errp);

        if (!path || !rules_load_file(rules, path, errp))
            return false;
    }
    return load_list(rules, "inject-error", arg_get(o->options, "inject-error"), errp) &&
           load_list(rules, "set-state", arg_get(o->options, "set-state"), errp) &&
           check_rules(rules, errp);
}

/* Negative numbers become huge ones, which the filter refuses in blkdebug's words. */
static struct fault_limits limits_of(const json_t *options)
{
    return (struct fault_limits){
        .align = (uint64_t)arg_int(options, "align", 0),
        .max_transfer = (uint64_t)arg_int(options, "max-transfer", 0),
        .opt_write_zero = (uint64_t)arg_int(options, "opt-write-zero", 0),
        .max_write_zero = (uint64_t)arg_int(options, "max-write-zero", 0),
        .opt_discard = (uint64_t)arg_int(options, "opt-discard", 0),
        .max_discard = (uint64_t)arg_int(options, "max-discard", 0),
    };
}

static struct node *open_blkdebug(struct blockdev_open *o, struct err **errp)
{
    struct rules *rules = path_rules_new(o->ctl);
    struct fault_limits limits = limits_of(o->options);
    struct node *n = NULL;

    if (!rules) {
        err_set(errp, ENOMEM, "out of memory for fault rules");
        return NULL;
    }
    if (load_rules(o, rules, errp))
        n = give(o->child[0], fault_open(node_ref(o->child[0]), rules, errp));
    if (!n) {
        rules_free(rules);
        return NULL;
    }
    if (!fault_set_limits(n, &limits, errp)) {
        node_unref(n);
        return NULL;
    }
    n->read_only |= o->read_only;
    return n;
}

const struct blockdev_driver blockdev_blkdebug = {
    .name = "blkdebug",
    .child = {{"image", "image", ROLE_FILTER, false}},
    .open = open_blkdebug,
};
