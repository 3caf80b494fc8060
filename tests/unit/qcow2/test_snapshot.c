/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Internal snapshots against a model: after any sequence of writes, creations, applications,
 * deletions and resizings the disk and every snapshot hold what the model says, by our driver and
 * by the independent judge, and no cluster leaks.
 */
#include <errno.h>

#include "base/log.h"
#include "block/node_bitmap.h"
#include "qcow2/snapshot.h"
#include "tests/unit/qcow2/image.h"

#define MAX_SNAPS 6

struct state { /* of a disk */
    char name[16], id[24];
    uint8_t *data;
    uint64_t size;
};

struct model {
    struct sim_disk *d;
    struct node *n;
    struct rng rng;
    uint64_t max_size;
    uint32_t version, cluster_size, refcount_bits;
    struct state now, snap[MAX_SNAPS];
    unsigned n_snaps, made;
};

struct shape {
    uint32_t version, cluster_size, refcount_bits;
    uint64_t size;
    unsigned ops;
};

static void copy_state(const struct model *m, struct state *to, const struct state *from)
{
    if (!to->data)
        to->data = mem_alloc(m->max_size);
    memcpy(to->data, from->data, m->max_size);
    to->size = from->size;
}

static void judge_content(struct model *m, const struct state *s, const char *snapshot)
{
    struct qck_source src = qck_sim(m->d);
    struct qck_report rep = {0};
    uint8_t *buf = mem_alloc(s->size + 1);
    src.snapshot = snapshot;
    must(qck_read(&src, 0, buf, s->size, &rep), "%s: %s", snapshot, rep.text);
    must(rep.guest_size == s->size, "%s: size %llu", snapshot, (unsigned long long)rep.guest_size);
    for (uint64_t i = 0; i < s->size; i++)
        must(buf[i] == s->data[i], "%s: byte 0x%llx", snapshot ? snapshot : "now",
             (unsigned long long)i);
    mem_free(buf);
}

static void read_all(struct node *n, const struct state *s)
{
    uint8_t *buf = mem_alloc(s->size + 1);
    must(n->size == s->size, "size %llu", (unsigned long long)n->size);
    must(node_read(n, 0, buf, s->size) == 0, "read");
    must(!memcmp(buf, s->data, s->size), "%s: content", s->name);
    mem_free(buf);
}

static void verify(struct model *m)
{
    read_all(m->n, &m->now);
    for (unsigned i = 0; i < m->n_snaps; i++) {
        struct qc_snapshot_ref ref = {.id = m->snap[i].id, .name = m->snap[i].name};
        struct node *n =
            image_open(m->d, &(struct qc_open_opts){.read_only = true, .snapshot = &ref});
        read_all(n, &m->snap[i]);
        node_unref(n);
        judge_content(m, &m->snap[i], m->snap[i].name);
    }
}

static void op_write(struct model *m)
{
    if (m->now.size < 1024)
        return;
    uint64_t len = 1 + rng_below(&m->rng, min_u64(3 * m->cluster_size, m->now.size / 3));
    uint64_t off = rng_below(&m->rng, m->now.size - len);
    unsigned what = (unsigned)rng_below(&m->rng, 8);
    if (what == 0) {
        must(node_zero(m->n, off, len, REQ_MAY_UNMAP) == 0, "zero");
        memset(m->now.data + off, 0, len);
    } else if (what == 1) {
        off = round_down(off, m->cluster_size);
        len = min_u64(m->cluster_size, m->now.size - off);
        must(node_discard(m->n, off, len) == 0, "discard");
        memset(m->now.data + off, 0, len);
    } else if (what == 2) {
        off = round_down(off, m->cluster_size);
        len = min_u64(2 * m->cluster_size, m->now.size - off);
        memset(m->now.data + off, (int)rng_below(&m->rng, 256), len);
        must(node_write(m->n, off, m->now.data + off, len, REQ_COMPRESSED) == 0, "compressed");
    } else {
        memset(m->now.data + off, (int)rng_below(&m->rng, 256), len);
        must(node_write(m->n, off, m->now.data + off, len, 0) == 0, "write");
    }
}

