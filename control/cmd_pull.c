/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Commands about backup sessions. None of this is QEMU's.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "control/pull.h"
#include "digest/digest.h"

static const struct qtype q_level = {
    .kind = Q_ENUM,
    .name = "BackupLevel",
    .values = Q_NAMES("auto", "full", "incremental", "differential", "copy")};
static const struct qtype q_disk = {
    .kind = Q_STRUCT,
    .name = "BackupDisk",
    .member = Q_MEMBERS({"node", &q_str, false}, {"base", &q_str, true}, {"bitmap", &q_str, true},
                        {"level", &q_level, true}, {"align", &q_size, true},
                        {"granularity", &q_uint32, true}, {"persistent", &q_bool, true},
                        {"scratch-limit", &q_size, true}, {"restrict", &q_bool, true},
                        {"discard", &q_bool, true})};
static const struct qtype q_disks = {.kind = Q_LIST, .name = "BackupDiskList", .element = &q_disk};
static const struct qtype begin_args = {
    .kind = Q_STRUCT,
    .name = "backup-begin-arg",
    .member =
        Q_MEMBERS({"id", &q_str, false}, {"lease", &q_int, true}, {"disks", &q_disks, false})};
static const struct qtype q_granted = {
    .kind = Q_STRUCT,
    .name = "BackupDiskInfo",
    .member =
        Q_MEMBERS({"node", &q_str, false}, {"export", &q_str, false}, {"size", &q_int, false},
                  {"granularity", &q_int, true}, {"dirty", &q_int, false},
                  {"level", &q_level, false}, {"reason", &q_str, true}, {"base", &q_str, true},
                  {"context", &q_str, true}, {"uuid", &q_str, false}, {"scratch", &q_int, false},
                  {"scratch-limit", &q_int, false}, {"lost", &q_bool, false})};
static const struct qtype q_granted_list = {
    .kind = Q_LIST, .name = "BackupDiskInfoList", .element = &q_granted};
static const struct qtype q_status = {
    .kind = Q_ENUM, .name = "BackupStatus", .values = Q_NAMES("active", "success", "failure")};
static const struct qtype q_session = {
    .kind = Q_STRUCT,
    .name = "BackupInfo",
    .member =
        Q_MEMBERS({"id", &q_str, false}, {"status", &q_status, false}, {"reason", &q_str, true},
                  {"lease", &q_int, true}, {"disks", &q_granted_list, false})};
static const struct qtype q_sessions = {
    .kind = Q_LIST, .name = "BackupInfoList", .element = &q_session};
static const struct qtype renew_args = {
    .kind = Q_STRUCT,
    .name = "backup-renew-arg",
    .member = Q_MEMBERS({"id", &q_str, false}, {"lease", &q_int, true})};
static const struct qtype q_outcome = {
    .kind = Q_ENUM, .name = "BackupOutcome", .values = Q_NAMES("success", "failure")};
static const struct qtype end_args = {
    .kind = Q_STRUCT,
    .name = "backup-end-arg",
    .member = Q_MEMBERS({"id", &q_str, false}, {"outcome", &q_outcome, false})};
static const struct qtype digest_args = {
    .kind = Q_STRUCT,
    .name = "backup-digest-arg",
    .member = Q_MEMBERS({"id", &q_str, false}, {"node", &q_str, false})};
static const struct qtype q_digest = {.kind = Q_STRUCT,
                                      .name = "BackupDigest",
                                      .member = Q_MEMBERS({"algorithm", &q_str, false},
                                                          {"block-size", &q_int, false},
                                                          {"disk-root", &q_str, false})};

const struct qtype q_pull_ended_event = {
    .kind = Q_STRUCT,
    .name = "BACKUP_ENDED-arg",
    .member =
        Q_MEMBERS({"id", &q_str, false}, {"status", &q_status, false}, {"reason", &q_str, true})};
const struct qtype q_pull_low_event = {
    .kind = Q_STRUCT,
    .name = "BACKUP_SCRATCH_LOW-arg",
    .member = Q_MEMBERS({"id", &q_str, false}, {"node", &q_str, false}, {"used", &q_int, false},
                        {"limit", &q_int, false})};
const struct qtype q_pull_broken_event = {
    .kind = Q_STRUCT,
    .name = "BACKUP_VIEW_LOST-arg",
    .member = Q_MEMBERS({"id", &q_str, false}, {"node", &q_str, false})};

