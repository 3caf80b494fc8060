/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Writing hash files. See hashes.h and docs/backup.md.
 *
 * Runs are merged as far as they go, so equal content gives equal files but for the uuid.
 */
#include "backup-client/hashes.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "backup-client/hashes_priv.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/mem.h"

struct hash_writer {
    int fd;
    char *name;
    struct digest_stream *sum;
    enum hash_kind kind; /* of the run being collected; HASH_NONE: none */
    uint64_t first, count;
    uint64_t data_blocks, zero_blocks, next; /* next: the lowest block that may come */
    struct digest run[HASH_RUN_MAX];
};

static bool put(struct hash_writer *w, const void *p, size_t len, struct err **errp)
{
    const uint8_t *at = p;
    if (!digest_stream_add(w->sum, p, len))
        return err_set(errp, ENOMEM, "%s: SHA-256 failed", w->name);
    while (len > 0) {
        ssize_t n = write(w->fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set_errno(errp, errno, "%s: write", w->name);
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static bool put_record(struct hash_writer *w, uint32_t type, uint64_t a, uint64_t b,
                       struct err **errp)
{
    uint8_t rec[HASH_RECORD_LEN] = {0};
    put_be32(rec, type);
    put_be64(rec + 8, a);
    put_be64(rec + 16, b);
    return put(w, rec, sizeof(rec), errp);
}

static bool emit_run(struct hash_writer *w, struct err **errp)
{
    enum hash_kind kind = w->kind;
    w->kind = HASH_NONE;
    if (kind == HASH_ZERO)
        return put_record(w, HASH_REC_ZERO, w->first, w->count, errp);
    if (kind == HASH_DATA)
        return put_record(w, HASH_REC_DATA, w->first, w->count, errp) &&
               put(w, w->run, w->count * sizeof(w->run[0]), errp);
    return true;
}

struct hash_writer *hash_writer_new(int fd, const char *name, const struct uuid *uuid,
                                    uint64_t disk_size, struct err **errp)
{
    uint8_t head[HASH_HEADER_LEN] = {0};
    struct hash_writer *w = mem_new(struct hash_writer);
    if (w) {
        w->fd = fd;
        w->name = mem_strdup(name);
        w->sum = digest_stream_new();
    }
    if (!w || !w->name || !w->sum) {
        err_set(errp, ENOMEM, "out of memory");
        hash_writer_free(w);
        return NULL;
    }
    memcpy(head, HASH_MAGIC, 8);
    put_be32(head + 8, HASH_VERSION);
    put_be32(head + 12, BACKUP_BLOCK);
    put_be64(head + 16, disk_size);
    memcpy(head + 24, uuid->v, UUID_LEN);
    if (!put(w, head, sizeof(head), errp)) {
        hash_writer_free(w);
        return NULL;
    }
    return w;
}

void hash_writer_free(struct hash_writer *w)
{
    if (!w)
        return;
    digest_stream_free(w->sum);
    mem_free(w->name);
    mem_free(w);
}

static bool add(struct hash_writer *w, enum hash_kind kind, uint64_t block, uint64_t count,
                const struct digest *d, struct err **errp)
{
    if (block < w->next)
        return err_set(errp, EINVAL, "%s: block %llu out of order", w->name,
                       (unsigned long long)block);
    bool joins = w->kind == kind && w->first + w->count == block &&
                 (kind == HASH_ZERO || w->count < HASH_RUN_MAX);
    if (!joins) {
        if (!emit_run(w, errp))
            return false;
        w->kind = kind;
        w->first = block;
        w->count = 0;
    }
    if (kind == HASH_DATA)
        w->run[w->count] = *d;
    w->count += count;
    w->next = block + count;
    *(kind == HASH_DATA ? &w->data_blocks : &w->zero_blocks) += count;
    return true;
}

bool hash_writer_data(struct hash_writer *w, uint64_t block, const struct digest *d,
                      struct err **errp)
{
    return add(w, HASH_DATA, block, 1, d, errp);
}

bool hash_writer_zeros(struct hash_writer *w, uint64_t block, uint64_t count, struct err **errp)
{
    return count == 0 || add(w, HASH_ZERO, block, count, NULL, errp);
}

bool hash_writer_end(struct hash_writer *w, struct digest *root, struct err **errp)
{
    if (!emit_run(w, errp) || !put_record(w, HASH_REC_END, w->data_blocks, w->zero_blocks, errp))
        return false;
    if (!digest_stream_end(w->sum, root))
        return err_set(errp, ENOMEM, "%s: SHA-256 failed", w->name);
    if (fsync(w->fd) < 0)
        return err_set_errno(errp, errno, "%s: fsync", w->name);
    return true;
}