static void op_create(struct model *m)
{
    struct err *e = NULL;
    struct state *s = &m->snap[m->n_snaps];
    /* So many references that 2-bit refcounts may hold; fewer for compressed neighbours. */
    if (m->n_snaps == (m->refcount_bits == 2 ? 1 : MAX_SNAPS))
        return;
    snprintf(s->name, sizeof(s->name), "s%u", ++m->made);
    const struct qc_new_snapshot opts = {.name = s->name, .date_sec = m->made};
    if (!qc_snapshot_create(m->n, &opts, s->id, &e)) {
        must(m->refcount_bits <= 4 && err_code(e) == EFBIG, "%s", err_msg(e));
        err_free(e);
        return;
    }
    copy_state(m, s, &m->now);
    m->n_snaps++;
}

static void op_apply(struct model *m)
{
    struct err *e = NULL;
    const struct state *s = &m->snap[rng_below(&m->rng, m->n_snaps)];
    must(qc_snapshot_apply(m->n, &(struct qc_snapshot_ref){.any = s->name}, true, &e), "%s",
         err_msg(e));
    copy_state(m, &m->now, s);
}

static void op_delete(struct model *m)
{
    struct err *e = NULL;
    unsigned i = (unsigned)rng_below(&m->rng, m->n_snaps);
    struct state gone = m->snap[i];
    must(qc_snapshot_delete(m->n, &(struct qc_snapshot_ref){.id = gone.id}, &e), "%s", err_msg(e));
    memmove(&m->snap[i], &m->snap[i + 1], (m->n_snaps - i - 1) * sizeof(gone));
    m->n_snaps--;
    gone.name[0] = '\0';
    m->snap[m->n_snaps] = gone;
}

static void op_resize(struct model *m)
{
    struct err *e = NULL;
    const struct qc_truncate_opts yes = {.shrink = true};
    uint64_t size = round_down(rng_below(&m->rng, m->max_size), 512);
    if (m->version == 2 && m->n_snaps) {
        must(!qc_truncate(m->n, size, &yes, &e) && err_code(e) == ENOTSUP, "resized");
        err_free(e);
        return;
    }
    must(qc_truncate(m->n, size, &yes, &e), "%s", err_msg(e));
    if (size < m->now.size)
        memset(m->now.data + size, 0, m->max_size - size);
    m->now.size = size;
}

static void step(struct model *m)
{
    uint64_t what = rng_below(&m->rng, 24);
    if (what < 16) {
        op_write(m);
        return;
    }
    if (what == 16)
        must(node_flush(m->n) == 0, "flush");
    else if (what < 19)
        op_create(m);
    else if (what < 21 && m->n_snaps)
        op_apply(m);
    else if (what < 23 && m->n_snaps)
        op_delete(m);
    else
        op_resize(m);
    if (what > 16) {
        image_judge(m->d, true, "after an operation"); /* what a growth gave up waits for a flush */
        verify(m);
    }
}

static void model_body(void *arg)
{
    const struct shape *s = arg;
    struct model m = {.version = s->version,
                      .cluster_size = s->cluster_size,
                      .refcount_bits = s->refcount_bits,
                      .max_size = s->size};
    m.d = image_new(&(struct qc_create_opts){.size = s->size,
                                             .version = s->version,
                                             .cluster_size = s->cluster_size,
                                             .refcount_bits = s->refcount_bits});
    m.now.data = mem_zalloc(m.max_size);
    m.now.size = s->size;
    rng_seed(&m.rng, 77 + s->cluster_size + s->refcount_bits);
    for (unsigned round = 0; round < 2; round++) {
        m.n = image_open(m.d,
                         &(struct qc_open_opts){.l2_cache_bytes = round, /* 1: as small as may be */
                                                .refcount_cache_bytes = round});
        for (unsigned i = 0; i < s->ops; i++)
            step(&m);
        node_unref(m.n);
        image_judge(m.d, false, "closed");
        for (unsigned i = 0; i < m.n_snaps; i++)
            judge_content(&m, &m.snap[i], m.snap[i].name);
        judge_content(&m, &m.now, NULL);
    }
    must(m.made > 3, "only %u snapshots were made", m.made);
    for (unsigned i = 0; i < MAX_SNAPS; i++)
        mem_free(m.snap[i].data);
    mem_free(m.now.data);
    sim_disk_free(m.d);
}

static void disk_and_snapshots_hold_what_they_should(void **state)
{
    static const struct shape shapes[] = {
        {3, 512, 16, 200 * KiB, 250}, {3, 512, 2, 100 * KiB, 200},    {3, 1024, 64, 1 * MiB, 150},
        {2, 4096, 16, 1 * MiB, 150},  {3, 4096, 4, 2 * MiB, 150},     {3, 65536, 16, 8 * MiB, 60},
        {3, 65536, 8, 4 * MiB, 60},   {3, 2 * MiB, 32, 24 * MiB, 25},
    };
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        run_sim(model_body, (void *)&shapes[i]);
}

