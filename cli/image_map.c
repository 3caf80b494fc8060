/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater image map [--backing-chain] [-s OFFSET] [-l LENGTH] FILE
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "cli/image.h"
#include "qcow2/map.h"
#include "qcow2/qcow2.h"

struct map {
    bool json, any;
    bool below; /* the image has a backing file, which is not opened: see as_alone */
    const char *path;
    struct node *top;
};

/* Of what the image leaves to a backing file that nobody has looked into: that it is one layer
 * below, and nothing else. */
static void as_alone(const struct map *m, struct qc_extent *x)
{
    if (!m->below || x->present)
        return;
    x->depth = 1;
    x->zero = false;
}

static const char *yes(bool v)
{
    return v ? "true" : "false";
}

static void print_json(struct map *m, const struct qc_extent *x)
{
    printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"depth\": %u, \"present\": %s, "
           "\"zero\": %s, \"data\": %s, \"compressed\": %s",
           m->any ? ",\n" : "", x->start, x->length, x->depth, yes(x->present), yes(x->zero),
           yes(x->data), yes(x->compressed));
    if (x->has_offset)
        printf(", \"offset\": %" PRIu64, x->offset);
    printf("}");
}

/* The path of the file with the data of the layer at that depth, from the names in the headers.
 * New.
 */
static char *layer_path(const struct map *m, unsigned depth)
{
    char *path = mem_strdup(m->path);
    struct node *n = m->top;
    for (; path && depth > 0 && n->n_child > 1; depth--, n = n->child[1]) {
        struct qc_info info;
        qc_get_info(n, &info);
        char *next = image_backing_path(path, info.backing_name ? info.backing_name : "");
        mem_free(path);
        path = next;
    }
    struct qc_info info = {0};
    if (n->drv == &qcow2_driver)
        qc_get_info(n, &info);
    if (!path || !info.data_name || !*info.data_name)
        return path;
    char *data = image_backing_path(path, info.data_name);
    mem_free(path);
    return data;
}

static void print_text(const struct map *m, const struct qc_extent *x)
{
    if (!x->data)
        return;
    AUTO_FREE char *path = layer_path(m, x->depth);
    AUTO_FREE char *plain = path ? image_plain(path) : NULL;
    printf("%#-16" PRIx64 "%#-16" PRIx64, x->start, x->length);
    if (x->has_offset)
        printf("%#-16" PRIx64, x->offset);
    else
        printf("%-16s", "compressed");
    printf("%s\n", plain ? plain : "?");
}

static void put(struct map *m, const struct qc_extent *x)
{
    if (x->length == 0)
        return;
    if (m->json)
        print_json(m, x);
    else
        print_text(m, x);
    m->any = true;
}

static bool walk(struct map *m, uint64_t start, uint64_t length, struct err **errp)
{
    struct qc_extent last = {0}, x;
    uint64_t end = m->top->size;
    if (start < end)
        end = start + min_u64(length, end - start);
    for (uint64_t off = start; off < end; off += x.length) {
        int r = qc_map(m->top, off, end - off, &x);
        if (r < 0)
            return err_set_errno(errp, -r, "%s: cannot map offset %" PRIu64, m->path, off);
        as_alone(m, &x);
        if (last.length && qc_extent_joins(&last, &x)) {
            last.length += x.length;
            continue;
        }
        put(m, &last);
        last = x;
    }
    put(m, &last);
    return true;
}

static void map_run(struct image_job *job)
{
    const struct image_opts *o = &job->o;
    struct map m = {.json = o->json, .path = o->file[0]};
    struct qc_info info = {0};
    m.top = image_open_tables(o, 0, &job->err);
    if (!m.top)
        return;
    if (m.top->drv == &qcow2_driver)
        qc_get_info(m.top, &info);
    m.below = info.backing_name && !o->backing_chain;
    if (m.json)
        printf("[");
    else
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    if (walk(&m, o->start, o->length, &job->err) && m.json)
        printf("]\n");
    node_unref(m.top);
}

const struct image_command image_map_command = {
    .name = "map",
    .options = "fUqJOCDsl",
    .min_files = 1,
    .max_files = 1,
    .fail_code = IMAGE_FAILED,
    .run = map_run,
};
