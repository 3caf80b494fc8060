/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files of this room share: the state of an open image and the calls between them.
 *
 * Locks, in the order in which they may be taken:
 *   lock       allocation of clusters, the L1 table, the reftable, the header; held across I/O
 *   sync_lock  one ordered write-back of the caches at a time (flush.c)
 *   the gate   L2 entries change only while l2_frozen is false (flush.c says when it is true)
 * A read, and an overwrite of a cluster that is allocated and unshared, takes none of them.
 *
 * What lets it be so: between looking an entry up and submitting the I/O nothing yields, and a host
 * cluster that loses its owner is not given to another one before every I/O that started earlier
 * has ended (the grace period of io_epoch) and the change that freed it is durable (free.c).
 */
#ifndef QCOW2_QCOW2_PRIV_H
#define QCOW2_QCOW2_PRIV_H

#include "base/bytes.h"
#include "base/err.h"
#include "base/mem.h"
#include "block/node.h"
#include "io/co.h"
#include "io/lock.h"
#include "qcow2/bitmaps.h"
#include "qcow2/format.h"
#include "qcow2/qcow2.h"

/* --- header.c, header_ext.c: pure functions over bytes --- */

struct qc_header {
    uint32_t version;
    uint32_t cluster_bits;
    uint32_t refcount_order;
    uint32_t header_len;
    uint64_t size; /* bytes, a multiple of 512 */
    uint64_t l1_off, reftable_off, snapshots_off;
    uint32_t l1_size; /* entries */
    uint32_t reftable_clusters;
    uint32_t nb_snapshots;
    uint64_t incompatible, compatible, autoclear;
    uint8_t compression_type;
    bool size_rounded; /* the field was no multiple of 512 */
    bool has_backing, has_bitmaps;
    uint32_t n_bitmaps; /* by the extension, which counts only if QC_AUTOCLEAR_BITMAPS is set */
    uint64_t bitmap_dir_off, bitmap_dir_len;
    char backing_name[QC_MAX_BACKING_NAME + 1];     /* NUL-terminated */
    char backing_format[QC_MAX_BACKING_FORMAT + 1]; /* "" = no such extension */
    char data_name[QC_MAX_BACKING_NAME + 1];        /* of the data file; the same */
};

/* qc_header_cluster_bits: the one field that says how many bytes the others need. buf: the first
 * QC_V2_HEADER_LEN bytes. Checks magic, version and the field itself. */
bool qc_header_cluster_bits(const uint8_t *buf, size_t len, uint32_t *bits, struct err **errp);
/* What is wrong with a header that a repair can put right. */
struct qc_header_flaws {
    struct err *reftable; /* there can be no refcount table there; reftable_clusters is then 0 */
};
/* qc_header_parse: validate everything that the first cluster holds. buf: its bytes (fewer if the
 * file is shorter); file_size: of the host file. flaws: NULL, or zeroed: what it can hold goes
 * there and is not refused, neither are too many snapshots. Never reads past len. */
bool qc_header_parse(const uint8_t *buf, size_t len, uint64_t file_size, struct qc_header *h,
                     struct qc_header_flaws *flaws, struct err **errp);
/* qc_header_admit: refuse what this build lacks, and what must not be written to. */
bool qc_header_admit(const struct qc_header *h, bool read_only, struct err **errp);
/* qc_ext_parse: the header extensions; fills backing_format, data_name and has_bitmaps. */
bool qc_ext_parse(const uint8_t *buf, size_t len, struct qc_header *h, struct err **errp);
/* qc_ext_feature_name: copy the name of a feature bit from the feature name table into out (49
 * bytes); false if the table does not name it. type: 0 incompatible, 1 compatible, 2 autoclear. */
bool qc_ext_feature_name(const uint8_t *buf, size_t len, const struct qc_header *h, unsigned type,
                         unsigned bit, char *out);

/* --- cache.c --- */

#define QC_PAGE_SLOTS 512
#define QC_SLICE_MAX_BITS 16 /* tables of larger clusters are cached in slices of 64 KiB */

struct qc;

