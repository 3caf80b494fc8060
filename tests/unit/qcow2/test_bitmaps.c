/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Stored bitmaps: what is stored is loaded again, with what was written in between; who may change
 * them when; what changes the disk in other ways than by writing to it.
 */
#include <errno.h>

#include "base/log.h"
#include "block/node_bitmap.h"
#include "qcow2/snapshot.h"
#include "tests/unit/qcow2/image.h"

static const struct qc_open_opts writable, readable = {.read_only = true};

static struct bitmap *add(struct node *n, const char *name, uint32_t granularity)
{
    struct err *e = NULL;
    struct bitmap *b = node_bitmap_add(n, name, granularity, true, &e);
    must(b, "%s", err_msg(e));
    return b;
}

static struct bitmap *find(struct node *n, const char *name)
{
    struct bitmap *b = node_bitmap_find(n, name);
    must(b, "no bitmap '%s'", name);
    return b;
}

static void expect(struct err **e, int code, const char *says)
{
    must(*e && err_code(*e) == code && strstr(err_msg(*e), says), "error %d: %s", err_code(*e),
         err_msg(*e));
    err_free(*e);
    *e = NULL;
}

static bool is_dirty(const struct bitmap *b, uint64_t off)
{
    bool dirty;
    bitmap_next(b, off, &dirty);
    return dirty;
}

static void equal(const struct bitmap *a, const struct bitmap *b, const char *what)
{
    must(a->size == b->size && a->granularity == b->granularity &&
             bitmap_dirty_bytes(a) == bitmap_dirty_bytes(b),
         "%s: %llu bytes dirty, and %llu", what, (unsigned long long)bitmap_dirty_bytes(a),
         (unsigned long long)bitmap_dirty_bytes(b));
    for (uint64_t off = 0; off < a->size;) {
        bool x, y;
        uint64_t ends = bitmap_next(a, off, &x);
        must(ends == bitmap_next(b, off, &y) && x == y, "%s: at 0x%llx", what,
             (unsigned long long)off);
        off = ends;
    }
}

/* Marks of every density, the last granule partial. */
static void scatter(struct rng *rng, struct bitmap *b)
{
    unsigned n = (unsigned)rng_below(rng, 4) * 300;
    for (unsigned i = 0; i < n; i++)
        bitmap_mark(b, rng_below(rng, b->size), 1 + rng_below(rng, b->size / 100));
    if (rng_below(rng, 6) == 0)
        bitmap_mark(b, 0, b->size);
}

static void round_body(void *arg)
{
    struct rng rng;
    rng_seed(&rng, *(const uint64_t *)arg);
    struct qc_create_opts o = {.cluster_size = 512u << rng_below(&rng, 8)};
    o.size = round_up(1 + rng_below(&rng, 200 * MiB), 512);
    struct sim_disk *d = image_new(&o);
    struct bitmap *was[5];
    char name[16];
    struct node *n = image_open(d, &writable);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 5; i++) {
            snprintf(name, sizeof(name), "%u", i);
            if (round == 0)
                add(n, name, 512u << rng_below(&rng, 10));
            scatter(&rng, find(n, name));
            must(bitmap_enable(find(n, name), i % 2, NULL), "enable");
            was[i] = bitmap_copy(find(n, name), NULL);
        }
        must(node_bitmap_store(n, NULL), "store");
        must(node_write(n, 0, name, 1, 0) == -EPERM, "a write after the store");
        node_unref(n);
        image_judge(d, false, "stored");
        n = image_open(d, round % 2 ? &readable : &writable);
        for (unsigned i = 0; i < 5; i++) {
            snprintf(name, sizeof(name), "%u", i);
            equal(was[i], find(n, name), "loaded");
            must(find(n, name)->enabled == i % 2, "enabled");
            bitmap_free(was[i]);
        }
        if (round % 2) {
            node_unref(n);
            n = image_open(d, &writable);
        }
    }
    node_unref(n);
    sim_disk_free(d);
}

static void what_is_stored_is_loaded_again(void **state)
{
    for (uint64_t seed = 1; seed <= 25; seed++)
        run_sim(round_body, &seed);
}