static void narrow_body(void *arg)
{
    struct err *e = NULL;
    uint8_t block[512];
    memset(block, 7, sizeof(block));
    struct sim_disk *d = image_new(
        &(struct qc_create_opts){.size = 64 * KiB, .cluster_size = 512, .refcount_bits = 1});
    struct node *n = image_open(d, &(struct qc_open_opts){0});
    must(node_write(n, 0, block, 512, 0) == 0 && node_flush(n) == 0, "write");
    must(!qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "x"}, NULL, &e) &&
             err_code(e) == EFBIG,
         "a snapshot with refcounts of one bit");
    err_free(e);
    image_judge(d, false, "refused");
    must(node_write(n, 512, block, 512, 0) == 0, "write afterwards");
    node_unref(n);
    image_judge(d, false, "closed");
    sim_disk_free(d);
}

static void refcounts_that_are_too_narrow_are_refused_without_a_trace(void **state)
{
    run_sim(narrow_body, NULL);
}

static void ids_body(void *arg)
{
    struct err *e = NULL;
    char id[24];
    struct sim_disk *d = image_new(&(struct qc_create_opts){.size = 64 * KiB});
    struct node *n = image_open(d, &(struct qc_open_opts){0});
    must(qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "2"}, id, &e) && !strcmp(id, "1"),
         "first");
    must(qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "1"}, id, &e) && !strcmp(id, "2"),
         "second");
    /* An id goes before a name. */
    must(qc_snapshot_delete(n, &(struct qc_snapshot_ref){.any = "1"}, &e), "delete");
    must(!qc_snapshot_delete(n, &(struct qc_snapshot_ref){.name = "2"}, &e) &&
             err_code(e) == ENOENT,
         "the wrong one is gone");
    err_free(e);
    e = NULL;
    must(qc_snapshot_create(n, &(struct qc_new_snapshot){.name = ""}, id, &e) && !strcmp(id, "3"),
         "third");
    must(!qc_snapshot_delete(n, &(struct qc_snapshot_ref){.id = "3", .name = "x"}, &e), "both");
    err_free(e);
    e = NULL;
    must(qc_snapshot_delete(n, &(struct qc_snapshot_ref){.id = "3", .name = ""}, &e), "both");
    node_unref(n);
    image_judge(d, false, "closed");
    sim_disk_free(d);
}

static void snapshots_are_found_by_id_or_name_as_qemu_does(void **state)
{
    run_sim(ids_body, NULL);
}

static void bitmap_body(void *arg)
{
    struct err *e = NULL;
    const struct qc_truncate_opts yes = {.shrink = true};
    struct sim_disk *d = image_new(&(struct qc_create_opts){.size = MiB});
    struct node *n = image_open(d, &(struct qc_open_opts){0});
    struct bitmap *b = node_bitmap_add(n, "b", 65536, true, &e);
    must(b, "%s", err_msg(e));
    must(qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "s"}, NULL, &e), "create");
    must(bitmap_dirty_bytes(b) == 0, "a snapshot changes nothing");
    must(qc_truncate(n, 512 * KiB, &yes, &e), "%s", err_msg(e));
    must(bitmap_dirty_bytes(b) == 0 && n->bitmaps->size == 512 * KiB, "shrunk");
    b->busy = 1;
    must(!qc_truncate(n, 256 * KiB, &yes, &e) && err_code(e) == EBUSY,
         "shrunk under a bitmap in use");
    err_free(e);
    e = NULL;
    must(!qc_snapshot_apply(n, &(struct qc_snapshot_ref){.any = "s"}, true, &e) &&
             err_code(e) == EBUSY && n->size == 512 * KiB,
         "resized under a bitmap in use");
    err_free(e);
    e = NULL;
    b->busy = 0;
    must(!qc_snapshot_apply(n, &(struct qc_snapshot_ref){.any = "s"}, false, &e) &&
             err_code(e) == EINVAL,
         "resized without leave");
    err_free(e);
    e = NULL;
    must(qc_snapshot_apply(n, &(struct qc_snapshot_ref){.any = "s"}, true, &e), "%s", err_msg(e));
    must(bitmap_dirty_bytes(b) == MiB && n->size == MiB, "all has changed");
    must(bitmap_clear(b, &e), "clear");
    must(qc_make_empty(n, &e) && bitmap_dirty_bytes(b) == MiB, "all has changed");
    node_unref(n);
    n = image_open(d, &(struct qc_open_opts){0});
    b = node_bitmap_find(n, "b");
    must(b && !b->inconsistent && bitmap_dirty_bytes(b) == MiB, "stored");
    must(node_bitmap_store(n, &e), "%s", err_msg(e));
    must(!qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "t"}, NULL, &e) &&
             err_code(e) == EROFS,
         "changed after the bitmaps were stored");
    err_free(e);
    node_unref(n);
    sim_disk_free(d);
}

