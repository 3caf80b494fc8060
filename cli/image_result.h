/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the commands that change or make images print with --json: what was done, and how much of
 * it.
 */
#ifndef CLI_IMAGE_RESULT_H
#define CLI_IMAGE_RESULT_H

#include <stdint.h>

#include "cli/image.h"

/* image_result_new: an object with "filename". Keys are added with image_result_number and
 * image_result_text (NULL: null). */
struct json_t *image_result_new(const char *path);
void image_result_number(struct json_t *j, const char *key, uint64_t v);
void image_result_text(struct json_t *j, const char *key, const char *text);
void image_result_flag(struct json_t *j, const char *key, bool v);
/* image_result_disk: "actual-size", what the file takes up; nothing if it cannot be told. */
void image_result_disk(struct json_t *j, const char *path);
/* image_result_moved: "copied-bytes" and "zero-bytes". */
void image_result_moved(struct json_t *j, uint64_t data_bytes, uint64_t zero_bytes);
/* image_result_print: with the "seconds" since started_ns (clock_ns); takes j over. If it cannot be
 * printed the command fails. */
void image_result_print(struct image_job *job, struct json_t *j, int64_t started_ns);

#endif
