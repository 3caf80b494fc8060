/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Signals as a descriptor, so that nothing happens in signal handlers.
 */
#include "cli/signals.h"

#include <signal.h>
#include <sys/signalfd.h>

int signals_open(bool hangup)
{
    struct sigaction was;
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    /* A terminal that is closed must not cost what was not flushed; nohup keeps its meaning. */
    if (hangup || (sigaction(SIGHUP, NULL, &was) == 0 && was.sa_handler != SIG_IGN))
        sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -1;
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}
