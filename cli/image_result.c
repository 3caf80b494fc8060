/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Results as JSON. A key that there is no memory for makes printing fail, not the work.
 */
#include "cli/image_result.h"

#include <jansson.h>
#include <sys/stat.h>

#include "io/reactor.h"

json_t *image_result_new(const char *path)
{
    json_t *j = json_object();
    image_result_text(j, "filename", path);
    return j;
}

void image_result_number(json_t *j, const char *key, uint64_t v)
{
    json_object_set_new(j, key, json_integer((json_int_t)v));
}

void image_result_text(json_t *j, const char *key, const char *text)
{
    json_object_set_new(j, key, text ? image_json_text(text) : json_null());
}

void image_result_flag(json_t *j, const char *key, bool v)
{
    json_object_set_new(j, key, json_boolean(v));
}

void image_result_disk(json_t *j, const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0)
        image_result_number(j, "actual-size", (uint64_t)st.st_blocks * 512);
}

void image_result_moved(json_t *j, uint64_t data_bytes, uint64_t zero_bytes)
{
    image_result_number(j, "copied-bytes", data_bytes);
    image_result_number(j, "zero-bytes", zero_bytes);
}

void image_result_print(struct image_job *job, json_t *j, int64_t started_ns)
{
    double seconds = (double)(clock_ns() - started_ns) / 1e9;
    /* Of milliseconds, so that it does not look more exact than it is. */
    json_object_set_new(j, "seconds", json_real((double)(int64_t)(seconds * 1e3 + 0.5) / 1e3));
    if (!image_print_json(j))
        job->exit_code = IMAGE_FAILED;
}
