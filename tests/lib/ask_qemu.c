/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See ask_qemu.h.
 */
#include "tests/lib/ask_qemu.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/sim.h"
#include "tests/lib/sweep.h"

void ask_qemu(const struct sim_disk *d, int tolerated)
{
    char path[] = "/tmp/ask-qemu-XXXXXX", command[128];
    uint64_t size = sim_disk_size(d);
    uint8_t *bytes = malloc(size + 1);
    int fd = mkostemp(path, O_CLOEXEC);
    if (!bytes || fd < 0)
        sweep_fail("no memory or no temporary file");
    sim_disk_peek(d, 0, bytes, size);
    if (write(fd, bytes, size) != (ssize_t)size)
        sweep_fail("%s cannot be written", path);
    close(fd);
    free(bytes);
    snprintf(command, sizeof(command), "qemu-img check -q -f qcow2 %s >/dev/null 2>&1", path);
    int status = system(command); /* NOLINT: the words are ours */
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code != 0 && code != tolerated)
        sweep_fail("qemu-img check exits with %d on this image, left in %s", code, path);
    unlink(path);
}
