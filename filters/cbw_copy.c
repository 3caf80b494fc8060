/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Copying into a view's scratch: which units, and which of them are zeros and need no room.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "filters/cbw_priv.h"

/* Units that are copied together go through a buffer of at most this size (or one unit). */
#define COPY_MAX (1 * MiB)

static uint64_t unit_bytes(const struct cbw_view *v)
{
    return UINT64_C(1) << v->unit_shift;
}

bool view_lacks(const struct cbw_view *v, uint64_t off, uint64_t len)
{
    uint64_t first, last;

    if (off >= v->node->size || len == 0)
        return false;
    first = off >> v->unit_shift;
    last = (off + min_u64(len, v->node->size - off) - 1) >> v->unit_shift;
    return !hbits_test_all(v->copied, first, last - first + 1);
}

void view_break(struct cbw_view *v, const char *what, int error)
{
    v->broken = true;
    v->error = -error;
    if (v->on_broken)
        v->on_broken(v->arg);
    if (v->scratch_limit == UINT64_MAX)
        log_warn("%s: the frozen view is lost: %s: %s", v->node->name, what, strerror(error));
    else
        log_warn("%s: the frozen view is lost: %s: %s (it held %" PRIu64 " of at most %" PRIu64
                 " bytes of old data)",
                 v->node->name, what, strerror(error), v->scratch_used, v->scratch_limit);
}

/* Note whole units as copied. The order matters to readers only across yields: there is none. */
static int note_copied(struct cbw_view *v, uint64_t off, uint64_t end, bool zero)
{
    uint64_t first = off >> v->unit_shift, n = div_round_up(end, unit_bytes(v)) - first;

    if (zero && hbits_set(v->zero, first, n) < 0)
        return -ENOMEM;
    return hbits_set(v->copied, first, n);
}

static int store_zeros(struct cbw_view *v, uint64_t off, uint64_t len)
{
    if (scratch_keeps_zeros(&v->scratch)) {
        int ret = scratch_zero(&v->scratch, off, len);

        return ret < 0 ? ret : note_copied(v, off, off + len, false);
    }
    return note_copied(v, off, off + len, true);
}

static int store_run(struct cbw_view *v, uint64_t off, const uint8_t *buf, uint64_t len, bool zero)
{
    int ret;

    if (zero)
        return store_zeros(v, off, len);
    if (len > v->scratch_limit - v->scratch_used)
        return -ENOSPC;
    /* Counted before it is written, or two copies at once could pass the limit. */
    v->scratch_used += len;
    ret = scratch_write(&v->scratch, off, buf, len);
    if (ret < 0) {
        v->scratch_used -= len;
        return ret;
    }
    if (v->on_filling && v->scratch_used > v->scratch_limit / 5 * 4) {
        v->on_filling(v->arg);
        v->on_filling = NULL;
    }
    return note_copied(v, off, off + len, false);
}

/* buf holds v's content of whole units [off, off + len): store runs of zero and of other units. */
static int store(struct cbw_view *v, uint64_t off, const uint8_t *buf, uint64_t len)
{
    uint64_t pos = 0;

    while (pos < len) {
        uint64_t run = min_u64(unit_bytes(v), len - pos);
        bool zero = bytes_are_zero(buf + pos, run);
        int ret;

        while (pos + run < len) {
            uint64_t next = min_u64(unit_bytes(v), len - pos - run);

            if (bytes_are_zero(buf + pos + run, next) != zero)
                break;
            run += next;
        }
        ret = store_run(v, off + pos, buf + pos, run, zero);
        if (ret < 0)
            return ret;
        pos += run;
    }
    return 0;
}

/* Copy the first of the units in [off, end), none of which v has. *done: how many bytes. */
static int copy_some(struct cbw_view *v, uint64_t off, uint64_t end, uint64_t *done)
{
    uint64_t unit = unit_bytes(v), len, max = max_u64(unit, COPY_MAX);
    uint32_t flags;
    void *buf;
    int ret;

    len = view_extent(v, off, end - off, &flags);
    if (flags & EXTENT_ZERO) {
        uint64_t whole = off + len == end ? len : round_down(len, unit);

        if (whole > 0) {
            *done = whole;
            return store_zeros(v, off, whole);
        }
    }
    *done = len = min_u64(end - off, min_u64(round_up(len, unit), max));
    buf = mem_alloc(len);
    if (!buf)
        return -ENOMEM;
    ret = view_read(v, off, buf, len);
    v->error_reading = ret < 0;
    if (ret == 0)
        ret = store(v, off, buf, len);
    mem_free(buf);
    return ret;
}

int view_copy(struct cbw_view *v, uint64_t off, uint64_t len)
{
    uint64_t end, run_end, done;
    bool copied;

    if (off >= v->node->size)
        return 0;
    end = off + min_u64(len, v->node->size - off);
    end = min_u64(round_up(end, unit_bytes(v)), v->node->size);
    off = round_down(off, unit_bytes(v));
    while (off < end && !v->broken) {
        int ret;

        run_end = hbits_next(v->copied, off >> v->unit_shift, &copied);
        run_end = min_u64(end, run_end == hbits_size(v->copied) ? end : run_end << v->unit_shift);
        if (copied) {
            off = run_end;
            continue;
        }
        ret = copy_some(v, off, run_end, &done);
        if (ret < 0 && v->must_keep)
            return ret;
        if (ret < 0)
            view_break(v, "old data could not be kept", -ret);
        off += done;
    }
    return 0;
}
