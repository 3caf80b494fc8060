/* SPDX-License-Identifier: BSD-3-Clause
 *
 * sd_notify's protocol: see notify.h.
 */
#include "cli/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

static int notify_connect(const char *path)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    size_t len = strlen(path);

    if ((path[0] != '/' && path[0] != '@') || len < 2 || len >= sizeof(sun.sun_path)) {
        errno = EINVAL;
        return -1;
    }
    memcpy(sun.sun_path, path, len);
    if (path[0] == '@') /* an abstract name, which is not terminated */
        sun.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (path[0] == '/'));
    if (fd >= 0 && connect(fd, (struct sockaddr *)&sun, size) < 0) {
        int code = errno;
        close(fd);
        errno = code;
        return -1;
    }
    return fd;
}

int notify_open(void)
{
    const char *path = getenv("NOTIFY_SOCKET");

    if (!path || !*path)
        return -1;
    int fd = notify_connect(path);
    if (fd < 0)
        log_warn("NOTIFY_SOCKET '%s': %s", path, strerror(errno));
    unsetenv("NOTIFY_SOCKET");
    return fd;
}

void notify_say(int fd, enum notify_state state)
{
    char text[128] = "STOPPING=1\n";
    struct timespec now;

    if (fd < 0)
        return;
    if (state == NOTIFY_READY) /* after --fork the manager knows another process id */
        snprintf(text, sizeof(text), "READY=1\nMAINPID=%ld\n", (long)getpid());
    if (state == NOTIFY_RELOADING) {
        /* Type=notify-reload wants to know that this is no older message. */
        clock_gettime(CLOCK_MONOTONIC, &now);
        snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\n",
                 (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
    }
    if (send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_warn("the service manager cannot be told: %s", strerror(errno));
}
