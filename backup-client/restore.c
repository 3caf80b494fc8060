/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Restoring a backup into one flat image.
 *
 * The target is written under a temporary name beside its own and renamed when it is complete and
 * durable, so that a file with the wanted name is never a part of a disk. What is written was
 * hashed before; where zeros are expected nothing is read, because nothing but zeros can come out.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup-client/background.h"
#include "backup-client/backup.h"
#include "backup-client/files.h"
#include "backup-client/layer.h"
#include "backup-client/sweep.h"
#include "base/cleanup.h"
#include "base/mem.h"
#include "block/file.h"
#include "io/reactor.h"
#include "qcow2/qcow2.h"

struct restore {
    const struct restore_opts *o;
    struct disk_repo disk;
    struct backup *b;
    struct chain chain;
    struct node *from, *to;
    char *folder, *tmp;
    int folder_fd;
    uint64_t written;
    enum backup_status status; /* of a failure */
};

static bool restore_look(void *arg, uint64_t block, uint64_t *run, int layer, bool zeros,
                         bool *read, struct err **errp)
{
    *read = !zeros;
    return true;
}

static bool restore_differs(void *arg, uint64_t block, struct err **errp)
{
    struct restore *r = arg;
    r->status = BACKUP_MISMATCH;
    return err_set(errp, EILSEQ,
                   "%s: backup %" PRIu64 ": content at offset %" PRIu64
                   " does not have its SHA-256; nothing was restored",
                   r->disk.path, r->b->m.sequence, block * BACKUP_BLOCK);
}

static bool restore_unreadable(void *arg, uint64_t off, uint64_t len, int error, struct err **errp)
{
    struct restore *r = arg;
    r->status = BACKUP_BROKEN;
    return err_set_errno(errp, -error, "%s: backup %" PRIu64 ": cannot read at offset %" PRIu64,
                         r->disk.path, r->b->m.sequence, off);
}

static bool restore_good(void *arg, uint64_t off, const void *buf, uint64_t len, struct err **errp)
{
    struct restore *r = arg;
    int failed = node_write(r->to, off, buf, len, 0);
    if (failed < 0)
        return err_set_errno(errp, -failed, "%s: write at offset %" PRIu64, r->o->out, off);
    r->written += len;
    return true;
}

