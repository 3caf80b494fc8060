/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Opening and closing. All that can be refused is refused before the first byte is written. What an
 * open writes: the repair of an image that was not closed cleanly (dirty.c), zeros to auto-clear
 * feature bits that this build does not keep up, and that stored bitmaps are in use.
 */
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "base/log.h"
#include "qcow2/qcow2_priv.h"

/* qcow2.txt, "autoclear_features": bits that are not understood are cleared before any write. */
bool qc_clear_autoclear(struct qc *q, struct err **errp)
{
    uint64_t keep = q->autoclear & (QC_AUTOCLEAR_BITMAPS | QC_AUTOCLEAR_RAW_DATA);
    uint8_t be[8];
    if (q->read_only || q->autoclear == keep)
        return true;
    put_be64(be, keep);
    int r = node_write_kind(q->file, QCH_AUTOCLEAR, be, sizeof(be), 0, KIND_HEADER);
    if (r == 0)
        r = node_flush(q->file);
    if (r < 0)
        return err_set_errno(errp, -r, "cannot clear autoclear_features 0x%" PRIx64, q->autoclear);
    q->autoclear = keep;
    return true;
}

static bool attach(struct node *n, struct node *child, struct err **errp)
{
    node_ref(child);
    if (node_attach(n, child, errp))
        return true;
    node_unref(child);
    return false;
}

static bool open_data(struct qc *q, const struct qc_header *h, const struct qc_open_opts *opts,
                      const struct qc_chain *self, struct err **errp)
{
    q->data = NULL;
    if (opts->no_data)
        return opts->read_only ||
               err_set(errp, EINVAL, "without its data file the image is read-only");
    q->data = opts->data_file ? node_ref(opts->data_file) : qc_data_open(h, opts, self, errp);
    if (!q->data)
        return false;
    return opts->read_only || !q->data->read_only ||
           err_set(errp, EACCES,
                   "the data file is open read-only, the image cannot be opened for "
                   "writing");
}

static bool open_into(struct node *n, struct node *file, const struct qc_header *h,
                      const struct qc_open_opts *opts, const struct qc_chain *self,
                      struct err **errp)
{
    struct qc *q = n->state;
    q->node = n;
    q->file = q->data = file;
    q->read_only = true; /* until the end: a failed open writes nothing, not even at close */
    if (!attach(n, file, errp) || !qc_load(q, h, opts, errp))
        return false;
    if (h->has_backing && !opts->no_backing) {
        struct node *backing =
            opts->backing ? node_ref(opts->backing) : qc_backing_open(h, opts, self, errp);
        if (!backing)
            return false;
        bool ok = attach(n, backing, errp);
        node_unref(backing);
        if (!ok)
            return false;
        q->backing = backing;
    }
    if (q->has_data_file && !open_data(q, h, opts, self, errp))
        return false;
    n->size = h->size;
    if (!qc_bitmaps_load(q, h, opts->read_only, errp))
        return false;
    n->read_only = opts->read_only;
    n->growable = false;
    n->limits.align = 1;
    n->limits.mem_align = file->limits.mem_align;
    if (q->data && q->data->limits.mem_align > n->limits.mem_align)
        n->limits.mem_align = q->data->limits.mem_align;
    n->limits.cluster = (uint32_t)q->cluster_size;
    n->limits.zero_align = UINT64_C(1) << q->sub_bits;
    n->limits.discard_align = q->cluster_size;
    q->read_only = opts->read_only;
    if (qc_clear_autoclear(q, errp) && qc_bitmaps_begin(q, errp))
        return true;
    q->read_only = true;
    return false;
}

/* An image that was not closed cleanly is repaired before it is written to; but first it is opened
 * for reading, to see whether anything else refuses it. */
