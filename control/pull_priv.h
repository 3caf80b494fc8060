/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files of backup sessions share.
 */
#ifndef CONTROL_PULL_PRIV_H
#define CONTROL_PULL_PRIV_H

#include "control/pull.h"

/* pull_is_of_stem: is b's name of the form STEM@UUID? */
bool pull_is_of_stem(const struct bitmap *b, const char *stem);
/* pull_remember: put a session that has begun into the list. */
void pull_remember(struct pull *p);
void pull_free(struct pull *p);
/* pull_disk_unexport: no client sees the disk any more. pull_disk_settle: what becomes of its
 * bitmaps; the point goes. Nothing if there is none. Both yield. */
void pull_disk_unexport(struct pull_disk *d);
void pull_disk_settle(struct pull_disk *d, bool success);

#endif
