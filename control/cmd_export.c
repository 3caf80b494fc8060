/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Commands about the NBD server and its exports.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "control/action.h"
#include "control/blockdev.h"
#include "control/export_priv.h"
#include "control/object.h"
#include "control/pull.h"
#include "io/socket.h"
#include "server/server.h"

#define MAX_FDS 16

const struct qtype q_inet = {.kind = Q_STRUCT,
                             .name = "InetSocketAddress",
                             .member = Q_MEMBERS({"host", &q_str, false}, {"port", &q_str, false})};
const struct qtype q_unix = {
    .kind = Q_STRUCT, .name = "UnixSocketAddress", .member = Q_MEMBERS({"path", &q_str, false})};
static const struct qtype q_inet_wrapper = {.kind = Q_STRUCT,
                                            .name = "InetSocketAddressWrapper",
                                            .member = Q_MEMBERS({"data", &q_inet, false})};
static const struct qtype q_unix_wrapper = {.kind = Q_STRUCT,
                                            .name = "UnixSocketAddressWrapper",
                                            .member = Q_MEMBERS({"data", &q_unix, false})};
const struct qtype q_address_type = {
    .kind = Q_ENUM, .name = "SocketAddressType", .values = Q_NAMES("inet", "unix")};
static const struct qtype q_address = {
    .kind = Q_UNION,
    .name = "SocketAddressLegacy",
    .member = Q_MEMBERS({"type", &q_address_type, false}),
    .tag = "type",
    .variant =
        (const struct qvariant[]){{"inet", &q_inet_wrapper}, {"unix", &q_unix_wrapper}, {0}}};
static const struct qtype start_args = {.kind = Q_STRUCT,
                                        .name = "nbd-server-start-arg",
                                        .member = Q_MEMBERS({"addr", &q_address, false},
                                                            {"tls-creds", &q_str, true},
                                                            {"max-connections", &q_uint32, true})};

static const struct qtype q_remove_mode = {
    .kind = Q_ENUM, .name = "BlockExportRemoveMode", .values = Q_NAMES("safe", "hard")};
static const struct qtype add_args = {
    .kind = Q_STRUCT,
    .name = "NbdServerAddOptions",
    .member =
        Q_MEMBERS({"name", &q_str, true}, {"description", &q_str, true}, {"device", &q_str, false},
                  {"writable", &q_bool, true}, {"bitmap", &q_str, true})};
static const struct qtype remove_args = {
    .kind = Q_STRUCT,
    .name = "nbd-server-remove-arg",
    .member = Q_MEMBERS({"name", &q_str, false}, {"mode", &q_remove_mode, true})};
static const struct qtype del_args = {
    .kind = Q_STRUCT,
    .name = "block-export-del-arg",
    .member = Q_MEMBERS({"id", &q_str, false}, {"mode", &q_remove_mode, true})};

static const struct qtype q_export_type = {
    .kind = Q_ENUM, .name = "BlockExportType", .values = Q_NAMES("nbd")};
static const struct qtype q_export_nbd = {
    .kind = Q_STRUCT,
    .name = "BlockExportOptionsNbd",
    .member = Q_MEMBERS({"name", &q_str, true}, {"description", &q_str, true},
                        {"bitmaps", &q_bitmaps_or_strs, true})};
static const struct qtype q_export_options = {
    .kind = Q_UNION,
    .name = "BlockExportOptions",
    .member = Q_MEMBERS({"type", &q_export_type, false}, {"id", &q_str, false},
                        {"node-name", &q_str, false}, {"writable", &q_bool, true}),
    .tag = "type",
    .variant = (const struct qvariant[]){{"nbd", &q_export_nbd}, {0}}};
static const struct qtype q_export_info = {
    .kind = Q_STRUCT,
    .name = "BlockExportInfo",
    .member = Q_MEMBERS({"id", &q_str, false}, {"type", &q_export_type, false},
                        {"node-name", &q_str, false}, {"shutting-down", &q_bool, false})};
static const struct qtype q_export_infos = {
    .kind = Q_LIST, .name = "BlockExportInfoList", .element = &q_export_info};

static bool listen_unix(struct control *c, struct nbd_host *h, const char *path, struct err **errp)
{
    AUTO_FREE char *allowed = path_allow(c, path, errp);
    int fd;

    if (!allowed || !socket_listen_unix(allowed, 0600, &fd, errp))
        return false;
    h->path = steal(allowed);
    return server_listen(h->server, fd, errp);
}

