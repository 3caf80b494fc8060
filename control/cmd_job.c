/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Commands about jobs: job-* for all of them, and block-job-* for those that QEMU calls block jobs.
 */
#include <errno.h>
#include <string.h>

#include "control/copy_job.h"
#include "control/job.h"

static const struct qtype job_args = {
    .kind = Q_STRUCT, .name = "job-arg", .member = Q_MEMBERS({"id", &q_str, false})};
static const struct qtype block_job_args = {
    .kind = Q_STRUCT, .name = "block-job-arg", .member = Q_MEMBERS({"device", &q_str, false})};
static const struct qtype block_job_cancel_args = {
    .kind = Q_STRUCT,
    .name = "block-job-cancel-arg",
    .member = Q_MEMBERS({"device", &q_str, false}, {"force", &q_bool, true})};
static const struct qtype set_speed_args = {
    .kind = Q_STRUCT,
    .name = "block-job-set-speed-arg",
    .member = Q_MEMBERS({"device", &q_str, false}, {"speed", &q_int, false})};
static const struct qtype q_status = {.kind = Q_ENUM,
                                      .name = "JobStatus",
                                      .values = Q_NAMES("undefined", "created", "running", "paused",
                                                        "ready", "standby", "waiting", "pending",
                                                        "aborting", "concluded", "null")};
static const struct qtype q_job_info = {
    .kind = Q_STRUCT,
    .name = "JobInfo",
    .member = Q_MEMBERS({"id", &q_str, false}, {"type", &q_str, false},
                        {"status", &q_status, false}, {"current-progress", &q_int, false},
                        {"total-progress", &q_int, false}, {"error", &q_str, true})};
static const struct qtype q_job_infos = {
    .kind = Q_LIST, .name = "JobInfoList", .element = &q_job_info};
static const struct qtype q_io_status = {
    .kind = Q_ENUM, .name = "BlockDeviceIoStatus", .values = Q_NAMES("ok", "failed", "nospace")};
static const struct qtype q_block_job_info = {
    .kind = Q_STRUCT,
    .name = "BlockJobInfo",
    .member = Q_MEMBERS({"type", &q_str, false}, {"device", &q_str, false}, {"len", &q_int, false},
                        {"offset", &q_int, false}, {"busy", &q_bool, false},
                        {"paused", &q_bool, false}, {"speed", &q_int, false},
                        {"io-status", &q_io_status, false}, {"ready", &q_bool, false},
                        {"status", &q_status, false}, {"auto-finalize", &q_bool, false},
                        {"auto-dismiss", &q_bool, false}, {"error", &q_str, true})};
static const struct qtype q_block_job_infos = {
    .kind = Q_LIST, .name = "BlockJobInfoList", .element = &q_block_job_info};
static const struct qtype q_operation = {
    .kind = Q_ENUM, .name = "IoOperationType", .values = Q_NAMES("read", "write")};
static const struct qtype q_error_action = {
    .kind = Q_ENUM, .name = "BlockErrorAction", .values = Q_NAMES("ignore", "report", "stop")};
const struct qtype q_block_job_end_event = {
    .kind = Q_STRUCT,
    .name = "BLOCK_JOB_COMPLETED-arg",
    .member =
        Q_MEMBERS({"type", &q_str, false}, {"device", &q_str, false}, {"len", &q_int, false},
                  {"offset", &q_int, false}, {"speed", &q_int, false}, {"error", &q_str, true})};
const struct qtype q_block_job_cancel_event = {
    .kind = Q_STRUCT,
    .name = "BLOCK_JOB_CANCELLED-arg",
    .member = Q_MEMBERS({"type", &q_str, false}, {"device", &q_str, false}, {"len", &q_int, false},
                        {"offset", &q_int, false}, {"speed", &q_int, false})};
const struct qtype q_block_job_ready_event = {
    .kind = Q_STRUCT,
    .name = "BLOCK_JOB_READY-arg",
    .member = Q_MEMBERS({"type", &q_str, false}, {"device", &q_str, false}, {"len", &q_int, false},
                        {"offset", &q_int, false}, {"speed", &q_int, false})};
const struct qtype q_block_job_error_event = {
    .kind = Q_STRUCT,
    .name = "BLOCK_JOB_ERROR-arg",
    .member = Q_MEMBERS({"device", &q_str, false}, {"operation", &q_operation, false},
                        {"action", &q_error_action, false})};
const struct qtype q_block_job_pending_event = {
    .kind = Q_STRUCT,
    .name = "BLOCK_JOB_PENDING-arg",
    .member = Q_MEMBERS({"type", &q_str, false}, {"id", &q_str, false})};
const struct qtype q_job_status_event = {
    .kind = Q_STRUCT,
    .name = "JOB_STATUS_CHANGE-arg",
    .member = Q_MEMBERS({"id", &q_str, false}, {"status", &q_status, false})};

static json_t *end_data(const struct job *j)
{
    return json_pack("{s:s,s:s,s:I,s:I,s:I}", "type", j->ops->type, "device", j->id, "len",
                     (json_int_t)j->total, "offset", (json_int_t)j->done, "speed",
                     (json_int_t)j->speed);
}

