/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The qcow2 format node: open, create. Source: docs/interop/qcow2.txt of QEMU.
 */
#ifndef QCOW2_QCOW2_H
#define QCOW2_QCOW2_H

#include <stdbool.h>
#include <stdint.h>

#include "block/node.h"

extern const struct driver qcow2_driver;

struct qc_snapshot_ref;

struct qc_open_opts {
    const char *path;        /* of the image: for messages, and what backing names are relative to;
                                NULL: no backing file can be opened */
    const char *backing_dir; /* backing files must lie beneath it; NULL: the image's own folder */
    bool read_only;
    bool no_backing;        /* do not open the backing file: unallocated reads as zeros (tools) */
    bool no_data;           /* do not open the data file: mapping and status only (tools) */
    struct node *data_file; /* guest data is here, whatever the image names; takes a reference of
                               its own. NULL: open what the image names, by the rules of backing
                               files */
    struct node *backing;   /* use this instead of opening what the header names (it must name
                               one); takes a reference of its own. NULL: open it */
    /* writable_backing: open the image so many layers below for writing, too. 0: none. */
    unsigned writable_backing;
    bool direct, no_lock;                   /* for the backing files and data files */
    const struct qc_snapshot_ref *snapshot; /* open this internal snapshot (qcow2/snapshot.h);
                                               read_only must be set. NULL: the present state */
    uint64_t l2_cache_bytes;                /* 0: from the image size, at most 32 MiB */
    uint64_t refcount_cache_bytes;          /* 0: default */
};

/* qc_open: a node over `file`, which is the image's bytes (a file leaf, or filters above it).
 * Takes over the reference to file on success only. Validates everything before it writes anything;
 * what this build lacks is refused by name (ENOTSUP). Backing files are opened read-only through
 * file_open. Yields. */
struct node *qc_open(struct node *file, const struct qc_open_opts *opts, struct err **errp);

enum qc_preallocation {
    QC_PREALLOC_OFF,
    QC_PREALLOC_METADATA, /* every cluster has its place, in a sparse file */
    QC_PREALLOC_FALLOC,   /* and the file system has set the space aside */
    QC_PREALLOC_FULL,     /* zeros are written everywhere */
};

struct qc_create_opts {
    uint64_t size;              /* guest bytes, a multiple of 512 */
    uint32_t version;           /* 2 or 3; 0 = 3 */
    uint32_t cluster_size;      /* 512 .. 2 MiB; 0 = 64 KiB */
    uint32_t refcount_bits;     /* 1 .. 64; 0 = 16 */
    const char *backing_name;   /* as written into the header; NULL: none */
    const char *backing_format; /* "qcow2" or "raw"; required with backing_name */
    bool zstd;                  /* compressed clusters will be zstd's; else deflate */
    bool extended_l2;           /* subclusters; clusters of 16 KiB at least */
    bool lazy_refcounts;        /* programs may put off refcounts (this one does not) */
    const char *data_file;      /* guest data is in this file: its name in the header; NULL: not */
    bool data_file_raw;         /* which is to be a raw image as it is */
    enum qc_preallocation preallocation; /* of backed images only with extended_l2 */
};

/* qc_create: write an empty image into an empty, growable node and flush it. It names a data file,
 * but does not touch it. Yields. */
bool qc_create(struct node *file, const struct qc_create_opts *opts, struct err **errp);
/* qc_create_data: make an empty node the data file of such an image: its size, preallocation, and a
 * flush. Yields. */
bool qc_create_data(struct node *data, const struct qc_create_opts *opts, struct err **errp);
/* qc_create_file: both as new files, the image at path, the data file where its name says, seen
 * from the folder of the image: written under a temporary name beside it, synced, renamed, folder
 * synced. EEXIST if one exists, unless overwrite. Yields. */
bool qc_create_file(const char *path, const struct qc_create_opts *opts, bool overwrite,
                    struct err **errp);

struct qc_truncate_opts {
    bool shrink;                         /* a smaller size is meant: what lies beyond it is lost */
    enum qc_preallocation preallocation; /* of the new space */
};

/* qc_truncate: give an image that is open for writing, and may be in use, another size (a multiple
 * of 512). New space reads as zeros, and has what opts->preallocation wants for it before anybody
 * can write there; if that fails, the old size stays. Shrinking happens in one step: a crash leaves
 * the old size with all data, or the new one; then the file is made smaller where it can be.
 * Filters above n keep the size that they know; to grow, node_truncate does the same for them, too.
 * EINVAL: size, or smaller without opts->shrink; ENOTSUP: snapshots that do not store their size
 * (version 2), an inconsistent bitmap; EBUSY: a bitmap in use, or another change of the size came
 * first. Waits for the requests in flight, so not to be called from within one. Yields. */
bool qc_truncate(struct node *n, uint64_t size, const struct qc_truncate_opts *opts,
                 struct err **errp);
/* qc_make_empty: nothing is allocated in the image any more, all is read from the backing file, or
 * as zeros. Snapshots stay. In one step, as above, and the file is made smaller. Not for images
 * with a raw data file (ENOTSUP). n's bitmaps say that all has changed. Waits for the requests in
 * flight. Yields. */
bool qc_make_empty(struct node *n, struct err **errp);

/* qc_set_backing: flush, then let the header name another backing file (NULL: none) and its format.
 * One step: after a crash there is the old name or the new one. The node goes on with the backing
 * file that it has open: close it afterwards. EINVAL: name, or the image has a raw data file;
 * ENOSPC: no room in the first cluster. Yields. */
bool qc_set_backing(struct node *n, const char *name, const char *format, struct err **errp);
/* qc_can_set_backing: would that be refused? Changes nothing. Yields. */
bool qc_can_set_backing(struct node *n, const char *name, const char *format, struct err **errp);
/* qc_expect_backing: the image will get a backing file (again): from here on, zeros are written so
 * that nothing can show through. */
void qc_expect_backing(struct node *n);
/* qc_use_backing: read what is not in the image from this node from now on, to which it takes a
 * reference, or from nowhere (NULL); the header is left as it is. n is drained. ENOTSUP: the image
 * has a raw data file. Yields (the old one may be closed). */
bool qc_use_backing(struct node *n, struct node *backing, struct err **errp);
/* qc_backing_node: the backing file as it is open, or NULL. */
struct node *qc_backing_node(struct node *n);
/* qc_n_snapshots: how many internal snapshots the image has. */
unsigned qc_n_snapshots(struct node *n);

/* What an open image is, for messages, manifests and tests. */
struct qc_info {
    uint32_t version, cluster_size, refcount_bits;
    uint64_t size;
    const char *backing_name, *backing_format; /* NULL if none; belong to the node */
    const char *data_name; /* of the data file, as the image says it, or ""; NULL: there is none */
    uint64_t cache_bytes;  /* metadata cache held now */
};
void qc_get_info(struct node *n, struct qc_info *info);

#endif
