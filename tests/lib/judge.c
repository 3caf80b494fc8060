/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The verdict on an image, step by step.
 */
#include "tests/lib/judge.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/rng.h"
#include "block/sim.h"
#include "io/reactor.h"
#include "qcow2/qcow2.h"
#include "tests/lib/workload.h"

#define AFTER_WRITES 4
#define AFTER_KEY UINT64_C(0xaf7e12)

struct visit {
    struct judge *j;
    struct sim_disk *d;
    uint8_t *content; /* of the guest disk, size bytes */
    uint64_t size;
    bool ok;
};

static bool __attribute__((format(printf, 2, 3))) verdict(struct judge *j, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(j->text, sizeof(j->text), fmt, ap);
    va_end(ap);
    return false;
}

/* Read all through the driver in pieces that mind no boundary. */
static bool visit_read(struct visit *v, struct node *guest, struct rng *rng)
{
    uint8_t *buf = malloc(v->size ? v->size : 1);
    bool ok = buf != NULL;
    for (uint64_t off = 0; ok && off < v->size;) {
        uint64_t len = min_u64(v->size - off, 1 + rng_below(rng, v->size / 2 + 1));
        int r = node_read(guest, off, buf + off, len);
        if (r < 0)
            ok = verdict(v->j, "our driver cannot read 0x%" PRIx64 "+0x%" PRIx64 ": %d", off, len,
                         r);
        off += len;
    }
    for (uint64_t i = 0; ok && i < v->size; i++) {
        if (buf[i] != v->content[i])
            ok = verdict(v->j, "our driver and the judge read different bytes at 0x%" PRIx64, i);
    }
    free(buf);
    return ok;
}

static bool visit_write(struct visit *v, struct node *guest, struct rng *rng)
{
    for (unsigned i = 0; i < AFTER_WRITES && v->size; i++) {
        uint64_t off = rng_below(rng, v->size);
        uint64_t len = min_u64(v->size - off, 1 + rng_below(rng, 20 * KiB));
        load_fill(v->content + off, len, AFTER_KEY + i, off);
        int r = node_write(guest, off, v->content + off, len, 0);
        if (r < 0)
            return verdict(v->j, "a write afterwards fails with %d", r);
    }
    int r = node_flush(guest);
    return r == 0 || verdict(v->j, "a flush afterwards fails with %d", r);
}

static void visit_co(void *arg)
{
    struct visit *v = arg;
    const struct qc_open_opts opts = {.no_backing = true, .read_only = !v->j->write_after};
    struct err *e = NULL;
    struct rng rng;
    rng_seed(&rng, v->j->seed);
    struct node *guest = load_open(v->d, &opts, &e);
    if (!guest) {
        v->ok = v->j->may_refuse || verdict(v->j, "our driver refuses it: %s", err_msg(e));
        err_free(e);
        return;
    }
    v->j->opened = true;
    if (guest->size != v->size)
        verdict(v->j, "our driver sees %" PRIu64 " bytes", guest->size);
    else
        v->ok = visit_read(v, guest, &rng) && (!v->j->write_after || visit_write(v, guest, &rng));
    node_unref(guest);
}

static const struct qck_bitmap *bitmap_of(const struct qck_bitmap *v, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++)
        if (strcmp(v[i].name, name) == 0)
            return &v[i];
    return NULL;
}

/* A bitmap that is not in use covers all that differs from what the disk held when it was clear. */
static bool judge_bitmap(struct judge *j, const struct visit *v, const struct qck_bitmap *b,
                         const uint8_t *clear, uint64_t clear_len)
{
    for (uint64_t at = 0; !b->in_use && at < v->size; at++) {
        uint8_t was = at < clear_len ? clear[at] : 0;
        if (v->content[at] != was && !b->bits[at / b->granularity])
            return verdict(j, "bitmap '%s' is wrongly clean at 0x%" PRIx64, b->name, at);
    }
    return true;
}

static bool judge_bitmaps(struct judge *j, const struct visit *v, const struct qck_source *src)
{
    const struct load_run *run = j->run;
    struct qck_bitmap *maps;
    struct qck_report r;
    unsigned n = qck_bitmaps(src, &maps, &r);
    bool ok = r.corruptions == 0 || verdict(j, "stored bitmaps: %s", r.text);
    uint64_t clear_len = run->w->prefill, at = j->view.at ? j->view.at : UINT64_MAX;
    uint8_t *clear = malloc(clear_len ? clear_len : 1);
    (run->w->packed ? load_fill_soft : load_fill)(clear, clear_len, 0, 0);
    for (unsigned i = 0; ok && i < run->n_maps; i++) {
        const struct load_bitmap *m = &run->maps[i];
        const struct qck_bitmap *b = bitmap_of(maps, n, m->name);
        /* Once its making has been reported it stays until its removal begins. */
        if (!b && m->added && m->added <= at && !(m->removing && m->removing <= at))
            ok = verdict(j, "bitmap '%s' has vanished", m->name);
        if (ok && b && m->since_start)
            ok = judge_bitmap(j, v, b, clear, clear_len);
        /* They become right in one step. */
        if (ok && b && b->in_use != maps[0].in_use)
            ok = verdict(j, "bitmap '%s' is %sin use, '%s' is not so", m->name,
                         b->in_use ? "" : "not ", maps[0].name);
        j->good_bitmaps += ok && b && !b->in_use;
    }
    free(clear);
    qck_bitmaps_free(maps, n);
    return ok;
}

