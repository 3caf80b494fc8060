/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Events: one object for each client that has negotiated, in the order in which they happen.
 */
#include <time.h>

#include "base/bytes.h"
#include "control/fault_watch.h"
#include "control/job.h"
#include "control/pull.h"

static json_t *timestamp(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return json_pack("{s:I,s:I}", "seconds", (json_int_t)now.tv_sec, "microseconds",
                     (json_int_t)(now.tv_nsec / 1000));
}

void event_emit(struct control *c, const char *name, json_t *data)
{
    event_emit_to(c, WANTS_ALL, name, data);
}

void event_emit_to(struct control *c, enum event_wish wish, const char *name, json_t *data)
{
    json_t *event =
        json_pack("{s:o,s:s,s:o*}", "timestamp", timestamp(), "event", name, "data", data);

    for (struct session *s = c->sessions; s; s = s->next) {
        if (s->negotiated && (wish == WANTS_ALL || s->wants_faults))
            session_put(s, json_incref(event), true);
    }
    json_decref(event);
}

static const struct qtype export_deleted = {.kind = Q_STRUCT,
                                            .name = "BLOCK_EXPORT_DELETED-arg",
                                            .member = Q_MEMBERS({"id", &q_str, false})};

static const struct event_type event_types[] = {
    {"BLOCK_JOB_CANCELLED", &q_block_job_cancel_event},
    {"BLOCK_JOB_COMPLETED", &q_block_job_end_event},
    {"BLOCK_JOB_ERROR", &q_block_job_error_event},
    {"BLOCK_JOB_PENDING", &q_block_job_pending_event},
    {"BLOCK_JOB_READY", &q_block_job_ready_event},
    {"BLOCK_EXPORT_DELETED", &export_deleted},
    {"BACKUP_ENDED", &q_pull_ended_event},
    {"BACKUP_SCRATCH_LOW", &q_pull_low_event},
    {"BACKUP_VIEW_LOST", &q_pull_broken_event},
    {"FAULT_FIRED", &q_fault_fired_event},
    {"JOB_STATUS_CHANGE", &q_job_status_event},
};

const struct event_type *event_type_at(unsigned i)
{
    return i < ARRAY_LEN(event_types) ? &event_types[i] : NULL;
}