/* Nobody has thawed it: what the successor has recorded is stored with it. */
static void frozen_body(void *arg)
{
    struct qc_create_opts o = {.size = 1 * MiB};
    struct sim_disk *d = image_new(&o);
    struct node *n = image_open(d, &writable);
    struct bitmap *b = add(n, "b", 4096);
    must(node_zero(n, 0, 4096, 0) == 0, "zero");
    must(bitmap_freeze(b, NULL), "freeze");
    must(node_zero(n, 64 * KiB, 4096, 0) == 0, "zero");
    node_unref(n);
    n = image_open(d, &readable);
    b = find(n, "b");
    must(is_dirty(b, 0) && is_dirty(b, 64 * KiB) && bitmap_dirty_bytes(b) == 8192, "not joined");
    must(b->enabled && !b->busy, "not as it was before the freeze");
    node_unref(n);
    sim_disk_free(d);
}

static void a_frozen_bitmap_is_stored_whole(void **state)
{
    run_sim(frozen_body, NULL);
}

static void access_body(void *arg)
{
    struct qc_create_opts o = {.size = 1 * MiB, .version = 2};
    struct err *e = NULL;
    struct sim_disk *d = image_new(&o);
    struct node *n = image_open(d, &writable);
    must(!node_bitmap_add(n, "b", 0, true, &e), "version 2");
    expect(&e, ENOTSUP, "version 2 cannot store bitmaps");
    node_unref(n);
    sim_disk_free(d);

    o.version = 3;
    d = image_new(&o);
    n = image_open(d, &writable);
    add(n, "b", 0);
    must(!node_bitmap_add(n, "b", 0, true, &e), "twice");
    expect(&e, EEXIST, "Bitmap already exists: b");
    node_unref(n);
    n = image_open(d, &readable);
    must(!node_bitmap_add(n, "c", 0, true, &e), "read-only");
    expect(&e, EROFS, "read-only");
    must(!bitmap_clear(find(n, "b"), &e), "cleared");
    expect(&e, EPERM, "Bitmap 'b' is readonly and cannot be modified");
    must(!node_bitmap_remove(n, "b", &e), "removed");
    expect(&e, EPERM, "readonly");
    must(node_bitmap_add(n, "memory", 0, false, NULL), "in memory");
    must(bitmap_merge(find(n, "memory"), find(n, "b"), NULL), "a source may be read-only");
    must(!bitmap_merge(find(n, "b"), find(n, "memory"), &e), "merged into");
    expect(&e, EPERM, "readonly");
    node_unref(n);

    o.size = 4 * GiB * 1024;
    struct sim_disk *large = image_new(&o);
    n = image_open(large, &writable);
    must(!node_bitmap_add(n, "fine", 512, true, &e), "too large");
    expect(&e, EFBIG, "use a granularity larger than 512");
    must(!n->bitmaps, "it is there all the same");
    node_unref(n);
    sim_disk_free(large);
    sim_disk_free(d);
}

static void who_may_change_what(void **state)
{
    run_sim(access_body, NULL);
}

static void resize_body(void *arg)
{
    struct qc_create_opts o = {.size = 1 * MiB, .cluster_size = 4096};
    struct sim_disk *d = image_new(&o);
    struct node *n = image_open(d, &writable);
    struct qc_truncate_opts shrink = {.shrink = true};
    add(n, "b", 4096);
    must(node_zero(n, 900 * KiB, 4096, 0) == 0, "zero");
    must(node_truncate(n, 2 * MiB) == 0, "grow");
    node_unref(n);
    n = image_open(d, &writable);
    struct bitmap *b = find(n, "b");
    must(b->size == 2 * MiB && bitmap_dirty_bytes(b) == 1 * MiB + 4096, "grown");
    must(is_dirty(b, 900 * KiB) && !is_dirty(b, 0) && is_dirty(b, 1 * MiB), "grown");
    must(qc_truncate(n, 512 * KiB, &shrink, NULL), "shrink");
    must(b->size == 512 * KiB && bitmap_dirty_bytes(b) == 0, "shrunk");
    must(qc_truncate(n, 1 * MiB, &shrink, NULL), "grow");
    must(is_dirty(b, 512 * KiB) && bitmap_dirty_bytes(b) == 512 * KiB, "what was cut off is lost");
    b->busy++;
    log_set_level(LOG_LEVEL_ERROR);
    must(node_truncate(n, 2 * MiB) == -EBUSY && !qc_truncate(n, 512, &shrink, NULL), "busy");
    b->busy--;
    b->inconsistent = true;
    must(node_truncate(n, 2 * MiB) == -ENOTSUP && !qc_truncate(n, 512, &shrink, NULL), "B6");
    b->inconsistent = false;
    log_set_level(LOG_LEVEL_WARN);
    node_unref(n);
    image_judge(d, false, "resized");
    n = image_open(d, &readable);
    must(find(n, "b")->size == 1 * MiB && bitmap_dirty_bytes(find(n, "b")) == 512 * KiB, "loaded");
    node_unref(n);
    sim_disk_free(d);
}

