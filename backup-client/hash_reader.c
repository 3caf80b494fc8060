/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading hash files. Every record is checked before it is used: order, range, length of runs,
 * totals, and that nothing follows the end. stdio buffers the reads; a mapping would turn a bad
 * sector under the file into a signal.
 */
#include "backup-client/hashes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backup-client/files.h"
#include "backup-client/hashes_priv.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/mem.h"

struct hash_reader {
    FILE *file;
    char *name;
    struct digest_stream *sum;
    uint64_t blocks;     /* of the disk */
    enum hash_kind kind; /* the present run; HASH_NONE: the end record was read */
    uint64_t first, count;
    uint64_t data_blocks, zero_blocks;
    struct digest run[HASH_RUN_MAX];
};

static bool get(struct hash_reader *r, void *p, size_t len, struct err **errp)
{
    if (fread(p, 1, len, r->file) != len)
        return ferror(r->file) ? err_set_errno(errp, errno, "%s: read", r->name)
                               : err_set(errp, EBADMSG, "%s: truncated", r->name);
    return digest_stream_add(r->sum, p, len) ||
           err_set(errp, ENOMEM, "%s: SHA-256 failed", r->name);
}

static bool bad(const struct hash_reader *r, struct err **errp, const char *field, uint64_t value)
{
    return err_set(errp, EBADMSG, "%s: bad %s %" PRIu64 " at byte %ld", r->name, field, value,
                   ftell(r->file));
}

static bool take_end(struct hash_reader *r, uint64_t data, uint64_t zeros, struct err **errp)
{
    r->kind = HASH_NONE;
    r->first = r->blocks;
    r->count = 0;
    if (data != r->data_blocks)
        return bad(r, errp, "total of data blocks", data);
    if (zeros != r->zero_blocks)
        return bad(r, errp, "total of zero blocks", zeros);
    if (fgetc(r->file) != EOF)
        return err_set(errp, EBADMSG, "%s: bytes follow the end record", r->name);
    return true;
}

/* Read the next record; it becomes the present run. */
static bool next_run(struct hash_reader *r, struct err **errp)
{
    uint8_t rec[HASH_RECORD_LEN];
    if (!get(r, rec, sizeof(rec), errp))
        return false;
    uint32_t type = get_be32(rec);
    uint64_t a = get_be64(rec + 8), b = get_be64(rec + 16), floor = r->first + r->count;

    if (get_be32(rec + 4) != 0)
        return bad(r, errp, "reserved field", get_be32(rec + 4));
    if (type == HASH_REC_END)
        return take_end(r, a, b, errp);
    if (type != HASH_REC_DATA && type != HASH_REC_ZERO)
        return bad(r, errp, "record type", type);
    if (a < floor || a >= r->blocks)
        return bad(r, errp, "first block", a);
    if (b == 0 || b > r->blocks - a || (type == HASH_REC_DATA && b > HASH_RUN_MAX))
        return bad(r, errp, "block count", b);
    r->kind = type == HASH_REC_DATA ? HASH_DATA : HASH_ZERO;
    r->first = a;
    r->count = b;
    *(type == HASH_REC_DATA ? &r->data_blocks : &r->zero_blocks) += b;
    return type == HASH_REC_ZERO || get(r, r->run, b * sizeof(r->run[0]), errp);
}

static bool read_header(struct hash_reader *r, const struct uuid *uuid, uint64_t disk_size,
                        struct err **errp)
{
    uint8_t head[HASH_HEADER_LEN];
    if (!get(r, head, sizeof(head), errp))
        return false;
    if (memcmp(head, HASH_MAGIC, 8) != 0)
        return err_set(errp, EBADMSG, "%s: not a hash file", r->name);
    if (get_be32(head + 8) != HASH_VERSION)
        return err_set(errp, ENOTSUP, "%s: version %u; this program knows %d", r->name,
                       get_be32(head + 8), HASH_VERSION);
    if (get_be32(head + 12) != BACKUP_BLOCK)
        return bad(r, errp, "block size", get_be32(head + 12));
    if (get_be64(head + 16) != disk_size)
        return bad(r, errp, "disk size", get_be64(head + 16));
    if (memcmp(head + 24, uuid->v, UUID_LEN) != 0)
        return err_set(errp, EBADMSG, "%s: belongs to another backup", r->name);
    if (!bytes_are_zero(head + 40, HASH_HEADER_LEN - 40))
        return err_set(errp, EBADMSG, "%s: reserved bytes of the header are set", r->name);
    return true;
}

struct hash_reader *hash_reader_open(int dir_fd, const char *path, const struct uuid *uuid,
                                     uint64_t disk_size, struct err **errp)
{
    struct hash_reader *r = mem_new(struct hash_reader);
    if (!r || !(r->name = mem_strdup(path)) || !(r->sum = digest_stream_new())) {
        err_set(errp, ENOMEM, "out of memory");
        goto fail;
    }
    r->blocks = div_round_up(disk_size, BACKUP_BLOCK);
    int fd = file_open_regular(dir_fd, path, NULL, errp);
    if (fd < 0)
        goto fail;
    r->file = fdopen(fd, "rb");
    if (!r->file) {
        close(fd);
        err_set(errp, ENOMEM, "out of memory");
        goto fail;
    }
    if (read_header(r, uuid, disk_size, errp) && next_run(r, errp))
        return r;
fail:
    hash_reader_free(r);
    return NULL;
}

void hash_reader_free(struct hash_reader *r)
{
    if (!r)
        return;
    if (r->file)
        fclose(r->file);
    digest_stream_free(r->sum);
    mem_free(r->name);
    mem_free(r);
}

bool hash_reader_at(struct hash_reader *r, uint64_t block, enum hash_kind *kind, uint64_t *run,
                    const struct digest **digests, struct err **errp)
{
    while (r->kind != HASH_NONE && block >= r->first + r->count)
        if (!next_run(r, errp))
            return false;
    *digests = NULL;
    if (r->kind == HASH_NONE || block < r->first) {
        *kind = HASH_NONE;
        *run = r->first - block;
        return true;
    }
    *kind = r->kind;
    *run = r->first + r->count - block;
    if (r->kind == HASH_DATA)
        *digests = r->run + (block - r->first);
    return true;
}

bool hash_reader_finish(struct hash_reader *r, struct digest *root, struct err **errp)
{
    while (r->kind != HASH_NONE)
        if (!next_run(r, errp))
            return false;
    return digest_stream_end(r->sum, root) || err_set(errp, ENOMEM, "%s: SHA-256 failed", r->name);
}
