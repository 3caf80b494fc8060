/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Groups of jobs, for the life of one. A job without a group is alone in it.
 */
#ifndef BLOCK_JOB_PRIV_H
#define BLOCK_JOB_PRIV_H

#include "block/job.h"

/* txn_arrive: its work is done: wait for that of all. txn_decide: it is prepared: wait for all, who
 * then commit. False: it was cancelled, or another has failed. Both yield. */
bool txn_arrive(struct job *j);
bool txn_decide(struct job *j);
/* txn_fail: it will not commit: nobody will. txn_finalize: no member waits for that any more.
 * txn_leave: it is over, or was never started. */
void txn_fail(struct job *j);
void txn_finalize(struct job *j);
void txn_leave(struct job *j);

#endif
