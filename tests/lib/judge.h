/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The verdict on an image after a failure or a power cut: by the independent judge first, before
 * anything may repair it; then by our driver, which must see the same content; then once more after
 * the image has been written to, for harm that shows itself only later.
 */
#ifndef TESTS_LIB_JUDGE_H
#define TESTS_LIB_JUDGE_H

#include "tests/lib/oracle.h"
#include "tests/lib/qcow2_check.h"

struct sim_disk;
struct load_run;

#define JUDGE_TEXT_LEN (QCK_TEXT_LEN + ORACLE_TEXT_LEN + 128)

struct judge {
    /* In. */
    const struct oracle *oracle; /* NULL: any content is legal, as long as all read the same */
    struct oracle_view view;
    uint64_t seed;
    bool open, write_after;     /* open it with the driver; and write to it afterwards */
    bool may_refuse;            /* our driver may refuse to open it */
    const struct load_run *run; /* whose bitmaps and snapshots are judged, too */
    /* Out. */
    bool sound;  /* before the driver saw it */
    bool opened; /* by the driver */
    uint64_t leaks;
    unsigned good_bitmaps; /* of run, that are not in use */
    char text[JUDGE_TEXT_LEN];
};

/* judge_image: true if d holds an image without corruption whose content is legal. d is changed if
 * write_after is set. No node may be open on it. Outside coroutines, on a REACTOR_SIM reactor. */
bool judge_image(struct judge *j, struct sim_disk *d);

#endif