/* A part of an L2 table or of a refcount block, as it is on disk. */
struct qc_slice {
    uint64_t index;
    uint8_t *data;
    uint32_t dirty_lo, dirty_hi; /* bytes to write back; equal = clean */
    uint32_t pins;               /* > 0: stays */
    bool loading;
    bool hot;                                 /* used since the clock hand passed */
    struct qc_slice *prev, *next;             /* ring of all slices, for the clock hand */
    struct qc_slice *dirty_prev, *dirty_next; /* list of dirty slices, oldest first */
};

struct qc_page {
    unsigned used;
    struct qc_slice *v[QC_PAGE_SLOTS];
};

struct qc_cache {
    struct qc *q;
    const struct qc_cache_ops *ops;
    unsigned slice_bits;
    size_t max, n, n_dirty; /* slices */
    struct qc_page **root;  /* slice index -> slice in two steps */
    size_t n_root;
    struct qc_slice *hand;
    struct qc_slice *dirty_head, *dirty_tail;
    struct co_queue load_waiters;
};

struct qc_cache_ops {
    /* host offset of a slice; its table is known to exist */
    int (*locate)(struct qc *q, uint64_t index, uint64_t *host_off);
    enum req_kind kind;
    enum blk_event write_event;
    bool has_load_event;
    enum blk_event load_event;
};

void qc_cache_init(struct qc_cache *c, struct qc *q, const struct qc_cache_ops *ops,
                   unsigned slice_bits, uint64_t max_bytes, uint64_t min_slices);
void qc_cache_destroy(struct qc_cache *c);
/* qc_cache_get: the slice, loaded. Yields on a miss. Not pinned: use it before yielding, or pin. */
int qc_cache_get(struct qc_cache *c, uint64_t index, struct qc_slice **out);
/* qc_cache_new: as get, but a slice that is not cached starts as zeros without being read. */
int qc_cache_new(struct qc_cache *c, uint64_t index, struct qc_slice **out);
void qc_cache_dirty(struct qc_cache *c, struct qc_slice *s, size_t lo, size_t hi);
/* qc_cache_write_dirty: write back every slice that is dirty at the start. sync_lock is held. */
int qc_cache_write_dirty(struct qc_cache *c);

/* Without writing anything back, and while no slice is pinned or loading:
 * qc_cache_clear: forget all. qc_cache_forget: forget one slice. qc_cache_set_clean: what is dirty
 * has been written by other means. */
void qc_cache_clear(struct qc_cache *c);
void qc_cache_forget(struct qc_cache *c, uint64_t index);
void qc_cache_set_clean(struct qc_cache *c);

/* qc_cache_find: the slice if it is cached and loaded. Does not yield. */
static inline struct qc_slice *qc_cache_find(struct qc_cache *c, uint64_t index)
{
    uint64_t p = index / QC_PAGE_SLOTS;
    if (p >= c->n_root || !c->root[p])
        return NULL;
    struct qc_slice *s = c->root[p]->v[index % QC_PAGE_SLOTS];
    if (!s || s->loading)
        return NULL;
    s->hot = true;
    return s;
}

static inline void qc_slice_pin(struct qc_slice *s)
{
    s->pins++;
}

static inline void qc_slice_unpin(struct qc_slice *s)
{
    s->pins--;
}

/* --- The open image --- */

/* A change of mapping in progress on guest clusters [first, end). On its coroutine's stack. */
struct qc_inflight {
    uint64_t first, end;
    struct qc_inflight *prev, *next;
};

/* Host clusters that lost a reference which is not yet taken off their refcount. */
struct qc_freed {
    uint64_t host_off;
    uint64_t clusters;
    uint64_t epoch; /* io_epoch when they were unlinked */
    bool discard;   /* give the space back to the file system */
};

struct qc_freed_list {
    struct qc_freed *v;
    size_t n, cap;
};

struct qc_meta_set { /* host cluster numbers of L2 tables and refcount blocks */
    uint64_t *slot;  /* number + 1; 0 = free */
    size_t cap, n;
};

#define QC_ZIP_SLOTS 4

/* A compressed cluster, unpacked or about to be. */
struct qc_zip_slot {
    uint64_t entry; /* the L2 entry; 0: none, or not to be found any more */
    uint8_t *data;  /* one cluster, or NULL */
    uint64_t used;  /* when last */
    unsigned users; /* > 0: stays */
    bool loading;
    int error; /* of the loading */
};