static void resizing_takes_stored_bitmaps_along(void **state)
{
    run_sim(resize_body, NULL);
}

static void replaced_body(void *arg)
{
    struct qc_create_opts o = {.size = 1 * MiB};
    struct qc_snapshot_ref one = {.id = "1"};
    struct err *e = NULL;
    struct sim_disk *d = image_new(&o);
    struct node *n = image_open(d, &writable);
    struct bitmap *b = add(n, "b", 0), *off = add(n, "off", 0);
    must(bitmap_enable(off, false, NULL), "disable");
    must(qc_snapshot_create(n, &(struct qc_new_snapshot){.name = "s"}, NULL, &e), "%s", err_msg(e));
    must(bitmap_dirty_bytes(b) == 0, "making a snapshot changes nothing");
    must(qc_snapshot_apply(n, &one, false, &e), "%s", err_msg(e));
    must(bitmap_dirty_bytes(b) == 1 * MiB, "the content was replaced");
    must(bitmap_dirty_bytes(off) == 0, "it records nothing");
    must(qc_snapshot_delete(n, &one, NULL) && bitmap_clear(b, NULL), "delete, clear");
    must(qc_make_empty(n, &e), "%s", err_msg(e));
    must(bitmap_dirty_bytes(b) == 1 * MiB, "the content was taken away");
    node_unref(n);
    n = image_open(d, &readable);
    must(bitmap_dirty_bytes(find(n, "b")) == 1 * MiB, "stored");
    node_unref(n);
    image_judge(d, false, "replaced");
    sim_disk_free(d);
}

static void replacing_the_content_marks_all(void **state)
{
    run_sim(replaced_body, NULL);
}

static void many_body(void *arg)
{
    struct qc_create_opts o = {.size = 1 * MiB, .cluster_size = 512};
    struct sim_disk *d = image_new(&o);
    struct node *n = image_open(d, &writable);
    char name[BITMAP_NAME_MAX + 1];
    for (unsigned i = 0; i < 40; i++) {
        memset(name, 'a' + (int)i % 20, sizeof(name) - 1);
        name[BITMAP_NAME_MAX - i] = '\0';
        add(n, name, 512);
    }
    must(node_zero(n, 512 * KiB, 1, 0) == 0, "zero");
    node_unref(n);
    image_judge(d, false, "many");
    n = image_open(d, &writable);
    unsigned found = 0;
    struct bitmap *next;
    for (struct bitmap *b = node_bitmap_first(n); b; b = next, found++) {
        next = b->next;
        must(bitmap_dirty_bytes(b) == 512 && strlen(b->name) == BITMAP_NAME_MAX - found, "%s",
             b->name);
        must(node_bitmap_remove(n, b->name, NULL), "remove");
    }
    must(found == 40, "%u", found);
    node_unref(n);
    image_judge(d, false, "none");
    sim_disk_free(d);
}

static void directories_of_many_clusters_work(void **state)
{
    run_sim(many_body, NULL);
}

/* An image that is only looked at keeps every byte. */
static void untouched_body(void *arg)
{
    struct qc_create_opts o = {.size = 1 * MiB};
    struct sim_disk *d = image_new(&o);
    struct node *n = image_open(d, &writable);
    add(n, "b", 0);
    node_unref(n);
    must(sim_log_mark(d), "memory");
    n = image_open(d, &readable);
    must(node_bitmap_store(n, NULL), "nothing to store");
    node_unref(n);
    must(sim_log_len(d) == 0, "a read-only image was written to");
    sim_disk_free(d);
}

static void a_read_only_image_is_not_written_to(void **state)
{
    run_sim(untouched_body, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_stored_is_loaded_again),
        cmocka_unit_test(a_frozen_bitmap_is_stored_whole),
        cmocka_unit_test(who_may_change_what),
        cmocka_unit_test(resizing_takes_stored_bitmaps_along),
        cmocka_unit_test(replacing_the_content_marks_all),
        cmocka_unit_test(directories_of_many_clusters_work),
        cmocka_unit_test(a_read_only_image_is_not_written_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