void jobs_tell_status(struct job *j, void *arg)
{
    event_emit(arg, "JOB_STATUS_CHANGE",
               json_pack("{s:s,s:s}", "status", job_status_name(j->status), "id", j->id));
    if (j->status == JOB_READY && !j->ready && j->ops->is_block)
        event_emit(arg, "BLOCK_JOB_READY", end_data(j));
    if (j->status == JOB_PENDING && j->ops->is_block && !j->auto_finalize)
        event_emit(arg, "BLOCK_JOB_PENDING",
                   json_pack("{s:s,s:s}", "type", j->ops->type, "id", j->id));
}

static void put_error(json_t *o, const struct job *j)
{
    json_t *text = j->error ? json_string(err_msg(j->error)) : NULL;

    if (j->error)
        json_object_set_new(o, "error", text ? text : json_string("?"));
}

void jobs_tell_end(struct job *j, void *arg)
{
    json_t *data;

    if (!j->ops->is_block)
        return;
    data = end_data(j);
    put_error(data, j);
    event_emit(arg, j->succeeded || j->error ? "BLOCK_JOB_COMPLETED" : "BLOCK_JOB_CANCELLED", data);
}

/* The job that a command names; block-job-* know block jobs only. */
static struct job *find(struct call *call, struct err **errp)
{
    const char *id = arg_str(call->args, "id"), *device = arg_str(call->args, "device");
    bool block = strncmp(call->command->name, "block-", 6) == 0;
    struct job *j = job_find(&call->ctl->jobs, id ? id : device);

    if (j && (!block || j->ops->is_block))
        return j;
    if (block)
        err_set(errp, QMP_DEVICE_NOT_ACTIVE, "Block job '%s' not found", id ? id : device);
    else
        err_set(errp, ENOENT, "Job not found");
    return NULL;
}

/* The verb is the command's name behind "job-". */
static bool run_verb(struct call *call, struct err **errp)
{
    static const struct {
        const char *name;
        bool (*ask)(struct job *j, struct err **errp);
    } verbs[] = {
        {"cancel", job_cancel},     {"pause", job_pause},       {"resume", job_resume},
        {"complete", job_complete}, {"finalize", job_finalize}, {"dismiss", job_dismiss},
    };
    const char *verb = strstr(call->command->name, "job-") + 4;
    struct job *j = find(call, errp);
    unsigned i = 0;

    while (strcmp(verbs[i].name, verb) != 0)
        i++;
    if (j && verbs[i].ask == job_cancel && call->command->args == &block_job_cancel_args &&
        !arg_bool(call->args, "force", false))
        return job_cancel_softly(j, errp);
    return j && verbs[i].ask(j, errp);
}

static bool run_set_speed(struct call *call, struct err **errp)
{
    struct job *j = find(call, errp);
    uint64_t speed;

    return j && speed_of(call->args, &speed, errp) && job_set_speed(j, speed, errp);
}

static bool run_query(struct call *call, struct err **errp)
{
    json_t *list = json_array();

    for (struct job *j = call->ctl->jobs.first; j; j = j->next) {
        if (j->ops->update)
            j->ops->update(j);
        json_t *info = json_pack("{s:s,s:s,s:s,s:I,s:I}", "id", j->id, "type", j->ops->type,
                                 "status", job_status_name(j->status), "current-progress",
                                 (json_int_t)j->done, "total-progress", (json_int_t)j->total);

        put_error(info, j);
        json_array_append_new(list, info);
    }
    return call_return(call, list, errp);
}

static bool run_query_block(struct call *call, struct err **errp)
{
    json_t *list = json_array();

    for (struct job *j = call->ctl->jobs.first; j; j = j->next) {
        if (!j->ops->is_block)
            continue;
        if (j->ops->update)
            j->ops->update(j);
        json_t *info =
            json_pack("{s:s,s:s,s:I,s:I,s:b,s:b,s:I,s:s,s:b,s:s,s:b,s:b}", "type", j->ops->type,
                      "device", j->id, "len", (json_int_t)j->total, "offset", (json_int_t)j->done,
                      "busy", j->status == JOB_RUNNING, "paused", j->pause_count > 0, "speed",
                      (json_int_t)j->speed, "io-status", copy_job_io_status(j), "ready", j->ready,
                      "status", job_status_name(j->status), "auto-finalize", j->auto_finalize,
                      "auto-dismiss", j->auto_dismiss);

        put_error(info, j);
        json_array_append_new(list, info);
    }
    return call_return(call, list, errp);
}

const struct command job_commands[] = {
    {"query-jobs", NULL, &q_job_infos, run_query, true},
    {"job-cancel", &job_args, NULL, run_verb, true},
    {"job-pause", &job_args, NULL, run_verb, true},
    {"job-resume", &job_args, NULL, run_verb, true},
    {"job-complete", &job_args, NULL, run_verb, true},
    {"job-finalize", &job_args, NULL, run_verb, true},
    {"job-dismiss", &job_args, NULL, run_verb, true},
    {"query-block-jobs", NULL, &q_block_job_infos, run_query_block, true},
    {"block-job-cancel", &block_job_cancel_args, NULL, run_verb, true},
    {"block-job-pause", &block_job_args, NULL, run_verb, true},
    {"block-job-resume", &block_job_args, NULL, run_verb, true},
    {"block-job-complete", &block_job_args, NULL, run_verb, true},
    {"block-job-finalize", &job_args, NULL, run_verb, true},
    {"block-job-dismiss", &job_args, NULL, run_verb, true},
    {"block-job-set-speed", &set_speed_args, NULL, run_set_speed, true},
    {0},
};
