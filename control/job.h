/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Jobs of a control object.
 */
#ifndef CONTROL_JOB_H
#define CONTROL_JOB_H

#include "control/control_priv.h"

extern const struct qtype q_job_status_event, q_block_job_end_event, q_block_job_cancel_event,
    q_block_job_error_event, q_block_job_ready_event, q_block_job_pending_event;

/* jobs_tell_status, jobs_tell_end: for jobs.status and jobs.ended, arg being the control object. */
void jobs_tell_status(struct job *j, void *arg);
void jobs_tell_end(struct job *j, void *arg);

#endif
