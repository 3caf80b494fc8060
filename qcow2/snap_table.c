/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading, searching and writing the snapshot table. Source: qcow2.txt, "Snapshots".
 *
 * What this build does not know of an entry (extra data beyond the fields below) is kept as it is.
 * Entries that are written get the three known fields of extra data, as version 3 demands the first
 * two: what an entry did not say has a value that means the same.
 */
#include "qcow2/snap_table.h"

#include <errno.h>
#include <inttypes.h>

#define ENTRY 40
#define KNOWN_EXTRA 24 /* VM state size, disk size, icount */

/* All entries that the header speaks of. */
static bool load_entries(struct node *file, const struct qc_header *h, struct qc_snap_table *t,
                         struct err **errp)
{
    struct qc_snapshot_iter it = {.file = file, .h = h};
    int r;
    t->raw_off = h->snapshots_off;
    t->v = mem_array((size_t)h->nb_snapshots + 1, sizeof(*t->v));
    if (!t->v)
        return err_set(errp, ENOMEM, "out of memory");
    while ((r = qc_snapshot_next(&it, &t->v[t->n], errp)) > 0)
        t->n++;
    return r == 0;
}

bool qc_snap_table_load(struct qc *q, struct qc_snap_table *t, struct err **errp)
{
    struct qc_header *h = mem_new(struct qc_header);
    *t = (struct qc_snap_table){0};
    t->raw = mem_alloc_aligned(max_u64(q->snapshots_len, 8), 4096);
    bool ok = (h && t->raw) || err_set(errp, ENOMEM, "out of memory");
    if (ok) {
        h->nb_snapshots = q->nb_snapshots;
        h->snapshots_off = q->snapshots_off;
        ok = load_entries(q->file, h, t, errp);
    }
    if (ok && q->nb_snapshots) {
        int r = qc_bytes_read(q->file, q->snapshots_off, t->raw, q->snapshots_len);
        ok = r == 0 || err_set_errno(errp, -r, "cannot read the snapshot table");
    }
    mem_free(h);
    return ok;
}

void qc_snap_table_free(struct qc_snap_table *t)
{
    for (uint32_t i = 0; i < t->n; i++)
        qc_snapshot_free(&t->v[i]);
    mem_free(t->v);
    mem_free(t->raw);
    *t = (struct qc_snap_table){0};
}

static const struct qc_snapshot *find(const struct qc_snap_table *t, const char *id,
                                      const char *name)
{
    for (uint32_t i = 0; i < t->n; i++)
        if ((!id || !strcmp(t->v[i].id, id)) && (!name || !strcmp(t->v[i].name, name)))
            return &t->v[i];
    return NULL;
}

const struct qc_snapshot *qc_snap_find(const struct qc_snap_table *t,
                                       const struct qc_snapshot_ref *which, struct err **errp)
{
    const struct qc_snapshot *s = NULL;
    if (which->any)
        s = find(t, which->any, NULL);
    if (which->any && !s)
        s = find(t, NULL, which->any);
    else if (!which->any && (which->id || which->name))
        s = find(t, which->id, which->name);
    if (s)
        return s;
    if (which->any)
        err_set(errp, ENOENT, "there is no snapshot with the id or name '%s'", which->any);
    else if (which->id && which->name)
        err_set(errp, ENOENT, "there is no snapshot with the id '%s' and the name '%s'", which->id,
                which->name);
    else
        err_set(errp, ENOENT, "there is no snapshot with the %s '%s'", which->id ? "id" : "name",
                which->id     ? which->id
                : which->name ? which->name
                              : "");
    return NULL;
}

static uint64_t entry_len(const uint8_t *e)
{
    return ENTRY + max_u64(get_be32(e + 36), KNOWN_EXTRA) + get_be16(e + 12) + get_be16(e + 14);
}

/* An entry of the old table, with the known extra data. */
static void copy_entry(const struct qc *q, uint8_t *to, const uint8_t *from,
                       const struct qc_snapshot *s)
{
    uint64_t extra = s->extra_len, strings = (uint64_t)get_be16(from + 12) + get_be16(from + 14);
    memcpy(to, from, ENTRY + extra);
    put_be32(to + 36, (uint32_t)max_u64(extra, KNOWN_EXTRA));
    if (extra < 8)
        put_be64(to + ENTRY, s->vm_state_bytes);
    if (extra < 16)
        put_be64(to + ENTRY + 8, q->node->size);
    if (extra < 24)
        put_be64(to + ENTRY + 16, UINT64_MAX);
    memcpy(to + ENTRY + max_u64(extra, KNOWN_EXTRA), from + ENTRY + extra, strings);
}

