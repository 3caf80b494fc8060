/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater image compare A B
 *
 * Both chains are mapped first: what reads as zeros in both is not read. The two reads of a piece
 * run at the same time.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "cli/image.h"
#include "io/co.h"
#include "io/lock.h"
#include "qcow2/map.h"

#define PIECE (2 * MiB)

struct side {
    struct node *n;
    const char *path;
    struct qc_extent x; /* what was mapped last */
    uint8_t *buf;
    uint64_t off, len; /* of the read in flight */
    int result;
    struct co_group *group;
};

struct compare {
    struct side side[2];
    const struct image_opts *o;
    uint64_t all;
    bool different, strict_different, sizes_differ;
    uint64_t at; /* where, if different */
};

static bool map_side(struct side *s, uint64_t off, struct err **errp)
{
    if (off >= s->x.start && off - s->x.start < s->x.length)
        return true;
    int r = qc_map(s->n, off, s->n->size - off, &s->x);
    return r == 0 || err_set_errno(errp, -r, "%s: cannot map offset %" PRIu64, s->path, off);
}

static void read_run(void *arg)
{
    struct side *s = arg;
    s->result = node_read(s->n, s->off, s->buf, s->len);
    if (s->group)
        co_group_done(s->group);
}

static bool read_one(struct side *s, uint64_t off, uint64_t len, struct err **errp)
{
    s->off = off;
    s->len = len;
    s->group = NULL;
    read_run(s);
    return s->result == 0 ||
           err_set_errno(errp, -s->result, "%s: cannot read %" PRIu64 " bytes at %" PRIu64, s->path,
                         len, off);
}

static bool read_both(struct compare *c, uint64_t off, uint64_t len, struct err **errp)
{
    struct side *b = &c->side[1];
    struct co_group group = {0};
    b->off = off;
    b->len = len;
    b->group = &group;
    co_group_add(&group);
    if (!co_start(read_run, b)) {
        co_group_done(&group);
        return err_set(errp, ENOMEM, "out of memory");
    }
    bool ok = read_one(&c->side[0], off, len, errp);
    co_group_wait(&group);
    if (ok && b->result < 0)
        ok = err_set_errno(errp, -b->result, "%s: cannot read %" PRIu64 " bytes at %" PRIu64,
                           b->path, len, off);
    return ok;
}

static void differs(struct compare *c, uint64_t off)
{
    c->different = true;
    c->at = off;
}

/* Is this piece of one image zeros? */
static bool compare_zeros(struct compare *c, struct side *s, uint64_t off, uint64_t len,
                          struct err **errp)
{
    if (!read_one(s, off, len, errp))
        return false;
    if (!bytes_are_zero(s->buf, len)) {
        uint64_t i = 0;
        while (!s->buf[i])
            i++;
        differs(c, off + i);
    }
    return true;
}

static bool compare_piece(struct compare *c, uint64_t off, uint64_t len, struct err **errp)
{
    struct side *a = &c->side[0], *b = &c->side[1];
    if (a->x.zero)
        return compare_zeros(c, b, off, len, errp);
    if (b->x.zero)
        return compare_zeros(c, a, off, len, errp);
    if (!read_both(c, off, len, errp))
        return false;
    if (memcmp(a->buf, b->buf, len) != 0) {
        uint64_t i = 0;
        while (a->buf[i] == b->buf[i])
            i++;
        differs(c, off + i);
    }
    return true;
}

static bool strict_same(const struct qc_extent *a, const struct qc_extent *b)
{
    return a->present == b->present && a->zero == b->zero && a->data == b->data;
}