/* The backup, its chain, and proof that the hash files are those it was made with. */
static bool find_backup(struct restore *r, struct err **errp)
{
    struct digest root;
    if (!disk_open(r->o->repo, r->o->disk, false, &r->disk, errp))
        return false;
    r->disk.stop = &r->o->ctl->interrupted;
    r->b = disk_find(&r->disk, r->o->which ? r->o->which : "latest", errp);
    if (!r->b) {
        r->status = disk_damaged(&r->disk) ? BACKUP_BROKEN : BACKUP_FAILED;
        return false;
    }
    r->status = BACKUP_BROKEN;
    if (!chain_resolve(&r->disk, r->b, &r->chain, errp) ||
        !background_check_hashes(&r->disk, &r->chain, errp))
        return false;
    bool ok = background_root(&r->disk, &r->chain, NULL, r->b->m.size, &root, errp);
    if (ok && !digest_equal(&root, &r->b->m.disk_root))
        ok = err_set(errp, EBADMSG,
                     "%s: backup %" PRIu64 ": \"disk_root\" of the manifest is not "
                     "that of the chain's hash files",
                     r->disk.path, r->b->m.sequence);
    r->from = ok ? layer_open(&r->disk, &r->b->uuid, true, errp) : NULL;
    if (r->from && r->from->size != qcow2_size(r->b->m.size))
        return err_set(errp, EBADMSG,
                       "%s: its disk has %" PRIu64 " bytes; the manifest says %" PRIu64,
                       r->from->name, r->from->size, r->b->m.size);
    return r->from != NULL;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool check_target(struct restore *r, struct err **errp)
{
    struct stat st;
    const char *name = base_name(r->o->out);
    if (!*name)
        return err_set(errp, EINVAL, "'%s' does not name a file", r->o->out);
    r->folder =
        name == r->o->out ? mem_strdup(".") : mem_strndup(r->o->out, (size_t)(name - r->o->out));
    if (!r->folder)
        return err_set(errp, ENOMEM, "out of memory");
    r->folder_fd = open(r->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->folder_fd < 0)
        return err_set_errno(errp, errno, "%s", r->folder);
    if (fstatat(r->folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || err_set_errno(errp, errno, "%s", r->o->out);
    if (!r->o->force)
        return err_set(errp, EEXIST, "%s exists; --force replaces it", r->o->out);
    return S_ISREG(st.st_mode) || err_set(errp, EINVAL, "%s is not a regular file", r->o->out);
}

static bool create_target(struct restore *r, struct err **errp)
{
    char id[UUID_TEXT_LEN + 1];
    struct uuid u;
    uuid_new(&u);
    uuid_format(&u, id);
    r->tmp = mem_printf("%s/.restore-%s.tmp", r->folder, id);
    if (!r->tmp)
        return err_set(errp, ENOMEM, "out of memory");
    struct file_opts fo = {.path = r->tmp, .create = true};
    struct node *file = file_open(&fo, errp);
    if (!file) {
        mem_free(steal(r->tmp));
        return false;
    }
    if (r->o->raw) {
        int failed = node_truncate(file, r->b->m.size);
        r->to = file;
        return failed == 0 || err_set_errno(errp, -failed, "%s: resize", r->tmp);
    }
    struct qc_create_opts co = {.size = qcow2_size(r->b->m.size)};
    struct qc_open_opts qo = {.path = r->tmp};
    if (qc_create(file, &co, errp))
        r->to = qc_open(file, &qo, errp);
    if (!r->to)
        node_unref(file);
    return r->to != NULL;
}

static bool fill_target(struct restore *r, struct err **errp)
{
    struct progress progress;
    uint64_t read_bytes = 0;
    struct merge *m = merge_new(&r->disk, &r->chain, r->chain.n, NULL, r->b->m.size, errp);
    if (!m)
        return false;
    progress_init(&progress, STDERR_FILENO, "restore", r->b->m.size);
    struct sweep_opts so = {
        .merge = m,
        .from = r->from,
        .size = r->b->m.size,
        .progress = &progress,
        .ctl = r->o->ctl,
        .arg = r,
        .look = restore_look,
        .differs = restore_differs,
        .unreadable = restore_unreadable,
        .good = restore_good,
    };
    bool ok = sweep_run(&so, &read_bytes, errp);
    progress_end(&progress);
    merge_free(m);
    return ok;
}

static bool finish_target(struct restore *r, struct err **errp)
{
    int failed = node_flush(r->to);
    node_unref(steal(r->to));
    if (failed < 0)
        return err_set_errno(errp, -failed, "%s: flush", r->o->out);
    const char *tmp = base_name(r->tmp), *name = base_name(r->o->out);
    if (!file_sync(r->folder_fd, tmp, NULL, errp) ||
        !file_rename(r->folder_fd, tmp, r->folder_fd, name, r->o->force, errp))
        return false;
    mem_free(steal(r->tmp));
    return dir_sync(r->folder_fd, r->folder, errp);
}

static void restore_close(struct restore *r)
{
    node_unref(r->to);
    node_unref(r->from);
    if (r->tmp)
        unlink(r->tmp);
    if (r->folder_fd >= 0)
        close(r->folder_fd);
    mem_free(r->tmp);
    mem_free(r->folder);
    chain_free(&r->chain);
    disk_close(&r->disk);
}

enum backup_status restore_run(const struct restore_opts *o, struct restore_report *out,
                               struct err **errp)
{
    struct restore r = {.o = o, .folder_fd = -1, .status = BACKUP_FAILED};
    int64_t start = elapsed_ns(0);
    memset(out, 0, sizeof(*out));
    r.disk.dir_fd = r.disk.lock_fd = -1;
    bool ok = check_target(&r, errp) && find_backup(&r, errp);
    if (ok) {
        r.status = BACKUP_FAILED;
        ok = create_target(&r, errp) && fill_target(&r, errp) && finish_target(&r, errp);
    }
    if (ok)
        *out = (struct restore_report){
            .uuid = r.b->uuid,
            .sequence = r.b->m.sequence,
            .size = r.b->m.size,
            .data_bytes = r.written,
            .elapsed_ns = elapsed_ns(start),
        };
    restore_close(&r);
    if (!ok && o->ctl->interrupted)
        r.status = BACKUP_FAILED;
    return ok ? BACKUP_OK : r.status;
}
