/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Work for another thread. The coroutine that asked for it sleeps meanwhile, so what the work reads
 * stays as it is; it touches nothing of the reactor's.
 */
#include "backup-client/background.h"

#include <errno.h>

#include "io/io.h"

struct background {
    const struct disk_repo *d;
    const struct chain *c;
    const struct uuid *tip;
    uint64_t disk_size;
    struct digest *root; /* NULL: check the hash files */
    struct err *err;
};

static int background_work(void *arg)
{
    struct background *b = arg;
    bool ok;
    if (b->root) {
        struct merge *m = merge_new(b->d, b->c, b->c->n, b->tip, b->disk_size, &b->err);
        ok = m && merge_root(m, b->root, &b->err);
        merge_free(m);
    } else {
        ok = chain_check_hashes(b->d, b->c, &b->err);
    }
    return ok ? 0 : -EBADMSG;
}

static bool background_run(struct background *b, struct err **errp)
{
    int r = io_offload(background_work, b);
    if (r == 0)
        return true;
    return b->err ? err_move(errp, b->err) : err_set_errno(errp, -r, "work on another thread");
}

bool background_check_hashes(const struct disk_repo *d, const struct chain *c, struct err **errp)
{
    struct background b = {.d = d, .c = c};
    return background_run(&b, errp);
}

bool background_root(const struct disk_repo *d, const struct chain *c, const struct uuid *tip,
                     uint64_t disk_size, struct digest *root, struct err **errp)
{
    struct background b = {.d = d, .c = c, .tip = tip, .disk_size = disk_size, .root = root};
    return background_run(&b, errp);
}