static bool compare_common(struct compare *c, uint64_t size, struct err **errp)
{
    struct qc_extent *a = &c->side[0].x, *b = &c->side[1].x;
    for (uint64_t off = 0, len; off < size && !c->different; off += len) {
        if (!map_side(&c->side[0], off, errp) || !map_side(&c->side[1], off, errp))
            return false;
        len = min_u64(a->start + a->length, b->start + b->length) - off;
        len = min_u64(len, size - off);
        if (c->o->strict && !strict_same(a, b)) {
            c->strict_different = true;
            differs(c, off);
            return true;
        }
        if (!a->zero || !b->zero) {
            len = min_u64(len, PIECE);
            if (!compare_piece(c, off, len, errp))
                return false;
        }
        if (c->o->progress && off + len < c->all)
            image_progress(off + len, c->all);
    }
    return true;
}

/* What the longer image has beyond the shorter one must be zeros. */
static bool compare_rest(struct compare *c, struct side *s, uint64_t off, struct err **errp)
{
    for (uint64_t len; off < s->n->size && !c->different; off += len) {
        if (!map_side(s, off, errp))
            return false;
        len = s->x.start + s->x.length - off;
        if (!s->x.zero) {
            len = min_u64(len, PIECE);
            if (!compare_zeros(c, s, off, len, errp))
                return false;
        }
        if (c->o->progress && off + len < c->all)
            image_progress(off + len, c->all);
    }
    return true;
}

static bool compare(struct compare *c, struct err **errp)
{
    uint64_t a = c->side[0].n->size, b = c->side[1].n->size;
    c->all = max_u64(a, b);
    c->sizes_differ = a != b;
    if (c->sizes_differ && c->o->strict) {
        c->different = c->strict_different = true;
        c->at = min_u64(a, b);
        return true;
    }
    if (!compare_common(c, min_u64(a, b), errp))
        return false;
    if (c->different || !c->sizes_differ)
        return true;
    if (!c->o->quiet && !c->o->json)
        printf("Warning: Image size mismatch!\n");
    return compare_rest(c, &c->side[a < b], min_u64(a, b), errp);
}

static bool print(const struct compare *c, struct err **errp)
{
    if (c->o->json) {
        json_t *j =
            json_pack("{s:b, s:b}", "identical", !c->different, "size-mismatch", c->sizes_differ);
        if (c->different)
            json_object_set_new(j, "offset", json_integer((json_int_t)c->at));
        if (c->different)
            json_object_set_new(j, "reason",
                                json_string(!c->strict_different ? "content"
                                            : c->sizes_differ    ? "size"
                                                                 : "block-status"));
        return image_print_json(j) || err_set(errp, EIO, "cannot print");
    }
    if (c->o->quiet)
        return true;
    if (!c->different)
        printf("Images are identical.\n");
    else if (!c->strict_different)
        printf("Content mismatch at offset %" PRIu64 "!\n", c->at);
    else if (c->sizes_differ)
        printf("Strict mode: Image size mismatch!\n");
    else
        printf("Strict mode: Offset %" PRIu64 " block status mismatch!\n", c->at);
    return true;
}

static void compare_run(struct image_job *job)
{
    struct compare c = {.o = &job->o};
    bool ok = true;
    job->exit_code = COMPARE_FAILED;
    for (int i = 0; i < 2 && ok; i++) {
        c.side[i].path = job->o.file[i];
        c.side[i].n = image_open(&job->o, i, &job->err);
        ok = c.side[i].n != NULL;
        c.side[i].buf = mem_alloc_aligned(PIECE, 4096);
        if (ok && !c.side[i].buf)
            ok = err_set(&job->err, ENOMEM, "out of memory");
    }
    if (ok && compare(&c, &job->err)) {
        if (c.o->progress)
            image_progress(c.all, c.all);
        ok = print(&c, &job->err);
        if (ok)
            job->exit_code = c.different ? COMPARE_DIFFERENT : IMAGE_OK;
    }
    for (int i = 0; i < 2; i++) {
        node_unref(c.side[i].n);
        mem_free(c.side[i].buf);
    }
}

const struct image_command image_compare_command = {
    .name = "compare",
    .options = "fFUqpsYJODT",
    .min_files = 2,
    .max_files = 2,
    .fail_code = COMPARE_FAILED,
    .run = compare_run,
};
