/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Jobs of a control object.
 */
#ifndef CONTROL_JOB_H
#define CONTROL_JOB_H

#include "control/control_priv.h"

extern const struct qtype q_job_status_event;

/* jobs_tell_status: for jobs.status, arg being the control object. */
void jobs_tell_status(struct job *j, void *arg);

#endif
