/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Dirty bitmaps: their actions, and the commands that run one of them alone.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "block/node_bitmap.h"
#include "control/action.h"
#include "control/blockdev.h"

#define HASH_PIECE 65536 /* bytes of a bitmap at a time */

const struct qtype q_dirty_add = {
    .kind = Q_STRUCT,
    .name = "BlockDirtyBitmapAdd",
    .member = Q_MEMBERS({"node", &q_str, false}, {"name", &q_str, false},
                        {"granularity", &q_uint32, true}, {"persistent", &q_bool, true},
                        {"disabled", &q_bool, true})};
const struct qtype q_dirty = {.kind = Q_STRUCT,
                              .name = "BlockDirtyBitmap",
                              .member =
                                  Q_MEMBERS({"node", &q_str, false}, {"name", &q_str, false})};
const struct qtype q_bitmap_or_str = {
    .kind = Q_ALT,
    .name = "BlockDirtyBitmapOrStr",
    .member = Q_MEMBERS({"local", &q_str, false}, {"external", &q_dirty, false})};
const struct qtype q_bitmaps_or_strs = {
    .kind = Q_LIST, .name = "BlockDirtyBitmapOrStrList", .element = &q_bitmap_or_str};
const struct qtype q_dirty_merge = {.kind = Q_STRUCT,
                                    .name = "BlockDirtyBitmapMerge",
                                    .member = Q_MEMBERS({"node", &q_str, false},
                                                        {"target", &q_str, false},
                                                        {"bitmaps", &q_bitmaps_or_strs, false})};
static const struct qtype q_sha256 = {.kind = Q_STRUCT,
                                      .name = "BlockDirtyBitmapSha256",
                                      .member = Q_MEMBERS({"sha256", &q_str, false})};

struct bitmap *bitmap_lookup(struct control *c, const char *node, const char *name,
                             struct err **errp)
{
    struct graph_node *n = graph_find(&c->graph, node);
    struct bitmap *b = n ? node_bitmap_find(n->node, name) : NULL;

    if (!n)
        err_set(errp, ENOENT, "Node '%s' not found", node);
    else if (!b)
        err_set(errp, ENOENT, "Dirty bitmap '%s' not found", name);
    return b;
}

static bool find(struct control *c, struct action *a, const char *key, struct err **errp)
{
    a->bitmap = bitmap_lookup(c, arg_str(a->data, "node"), arg_str(a->data, key), errp);
    return a->bitmap != NULL;
}

/* --- Add --- */

static bool prepare_add(struct control *c, struct action *a, struct err **errp)
{
    const char *node = arg_str(a->data, "node"), *name = arg_str(a->data, "name");
    int64_t granularity = arg_int(a->data, "granularity", -1);
    struct graph_node *n;
    struct err *e = NULL;

    if (*name == '\0')
        return err_set(errp, EINVAL, "Bitmap name cannot be empty");
    n = blockdev_find(c, node, true, errp);
    if (!n)
        return false;
    if (granularity >= 0 && !bitmap_check_granularity((uint64_t)granularity, errp))
        return false;
    a->bitmap = node_bitmap_add(n->node, name, granularity < 0 ? 0 : (uint32_t)granularity,
                                arg_bool(a->data, "persistent", false), &e);
    if (!a->bitmap) {
        if (err_code(e) == ENOTSUP || err_code(e) == EROFS)
            err_prefix(&e, "Can't store persistent bitmaps to %s: ", node);
        return err_move(errp, e);
    }
    if (arg_bool(a->data, "disabled", false))
        a->bitmap->enabled = false;
    return true;
}

static void undo_add(struct control *c, struct action *a)
{
    struct err *e = NULL;

    if (!node_bitmap_remove(a->node->node, a->bitmap->name, &e))
        log_error("an aborted transaction leaves a bitmap behind: %s", err_msg(e));
    err_free(e);
}

/* --- Remove: nobody else may use it from here on; the image is told only when nothing can fail. */

static bool prepare_remove(struct control *c, struct action *a, struct err **errp)
{
    if (!find(c, a, "name", errp) || !bitmap_check_removable(a->bitmap, errp))
        return false;
    a->bitmap->busy++;
    return true;
}

static void undo_remove(struct control *c, struct action *a)
{
    a->bitmap->busy--;
}

static bool commit_remove(struct control *c, struct action *a, struct err **errp)
{
    a->bitmap->busy--;
    return node_bitmap_remove(a->node->node, a->bitmap->name, errp);
}

/* --- Clear: its content is set aside. --- */

static void undo_content(struct control *c, struct action *a)
{
    bitmap_swap(a->bitmap, a->saved);
}

static bool prepare_clear(struct control *c, struct action *a, struct err **errp)
{
    if (!find(c, a, "name", errp) || !bitmap_check_writable(a->bitmap, errp))
        return false;
    a->saved = bitmap_new(NULL, a->bitmap->size, a->bitmap->granularity);
    if (!a->saved)
        return err_set(errp, ENOMEM, "out of memory for a bitmap");
    bitmap_swap(a->bitmap, a->saved);
    return true;
}

/* --- Enable, disable --- */