struct qc_zip {
    struct qc_zip_slot v[QC_ZIP_SLOTS];
    uint64_t clock;
    struct co_queue change; /* a slot was loaded, or has no user left */
    uint64_t free_byte;     /* host offset behind the last compressed data; 0: take a new cluster */
    bool logged;
    struct qc_pack_pool *pool; /* zip_pack.c; NULL: nothing was packed yet */
    uint64_t tickets, turn;    /* of requests to write compressed: given out; whose turn it is */
    struct co_queue turn_queue;
};

struct qc {
    struct node *node;    /* this format node */
    struct node *file;    /* child[0] */
    struct node *backing; /* child[1] or NULL */
    struct node *data;    /* where guest data is: file, or the data file (a reference of its own) */
    bool has_data_file; /* guest data at its guest offset in the data file: nothing is allocated */
    bool raw_data;      /* which must read the same as this image */
    bool extended_l2;   /* L2 entries have a map of 32 subclusters */
    bool special_l2;    /* one of the two: entries must be looked at more closely */
    bool read_only;
    bool has_backing; /* by the header, even if it was not opened */
    bool corrupt;     /* seen at run time: nothing is written any more */
    int frozen;       /* -errno: it is not known which tables are in force; nothing is written */
    int flush_error;  /* of a barrier, -errno; stays until reopen */

    uint32_t version;
    unsigned cluster_bits;
    uint64_t cluster_size;
    unsigned sub_bits;       /* of a subcluster; without them: cluster_bits */
    unsigned l2_entry_shift; /* log2 of an L2 entry's bytes: 3, extended 4 */
    uint64_t host_mask;      /* which bits of a standard L2 entry say that it has a host cluster */
    unsigned refcount_order;
    uint8_t codec; /* enum qc_codec */
    uint64_t incompatible;
    uint64_t autoclear;    /* as on disk, unless unsure */
    bool autoclear_unsure; /* a write of it failed */
    uint32_t nb_snapshots;
    uint64_t snapshots_off, snapshots_len; /* of the snapshot table, rounded up to clusters */
    bool snapshot_unsized;                 /* one does not store the size of its disk */
    char *backing_name, *backing_format;
    char *data_name; /* NULL: no data file */

    uint8_t *l1;      /* as on disk */
    uint64_t l1_size; /* entries */
    uint64_t l1_off;
    unsigned l1_shift;      /* guest_off >> l1_shift = L1 index */
    uint8_t *reftable;      /* as on disk */
    uint64_t reftable_size; /* entries */
    uint64_t reftable_off;
    bool reftable_fixed;    /* a new one is being built and cannot grow (remake.c) */
    unsigned refblock_bits; /* log2 of the host clusters that one refcount block counts */

    struct qc_cache l2, ref;
    unsigned l2_slice_shift;  /* guest_off >> this = slice index of l2 */
    unsigned ref_slice_shift; /* host cluster number >> this = slice index of ref */
    uint8_t *bounce;          /* one slice; belongs to the holder of sync_lock */

    struct co_mutex lock, sync_lock;
    struct co_mutex resize_lock; /* one growth at a time; taken before lock */
    struct co *sync_owner;
    bool l2_frozen;
    struct co_queue l2_gate;
    bool links_dirty; /* a dirty L2 slice points at a cluster whose data may be volatile */

    struct qc_inflight *inflight;
    struct co_queue inflight_waiters;
    uint64_t io_epoch;
    unsigned io_running[2]; /* by io_epoch & 1 */

    struct qc_freed_list freed;   /* unlinked in memory */
    uint64_t freed_bytes;         /* in freed, and not flushed since */
    struct qc_freed_list settled; /* unlinked on disk, durable: waiting for their grace period */
    int free_error;               /* why what is settled could not be freed last time, or 0 */
    struct qc_freed_list written; /* unlink written, not yet durable */
    uint64_t free_hint;           /* no host cluster below this number is free */
    uint64_t fresh_from; /* host bytes from here on were never written: they read as zeros */
    struct qc_meta_set meta;

    struct qc_zip zip;
    struct qc_bitmaps bitmaps;
};

static inline uint64_t qc_l1_get(const struct qc *q, uint64_t i)
{
    return get_be64(q->l1 + i * 8);
}

static inline uint64_t qc_reftable_get(const struct qc *q, uint64_t i)
{
    return get_be64(q->reftable + i * 8);
}