static void bitmaps_know_what_an_operation_changes(void **state)
{
    run_sim(bitmap_body, NULL);
}

/* Byte by byte: "1" and "abcdefg" of the strings become extra data that nobody knows. */
static void extra_body(void *arg)
{
    struct err *e = NULL;
    struct sim_disk *d = image_new(&(struct qc_create_opts){.size = MiB});
    struct node *n = image_open(d, &(struct qc_open_opts){0});
    must(qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "abcdefg7name"}, NULL, &e),
         "make");
    node_unref(n);
    uint64_t len = sim_disk_size(d);
    uint8_t *image = mem_alloc(len);
    sim_disk_peek(d, 0, image, len);
    uint8_t *entry = image + get_be64(image + 64);
    put_be32(entry + 36, 32);
    put_be16(entry + 14, 4);
    must(sim_disk_load(d, image, len), "memory");

    n = image_open(d, &(struct qc_open_opts){0});
    char id[24];
    must(qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "x"}, id, &e) && !strcmp(id, "8"),
         "another");
    must(qc_snapshot_delete(n, &(struct qc_snapshot_ref){.id = "8"}, &e), "delete");
    uint64_t off;
    uint8_t field[8], now[80];
    sim_disk_peek(d, 64, field, 8);
    off = get_be64(field);
    sim_disk_peek(d, off, now, sizeof(now));
    must(get_be32(now + 36) == 32 && !memcmp(now + 40, entry + 40, 37), "extra data has changed");
    must(qc_snapshot_apply(n, &(struct qc_snapshot_ref){.id = "7", .name = "name"}, false, &e),
         "%s", err_msg(e));
    node_unref(n);
    mem_free(image);
    sim_disk_free(d);
}

static void extra_data_of_others_is_kept(void **state)
{
    run_sim(extra_body, NULL);
}

static uint64_t writes_of(struct sim_disk *d)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < sim_log_len(d); i++)
        n += sim_log_at(d, i)->op == REQ_WRITE;
    return n;
}

static void batch_body(void *arg)
{
    struct err *e = NULL;
    uint8_t *data = mem_zalloc(4 * MiB);
    struct sim_disk *d =
        image_new(&(struct qc_create_opts){.size = 64 * MiB, .cluster_size = 4096});
    struct node *n = image_open(d, &(struct qc_open_opts){.refcount_cache_bytes = 1});
    for (unsigned i = 0; i < 16; i++)
        must(node_write(n, i * 4 * MiB, data, 4 * MiB, 0) == 0, "write");
    must(node_flush(n) == 0 && sim_log_mark(d), "flush");
    /* 16,384 clusters in 32 L2 tables and 9 refcount blocks: copied, and changed once. */
    must(qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "a"}, NULL, &e), "create");
    must(writes_of(d) < 100, "%llu writes", (unsigned long long)writes_of(d));
    must(sim_log_mark(d) && qc_snapshot_delete(n, &(struct qc_snapshot_ref){.any = "a"}, &e),
         "delete");
    must(writes_of(d) < 100, "%llu writes", (unsigned long long)writes_of(d));
    node_unref(n);
    image_judge(d, false, "closed");
    mem_free(data);
    sim_disk_free(d);
}

static void refcounts_are_written_block_by_block(void **state)
{
    run_sim(batch_body, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(disk_and_snapshots_hold_what_they_should),
        cmocka_unit_test(refcounts_that_are_too_narrow_are_refused_without_a_trace),
        cmocka_unit_test(extra_data_of_others_is_kept),
        cmocka_unit_test(refcounts_are_written_block_by_block),
        cmocka_unit_test(bitmaps_know_what_an_operation_changes),
        cmocka_unit_test(snapshots_are_found_by_id_or_name_as_qemu_does),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
