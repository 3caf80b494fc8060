/* SPDX-License-Identifier: BSD-3-Clause
 *
 * query-named-block-nodes and its kin: the registry as QEMU shows it.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "block/node_bitmap.h"
#include "control/blockdev.h"
#include "qcow2/qcow2.h"

static const struct qtype q_bitmap_info = {
    .kind = Q_STRUCT,
    .name = "BlockDirtyInfo",
    .member = Q_MEMBERS({"name", &q_str, true}, {"count", &q_int, false},
                        {"granularity", &q_uint32, false}, {"recording", &q_bool, false},
                        {"busy", &q_bool, false}, {"persistent", &q_bool, false},
                        {"inconsistent", &q_bool, true})};
static const struct qtype q_bitmap_infos = {
    .kind = Q_LIST, .name = "BlockDirtyInfoList", .element = &q_bitmap_info};
static const struct qtype q_cache_info = {.kind = Q_STRUCT,
                                          .name = "BlockdevCacheInfo",
                                          .member = Q_MEMBERS({"writeback", &q_bool, false},
                                                              {"direct", &q_bool, false},
                                                              {"no-flush", &q_bool, false})};
static const struct qtype q_node_info = {
    .kind = Q_STRUCT,
    .name = "BlockDeviceInfo",
    .member = Q_MEMBERS(
        {"file", &q_str, false}, {"node-name", &q_str, true}, {"ro", &q_bool, false},
        {"drv", &q_str, false}, {"backing_file", &q_str, true},
        {"backing_file_depth", &q_int, false}, {"encrypted", &q_bool, false},
        {"detect_zeroes", &q_str, false}, {"bps", &q_int, false}, {"bps_rd", &q_int, false},
        {"bps_wr", &q_int, false}, {"iops", &q_int, false}, {"iops_rd", &q_int, false},
        {"iops_wr", &q_int, false}, {"image", &q_any, false}, {"cache", &q_cache_info, false},
        {"write_threshold", &q_int, false}, {"dirty-bitmaps", &q_bitmap_infos, true})};
static const struct qtype q_node_infos = {
    .kind = Q_LIST, .name = "BlockDeviceInfoList", .element = &q_node_info};
static const struct qtype q_blocks = {.kind = Q_LIST, .name = "BlockInfoList", .element = &q_any};
static const struct qtype nodes_args = {.kind = Q_STRUCT,
                                        .name = "query-named-block-nodes-arg",
                                        .member = Q_MEMBERS({"flat", &q_bool, true})};

static const struct graph_edge *child_edge(const struct graph_node *n, enum graph_role role)
{
    for (const struct graph_edge *e = n->children; e; e = e->next_child) {
        if (e->role == role)
            return e;
    }
    return NULL;
}

static void put_text(json_t *o, const char *key, const char *text)
{
    json_t *s = json_string(text);

    json_object_set_new(o, key, s ? s : json_string("?"));
}

static void put_storage(json_t *image, const struct graph_node *n)
{
    const struct graph_node *storage = blockdev_storage(n);
    struct stat st;

    if (storage && stat(storage->node->name, &st) == 0)
        json_object_set_new(image, "actual-size", json_integer((json_int_t)st.st_blocks * 512));
    else if (!n->children)
        json_object_set_new(image, "actual-size", json_integer(0));
}

static void put_backing_name(json_t *image, const struct graph_node *n, const struct qc_info *info)
{
    const struct graph_edge *backing = child_edge(n, ROLE_BACKING);
    AUTO_FREE char *full = backing ? blockdev_filename(backing->child) : NULL;

    put_text(image, "backing-filename", info->backing_name);
    put_text(image, "full-backing-filename", full ? full : info->backing_name);
    if (info->backing_format)
        put_text(image, "backing-filename-format", info->backing_format);
}

static void put_qcow2(json_t *image, const struct graph_node *n)
{
    struct qc_info info;

    qc_get_info(n->node, &info);
    if (info.backing_name)
        put_backing_name(image, n, &info);
    json_object_set_new(image, "format-specific",
                        json_pack("{s:s,s:{s:s,s:i}}", "type", "qcow2", "data", "compat",
                                  info.version >= 3 ? "1.1" : "0.10", "refcount-bits",
                                  (int)info.refcount_bits));
}

static json_t *image_info(const struct graph_node *n, bool deep, const char *filename)
{
    const struct graph_edge *backing = child_edge(n, ROLE_BACKING);
    json_t *image = json_object();

    put_text(image, "filename", filename ? filename : "");
    json_object_set_new(image, "format", json_string(n->driver));
    json_object_set_new(image, "virtual-size", json_integer((json_int_t)n->node->size));
    json_object_set_new(image, "dirty-flag", json_false());
    put_storage(image, n);
    if (n->node->limits.cluster)
        json_object_set_new(image, "cluster-size", json_integer(n->node->limits.cluster));
    if (n->node->drv == &qcow2_driver)
        put_qcow2(image, n);
    if (deep && backing) {
        AUTO_FREE char *name = blockdev_filename(backing->child);

        json_object_set_new(image, "backing-image", image_info(backing->child, true, name));
    }
    return image;
}

static void put_bitmaps(json_t *o, const struct node *n)
{
    json_t *list = NULL;

    for (const struct bitmap *b = node_bitmap_first(n); b; b = b->next) {
        if (!b->name)
            continue;
        if (!list)
            list = json_array();
        json_t *info = json_pack("{s:s,s:b,s:b,s:b,s:I,s:I}", "name", b->name, "recording",
                                 bitmap_recording(b), "persistent", b->persistent, "busy",
                                 b->busy > 0, "granularity", (json_int_t)b->granularity, "count",
                                 (json_int_t)(b->inconsistent ? 0 : bitmap_dirty_bytes(b)));

        if (b->inconsistent)
            json_object_set_new(info, "inconsistent", json_true());
        json_array_append_new(list, info);
    }
    if (list)
        json_object_set_new(o, "dirty-bitmaps", list);
}

static int backing_depth(const struct graph_node *n)
{
    int depth = 0;
    const struct graph_edge *e;

    while ((e = child_edge(n, ROLE_BACKING))) {
        depth++;
        n = e->child;
    }
    return depth;
}

static json_t *node_info(const struct graph_node *n, bool flat)
{
    static const char *const limits[] = {"bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"};
    static const char *const zeroes[] = {"off", "on", "unmap"};
    AUTO_FREE char *filename = blockdev_filename(n);
    const json_t *cache = arg_get(n->options, "cache");
    const struct graph_edge *backing = child_edge(n, ROLE_BACKING);
    json_t *o = json_object();

    put_text(o, "file", filename ? filename : "");
    json_object_set_new(o, "node-name", json_string(n->name));
    json_object_set_new(o, "ro", json_boolean(n->read_only));
    json_object_set_new(o, "drv", json_string(n->driver));
    json_object_set_new(o, "backing_file_depth", json_integer(backing_depth(n)));
    json_object_set_new(o, "encrypted", json_false());
    json_object_set_new(o, "detect_zeroes", json_string(zeroes[n->node->detect_zeroes]));
    for (unsigned i = 0; i < 6; i++)
        json_object_set_new(o, limits[i], json_integer(0));
    json_object_set_new(o, "write_threshold", json_integer(0));
    json_object_set_new(o, "cache",
                        json_pack("{s:b,s:b,s:b}", "writeback", 1, "direct",
                                  arg_bool(cache, "direct", false), "no-flush",
                                  arg_bool(cache, "no-flush", false)));
    if (backing) {
        AUTO_FREE char *name = blockdev_filename(backing->child);

        put_text(o, "backing_file", name ? name : "");
    }
    json_object_set_new(o, "image", image_info(n, !flat, filename));
    put_bitmaps(o, n->node);
    return o;
}

static bool run_nodes(struct call *call, struct err **errp)
{
    json_t *list = json_array();
    bool flat = arg_bool(call->args, "flat", false);

    for (const struct graph_node *n = call->ctl->graph.nodes; n; n = n->next) {
        if (n->node)
            json_array_append_new(list, node_info(n, flat));
    }
    return call_return(call, list, errp);
}

/* Devices of guests: here are none. */
static bool run_block(struct call *call, struct err **errp)
{
    return call_return(call, json_array(), errp);
}

const struct command query_commands[] = {
    {"query-named-block-nodes", &nodes_args, &q_node_infos, run_nodes, true},
    {"query-block", NULL, &q_blocks, run_block, true},
    {0},
};
