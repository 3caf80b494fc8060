/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Telling the service manager how we are (sd_notify(3)): one datagram of KEY=VALUE lines each. That
 * is the whole protocol, so it takes no library.
 */
#ifndef CLI_NOTIFY_H
#define CLI_NOTIFY_H

/* notify_open: a socket connected to $NOTIFY_SOCKET, which is taken out of the environment. -1:
 * there is nobody to tell, or it cannot be reached (which is logged: a server must not fail for
 * it). Opened before privileges are dropped, since nothing can be opened later. */
int notify_open(void);

/* What notify_say tells. */
enum notify_state { NOTIFY_READY, NOTIFY_RELOADING, NOTIFY_STOPPING };

/* notify_say: does nothing for fd -1; never waits. */
void notify_say(int fd, enum notify_state state);

#endif