/* qc_clusters: how many clusters hold len bytes. */
static inline uint64_t qc_clusters(const struct qc *q, uint64_t len)
{
    return (len >> q->cluster_bits) + ((len & (q->cluster_size - 1)) != 0);
}

/* Data I/O that used a translation: begin right after the lookup, end when it is done. */
static inline unsigned qc_io_begin(struct qc *q)
{
    unsigned e = q->io_epoch & 1;
    q->io_running[e]++;
    return e;
}

static inline void qc_io_end(struct qc *q, unsigned e)
{
    q->io_running[e]--;
}

/* --- corrupt.c --- */

/* qc_corrupt: log once, mark the image, return -EIO. Yields (writes the header). */
int qc_corrupt(struct qc *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- meta_set.c: the write-overlap check --- */

bool qc_meta_add(struct qc *q, uint64_t host_off); /* false without memory */
bool qc_meta_reserve(struct qc *q, size_t more);
bool qc_meta_load(struct qc *q); /* from the L1 table and the reftable */
/* qc_meta_reload: anew, after other tables took their place. Never fails if as many places as the
 * new tables need have been reserved. */
bool qc_meta_reload(struct qc *q);
/* qc_meta_hits: does [host_off, host_off + len) touch the header or any table? */
bool qc_meta_hits(const struct qc *q, uint64_t host_off, uint64_t len);

/* --- refcount.c, alloc.c, refgrow.c, free.c --- */

extern const struct qc_cache_ops qc_ref_ops;
uint64_t qc_ref_read(unsigned order, const uint8_t *table, uint64_t i);
void qc_ref_write(unsigned order, uint8_t *table, uint64_t i, uint64_t value);
/* qc_ref_slice: the slice that counts a host cluster. -ENOENT if its refcount block is missing. */
int qc_ref_slice(struct qc *q, uint64_t cluster, struct qc_slice **out, uint64_t *pos);
void qc_ref_set(struct qc *q, struct qc_slice *s, uint64_t pos, uint64_t value);

/* qc_alloc: up to n contiguous clusters with refcount 1, at least one. Yields. lock is held.
 * *fresh: they were never written and read as zeros. */
int qc_alloc(struct qc *q, uint64_t n, uint64_t *host_off, uint64_t *got, bool *fresh);
/* qc_alloc_quiet: the same without announcing cluster_alloc. */
int qc_alloc_quiet(struct qc *q, uint64_t n, uint64_t *host_off, uint64_t *got, bool *fresh);
/* qc_alloc_exact: exactly n, contiguous. lock is held. */
int qc_alloc_exact(struct qc *q, uint64_t n, uint64_t *host_off);
/* qc_alloc_undo: give back what no table ever pointed at. */
void qc_alloc_undo(struct qc *q, uint64_t host_off, uint64_t n);

/* qc_refblock_make: make the refcount block that counts `cluster`. lock is held. */
int qc_refblock_make(struct qc *q, uint64_t cluster);
/* qc_area_make: n contiguous clusters behind everything that is counted so far, with the refcount
 * blocks that count them. lock is held. */
int qc_area_make(struct qc *q, uint64_t n, uint64_t *host_off);

bool qc_freed_reserve(struct qc_freed_list *l, size_t more);
/* qc_free_later: a reference to n clusters was removed from a table in memory. Room must have been
 * reserved. Does not yield. */
void qc_free_later(struct qc *q, uint64_t host_off, uint64_t n, bool discard);
/* qc_free_entry: the same for all that an L2 entry refers to; takes one place in the list. */
void qc_free_entry(struct qc *q, uint64_t entry, bool discard);
/* qc_free_announce: the events of freeing n clusters. May yield. */
void qc_free_announce(struct qc *q, uint64_t n);
/* qc_free_settled: lower the refcounts of what is durably unlinked. sync_lock is held. */
int qc_free_settled(struct qc *q);
/* qc_ref_lower: take one reference off a host cluster, at once. Yields. */
int qc_ref_lower(struct qc *q, uint64_t cluster);
/* qc_relieve: if very much is waiting to be freed, make it durable now. */
int qc_relieve(struct qc *q);

/* --- flush.c --- */

/* qc_barrier: node_flush of the file; a failure sticks. */
int qc_barrier(struct qc *q);
/* qc_write_refblocks: write dirty refcount blocks back. Takes sync_lock. */
int qc_write_refblocks(struct qc *q);
/* qc_write_back: refcount blocks, barrier, L2 tables. Takes sync_lock. */
int qc_write_back(struct node *n);
/* qc_flush: make the file durable, then free what had to wait for that. Takes sync_lock. */
int qc_flush(struct qc *q);
/* qc_gate: wait until L2 entries may change; nothing yields between its return and the change. */
void qc_gate(struct qc *q);

/* --- inflight.c --- */

/* qc_inflight_wait: if a change of mapping in [first, end) is in progress, wait until one ends and
 * return true (look again); else return false at once. */
bool qc_inflight_wait(struct qc *q, uint64_t first, uint64_t end);
/* qc_inflight_clip: the same for cluster `first` alone; cuts *n so that [first, first + *n) touches
 * nothing in flight. */
bool qc_inflight_clip(struct qc *q, uint64_t first, uint64_t *n);
void qc_inflight_begin(struct qc *q, struct qc_inflight *f, uint64_t first, uint64_t end);
void qc_inflight_end(struct qc *q, struct qc_inflight *f);

/* --- table_io.c: tables of any length in the host file. Yield. --- */

int qc_read_table(struct qc *q, uint64_t host_off, uint8_t *buf, uint64_t len);
int qc_write_table(struct qc *q, uint64_t host_off, const uint8_t *buf, uint64_t len,
                   enum req_kind kind);

/* --- rw.c, write.c, zero_discard.c, status.c, resize.c --- */

/* qc_read, qc_write: guest bytes. Yield. */
int qc_read(struct qc *q, uint64_t guest_off, uint8_t *buf, uint64_t len);
int qc_write(struct qc *q, uint64_t guest_off, const uint8_t *buf, uint64_t len);
int qc_write_zeros(struct qc *q, uint64_t guest_off, uint64_t len);
/* qc_write_alloc: do the first part of a write that cannot be done in place. only_absent: where the
 * image has nothing. *done: bytes written, 0: look the mapping up again. Yields. */
int qc_write_alloc(struct qc *q, uint64_t guest_off, const uint8_t *buf, uint64_t len,
                   bool only_absent, uint64_t *done);
/* qc_keep: REQ_KEEP: of whole (sub)clusters (the last may end with the disk; else -EINVAL)
 * those that the image has nothing of. qc_zero_absent: make such clusters zeros. Both yield. */
int qc_keep(struct qc *q, uint64_t guest_off, const uint8_t *buf, uint64_t len);
int qc_zero_absent(struct qc *q, uint64_t guest_off, uint64_t len);
/* qc_read_host: bytes of the host file, zeros past its end. qc_read_data: of the file with the
 * data. Yield. */
int qc_read_host(struct qc *q, uint64_t host_off, uint8_t *buf, uint64_t len);
int qc_read_data(struct qc *q, uint64_t host_off, uint8_t *buf, uint64_t len);
/* qc_backing_end: guest bytes at and beyond this are not in the backing file. */
uint64_t qc_backing_end(const struct qc *q);
/* qc_zero: flags are REQ_MAY_UNMAP and REQ_NO_FALLBACK. -ENOTSUP: write zeros instead. Yields. */
int qc_zero(struct qc *q, uint64_t guest_off, uint64_t len, uint32_t flags);
/* qc_discard: whole clusters only; the rest of the range is left alone. Yields. */
int qc_discard(struct qc *q, uint64_t guest_off, uint64_t len);
/* qc_status: append what is known of [guest_off, guest_off + len) until ext is full. flags: of the
 * request. Yields. */
int qc_status(struct qc *q, uint64_t guest_off, uint64_t len, uint32_t flags, struct extents *ext);
/* qc_resize: grow to size bytes, a multiple of 512; -ENOTSUP to shrink. mode: of the new space,
 * which has its clusters before anybody sees it. Yields. */
int qc_resize(struct qc *q, uint64_t size, enum qc_preallocation mode);
/* qc_shrink: the opposite (empty.c). Not within a request: it waits for all of them. Yields. */
bool qc_shrink(struct qc *q, uint64_t size, struct err **errp);
/* qc_preallocate: give clusters to guest bytes [from, end), which lie beyond the end of the disk
 * (prealloc.c). After an error, what has got some may keep them. Yields. */
int qc_preallocate(struct qc *q, uint64_t from, uint64_t end, enum qc_preallocation mode);
/* qc_snapshots_sized: may the disk get another size, as far as snapshots are concerned? */
bool qc_snapshots_sized(const struct qc *q);

/* --- unzip.c, zip.c, alloc_bytes.c: compressed clusters --- */

/* qc_zip_span: where the packed bytes of a compressed cluster are; at most two clusters' length. */
void qc_zip_span(const struct qc *q, uint64_t entry, uint64_t *host_off, uint64_t *len);
/* qc_read_compressed: len bytes at guest_off, within the cluster that entry stands for. Yields. */
int qc_read_compressed(struct qc *q, uint64_t entry, uint64_t guest_off, uint8_t *buf,
                       uint64_t len);
/* qc_zip_work: run fn(arg), which must not touch q, on a worker thread if that pays. Yields. */
int qc_zip_work(const struct qc *q, int (*fn)(void *arg), void *arg);
/* qc_zip_forget: the host bytes of this entry get new content. */
void qc_zip_forget(struct qc *q, uint64_t entry);
void qc_zip_destroy(struct qc *q);
void qc_zip_pack_destroy(struct qc *q);
/* qc_write_compressed: whole clusters (the last may end with the disk; else -EINVAL), compressed
 * where that saves space. Yields. */
int qc_write_compressed(struct qc *q, uint64_t guest_off, const uint8_t *buf, uint64_t len);
/* qc_bytes_alloc: room for len < cluster_size bytes at any offset. -EFBIG: no compressed cluster
 * can be there. lock is held. Yields. qc_bytes_undo: give back what no table pointed at. */
int qc_bytes_alloc(struct qc *q, uint64_t len, uint64_t *host_off);
void qc_bytes_undo(struct qc *q, uint64_t host_off, uint64_t len);
/* qc_bytes_leave: put no more compressed data into these clusters. */
void qc_bytes_leave(struct qc *q, uint64_t host_off, uint64_t clusters);

/* --- open.c, backing.c, load.c --- */

/* One image of a chain, for loop detection: they lie on the stack of the one that opens. */
struct qc_chain {
    uint64_t dev, ino; /* 0, 0: unknown */
    unsigned depth;    /* 1 = the image that was asked for */
    const struct qc_chain *above;
};
struct node *qc_open_chain(struct node *file, const struct qc_open_opts *opts,
                           const struct qc_chain *self, struct err **errp);
/* qc_backing_open: the backing node of an image; NULL and *errp on failure. Yields. */
struct node *qc_backing_open(const struct qc_header *h, const struct qc_open_opts *opts,
                             const struct qc_chain *self, struct err **errp);
/* qc_data_open: the node of an image's data file; the same rules and results. Yields. */
struct node *qc_data_open(const struct qc_header *h, const struct qc_open_opts *opts,
                          const struct qc_chain *self, struct err **errp);
/* qc_clear_autoclear: bits that are not kept up, before anything else is written. Yields. */
bool qc_clear_autoclear(struct qc *q, struct err **errp);
/* qc_write_all: write back all that q holds, for good. Yields. */
int qc_write_all(struct qc *q);
/* qc_set_read_only, qc_child_set: as in struct driver (reopen.c). */
bool qc_set_read_only(struct node *n, bool read_only, struct err **errp);
void qc_child_set(struct node *n, unsigned i);
/* qc_header_read: read and parse the header of an image. Yields. */
bool qc_header_read(struct node *file, struct qc_header *h, struct err **errp);
/* qc_snapshot_pick: make the header look as if the snapshot that opts asks for were the present
 * state (snap_table.c). Yields. */
bool qc_snapshot_pick(struct node *file, struct qc_header *h, const struct qc_open_opts *opts,
                      struct err **errp);
/* qc_dirty_repair: of an image with the dirty bit, which is then clear (dirty.c). Yields. */
bool qc_dirty_repair(struct node *file, struct err **errp);
/* qc_load: fill q from the header, the L1 table, the reftable and the snapshot table. Writes
 * nothing. Yields. */
bool qc_load(struct qc *q, const struct qc_header *h, const struct qc_open_opts *opts,
             struct err **errp);
void qc_close(struct node *n);

#include "qcow2/l2_priv.h"

#endif
