/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Objects that others name by their id: secrets, and I/O threads, of which there is one for all
 * nodes whatever is asked for.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "control/blockdev.h"
#include "control/object.h"

static const struct qtype q_object_type = {
    .kind = Q_ENUM,
    .name = "ObjectType",
    .values = Q_NAMES("iothread", "secret", "throttle-group", "tls-creds-psk", "tls-creds-x509")};
static const struct qtype q_endpoint = {
    .kind = Q_ENUM, .name = "QCryptoTLSCredsEndpoint", .values = Q_NAMES("client", "server")};
static const struct qtype q_x509 = {.kind = Q_STRUCT,
                                    .name = "TlsCredsX509Properties",
                                    .member = Q_MEMBERS({"verify-peer", &q_bool, true},
                                                        {"dir", &q_str, true},
                                                        {"endpoint", &q_endpoint, true})};
static const struct qtype q_psk = {.kind = Q_STRUCT,
                                   .name = "TlsCredsPskProperties",
                                   .member = Q_MEMBERS({"verify-peer", &q_bool, true},
                                                       {"dir", &q_str, true},
                                                       {"endpoint", &q_endpoint, true})};
static const struct qtype q_secret = {
    .kind = Q_STRUCT,
    .name = "SecretProperties",
    .member = Q_MEMBERS({"data", &q_str, true}, {"file", &q_str, true})};
static const struct qtype q_iothread = {.kind = Q_STRUCT, .name = "IothreadProperties"};
static const struct qtype q_object_options = {
    .kind = Q_UNION,
    .name = "ObjectOptions",
    .member = Q_MEMBERS({"qom-type", &q_object_type, false}, {"id", &q_str, false}),
    .tag = "qom-type",
    .variant = (const struct qvariant[]){{"iothread", &q_iothread},
                                         {"secret", &q_secret},
                                         {"throttle-group", &q_throttle_group},
                                         {"tls-creds-psk", &q_psk},
                                         {"tls-creds-x509", &q_x509},
                                         {0}}};
static const struct qtype del_args = {
    .kind = Q_STRUCT, .name = "object-del-arg", .member = Q_MEMBERS({"id", &q_str, false})};

static void object_free(struct control_object *o)
{
    if (!o)
        return;
    if (o->secret)
        explicit_bzero(o->secret, o->secret_len);
    mem_free(o->secret);
    tls_creds_unref(o->creds);
    throttle_group_unref(o->throttle);
    mem_free(o->id);
    mem_free(o);
}

struct control_object *object_find(struct control *c, const char *id)
{
    for (struct control_object *o = c->objects; o; o = o->next) {
        if (strcmp(o->id, id) == 0)
            return o;
    }
    return NULL;
}

static bool read_secret_file(struct control_object *o, const char *path, struct err **errp)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return err_set_errno(errp, errno, "Unable to read %s", path);
    o->secret = mem_zalloc(SECRET_MAX + 1);
    if (!o->secret)
        return err_set(errp, ENOMEM, "out of memory for a secret");
    n = read(fd, o->secret, SECRET_MAX + 1);
    if (n < 0)
        return err_set_errno(errp, errno, "Unable to read %s", path);
    if (n > SECRET_MAX)
        return err_set(errp, EFBIG, "%s: a secret has at most %d bytes", path, SECRET_MAX);
    o->secret_len = (size_t)n;
    return true;
}

static bool load_secret(struct control *c, struct control_object *o, const json_t *args,
                        struct err **errp)
{
    const char *data = arg_str(args, "data"), *file = arg_str(args, "file");

    if (data && file)
        return err_set(errp, EINVAL, "'file' and 'data' are mutually exclusive");
    if (!data && !file)
        return err_set(errp, EINVAL, "Either 'file' or 'data' must be provided");
    if (file) {
        AUTO_FREE char *path = path_allow(c, file, errp);

        return path && read_secret_file(o, path, errp);
    }
    o->secret_len = strlen(data);
    o->secret = mem_strdup(data);
    return o->secret || err_set(errp, ENOMEM, "out of memory for a secret");
}

