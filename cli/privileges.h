/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Giving up privileges: --user and --group.
 */
#ifndef CLI_PRIVILEGES_H
#define CLI_PRIVILEGES_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

struct privileges {
    bool drop; /* there is something to give up */
    uid_t uid;
    gid_t gid;
};

/* privileges_find: who is meant by a name or a number. group NULL: the user's own; user NULL: only
 * the group is changed. Both NULL: nothing is dropped. False: there is nobody of that name. */
bool privileges_find(const char *user, const char *group, struct privileges *out,
                     struct err **errp);

/* privileges_drop: become that user and group for good, in all threads, with no supplementary
 * groups. That there is no way back is tried, not believed. False: nobody may go on. */
bool privileges_drop(const struct privileges *p, struct err **errp);

#endif
