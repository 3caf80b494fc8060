/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading compressed clusters.
 *
 * A cluster is read and unpacked as a whole, into one of a few slots that keep it: small reads in
 * sequence then unpack it once. The slots are also the bound on memory and on worker threads: who
 * finds none free waits. A slot is found by the L2 entry that it was unpacked from, so it can only
 * be stale if the same host bytes are used again for the same span, which qc_zip_forget is for.
 *
 * Unpacking 64 KiB takes as long as some dozens of requests: it runs on a worker thread, unless
 * the cluster is so small that the way there would cost more.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "io/io.h"
#include "io/reactor.h"
#include "qcow2/codec.h"
#include "qcow2/qcow2_priv.h"

#define INLINE_MAX 8192

void qc_zip_span(const struct qc *q, uint64_t entry, uint64_t *host_off, uint64_t *len)
{
    unsigned x = 62 - (q->cluster_bits - 8);
    *host_off = entry & ((UINT64_C(1) << x) - 1);
    uint64_t more = (entry & (QC_COMPRESSED - 1)) >> x; /* sectors */
    *len = (more + 1) * 512 - (*host_off & 511);
}

void qc_zip_forget(struct qc *q, uint64_t entry)
{
    for (unsigned i = 0; i < QC_ZIP_SLOTS; i++)
        if (q->zip.v[i].entry == entry)
            q->zip.v[i].entry = 0;
}

void qc_zip_destroy(struct qc *q)
{
    for (unsigned i = 0; i < QC_ZIP_SLOTS; i++)
        mem_free(q->zip.v[i].data);
    qc_zip_pack_destroy(q);
}

struct work {
    int (*fn)(void *arg);
    void *arg;
    bool ran;
};

static int work_run(void *arg)
{
    struct work *w = arg;
    w->ran = true;
    return w->fn(w->arg);
}

int qc_zip_work(const struct qc *q, int (*fn)(void *arg), void *arg)
{
    struct work w = {.fn = fn, .arg = arg};
    if (q->cluster_size <= INLINE_MAX || strcmp(reactor_name(reactor_current()), "sim") == 0)
        return fn(arg);
    int r = io_offload(work_run, &w);
    return w.ran ? r : fn(arg); /* no thread to be had */
}

struct unpack {
    enum qc_codec codec;
    const uint8_t *src;
    uint8_t *dst;
    size_t n, len;
};

static int unpack_run(void *arg)
{
    const struct unpack *u = arg;
    return qc_codec_unpack(u->codec, u->src, u->n, u->dst, u->len);
}

static int slot_load(struct qc *q, struct qc_zip_slot *s, uint64_t entry, uint64_t guest_off)
{
    uint64_t host_off, n;
    qc_zip_span(q, entry, &host_off, &n);
    AUTO_FREE uint8_t *src = mem_alloc_aligned(n, 4096);
    if (!s->data)
        s->data = mem_alloc_aligned(q->cluster_size, 4096);
    if (!src || !s->data)
        return -ENOMEM;
    node_event(q->file, EV_READ_COMPRESSED);
    int r = qc_read_host(q, host_off, src, n); /* the last sector may stick out of the file */
    if (r < 0)
        return r;
    struct unpack u = {q->codec, src, s->data, n, q->cluster_size};
    r = qc_zip_work(q, unpack_run, &u);
    if (r == -EIO && !q->zip.logged) {
        q->zip.logged = true;
        log_error("%s: the compressed cluster of guest offset 0x%" PRIx64
                  " cannot be unpacked (%" PRIu64 " bytes at 0x%" PRIx64 ")",
                  q->node->name, round_down(guest_off, q->cluster_size), n, host_off);
    }
    return r;
}

static struct qc_zip_slot *slot_find(struct qc_zip *z, uint64_t entry)
{
    for (unsigned i = 0; i < QC_ZIP_SLOTS; i++)
        if (z->v[i].entry == entry)
            return &z->v[i];
    return NULL;
}

static struct qc_zip_slot *slot_oldest(struct qc_zip *z)
{
    struct qc_zip_slot *best = NULL;
    for (unsigned i = 0; i < QC_ZIP_SLOTS; i++)
        if (z->v[i].users == 0 && (!best || z->v[i].used < best->used))
            best = &z->v[i];
    return best;
}

static void slot_put(struct qc_zip *z, struct qc_zip_slot *s)
{
    s->used = ++z->clock;
    if (--s->users == 0)
        co_queue_wake_all(&z->change);
}

/* The slot that holds the cluster, or failed to; *out is in use by the caller either way. */
static int slot_get(struct qc *q, uint64_t entry, uint64_t guest_off, struct qc_zip_slot **out)
{
    struct qc_zip *z = &q->zip;
    struct qc_zip_slot *s;
    while (!(s = slot_find(z, entry)) && !(s = slot_oldest(z)))
        co_queue_wait(&z->change);
    *out = s;
    s->users++;
    if (s->entry == entry) {
        while (s->loading)
            co_queue_wait(&z->change);
        return s->error;
    }
    s->entry = entry;
    s->loading = true;
    s->error = slot_load(q, s, entry, guest_off);
    s->loading = false;
    if (s->error < 0)
        s->entry = 0; /* for those who wait for it now; the next one tries again */
    co_queue_wake_all(&z->change);
    return s->error;
}

int qc_read_compressed(struct qc *q, uint64_t entry, uint64_t guest_off, uint8_t *buf, uint64_t len)
{
    struct qc_zip_slot *s;
    int r = slot_get(q, entry, guest_off, &s);
    if (r == 0)
        memcpy(buf, s->data + (guest_off & (q->cluster_size - 1)), len);
    slot_put(&q->zip, s);
    return r;
}
