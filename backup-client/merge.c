/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Each layer's hash file is read once, front to back, side by side with the others; the newest
 * layer that holds a block decides. Memory is one buffer a layer, whatever the disk's size.
 */
#include "backup-client/merge.h"

#include <errno.h>

#include "backup-client/hashes.h"
#include "base/bytes.h"
#include "base/mem.h"

struct merge {
    const struct disk_repo *disk;
    uint64_t blocks;
    size_t n;
    struct hash_reader *reader[];
};

static bool add_reader(struct merge *m, const struct disk_repo *d, const struct uuid *u, bool tmp,
                       uint64_t disk_size, struct err **errp)
{
    char file[REPO_NAME_MAX];
    repo_file(file, u, HASH_EXT, tmp);
    m->reader[m->n] = hash_reader_open(d->dir_fd, file, u, disk_size, errp);
    if (!m->reader[m->n])
        return err_prefix(errp, "%s: ", d->path);
    m->n++;
    return true;
}

struct merge *merge_new(const struct disk_repo *d, const struct chain *c, size_t n,
                        const struct uuid *tip, uint64_t disk_size, struct err **errp)
{
    struct merge *m = mem_zalloc(sizeof(*m) + (n + 1) * sizeof(m->reader[0]));
    if (!m) {
        err_set(errp, ENOMEM, "out of memory");
        return NULL;
    }
    m->disk = d;
    m->blocks = div_round_up(disk_size, BACKUP_BLOCK);
    bool ok = true;
    for (size_t i = 0; ok && i < n; i++)
        ok = add_reader(m, d, &c->v[i]->uuid, false, disk_size, errp);
    if (ok && (!tip || add_reader(m, d, tip, true, disk_size, errp)))
        return m;
    merge_free(m);
    return NULL;
}

void merge_free(struct merge *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->n; i++)
        hash_reader_free(m->reader[i]);
    mem_free(m);
}

bool merge_at(struct merge *m, uint64_t block, const struct digest **digests, uint64_t *run,
              int *layer, struct err **errp)
{
    uint64_t most = m->blocks - block;
    *digests = NULL;
    if (layer)
        *layer = -1;
    for (size_t i = m->n; i-- > 0;) {
        enum hash_kind kind;
        uint64_t n;
        const struct digest *d;
        if (!hash_reader_at(m->reader[i], block, &kind, &n, &d, errp))
            return false;
        most = min_u64(most, n);
        if (kind == HASH_NONE)
            continue;
        *digests = d;
        if (layer)
            *layer = (int)i;
        break;
    }
    *run = most;
    return true;
}

/* Empty parts of huge disks are long: feed many zero digests at a time. */
#define ZERO_RUN 1024

static bool add_zeros(const struct merge *m, struct digest_stream *s, uint64_t n)
{
    struct digest many[ZERO_RUN];
    uint64_t fill = min_u64(n, ZERO_RUN);
    for (uint64_t i = 0; i < fill; i++)
        many[i] = *digest_zero();
    for (uint64_t step; n > 0 && !disk_stopped(m->disk); n -= step) {
        step = min_u64(n, fill);
        if (!digest_stream_add(s, many, step * sizeof(many[0])))
            return false;
    }
    return true;
}

bool merge_root(struct merge *m, struct digest *root, struct err **errp)
{
    struct digest_stream *s = digest_stream_new();
    bool ok = s != NULL || err_set(errp, ENOMEM, "out of memory");
    for (uint64_t block = 0, run = 0; ok && block < m->blocks; block += run) {
        const struct digest *d;
        ok = merge_at(m, block, &d, &run, NULL, errp);
        if (ok && !(d ? digest_stream_add(s, d, run * sizeof(*d)) : add_zeros(m, s, run)))
            ok = err_set(errp, ENOMEM, "SHA-256 failed");
        if (ok && disk_stopped(m->disk))
            ok = err_set(errp, ECANCELED, "interrupted");
    }
    if (ok && !digest_stream_end(s, root))
        ok = err_set(errp, ENOMEM, "SHA-256 failed");
    digest_stream_free(s);
    return ok;
}