/* A raw data file is the guest's disk, whatever the tables say. */
static bool judge_raw(struct judge *j, const struct visit *v)
{
    uint8_t *raw = malloc(v->size + 1);
    sim_disk_peek(v->d, SIM_SECOND, raw, v->size);
    uint64_t i = 0;
    while (i < v->size && raw[i] == v->content[i])
        i++;
    free(raw);
    return (i == v->size && sim_second_size(v->d) <= v->size) ||
           verdict(j, "the data file (%" PRIu64 " bytes) is not the disk: byte 0x%" PRIx64,
                   sim_second_size(v->d), i);
}

static bool snapshot_differs(struct judge *j, const struct load_snap *s, const uint8_t *data)
{
    uint64_t i = 0;
    while (data[i] == s->data[i])
        i++;
    return verdict(j,
                   "snapshot %s, made at %" PRIu64 ", has changed at 0x%" PRIx64
                   ": it was %02x, and is %02x",
                   s->name, s->made, i, s->data[i], data[i]);
}

static bool judge_snapshot(struct judge *j, const struct load_snap *s, const struct qck_source *src,
                           bool present)
{
    struct qck_source view = *src;
    struct qck_report r;
    bool must_be = s->made && (!j->view.at || j->view.at >= s->made) &&
                   (!s->going || (j->view.at && j->view.at <= s->going));
    if (!present)
        return !must_be || verdict(j, "snapshot %s is missing", s->name);
    if (!s->known)
        return true;
    uint8_t *data = malloc(s->size + 1);
    view.snapshot = s->name;
    bool ok = (data && qck_read(&view, 0, data, s->size, &r)) ||
              verdict(j, "snapshot %s cannot be read: %s", s->name, r.text);
    ok = ok && (!memcmp(data, s->data, s->size) || snapshot_differs(j, s, data));
    free(data);
    return ok;
}

static bool judge_snapshots(struct judge *j, const struct qck_source *src)
{
    struct qck_report r;
    for (unsigned i = 0; i < j->run->n_snaps; i++) {
        const struct load_snap *s = &j->run->snap[i];
        if (!judge_snapshot(j, s, src, qck_has_snapshot(src, s->name, &r)))
            return false;
    }
    return true;
}

/* What must hold of the image as it lies there. */
static bool judge_bytes(struct judge *j, struct visit *v, const struct qck_source *src)
{
    struct qck_report r;
    char text[ORACLE_TEXT_LEN];
    if (!qck_check(src, &r))
        return verdict(j, "%" PRIu64 " corruptions:\n%s", r.corruptions, r.text);
    j->leaks = r.leaks;
    v->size = r.guest_size;
    if (j->oracle && !oracle_judge_size(j->oracle, &j->view, v->size))
        return verdict(j, "the disk has %" PRIu64 " bytes", v->size);
    v->content = malloc(v->size ? v->size : 1);
    if (!v->content || !qck_read(src, 0, v->content, v->size, &r))
        return verdict(j, "content cannot be read: %s", r.text);
    if (r.raw && !judge_raw(j, v))
        return false;
    if (j->oracle && !oracle_judge(j->oracle, &j->view, 0, v->content, v->size, text))
        return verdict(j, "%s", text);
    return !j->run || (judge_bitmaps(j, v, src) && judge_snapshots(j, src));
}

/* And after it was written to. */
static bool judge_after(struct judge *j, const struct visit *v)
{
    struct qck_source src = qck_sim(v->d);
    struct qck_report r;
    if (!qck_check(&src, &r))
        return verdict(j, "after writing to it, %" PRIu64 " corruptions:\n%s", r.corruptions,
                       r.text);
    uint8_t *now = malloc(v->size ? v->size : 1);
    bool ok = now && qck_read(&src, 0, now, v->size, &r);
    if (!ok)
        verdict(j, "after writing to it, content cannot be read: %s", r.text);
    for (uint64_t i = 0; ok && i < v->size; i++) {
        if (now[i] != v->content[i])
            ok = verdict(j, "after writing to it, byte 0x%" PRIx64 " has changed", i);
    }
    free(now);
    return ok && (!r.raw || judge_raw(j, v));
}

bool judge_image(struct judge *j, struct sim_disk *d)
{
    struct visit v = {.j = j, .d = d};
    struct qck_source src = qck_sim(d);
    j->text[0] = '\0';
    j->leaks = 0;
    j->good_bitmaps = 0;
    j->opened = false;
    bool ok = j->sound = judge_bytes(j, &v, &src);
    if (ok && j->open) {
        sim_set_latency(d, 0, 0, 0);
        size_t alive = co_alive();
        ok = co_start(visit_co, &v);
        reactor_run_until_idle(reactor_current());
        if (co_alive() != alive)
            ok = verdict(j, "opening and reading it hangs");
        ok = ok && v.ok && (!j->write_after || !j->opened || judge_after(j, &v));
    }
    free(v.content);
    return ok;
}
