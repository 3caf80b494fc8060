/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A second opinion: what QEMU says of an image on the simulated disk.
 */
#ifndef TESTS_LIB_ASK_QEMU_H
#define TESTS_LIB_ASK_QEMU_H

struct sim_disk;

/* ask_qemu: run `qemu-img check` on what d holds. Its exit code must be 0 or `tolerated`, or the
 * sweep fails (sweep_fail), and the image stays behind in a file that the message names. */
void ask_qemu(const struct sim_disk *d, int tolerated);

#endif
