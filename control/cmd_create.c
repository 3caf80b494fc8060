/* SPDX-License-Identifier: BSD-3-Clause
 *
 * blockdev-create: a job that makes a file, or formats a node. As in QEMU, what is wrong with its
 * options beyond their form is told by the job, which stays until it is dismissed.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "block/file.h"
#include "control/blockdev.h"
#include "control/job.h"
#include "qcow2/qcow2.h"

static const struct qtype q_create_driver = {
    .kind = Q_ENUM, .name = "BlockdevCreateDriver", .values = Q_NAMES("file", "qcow2")};
static const struct qtype q_create_file = {
    .kind = Q_STRUCT,
    .name = "BlockdevCreateOptionsFile",
    .member = Q_MEMBERS({"filename", &q_str, false}, {"size", &q_size, false})};
static const struct qtype q_version = {
    .kind = Q_ENUM, .name = "BlockdevQcow2Version", .values = Q_NAMES("v2", "v3")};
static const struct qtype q_backing_format = {
    .kind = Q_ENUM, .name = "BlockdevBackingFormat", .values = Q_NAMES("qcow2", "raw")};
static const struct qtype q_compression = {
    .kind = Q_ENUM, .name = "Qcow2CompressionType", .values = Q_NAMES("zlib", "zstd")};
static const struct qtype q_create_qcow2 = {
    .kind = Q_STRUCT,
    .name = "BlockdevCreateOptionsQcow2",
    .member =
        Q_MEMBERS({"file", &q_blockdev_ref, false}, {"size", &q_size, false},
                  {"version", &q_version, true}, {"backing-file", &q_str, true},
                  {"backing-fmt", &q_backing_format, true}, {"cluster-size", &q_size, true},
                  {"refcount-bits", &q_uint32, true}, {"lazy-refcounts", &q_bool, true},
                  {"extended-l2", &q_bool, true}, {"compression-type", &q_compression, true})};
static const struct qtype q_create_options = {
    .kind = Q_UNION,
    .name = "BlockdevCreateOptions",
    .member = Q_MEMBERS({"driver", &q_create_driver, false}),
    .tag = "driver",
    .variant =
        (const struct qvariant[]){{"file", &q_create_file}, {"qcow2", &q_create_qcow2}, {0}}};
static const struct qtype create_args = {
    .kind = Q_STRUCT,
    .name = "blockdev-create-arg",
    .member = Q_MEMBERS({"job-id", &q_str, false}, {"options", &q_create_options, false})};

struct create {
    struct control *ctl;
    json_t *options;
    struct graph_edge *use; /* of the node that is formatted */
};

static bool create_file(struct create *w, struct err **errp)
{
    const char *name = arg_str(w->options, "filename");
    AUTO_FREE char *path = path_allow(w->ctl, name, errp);
    struct file_opts fo = {.path = path, .create = true, .truncate = true};
    struct node *n = path ? file_open(&fo, errp) : NULL;
    int ret;

    if (!n)
        return false;
    ret = node_truncate(n, (uint64_t)arg_int(w->options, "size", 0));
    if (ret == 0)
        ret = node_flush(n);
    node_unref(n);
    return ret == 0 || err_set_errno(errp, -ret, "Could not resize file '%s'", name);
}

/* Find or open the node to be formatted, and keep others from writing it. */
static bool take_node(struct create *w, const char *job, struct err **errp)
{
    json_t *ref = arg_get(w->options, "file");
    AUTO_FREE char *user = mem_printf("job '%s'", job);
    struct graph_node *n;

    if (!user)
        return err_set(errp, ENOMEM, "out of memory");
    n = json_is_string(ref) ? blockdev_find(w->ctl, json_string_value(ref), true, errp)
                            : blockdev_open(w->ctl, ref, false, NULL, ROLE_USER, errp);
    if (!n)
        return false;
    w->use = graph_use(&w->ctl->graph, n, user, PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE,
                       PERM_CONSISTENT_READ, errp);
    if (!w->use && !n->users && !n->owned)
        graph_drop(&w->ctl->graph, n);
    return w->use;
}

static bool format(struct create *w, struct err **errp)
{
    const json_t *o = w->options;
    const char *version = arg_str(o, "version"), *zip = arg_str(o, "compression-type");
    struct node *n = w->use->child->node;
    struct qc_create_opts co = {
        .size = (uint64_t)arg_int(o, "size", 0),
        .version = version && strcmp(version, "v2") == 0 ? 2 : 3,
        .cluster_size = (uint32_t)arg_int(o, "cluster-size", 0),
        .refcount_bits = (uint32_t)arg_int(o, "refcount-bits", 0),
        .backing_name = arg_str(o, "backing-file"),
        .backing_format = arg_str(o, "backing-fmt"),
        .zstd = zip && strcmp(zip, "zstd") == 0,
        .extended_l2 = arg_bool(o, "extended-l2", false),
        .lazy_refcounts = arg_bool(o, "lazy-refcounts", false),
    };
    int ret;

    if (arg_int(o, "cluster-size", 0) > UINT32_MAX)
        return err_set(errp, EINVAL, "Cluster size must be a power of two between 512 and 2048k");
    if (!n->growable)
        return err_set(errp, ENOTSUP, "Node '%s' (%s) cannot grow, so that it cannot be formatted",
                       w->use->child->name, w->use->child->driver);
    ret = node_truncate(n, 0);
    return ret == 0 ? qc_create(n, &co, errp)
                    : err_set_errno(errp, -ret, "Could not empty '%s'", w->use->child->name);
}

static bool create_run(struct job *j, struct err **errp)
{
    struct create *w = j->opaque;
    bool ok;

    j->total = 1;
    if (strcmp(arg_str(w->options, "driver"), "file") == 0) {
        ok = create_file(w, errp);
    } else {
        co_lock(&w->ctl->busy);
        ok = take_node(w, j->id, errp);
        co_unlock(&w->ctl->busy);
        ok = ok && format(w, errp);
    }
    j->done = 1;
    return ok;
}

static void create_clean(struct job *j)
{
    struct create *w = j->opaque;

    if (w->use)
        graph_unuse(&w->ctl->graph, w->use);
    json_decref(w->options);
    mem_free(w);
}

static const struct job_ops create_ops = {
    .type = "create", .run = create_run, .clean = create_clean};

static bool run_create(struct call *call, struct err **errp)
{
    struct create *w = mem_new(struct create);
    struct job *j = NULL;

    if (!w)
        return err_set(errp, ENOMEM, "out of memory for a job");
    w->ctl = call->ctl;
    w->options = json_incref(arg_get(call->args, "options"));
    j = job_new(&call->ctl->jobs, &create_ops, arg_str(call->args, "job-id"), w, errp);
    if (j)
        j->auto_dismiss = false;
    if (j && job_start(j, errp))
        return true;
    json_decref(w->options);
    mem_free(w);
    return false;
}

const struct command create_commands[] = {
    {"blockdev-create", &create_args, NULL, run_create, false},
    {0},
};
