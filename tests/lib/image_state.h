/* SPDX-License-Identifier: BSD-3-Clause
 *
 * All that an image holds for its user: the guest disk and every snapshot of it, as the independent
 * judge reads them; to tell whether two images are the same.
 */
#ifndef TESTS_LIB_IMAGE_STATE_H
#define TESTS_LIB_IMAGE_STATE_H

#include <stdbool.h>
#include <stdint.h>

#define IMAGE_STATE_SNAPS 8

struct image_disk {
    char name[256]; /* of the snapshot */
    uint64_t size;  /* bytes */
    uint8_t *data;
};

struct image_state {
    struct image_disk now, snap[IMAGE_STATE_SNAPS];
    uint32_t n;
    uint64_t leaks;
    char text[1024]; /* what is wrong */
};

struct sim_disk;
/* image_state_take: false, and text, if the image is not sound. Free in any case. Aborts without
 * memory. */
bool image_state_take(struct image_state *s, struct sim_disk *d);
bool image_state_equal(const struct image_state *a, const struct image_state *b);
void image_state_free(struct image_state *s);

#endif
