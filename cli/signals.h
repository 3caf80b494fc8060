/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Signals as a descriptor.
 */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

/* signals_open: block those that end the program and read them from the descriptor instead; call
 * before any thread is started. SIGPIPE is ignored. -1 and errno on failure. */
int signals_open(void);

#endif
