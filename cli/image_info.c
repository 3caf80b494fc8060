/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater image info FILE
 *
 * Reads the image's own metadata and nothing else; with --backing-chain it opens the chain, by the
 * same rules as a server would.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "cli/image_change.h"
#include "qcow2/inspect.h"
#include "qcow2/qcow2.h"

#define NS_PER_SECOND UINT64_C(1000000000)

struct facts {                 /* of one layer */
    char *path, *backing_path; /* backing_path: NULL: none */
    bool qcow2;
    uint64_t size, disk_size; /* bytes: guest, and what the file takes up */
    struct qc_image_info q;   /* zero if raw */
};

static void set(json_t *j, const char *key, json_t *v)
{
    json_object_set_new(j, key, v);
}

static json_t *number(uint64_t v)
{
    return json_integer((json_int_t)v);
}

static json_t *bitmaps_json(const struct qc_image_info *q)
{
    json_t *list = json_array();
    for (size_t i = 0; i < q->n_bitmaps; i++) {
        const struct qc_stored_bitmap *b = &q->bitmaps[i];
        json_t *j = json_object(), *flags = json_array();
        if (b->flags & QC_BITMAP_IN_USE)
            json_array_append_new(flags, json_string("in-use"));
        if (b->flags & QC_BITMAP_AUTO)
            json_array_append_new(flags, json_string("auto"));
        set(j, "flags", flags);
        set(j, "name", image_json_text(b->name));
        set(j, "granularity", number(UINT64_C(1) << b->granularity_bits));
        json_array_append_new(list, j);
    }
    return list;
}

static json_t *specific_json(const struct qc_image_info *q)
{
    json_t *d = json_object();
    set(d, "compat", json_string(q->version < 3 ? "0.10" : "1.1"));
    set(d, "compression-type", json_string(q->compression));
    set(d, "refcount-bits", number(q->refcount_bits));
    if (q->version >= 3) {
        set(d, "lazy-refcounts", json_boolean(q->lazy_refcounts));
        if (q->n_bitmaps)
            set(d, "bitmaps", bitmaps_json(q));
        if (q->has_data_file) {
            if (q->data_file)
                set(d, "data-file", image_json_text(q->data_file));
            set(d, "data-file-raw", json_boolean(q->raw_data_file));
        }
        set(d, "corrupt", json_boolean(q->corrupt));
        set(d, "extended-l2", json_boolean(q->extended_l2));
    }
    return json_pack("{s:s, s:o}", "type", "qcow2", "data", d);
}

static json_t *facts_json(const struct facts *f)
{
    const struct qc_image_info *q = &f->q;
    json_t *j = json_object();
    set(j, "filename", image_json_text(f->path));
    set(j, "format", json_string(f->qcow2 ? "qcow2" : "raw"));
    set(j, "virtual-size", number(f->size));
    set(j, "actual-size", number(f->disk_size));
    set(j, "dirty-flag", json_boolean(q->dirty));
    if (!f->qcow2)
        return j;
    set(j, "cluster-size", number(q->cluster_size));
    if (q->backing_name) {
        set(j, "backing-filename", image_json_text(q->backing_name));
        set(j, "full-backing-filename", image_json_text(f->backing_path));
        if (q->backing_format)
            set(j, "backing-filename-format", image_json_text(q->backing_format));
    }
    if (q->n_snapshots)
        set(j, "snapshots", image_snapshots_json(q, false));
    set(j, "format-specific", specific_json(q));
    return j;
}

static void print_line(const char *before, const char *text, const char *after)
{
    AUTO_FREE char *plain = image_plain(text);
    printf("%s%s%s", before, plain ? plain : "?", after);
}

static void print_bitmaps(const struct qc_image_info *q)
{
    printf("    bitmaps:\n");
    for (size_t i = 0; i < q->n_bitmaps; i++) {
        const struct qc_stored_bitmap *b = &q->bitmaps[i];
        int n = 0;
        printf("        [%zu]:\n            flags:\n", i);
        if (b->flags & QC_BITMAP_IN_USE)
            printf("                [%d]: in-use\n", n++);
        if (b->flags & QC_BITMAP_AUTO)
            printf("                [%d]: auto\n", n);
        print_line("            name: ", b->name, "\n");
        printf("            granularity: %" PRIu64 "\n", UINT64_C(1) << b->granularity_bits);
    }
}