static void new_entry(uint8_t *to, const struct qc_snapshot *s)
{
    size_t id = strlen(s->id), name = strlen(s->name);
    put_be64(to, s->l1_off);
    put_be32(to + 8, s->l1_size);
    put_be16(to + 12, (uint16_t)id);
    put_be16(to + 14, (uint16_t)name);
    put_be32(to + 16, s->date_sec);
    put_be32(to + 20, s->date_nsec);
    put_be64(to + 24, s->vm_clock_ns);
    put_be32(to + 36, KNOWN_EXTRA);
    put_be64(to + ENTRY + 8, s->disk_size);
    put_be64(to + ENTRY + 16, s->icount);
    memcpy(to + ENTRY + KNOWN_EXTRA, s->id, id);
    memcpy(to + ENTRY + KNOWN_EXTRA + id, s->name, name);
}

uint8_t *qc_snap_table_build(struct qc *q, const struct qc_snap_table *t,
                             const struct qc_snapshot *drop, const struct qc_snapshot *add,
                             uint64_t *len, uint64_t *at, struct err **errp)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < t->n; i++)
        if (&t->v[i] != drop)
            bytes += round_up(entry_len(t->raw + (t->v[i].entry_off - t->raw_off)), 8);
    *at = bytes;
    if (add)
        bytes += round_up(ENTRY + KNOWN_EXTRA + strlen(add->id) + strlen(add->name), 8);
    if (bytes > QC_MAX_SNAPSHOT_TABLE) {
        err_set(errp, EFBIG,
                "the snapshot table would have %" PRIu64 " bytes, the limit is %" PRIu64, bytes,
                QC_MAX_SNAPSHOT_TABLE);
        return NULL;
    }
    uint8_t *buf = mem_zalloc(max_u64(bytes, 8));
    if (!buf) {
        err_set(errp, ENOMEM, "out of memory");
        return NULL;
    }
    uint64_t pos = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        const uint8_t *from = t->raw + (t->v[i].entry_off - t->raw_off);
        if (&t->v[i] == drop)
            continue;
        copy_entry(q, buf + pos, from, &t->v[i]);
        pos += round_up(entry_len(from), 8);
    }
    if (add)
        new_entry(buf + pos, add);
    *len = bytes;
    return buf;
}

static bool pick(struct qc_header *h, const struct qc_snapshot *s, uint64_t file_size,
                 struct err **errp)
{
    uint64_t size = s->extra_len >= 16 ? s->disk_size : h->size;
    unsigned shift = h->cluster_bits * 2 - (h->incompatible & QC_INCOMPAT_EXTENDED_L2 ? 4 : 3);
    uint64_t need = (size >> shift) + ((size & ((UINT64_C(1) << shift) - 1)) != 0);
    if (size % 512 || s->l1_size < need)
        return err_set(errp, EINVAL,
                       "disk size %" PRIu64 " is no multiple of 512, or its %" PRIu32
                       " L1 entries are too few for it",
                       size, s->l1_size);
    if (s->l1_size > QC_MAX_L1_BYTES / 8)
        return err_set(errp, EFBIG, "l1_size is %" PRIu32 " entries, the limit is %" PRIu64,
                       s->l1_size, QC_MAX_L1_BYTES / 8);
    if (!is_aligned(s->l1_off, UINT64_C(1) << h->cluster_bits) ||
        (s->l1_size && (s->l1_off == 0 || s->l1_off >= file_size)))
        return err_set(errp, EINVAL,
                       "l1_table_offset is 0x%" PRIx64
                       ", not aligned to a cluster, or not inside the file",
                       s->l1_off);
    h->size = size;
    h->size_rounded = false;
    h->has_bitmaps = false; /* they are about the present state */
    h->l1_off = s->l1_off;
    h->l1_size = s->l1_size;
    return true;
}

bool qc_snapshot_pick(struct node *file, struct qc_header *h, const struct qc_open_opts *opts,
                      struct err **errp)
{
    struct qc_snap_table t = {0};
    const struct qc_snapshot *s = NULL;
    bool ok = opts->read_only || err_set(errp, EINVAL, "a snapshot can only be opened read-only");
    ok = ok && load_entries(file, h, &t, errp) &&
         (s = qc_snap_find(&t, opts->snapshot, errp)) != NULL;
    if (ok && !(ok = pick(h, s, file->size, errp)))
        err_prefix(errp, "snapshot '%s': ", s->name);
    qc_snap_table_free(&t);
    return ok;
}
