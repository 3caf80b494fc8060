/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Signals as a descriptor.
 */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

#include <stdbool.h>

/* signals_open: block those that end the program and read them from the descriptor instead; call
 * before any thread is started. SIGPIPE is ignored. hangup: take SIGHUP also where it was ignored,
 * because it does not end this program. -1 and errno on failure. */
int signals_open(bool hangup);

#endif
