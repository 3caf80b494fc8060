/* SPDX-License-Identifier: BSD-3-Clause
 *
 * dm-log-writes logs, written and read.
 *
 * A log has no entry for zeros: they are data of zeros, which take no space in a sparse file and
 * are recognised when they are read. The first entry is a mark that says which disk it was.
 */
#include "cli/write_log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/mem.h"

#define LOG_MAGIC UINT64_C(0x6a736677736872)
#define LOG_VERSION 1
#define SECTOR 512
#define SECTOR_MAX 65536
#define ENTRY_BYTES 32
#define OWN_MARK "breakwater disk of "

enum { LOG_FLUSH = 1, LOG_FUA = 2, LOG_DISCARD = 4, LOG_MARK = 8 };

/* --- Writing --- */

static bool put_sector(FILE *f, const void *p, size_t len)
{
    uint8_t sector[SECTOR] = {0};

    memcpy(sector, p, len);
    return fwrite(sector, sizeof(sector), 1, f) == 1;
}

static bool put_super(FILE *f, uint64_t entries)
{
    uint8_t super[32];

    put_le64(super, LOG_MAGIC);
    put_le64(super + 8, LOG_VERSION);
    put_le64(super + 16, entries);
    put_le64(super + 24, SECTOR); /* 32 bits, and zeros */
    return put_sector(f, super, sizeof(super));
}

static uint64_t log_flags(const struct recorded_entry *e)
{
    uint64_t fua = e->fua ? LOG_FUA : 0;

    switch (e->what) {
    case RECORDED_FLUSH:
        return LOG_FLUSH;
    case RECORDED_MARK:
        return LOG_MARK;
    case RECORDED_TRIM:
        return LOG_DISCARD | fua;
    default:
        return fua;
    }
}

static bool put_entry(FILE *f, const struct recorded_entry *e)
{
    bool mark = e->what == RECORDED_MARK;
    uint8_t head[SECTOR] = {0};

    put_le64(head, mark ? 0 : e->off / SECTOR);
    put_le64(head + 8, mark ? 0 : e->len / SECTOR);
    put_le64(head + 16, log_flags(e));
    put_le64(head + 24, mark ? e->len : 0);
    if (mark)
        memcpy(head + ENTRY_BYTES, e->data, min_u64(e->len, SECTOR - ENTRY_BYTES));
    if (!put_sector(f, head, sizeof(head)))
        return false;
    if (e->what == RECORDED_WRITE)
        return fwrite(e->data, e->len, 1, f) == 1;
    return e->what != RECORDED_ZERO || fseeko(f, (off_t)e->len, SEEK_CUR) == 0;
}

static bool put_all(FILE *f, const struct recording *r, uint64_t disk_size)
{
    char own[64];
    struct recorded_entry first = {.what = RECORDED_MARK, .data = (uint8_t *)own};

    first.len = (uint64_t)snprintf(own, sizeof(own), OWN_MARK "%" PRIu64 " bytes", disk_size);
    if (!put_super(f, r->n + 1) || !put_entry(f, &first))
        return false;
    for (size_t i = 0; i < r->n; i++)
        if (!put_entry(f, &r->entry[i]))
            return false;
    /* Zeros at the end were only skipped. */
    return fflush(f) == 0 && ftruncate(fileno(f), ftello(f)) == 0;
}

bool write_log_save(const char *path, const struct recording *r, uint64_t disk_size,
                    struct err **errp)
{
    FILE *f;
    bool ok;

    for (size_t i = 0; i < r->n; i++)
        if (r->entry[i].what != RECORDED_MARK && (r->entry[i].off | r->entry[i].len) % SECTOR)
            return err_set(errp, EINVAL, "'%s': change %zu is not made of whole sectors", path, i);
    f = fopen(path, "we");
    if (!f)
        return err_set_errno(errp, errno, "'%s'", path);
    ok = put_all(f, r, disk_size) || err_set_errno(errp, errno, "'%s'", path);
    if (fclose(f) != 0 && ok)
        ok = err_set_errno(errp, errno, "'%s'", path);
    return ok;
}

/* --- Reading --- */

struct reader {
    FILE *f;
    const char *path;
    uint64_t disk_size, entry, left; /* bytes of the file not read yet */
    uint32_t sector;
    bool growable;
    struct recording *r;
};

static bool wrong(const struct reader *in, struct err **errp, const char *what)
{
    return err_set(errp, EINVAL, "'%s': entry %" PRIu64 " %s", in->path, in->entry, what);
}

static bool take(struct reader *in, void *p, uint64_t len, struct err **errp)
{
    if (len > in->left)
        return wrong(in, errp, "is cut short");
    if (fread(p, 1, len, in->f) != len)
        return err_set_errno(errp, ferror(in->f) ? errno : EIO, "'%s'", in->path);
    in->left -= len;
    return true;
}

static bool put(struct reader *in, const struct recorded_entry *e, struct err **errp)
{
    int ret = recording_put(in->r, e);

    if (ret == -ENOSPC)
        return err_set(errp, EFBIG, "'%s' holds more data than --limit allows: %" PRIu64 " bytes",
                       in->path, in->r->limit);
    return ret == 0 || err_set_errno(errp, -ret, "'%s'", in->path);
}

