/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading a trace from its file. Some of it is in memory at a time; a record is looked at when all
 * that it may have is there, or the file has ended.
 */
#include "faults/trace_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#define BUF 65536

struct trace_file {
    int fd;
    char *path;
    uint64_t at;      /* of buf[pos], in the file */
    size_t pos, used; /* buf[pos] up to buf[used] is still to be read */
    uint64_t sum;
    bool at_eof, ended; /* ended: by its last record */
    uint8_t buf[BUF];
};

static bool fill(struct trace_file *f, struct err **errp)
{
    if (f->at_eof || f->used - f->pos >= TRACE_RECORD_MAX)
        return true;
    memmove(f->buf, f->buf + f->pos, f->used - f->pos);
    f->used -= f->pos;
    f->pos = 0;
    while (!f->at_eof && f->used < BUF) {
        ssize_t n = read(f->fd, f->buf + f->used, BUF - f->used);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set_errno(errp, errno, "Could not read '%s'", f->path);
        f->at_eof = n == 0;
        f->used += (size_t)n;
    }
    return true;
}

static void take(struct trace_file *f, size_t n)
{
    f->sum = trace_sum(f->sum, f->buf + f->pos, n);
    f->pos += n;
    f->at += n;
}

struct trace_file *trace_file_open(const char *path, uint64_t *seed, struct err **errp)
{
    struct trace_file *f = mem_new(struct trace_file);

    if (!f) {
        err_set(errp, ENOMEM, "no memory to read '%s'", path);
        return NULL;
    }
    f->sum = TRACE_SUM_FIRST;
    f->path = mem_strdup(path);
    f->fd = f->path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (f->fd < 0) {
        err_set_errno(errp, f->path ? errno : ENOMEM, "Could not open '%s'", path);
    } else if (fill(f, errp)) {
        if (trace_header_seed(f->buf, f->used, seed)) {
            take(f, TRACE_HEADER_LEN);
            return f;
        }
        err_set(errp, EINVAL, "'%s' is no fault trace", path);
    }
    trace_file_close(f);
    return NULL;
}

int trace_file_next(struct trace_file *f, const struct rules_names *names, struct trace_record *out,
                    struct err **errp)
{
    size_t n;

    if (!fill(f, errp))
        return -1;
    if (f->pos == f->used)
        return 0;
    n = f->ended ? 0 : trace_decode(f->buf + f->pos, f->used - f->pos, names, out);
    if (n == 0) {
        err_set(errp, EINVAL, "'%s' is damaged, or not whole, at byte %" PRIu64, f->path, f->at);
        return -1;
    }
    f->ended = out->type == TRACE_END;
    if (f->ended && out->sum != f->sum) {
        err_set(errp, EINVAL,
                "'%s' is damaged: its content has the sum %016" PRIx64 ", its end says %016" PRIx64,
                f->path, f->sum, out->sum);
        return -1;
    }
    take(f, n);
    return 1;
}

bool trace_file_is_whole(const struct trace_file *f)
{
    return f->ended;
}

void trace_file_close(struct trace_file *f)
{
    if (!f)
        return;
    if (f->fd >= 0)
        close(f->fd);
    mem_free(f->path);
    mem_free(f);
}