static bool set_enabled(struct control *c, struct action *a, bool enable, struct err **errp)
{
    if (!find(c, a, "name", errp))
        return false;
    a->was_enabled = a->bitmap->enabled;
    return bitmap_enable(a->bitmap, enable, errp);
}

static bool prepare_enable(struct control *c, struct action *a, struct err **errp)
{
    return set_enabled(c, a, true, errp);
}

static bool prepare_disable(struct control *c, struct action *a, struct err **errp)
{
    return set_enabled(c, a, false, errp);
}

static void undo_enabled(struct control *c, struct action *a)
{
    a->bitmap->enabled = a->was_enabled;
}

/* --- Merge --- */

static bool merge_all(struct control *c, struct action *a, struct err **errp)
{
    const char *node = arg_str(a->data, "node");
    size_t i;
    json_t *source;

    json_array_foreach(arg_get(a->data, "bitmaps"), i, source)
    {
        bool local = json_is_string(source);
        struct bitmap *b =
            bitmap_lookup(c, local ? node : arg_str(source, "node"),
                          local ? json_string_value(source) : arg_str(source, "name"), errp);

        if (!b || !bitmap_merge(a->bitmap, b, errp))
            return false;
    }
    return true;
}

static bool prepare_merge(struct control *c, struct action *a, struct err **errp)
{
    if (!find(c, a, "target", errp) || !bitmap_check_writable(a->bitmap, errp))
        return false;
    a->saved = bitmap_copy(a->bitmap, NULL);
    if (!a->saved)
        return err_set(errp, ENOMEM, "out of memory for a bitmap");
    if (merge_all(c, a, errp))
        return true;
    undo_content(c, a);
    return false;
}

const struct action_kind bitmap_action_kinds[] = {
    {.name = "block-dirty-bitmap-add",
     .data = &q_dirty_add,
     .node_key = "node",
     .prepare = prepare_add,
     .undo = undo_add},
    {.name = "block-dirty-bitmap-remove",
     .data = &q_dirty,
     .node_key = "node",
     .prepare = prepare_remove,
     .undo = undo_remove,
     .commit = commit_remove},
    {.name = "block-dirty-bitmap-clear",
     .data = &q_dirty,
     .node_key = "node",
     .prepare = prepare_clear,
     .undo = undo_content},
    {.name = "block-dirty-bitmap-enable",
     .data = &q_dirty,
     .node_key = "node",
     .prepare = prepare_enable,
     .undo = undo_enabled},
    {.name = "block-dirty-bitmap-disable",
     .data = &q_dirty,
     .node_key = "node",
     .prepare = prepare_disable,
     .undo = undo_enabled},
    {.name = "block-dirty-bitmap-merge",
     .data = &q_dirty_merge,
     .node_key = "node",
     .prepare = prepare_merge,
     .undo = undo_content},
    {0},
};

/* A command of the same name as an action. */
static bool run_action(struct call *call, struct err **errp)
{
    const struct action_kind *k = bitmap_action_kinds;

    while (strcmp(k->name, call->command->name) != 0)
        k++;
    return action_run(call, k, errp);
}

/* As QEMU hashes them: the bits in words of 64, the lowest first, at least one word. */
static bool hash(const struct bitmap *b, EVP_MD_CTX *ctx, uint8_t *buf)
{
    uint64_t granules = div_round_up(b->size, b->granularity);
    uint64_t len = max_u64(round_up(div_round_up(granules, 8), 8), 8);

    for (uint64_t pos = 0; pos < len; pos += HASH_PIECE) {
        bitmap_save(b, pos, buf, HASH_PIECE);
        if (!EVP_DigestUpdate(ctx, buf, min_u64(HASH_PIECE, len - pos)))
            return false;
    }
    return true;
}

static bool run_sha256(struct call *call, struct err **errp)
{
    struct bitmap *b =
        bitmap_lookup(call->ctl, arg_str(call->args, "node"), arg_str(call->args, "name"), errp);
    AUTO_FREE uint8_t *buf = NULL;
    uint8_t digest[32];
    char text[65];
    bool ok = false;

    if (!b)
        return false;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    buf = mem_alloc(HASH_PIECE);
    if (ctx && buf)
        ok = EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) && hash(b, ctx, buf) &&
             EVP_DigestFinal_ex(ctx, digest, NULL);
    EVP_MD_CTX_free(ctx);
    if (!ok)
        return err_set(errp, ENOMEM, "out of memory for a digest");
    for (int i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    return call_return(call, json_pack("{s:s}", "sha256", text), errp);
}

const struct command bitmap_commands[] = {
    {"block-dirty-bitmap-add", &q_dirty_add, NULL, run_action, false},
    {"block-dirty-bitmap-remove", &q_dirty, NULL, run_action, false},
    {"block-dirty-bitmap-clear", &q_dirty, NULL, run_action, false},
    {"block-dirty-bitmap-enable", &q_dirty, NULL, run_action, false},
    {"block-dirty-bitmap-disable", &q_dirty, NULL, run_action, false},
    {"block-dirty-bitmap-merge", &q_dirty_merge, NULL, run_action, false},
    {"x-debug-block-dirty-bitmap-sha256", &q_dirty, &q_sha256, run_sha256, false},
    {0},
};