static bool is_zero(const uint8_t *p, uint64_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* Zeros may be many more than memory holds: what is looked at is never more than a piece. */
static bool take_data(struct reader *in, struct recorded_entry *e, struct err **errp)
{
    uint64_t piece = min_u64(e->len, MiB), zeros = 0;
    AUTO_FREE uint8_t *head = mem_alloc(piece), *data = NULL;

    if (!head)
        return err_set(errp, ENOMEM, "out of memory");
    while (zeros < e->len) {
        uint64_t now = min_u64(piece, e->len - zeros);

        if (!take(in, head, now, errp))
            return false;
        if (!is_zero(head, now))
            break;
        zeros += now;
    }
    if (zeros == e->len) {
        e->what = RECORDED_ZERO;
        return put(in, e, errp);
    }
    if (e->len > in->r->limit)
        return err_set(errp, EFBIG, "'%s' holds more data than --limit allows", in->path);
    data = mem_zalloc(e->len);
    if (!data)
        return err_set(errp, ENOMEM, "out of memory");
    piece = min_u64(piece, e->len - zeros);
    memcpy(data + zeros, head, piece);
    e->data = data;
    return take(in, data + zeros + piece, e->len - zeros - piece, errp) && put(in, e, errp);
}

static bool take_mark(struct reader *in, const uint8_t *head, uint64_t len, struct err **errp)
{
    struct recorded_entry e = {.what = RECORDED_MARK, .data = (uint8_t *)head + ENTRY_BYTES};
    uint64_t size;

    if (len > in->sector - ENTRY_BYTES)
        return wrong(in, errp, "is a mark that is too long");
    e.len = strnlen((const char *)e.data, len);
    if (in->entry > 0 || sscanf((const char *)e.data, OWN_MARK "%" SCNu64, &size) != 1)
        return put(in, &e, errp);
    return size == in->disk_size ||
           err_set(errp, EINVAL,
                   "'%s' was recorded on a disk of %" PRIu64 " bytes; this one has %" PRIu64,
                   in->path, size, in->disk_size);
}

static bool take_entry(struct reader *in, uint8_t *head, struct err **errp)
{
    uint64_t off, len, flags;
    struct recorded_entry e = {.what = RECORDED_WRITE};

    if (!take(in, head, in->sector, errp))
        return false;
    off = get_le64(head);
    len = get_le64(head + 8);
    flags = get_le64(head + 16);
    if (flags & LOG_MARK)
        return take_mark(in, head, get_le64(head + 24), errp);
    if (off > INT64_MAX / SECTOR_MAX || len > INT64_MAX / SECTOR_MAX ||
        (off + len) * in->sector > (in->growable ? (uint64_t)INT64_MAX : in->disk_size))
        return wrong(in, errp, "lies past the end of the disk");
    /* A flush that comes with data is done before it. */
    if (flags & LOG_FLUSH && !put(in, &(struct recorded_entry){.what = RECORDED_FLUSH}, errp))
        return false;
    if (len == 0 || (flags & LOG_DISCARD && len * in->sector > RECORDED_TRIM_MAX))
        return true;
    e.off = off * in->sector;
    e.len = len * in->sector;
    e.fua = flags & LOG_FUA;
    if (!(flags & LOG_DISCARD))
        return take_data(in, &e, errp);
    e.what = RECORDED_TRIM;
    return put(in, &e, errp);
}

static bool take_all(struct reader *in, struct err **errp)
{
    uint8_t super[SECTOR];
    AUTO_FREE uint8_t *head = NULL;
    uint64_t n;

    if (!take(in, super, sizeof(super), errp))
        return false;
    n = get_le64(super + 16);
    in->sector = (uint32_t)get_le64(super + 24);
    if (get_le64(super) != LOG_MAGIC || get_le64(super + 8) != LOG_VERSION)
        return err_set(errp, EINVAL, "'%s' is no log of dm-log-writes, version 1", in->path);
    if (!is_power_of_2(in->sector) || in->sector < SECTOR || in->sector > SECTOR_MAX)
        return err_set(errp, EINVAL, "'%s': sectors of %u bytes", in->path, in->sector);
    head = mem_zalloc(in->sector + 1);
    if (!head)
        return err_set(errp, ENOMEM, "out of memory");
    if (in->sector - sizeof(super) > in->left)
        return wrong(in, errp, "is cut short");
    in->left -= in->sector - sizeof(super);
    if (fseeko(in->f, in->sector, SEEK_SET) < 0)
        return err_set_errno(errp, errno, "'%s'", in->path);
    for (; in->entry < n; in->entry++)
        if (!take_entry(in, head, errp))
            return false;
    return true;
}

bool write_log_load(const char *path, uint64_t disk_size, bool growable, struct recording *r,
                    struct err **errp)
{
    struct reader in = {.path = path, .disk_size = disk_size, .growable = growable, .r = r};
    struct stat st;
    bool ok;

    in.f = fopen(path, "re");
    if (!in.f)
        return err_set_errno(errp, errno, "'%s'", path);
    if (fstat(fileno(in.f), &st) < 0 || !S_ISREG(st.st_mode))
        ok = err_set(errp, EINVAL, "'%s' is no regular file", path);
    else {
        in.left = (uint64_t)st.st_size;
        ok = take_all(&in, errp);
    }
    fclose(in.f);
    return ok;
}