static void print_specific(const struct qc_image_info *q)
{
    printf("Format specific information:\n    compat: %s\n    compression type: %s\n",
           q->version < 3 ? "0.10" : "1.1", q->compression);
    if (q->version >= 3)
        printf("    lazy refcounts: %s\n", q->lazy_refcounts ? "true" : "false");
    if (q->n_bitmaps)
        print_bitmaps(q);
    printf("    refcount bits: %" PRIu32 "\n", q->refcount_bits);
    if (q->version < 3)
        return;
    if (q->data_file)
        print_line("    data file: ", q->data_file, "\n");
    if (q->has_data_file)
        printf("    data file raw: %s\n", q->raw_data_file ? "true" : "false");
    printf("    corrupt: %s\n    extended l2: %s\n", q->corrupt ? "true" : "false",
           q->extended_l2 ? "true" : "false");
}

static void print_facts(const struct facts *f)
{
    const struct qc_image_info *q = &f->q;
    char virtual[32], disk[32];
    print_line("image: ", f->path, "\n");
    printf("file format: %s\nvirtual size: %s (%" PRIu64 " bytes)\ndisk size: %s\n",
           f->qcow2 ? "qcow2" : "raw", image_size_text(f->size, virtual, sizeof(virtual)), f->size,
           image_size_text(f->disk_size, disk, sizeof(disk)));
    if (!f->qcow2)
        return;
    printf("cluster_size: %" PRIu32 "\n%s", q->cluster_size,
           q->dirty ? "cleanly shut down: no\n" : "");
    if (q->backing_name) {
        print_line("backing file: ", q->backing_name, "");
        if (strcmp(q->backing_name, f->backing_path) != 0)
            print_line(" (actual path: ", f->backing_path, ")");
        printf("\n");
    }
    if (q->backing_format)
        print_line("backing file format: ", q->backing_format, "\n");
    if (q->n_snapshots)
        image_snapshots_print(q);
    print_specific(q);
}

/* path: taken over. */
static bool find_facts(struct facts *f, char *path, struct node *file, bool qcow2,
                       struct err **errp)
{
    struct stat st;
    *f = (struct facts){.path = path, .qcow2 = qcow2, .size = file->size};
    if (!path)
        return err_set(errp, ENOMEM, "out of memory");
    if (stat(path, &st) == 0)
        f->disk_size = (uint64_t)st.st_blocks * 512;
    if (!qcow2)
        return true;
    if (!qc_inspect(file, &f->q, errp))
        return false;
    f->size = f->q.size;
    if (f->q.backing_name)
        f->backing_path = image_backing_path(path, f->q.backing_name);
    return !f->q.backing_name || f->backing_path || err_set(errp, ENOMEM, "out of memory");
}

static void free_facts(struct facts *f)
{
    qc_image_info_free(&f->q);
    mem_free(f->path);
    mem_free(f->backing_path);
}

/* One layer and those below it. list: NULL: print text. */
static bool tell_chain(const struct image_opts *o, struct node *n, json_t *list, struct err **errp)
{
    char *path = mem_strdup(o->file[0]);
    for (unsigned depth = 0; n; depth++) {
        bool qcow2 = n->drv == &qcow2_driver;
        struct facts f;
        bool ok = find_facts(&f, path, qcow2 ? n->child[0] : n, qcow2, errp);
        path = ok && f.backing_path ? mem_strdup(f.backing_path) : NULL;
        if (ok && list) {
            json_array_append_new(list, facts_json(&f));
        } else if (ok && !o->quiet) {
            printf("%s", depth ? "\n" : "");
            print_facts(&f);
        }
        free_facts(&f);
        if (!ok)
            return false;
        n = qcow2 && n->n_child > 1 ? n->child[1] : NULL;
    }
    mem_free(path);
    return true;
}

static bool tell_one(const struct image_opts *o, struct node *file, struct err **errp)
{
    struct facts f;
    bool ok = find_facts(&f, mem_strdup(o->file[0]), file, o->format[0] == FORMAT_QCOW2, errp);
    if (ok && o->json)
        ok = image_print_json(facts_json(&f)) || err_set(errp, EIO, "cannot print");
    else if (ok && !o->quiet)
        print_facts(&f);
    free_facts(&f);
    return ok;
}

static void info_run(struct image_job *job)
{
    const struct image_opts *o = &job->o;
    struct node *n =
        o->backing_chain ? image_open_tables(o, 0, &job->err) : image_open_file(o, 0, &job->err);
    if (!n)
        return;
    if (o->backing_chain) {
        json_t *list = o->json ? json_array() : NULL;
        bool ok = tell_chain(o, n, list, &job->err);
        if (ok && list && !image_print_json(json_incref(list)))
            err_set(&job->err, EIO, "cannot print");
        json_decref(list);
    } else {
        tell_one(o, n, &job->err);
    }
    node_unref(n);
}

const struct image_command image_info_command = {
    .name = "info",
    .options = "fUqJOCD",
    .min_files = 1,
    .max_files = 1,
    .fail_code = IMAGE_FAILED,
    .run = info_run,
};