static bool listen_inet(struct nbd_host *h, const json_t *data, struct err **errp)
{
    uint64_t port;
    uint16_t bound;
    int fds[MAX_FDS], n = 0;
    bool ok = true;

    if (!parse_u64(arg_str(data, "port"), "port", 0, 65535, &port, errp) ||
        !socket_listen_tcp(arg_str(data, "host"), (uint16_t)port, fds, MAX_FDS, &n, &bound, errp))
        return false;
    for (int i = 0; i < n; i++) {
        if (ok)
            ok = server_listen(h->server, fds[i], errp);
        else
            close(fds[i]);
    }
    return ok;
}

static bool run_start(struct call *call, struct err **errp)
{
    struct control *c = call->ctl;
    const json_t *addr = arg_get(call->args, "addr"), *data = arg_get(addr, "data");
    struct server_opts so = {.max_connections =
                                 (unsigned)arg_int(call->args, "max-connections", 0)};
    const char *creds = arg_str(call->args, "tls-creds");
    struct nbd_host *h;

    if (c->nbd)
        return err_set(errp, EEXIST, "NBD server already running");
    if (creds) {
        so.tls = SERVER_TLS_REQUIRE;
        so.creds = object_creds(c, creds, errp);
        if (!so.creds)
            return false;
    }
    h = mem_new(struct nbd_host);
    if (!h)
        return err_set(errp, ENOMEM, "out of memory for an NBD server");
    h->server = server_new(&so, errp);
    if (!h->server) {
        mem_free(h);
        return false;
    }
    c->nbd = h;
    if (strcmp(arg_str(addr, "type"), "unix") == 0 ? listen_unix(c, h, arg_str(data, "path"), errp)
                                                   : listen_inet(h, data, errp))
        return true;
    exports_stop(c, NULL);
    return false;
}

static bool run_stop(struct call *call, struct err **errp)
{
    const struct pull *active;

    if (!call->ctl->nbd)
        return err_set(errp, EINVAL, "NBD server not running");
    if (call->ctl->nbd->borrowed)
        return err_set(errp, EPERM,
                       "The NBD server is what this program was started for; end the "
                       "program instead");
    active = pulls_active(call->ctl);
    if (active)
        return err_set(errp, EBUSY, "Backup '%s' is active: end it first", active->id);
    return exports_stop(call->ctl, errp);
}

static bool run_nbd_add(struct call *call, struct err **errp)
{
    const char *device = arg_str(call->args, "device"), *name = arg_str(call->args, "name");
    const char *bitmap = arg_str(call->args, "bitmap");
    json_t *bitmaps = bitmap ? json_pack("[s]", bitmap) : NULL;
    struct export_wish w = {
        .id = name ? name : device,
        .name = name ? name : device,
        .node_name = device,
        .description = arg_str(call->args, "description"),
        .writable = arg_bool(call->args, "writable", false),
        .legacy = true,
        .bitmaps = bitmaps,
    };
    bool ok = call->ctl->nbd ? export_add(call->ctl, &w, errp)
                             : err_set(errp, EINVAL, "NBD server not running");

    json_decref(bitmaps);
    return ok;
}

static bool is_hard(const struct call *call)
{
    const char *mode = arg_str(call->args, "mode");

    return mode && strcmp(mode, "hard") == 0;
}

static bool run_nbd_remove(struct call *call, struct err **errp)
{
    return export_del(call->ctl, arg_str(call->args, "name"), is_hard(call), errp);
}

static bool run_export_add(struct call *call, struct err **errp)
{
    const char *node = arg_str(call->args, "node-name"), *name = arg_str(call->args, "name");
    struct export_wish w = {
        .id = arg_str(call->args, "id"),
        .name = name ? name : node,
        .node_name = node,
        .description = arg_str(call->args, "description"),
        .writable = arg_bool(call->args, "writable", false),
        .bitmaps = arg_get(call->args, "bitmaps"),
    };

    return export_add(call->ctl, &w, errp);
}

static bool run_export_del(struct call *call, struct err **errp)
{
    return export_del(call->ctl, arg_str(call->args, "id"), is_hard(call), errp);
}

static bool run_query(struct call *call, struct err **errp)
{
    json_t *list = json_array();

    for (const struct control_export *e = call->ctl->exports; e; e = e->next) {
        if (!e->use)
            continue;
        json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:b}", "id", e->id, "type", "nbd",
                                              "node-name", e->use->child->name, "shutting-down",
                                              e->shutting_down));
    }
    return call_return(call, list, errp);
}

const struct command export_commands[] = {
    {"nbd-server-start", &start_args, NULL, run_start, false},
    {"nbd-server-add", &add_args, NULL, run_nbd_add, false},
    {"nbd-server-remove", &remove_args, NULL, run_nbd_remove, false},
    {"nbd-server-stop", NULL, NULL, run_stop, false},
    {"block-export-add", &q_export_options, NULL, run_export_add, false},
    {"block-export-del", &del_args, NULL, run_export_del, false},
    {"query-block-exports", NULL, &q_export_infos, run_query, true},
    {0},
};
