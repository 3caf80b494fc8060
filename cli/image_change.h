/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The commands that change an image in place: snapshot and resize.
 */
#ifndef CLI_IMAGE_CHANGE_H
#define CLI_IMAGE_CHANGE_H

#include "cli/image.h"
#include "qcow2/inspect.h"

/* image_change_parse: as image_parse, into job->change. */
int image_change_parse(int argc, char **argv, struct image_job *job, struct err **errp);
/* What --help says of these commands. */
extern const char image_change_help[];

/* image_snapshots_print, image_snapshots_json: as `info` and `snapshot -l` show them. disk_size:
 * tell the size of the disk, too, which qemu-img does not. */
void image_snapshots_print(const struct qc_image_info *q);
struct json_t *image_snapshots_json(const struct qc_image_info *q, bool disk_size);

#endif