static json_t *describe_disk(const struct pull_disk *d)
{
    AUTO_FREE char *context =
        d->old ? mem_printf("qemu:dirty-bitmap:%s@%s", d->stem, d->base) : NULL;
    json_t *o = json_pack(
        "{s:s,s:s,s:I,s:I,s:s,s:s*,s:s*,s:s*,s:s,s:I,s:I,s:b}", "node", d->node->name, "export",
        d->export_name, "size", (json_int_t)d->size, "dirty", (json_int_t)d->dirty, "level",
        pull_level_name(d->level), "reason", d->reason, "base", d->old ? d->base : NULL, "context",
        context, "uuid", d->uuid, "scratch", (json_int_t)pull_scratch(d), "scratch-limit",
        (json_int_t)d->scratch_limit, "lost", d->point.view && cbw_view_broken(d->point.view));

    if (o && d->granularity)
        json_object_set_new(o, "granularity", json_integer(d->granularity));
    return o;
}

static json_t *describe(const struct pull *p)
{
    static const char *const names[] = {"active", "success", "failure"};
    json_t *disks = json_array(), *o;

    for (size_t i = 0; i < p->n_disks; i++)
        json_array_append_new(disks, describe_disk(&p->disk[i]));
    o = json_pack("{s:s,s:s,s:s*,s:o}", "id", p->id, "status", names[p->status], "reason", p->why,
                  "disks", disks);
    if (o && p->status == PULL_ACTIVE) {
        int64_t left = p->lease.heap_index ? p->lease.deadline_ns - clock_ns() : 0;

        json_object_set_new(o, "lease", json_integer(left > 0 ? left / NS_PER_S : 0));
    }
    return o;
}

static bool run_begin(struct call *call, struct err **errp)
{
    struct pull *p = pull_begin(call->ctl, call->args, errp);

    return p && call_return(call, describe(p), errp);
}

static bool run_renew(struct call *call, struct err **errp)
{
    struct pull *p = pull_find(call->ctl, arg_str(call->args, "id"), errp);
    int64_t lease_s = arg_int(call->args, "lease", 0);

    if (!p)
        return false;
    if (arg_has(call->args, "lease") && (lease_s < 1 || lease_s > PULL_LEASE_MAX_S))
        return err_set(errp, EINVAL, "'lease' must be from 1 to %d seconds", PULL_LEASE_MAX_S);
    return pull_renew(p, lease_s, errp);
}

static bool run_end(struct call *call, struct err **errp)
{
    struct pull *p = pull_find(call->ctl, arg_str(call->args, "id"), errp);
    bool success = strcmp(arg_str(call->args, "outcome"), "success") == 0;

    return p && pull_end(p, success, "client", errp);
}

static bool run_query(struct call *call, struct err **errp)
{
    json_t *list = json_array();

    for (const struct pull *p = call->ctl->pulls; p; p = p->next)
        json_array_append_new(list, describe(p));
    return call_return(call, list, errp);
}

static bool run_digest(struct call *call, struct err **errp)
{
    struct pull *p = pull_find(call->ctl, arg_str(call->args, "id"), errp);
    const char *node = arg_str(call->args, "node");
    char hex[DIGEST_HEX_LEN + 1];

    if (!p)
        return false;
    if (p->status != PULL_ACTIVE || p->ending)
        return err_set(errp, EINVAL, "Backup '%s' has ended", p->id);
    for (size_t i = 0; i < p->n_disks; i++) {
        struct pull_disk *d = &p->disk[i];

        if (strcmp(d->node->name, node) != 0)
            continue;
        if (d->restricted && d->old)
            return err_set(errp, EINVAL,
                           "Node '%s' can only be read where it is dirty: begin without 'restrict'",
                           node);
        return pull_digest(d, hex, errp) &&
               call_return(call,
                           json_pack("{s:s,s:I,s:s}", "algorithm", "sha256", "block-size",
                                     (json_int_t)BACKUP_BLOCK, "disk-root", hex),
                           errp);
    }
    return err_set(errp, ENOENT, "Node '%s' is not part of backup '%s'", node, p->id);
}

/* Those that may last take the lock by themselves, or need none. */
const struct command pull_commands[] = {
    {"backup-begin", &begin_args, &q_session, run_begin, false},
    {"backup-renew", &renew_args, NULL, run_renew, true},
    {"backup-digest", &digest_args, &q_digest, run_digest, true},
    {"backup-end", &end_args, NULL, run_end, true},
    {"query-backups", NULL, &q_sessions, run_query, true},
    {0},
};
