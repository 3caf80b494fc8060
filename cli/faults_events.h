/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The events in words.
 */
#ifndef CLI_FAULTS_EVENTS_H
#define CLI_FAULTS_EVENTS_H

#include "block/event.h"

/* event_text: when ev comes; docs/faults.md has the same. */
const char *event_text(enum blk_event ev);

#endif