static bool settle_dirty(struct node *file, struct qc_header *h, const struct qc_open_opts *opts,
                         const struct qc_chain *self, struct err **errp)
{
    struct qc_open_opts trial = *opts;
    if (!(h->incompatible & QC_INCOMPAT_DIRTY))
        return true;
    if (!qc_header_admit(h, false, errp))
        return false;
    trial.read_only = true;
    struct node *n = node_new(&qcow2_driver, file->name, errp);
    bool ok = n && open_into(n, file, h, &trial, self, errp);
    node_unref(n);
    return ok && qc_dirty_repair(file, errp) && qc_header_read(file, h, errp);
}

struct node *qc_open_chain(struct node *file, const struct qc_open_opts *opts,
                           const struct qc_chain *self, struct err **errp)
{
    const char *name = opts->path ? opts->path : file->name;
    struct node *n = NULL;
    struct qc_header *h = mem_new(struct qc_header); /* too large for a stack that recursion uses */
    struct err *e = NULL;
    bool ok = false;
    if (!h)
        err_set(&e, ENOMEM, "out of memory");
    else if (!opts->read_only && file->read_only)
        err_set(&e, EACCES, "the file is open read-only, the image cannot be opened for writing");
    else if (qc_header_read(file, h, &e) &&
             (opts->read_only || settle_dirty(file, h, opts, self, &e)) &&
             qc_header_admit(h, opts->read_only, &e) &&
             (!opts->snapshot || qc_snapshot_pick(file, h, opts, &e)) &&
             (n = node_new(&qcow2_driver, name, &e)) != NULL)
        ok = open_into(n, file, h, opts, self, &e);
    mem_free(h);
    if (ok) {
        node_unref(file); /* the caller's reference; the node holds its own */
        return n;
    }
    err_prefix(&e, "%s: ", name);
    err_move(errp, e);
    node_unref(n);
    return NULL;
}

struct node *qc_open(struct node *file, const struct qc_open_opts *opts, struct err **errp)
{
    struct stat st;
    struct qc_chain self = {.depth = 1};
    if (opts->path && stat(opts->path, &st) == 0) {
        self.dev = st.st_dev;
        self.ino = st.st_ino;
    }
    return qc_open_chain(file, opts, &self, errp);
}

int qc_write_all(struct qc *q)
{
    int r = qc_write_back(q->node);
    if (r == 0)
        r = qc_flush(q);
    if (r == 0 && q->ref.n_dirty) { /* what the flush freed */
        r = qc_write_refblocks(q);
        if (r == 0)
            r = qc_barrier(q);
    }
    return r;
}

void qc_close(struct node *n)
{
    struct qc *q = n->state;
    if (q->node && !q->read_only) {
        qc_bitmaps_end(q);
        int r = qc_write_all(q);
        if (r < 0)
            log_error("%s: closed with metadata that could not be written: error %d", n->name, -r);
    }
    if (q->has_data_file && q->data != q->file)
        node_unref(q->data);
    if (q->l2.q) {
        qc_cache_destroy(&q->l2);
        qc_cache_destroy(&q->ref);
    }
    mem_free(q->l1);
    mem_free(q->reftable);
    mem_free(q->bounce);
    mem_free(q->backing_name);
    mem_free(q->backing_format);
    mem_free(q->data_name);
    mem_free(q->freed.v);
    mem_free(q->written.v);
    mem_free(q->settled.v);
    mem_free(q->meta.slot);
    qc_bitmaps_free(q);
    qc_zip_destroy(q);
}

void qc_get_info(struct node *n, struct qc_info *info)
{
    const struct qc *q = n->state;
    *info = (struct qc_info){
        .version = q->version,
        .cluster_size = (uint32_t)q->cluster_size,
        .refcount_bits = 1u << q->refcount_order,
        .size = n->size,
        .backing_name = q->backing_name,
        .backing_format = q->backing_format,
        .data_name = q->has_data_file ? q->data_name : NULL,
        .cache_bytes = (uint64_t)(q->l2.n + q->ref.n) << q->l2.slice_bits,
    };
}