static bool load_creds(struct control *c, struct control_object *o, const json_t *args,
                       struct err **errp)
{
    bool x509 = strcmp(arg_str(args, "qom-type"), "tls-creds-x509") == 0;
    const char *dir = arg_str(args, "dir"), *endpoint = arg_str(args, "endpoint");
    AUTO_FREE char *path = dir ? path_allow(c, dir, errp) : NULL;
    AUTO_FREE char *keys = path ? mem_printf("%s/keys.psk", path) : NULL;
    struct tls_creds_opts co = {
        .dir = x509 ? path : NULL,
        .psk_file = x509 ? NULL : keys,
        .verify_peer = x509 && arg_bool(args, "verify-peer", true),
    };

    if (!endpoint || strcmp(endpoint, "server") != 0)
        return err_set(errp, ENOTSUP, "TLS credentials are for servers only: endpoint=server");
    if (!dir)
        return err_set(errp, EINVAL, "Missing 'dir' property value");
    if (!path)
        return false;
    if (!keys)
        return err_set(errp, ENOMEM, "out of memory for credentials");
    o->creds = tls_creds_load(&co, errp);
    o->proves_clients = co.verify_peer;
    return o->creds;
}

struct tls_creds *object_creds(struct control *c, const char *id, struct err **errp)
{
    struct control_object *o = object_find(c, id);

    if (!o)
        err_set(errp, ENOENT, "No TLS credentials with id '%s'", id);
    else if (!o->creds)
        err_set(errp, EINVAL, "Object with id '%s' is not TLS credentials", id);
    return o ? o->creds : NULL;
}

struct throttle_group *object_throttle(struct control *c, const char *id, struct err **errp)
{
    struct control_object *o = object_find(c, id);

    if (!o || !o->throttle)
        err_set(errp, ENOENT, "Throttle group '%s' does not exist", id);
    return o ? o->throttle : NULL;
}

static bool run_add(struct call *call, struct err **errp)
{
    struct control *c = call->ctl;
    const char *id = arg_str(call->args, "id"), *type = arg_str(call->args, "qom-type");
    struct control_object *o;
    bool ok = true;

    if (object_find(c, id))
        return err_set(errp, EEXIST,
                       "attempt to add duplicate property '%s' to object (type 'container')", id);
    o = mem_new(struct control_object);
    if (o)
        o->id = mem_strdup(id);
    if (!o || !o->id)
        ok = err_set(errp, ENOMEM, "out of memory for an object");
    else if (strcmp(type, "secret") == 0)
        ok = load_secret(c, o, call->args, errp);
    else if (strncmp(type, "tls-creds-", 10) == 0)
        ok = load_creds(c, o, call->args, errp);
    else if (strcmp(type, "throttle-group") == 0)
        ok = (o->throttle = throttle_group_load(call->args, errp));
    if (!ok) {
        object_free(o);
        return false;
    }
    o->next = c->objects;
    c->objects = o;
    return true;
}

static bool run_del(struct call *call, struct err **errp)
{
    const char *id = arg_str(call->args, "id");
    struct control_object *o = object_find(call->ctl, id), **at = &call->ctl->objects;

    if (!o)
        return err_set(errp, ENOENT, "object '%s' not found", id);
    if (o->throttle && throttle_group_members(o->throttle) > 0)
        return err_set(errp, EBUSY, "object '%s' is in use, can not be deleted", id);
    while (*at != o)
        at = &(*at)->next;
    *at = o->next;
    object_free(o);
    return true;
}

void objects_clear(struct control *c)
{
    while (c->objects) {
        struct control_object *o = c->objects;

        c->objects = o->next;
        object_free(o);
    }
}

const struct command object_commands[] = {
    {"object-add", &q_object_options, NULL, run_add, false},
    {"object-del", &del_args, NULL, run_del, false},
    {0},
};
