/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Dirty bitmaps: marking and counting, names and states, freeze and thaw, merge, resize. The write
 * batches, counts and the extent list are those of QEMU's incremental backup tests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "bitmap/bitmap.h"

#define DISK (64 * MiB)

struct write {
    uint64_t off, len;
};

static const struct write batch1[] = {{0, 512}, {16 * MiB, 256 * KiB}, {32736 * KiB, 64 * KiB}};
static const struct write batch2[] = {{0, 512}, {8 * MiB, 352 * KiB}, {15872 * KiB, 1 * MiB}};

static void write_all(struct bitmap_set *s, const struct write *w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bitmap_set_mark(s, w[i].off, w[i].len);
}

static void assert_error(struct err *e, int code, const char *text)
{
    assert_non_null(e);
    assert_int_equal(err_code(e), code);
    if (!strstr(err_msg(e), text))
        fail_msg("message '%s' lacks '%s'", err_msg(e), text);
    err_free(e);
}

static void write_batches_give_the_known_counts(void **state)
{
    static const struct {
        uint32_t granularity;
        uint64_t batch1, batch2, both;
    } want[] = {{65536, 458752, 1507328, 1638400},
                {32768, 360448, 1441792, 1507328},
                {131072, 655360, 1572864, 1835008}};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        struct bitmap_set s;
        struct bitmap *b;

        bitmap_set_init(&s, DISK);
        b = bitmap_add(&s, "b", want[i].granularity, NULL);
        write_all(&s, batch1, ARRAY_LEN(batch1));
        assert_int_equal(bitmap_dirty_bytes(b), want[i].batch1);
        assert_true(bitmap_clear(b, NULL));
        assert_int_equal(bitmap_dirty_bytes(b), 0);
        write_all(&s, batch2, ARRAY_LEN(batch2));
        assert_int_equal(bitmap_dirty_bytes(b), want[i].batch2);
        write_all(&s, batch1, ARRAY_LEN(batch1));
        assert_int_equal(bitmap_dirty_bytes(b), want[i].both);
        bitmap_set_clear(&s);
    }
}

static void write_batch_gives_the_known_extents(void **state)
{
    static const struct {
        uint64_t off, len;
        bool dirty;
    } want[] = {
        {0, 64 * KiB, true},
        {64 * KiB, 16320 * KiB, false},
        {16 * MiB, 256 * KiB, true},
        {16640 * KiB, 16064 * KiB, false},
        {32704 * KiB, 128 * KiB, true},
        {32832 * KiB, 32704 * KiB, false},
    };
    struct bitmap_set s;
    struct bitmap *b;
    uint64_t off = 0;
    (void)state;

    bitmap_set_init(&s, DISK);
    b = bitmap_add(&s, "b", 65536, NULL);
    write_all(&s, batch1, ARRAY_LEN(batch1));
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        bool dirty;
        uint64_t end = bitmap_next(b, off, &dirty);

        assert_int_equal(off, want[i].off);
        assert_int_equal(end - off, want[i].len);
        assert_int_equal(dirty, want[i].dirty);
        off = end;
    }
    assert_int_equal(off, DISK);
    bitmap_set_clear(&s);
}

static void partial_last_granule_counts_whole_but_ends_with_the_disk(void **state)
{
    struct bitmap *b = bitmap_new(NULL, 65536 + 100, 65536);
    bool dirty;
    (void)state;

    bitmap_mark(b, 65536 + 99, 1);
    assert_int_equal(bitmap_dirty_bytes(b), 65536);
    assert_int_equal(bitmap_next(b, 0, &dirty), 65536);
    assert_false(dirty);
    assert_int_equal(bitmap_next(b, 65536, &dirty), 65536 + 100);
    assert_true(dirty);
    /* A range that reaches past the end, or lies there, is cut. */
    bitmap_mark(b, 65535, UINT64_MAX);
    bitmap_mark(b, 65536 + 100, 1);
    bitmap_mark(b, 0, 0);
    assert_int_equal(bitmap_dirty_bytes(b), 131072);
    bitmap_free(b);
}

static void names_and_granularities_are_checked(void **state)
{
    static const uint32_t bad[] = {1, 256, 513, 64000, 3u << 20};
    char name[BITMAP_NAME_MAX + 2];
    struct bitmap_set s;
    struct err *e = NULL;
    (void)state;

    bitmap_set_init(&s, DISK);
    assert_non_null(bitmap_add(&s, "daily", 0, NULL));
    assert_int_equal(s.head->granularity, 65536);
    assert_null(bitmap_add(&s, "daily", 0, &e));
    assert_error(e, EEXIST, "Bitmap already exists: daily");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        e = NULL;
        assert_null(bitmap_add(&s, "x", bad[i], &e));
        assert_error(e, EINVAL, "Granularity must be power of 2 and at least 512");
    }
    e = NULL;
    assert_false(bitmap_check_granularity(UINT64_C(1) << 32, &e));
    assert_error(e, EINVAL, "at most 2 GiB");
    assert_true(bitmap_check_granularity(UINT64_C(1) << 31, NULL));

    e = NULL;
    assert_null(bitmap_add(&s, "", 0, &e));
    assert_error(e, EINVAL, "empty");
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = 0;
    e = NULL;
    assert_null(bitmap_add(&s, name, 0, &e));
    assert_error(e, EINVAL, "1023");
    name[BITMAP_NAME_MAX] = 0;
    assert_non_null(bitmap_add(&s, name, 512, NULL));
    assert_ptr_equal(bitmap_find(&s, name), s.head->next);
    assert_null(bitmap_find(&s, "other"));

    assert_int_equal(bitmap_default_granularity(0), 65536);
    assert_int_equal(bitmap_default_granularity(512), 4096);
    assert_int_equal(bitmap_default_granularity(32768), 32768);
    assert_int_equal(bitmap_default_granularity(2 << 20), 65536);
    bitmap_set_clear(&s);
}

static void busy_bitmaps_refuse_changes_but_keep_recording(void **state)
{
    static const char text[] =
        "Bitmap 'b' is currently in use by another operation and cannot be used";
    struct bitmap_set s;
    struct bitmap *b, *other;
    struct err *e = NULL;
    (void)state;

    bitmap_set_init(&s, DISK);
    b = bitmap_add(&s, "b", 0, NULL);
    other = bitmap_add(&s, "other", 0, NULL);
    b->busy++;
    assert_false(bitmap_remove(&s, "b", &e));
    assert_error(e, EBUSY, text);
    e = NULL;
    assert_false(bitmap_clear(b, &e));
    assert_error(e, EBUSY, text);
    e = NULL;
    assert_false(bitmap_enable(b, false, &e));
    assert_error(e, EBUSY, text);
    e = NULL;
    assert_false(bitmap_merge(b, other, &e));
    assert_error(e, EBUSY, text);
    e = NULL;
    assert_false(bitmap_merge(other, b, &e));
    assert_error(e, EBUSY, text);
    e = NULL;
    assert_false(bitmap_freeze(b, &e));
    assert_error(e, EBUSY, text);
    e = NULL;
    assert_false(bitmap_set_resize(&s, 2 * DISK, &e));
    assert_error(e, EBUSY, text);
    assert_int_equal(s.size, DISK);
    bitmap_set_mark(&s, 0, 1);
    assert_int_equal(bitmap_dirty_bytes(b), 65536);
    b->busy--;
    assert_true(bitmap_remove(&s, "b", NULL));
    assert_ptr_equal(s.head, other);
    e = NULL;
    assert_false(bitmap_remove(&s, "b", &e));
    assert_error(e, ENOENT, "Bitmap not found: b");
    bitmap_set_clear(&s);
}

static void inconsistent_bitmaps_can_only_be_removed(void **state)
{
    struct bitmap_set s;
    struct bitmap *b;
    struct err *e = NULL;
    (void)state;

    bitmap_set_init(&s, DISK);
    b = bitmap_add(&s, "b", 0, NULL);
    bitmap_mark(b, 0, DISK);
    b->inconsistent = true;
    b->enabled = false;
    assert_int_equal(bitmap_dirty_bytes(b), 0);
    assert_false(bitmap_recording(b));
    assert_false(bitmap_enable(b, true, &e));
    assert_error(e, EBUSY, "inconsistent");
    assert_false(bitmap_clear(b, NULL));
    assert_false(bitmap_set_resize(&s, 2 * DISK, NULL));
    assert_true(bitmap_remove(&s, "b", NULL));
    assert_null(s.head);
}

static void an_inconsistent_bitmap_goes_on_wholly_dirty(void **state)
{
    struct bitmap_set s;
    struct err *e = NULL;

    bitmap_set_init(&s, 10 * MiB);
    struct bitmap *b = bitmap_add(&s, "b", 0, NULL);
    b->inconsistent = true;
    b->enabled = false;
    b->busy = 1;
    assert_false(bitmap_renew(b, &e));
    assert_error(e, EBUSY, "in use");
    e = NULL;
    b->busy = 0;
    b->readonly = true;
    assert_false(bitmap_renew(b, &e));
    assert_error(e, EPERM, "readonly");
    e = NULL;
    b->readonly = false;
    b->foreign = true;
    assert_false(bitmap_renew(b, &e));
    assert_error(e, ENOTSUP, "not known");
    assert_true(b->inconsistent);
    b->foreign = false;
    assert_true(bitmap_renew(b, NULL));
    assert_int_equal(bitmap_dirty_bytes(b), 10 * MiB);
    assert_true(bitmap_recording(b));
    assert_true(bitmap_clear(b, NULL));
    bitmap_mark(b, 0, 1);
    assert_int_equal(bitmap_dirty_bytes(b), 65536);
    bitmap_set_clear(&s);
}

static void disabled_bitmaps_record_nothing(void **state)
{
    struct bitmap_set s;
    struct bitmap *b;
    (void)state;

    bitmap_set_init(&s, DISK);
    b = bitmap_add(&s, "b", 0, NULL);
    assert_true(bitmap_recording(b));
    assert_true(bitmap_enable(b, false, NULL));
    assert_false(bitmap_recording(b));
    bitmap_set_mark(&s, 0, DISK);
    assert_int_equal(bitmap_dirty_bytes(b), 0);
    assert_true(bitmap_freeze(b, NULL));
    bitmap_set_mark(&s, 0, DISK);
    bitmap_reclaim(b);
    assert_int_equal(bitmap_dirty_bytes(b), 0);
    assert_false(bitmap_recording(b));
    bitmap_set_clear(&s);
}

static void frozen_bits_stay_while_a_successor_records(void **state)
{
    struct bitmap_set s;
    struct bitmap *b;
    bool dirty;
    (void)state;

    bitmap_set_init(&s, DISK);
    b = bitmap_add(&s, "b", 0, NULL);
    write_all(&s, batch1, ARRAY_LEN(batch1));
    assert_true(bitmap_freeze(b, NULL));
    assert_int_equal(b->busy, 1);
    assert_true(bitmap_recording(b));
    write_all(&s, batch2, ARRAY_LEN(batch2));
    assert_int_equal(bitmap_dirty_bytes(b), 458752);
    assert_int_equal(bitmap_next(b, 64 * KiB, &dirty), 16 * MiB);

    bitmap_abdicate(b);
    assert_int_equal(b->busy, 0);
    assert_true(bitmap_recording(b));
    assert_int_equal(bitmap_dirty_bytes(b), 1507328);
    bitmap_set_mark(&s, 60 * MiB, 1);
    assert_int_equal(bitmap_dirty_bytes(b), 1507328 + 65536);
    bitmap_set_clear(&s);
}

static void reclaiming_joins_both(void **state)
{
    struct bitmap_set s;
    struct bitmap *b;
    (void)state;

    bitmap_set_init(&s, DISK);
    b = bitmap_add(&s, "b", 0, NULL);
    write_all(&s, batch1, ARRAY_LEN(batch1));
    assert_true(bitmap_freeze(b, NULL));
    write_all(&s, batch2, ARRAY_LEN(batch2));
    bitmap_reclaim(b);
    assert_int_equal(b->busy, 0);
    assert_true(bitmap_recording(b));
    assert_int_equal(bitmap_dirty_bytes(b), 1638400);
    bitmap_set_clear(&s);
}

static void merging_crosses_granularities(void **state)
{
    static const uint32_t gran[] = {32768, 65536, 131072};
    static const uint64_t want[3][3] = {
        /* dst 32K: granules of src are kept whole */
        {1507328, 1638400, 1835008},
        {1638400, 1638400, 1835008},
        {1835008, 1835008, 1835008},
    };
    (void)state;

    for (int d = 0; d < 3; d++) {
        for (int g = 0; g < 3; g++) {
            struct bitmap_set s;
            struct bitmap *dst, *src;

            bitmap_set_init(&s, DISK);
            src = bitmap_add(&s, "src", gran[g], NULL);
            write_all(&s, batch1, ARRAY_LEN(batch1));
            write_all(&s, batch2, ARRAY_LEN(batch2));
            dst = bitmap_add(&s, "dst", gran[d], NULL);
            assert_true(bitmap_merge(dst, src, NULL));
            assert_true(bitmap_merge(dst, dst, NULL));
            assert_int_equal(bitmap_dirty_bytes(dst), want[d][g]);
            bitmap_set_clear(&s);
        }
    }
}

static void merging_keeps_the_target_and_needs_equal_sizes(void **state)
{
    struct bitmap *a = bitmap_new("a", DISK, 65536), *b = bitmap_new("b", DISK, 65536);
    struct bitmap *c = bitmap_new("c", DISK / 2, 65536), *copy;
    struct err *e = NULL;
    (void)state;

    bitmap_mark(a, 0, 1);
    bitmap_mark(b, 1 * MiB, 1);
    assert_true(bitmap_merge(a, b, NULL));
    assert_int_equal(bitmap_dirty_bytes(a), 131072);
    assert_int_equal(bitmap_dirty_bytes(b), 65536);
    assert_false(bitmap_merge(a, c, &e));
    assert_error(e, EINVAL, "different sizes");
    copy = bitmap_copy(a, "copy");
    bitmap_mark(a, 2 * MiB, 1);
    assert_int_equal(bitmap_dirty_bytes(copy), 131072);
    assert_string_equal(copy->name, "copy");
    bitmap_free(copy);
    bitmap_free(a);
    bitmap_free(b);
    bitmap_free(c);
}

static void shrinking_then_growing_leaves_the_new_range_dirty(void **state)
{
    struct bitmap_set s;
    struct bitmap *b;
    bool dirty;
    (void)state;

    bitmap_set_init(&s, DISK);
    b = bitmap_add(&s, "b", 0, NULL);
    bitmap_set_mark(&s, 60 * MiB, 1);
    assert_true(bitmap_set_resize(&s, 32 * MiB + 100, NULL));
    assert_int_equal(bitmap_dirty_bytes(b), 0);
    assert_int_equal(b->size, 32 * MiB + 100);
    assert_true(bitmap_set_resize(&s, DISK, NULL));
    /* From the granule that the old end cut on. */
    assert_int_equal(bitmap_next(b, 0, &dirty), 32 * MiB);
    assert_false(dirty);
    assert_int_equal(bitmap_next(b, 32 * MiB, &dirty), DISK);
    assert_true(dirty);
    bitmap_set_clear(&s);
}

static void without_memory_a_bitmap_claims_everything(void **state)
{
    struct bitmap_set s;
    struct bitmap *b;
    (void)state;

    bitmap_set_init(&s, DISK * 1024);
    b = bitmap_add(&s, "b", 0, NULL);
    mem_fail_nth(1, 1);
    bitmap_set_mark(&s, 0, 1);
    mem_fail_nth(0, 0);
    assert_true(b->all_dirty);
    assert_int_equal(bitmap_dirty_bytes(b), DISK * 1024);
    assert_true(bitmap_clear(b, NULL));
    assert_false(b->all_dirty);

    bitmap_mark(b, 0, 1);
    assert_true(bitmap_freeze(b, NULL));
    bitmap_set_mark(&s, DISK * 512, 1);
    mem_fail_nth(1, 1);
    bitmap_reclaim(b);
    mem_fail_nth(0, 0);
    assert_true(b->all_dirty);
    assert_int_equal(bitmap_dirty_bytes(b), DISK * 1024);
    bitmap_set_clear(&s);
}

static void failed_merge_and_growth_change_nothing(void **state)
{
    bool done = false;
    (void)state;

    for (uint64_t nth = 1; !done; nth++) {
        struct bitmap *a = bitmap_new("a", DISK, 65536), *b = bitmap_new("b", DISK, 512);
        struct err *e = NULL;

        bitmap_mark(a, 0, 1);
        bitmap_mark(b, MiB, 1);
        mem_fail_nth(nth, 0);
        done = bitmap_merge(a, b, &e);
        mem_fail_nth(0, 0);
        assert_int_equal(bitmap_dirty_bytes(a), done ? 131072 : 65536);
        assert_true(done || err_code(e) == ENOMEM);
        err_free(e);
        bitmap_free(a);
        bitmap_free(b);
    }
    done = false;
    for (uint64_t nth = 1; !done; nth++) {
        struct bitmap_set s;

        bitmap_set_init(&s, 100 * KiB);
        bitmap_add(&s, "a", 65536, NULL);
        bitmap_add(&s, "b", 512, NULL);
        bitmap_set_mark(&s, 0, 1);
        mem_fail_nth(nth, 0);
        done = bitmap_set_resize(&s, 100 * GiB, NULL) && !s.head->all_dirty &&
               !s.head->next->all_dirty;
        mem_fail_nth(0, 0);
        if (s.size == 100 * KiB) {
            assert_int_equal(bitmap_dirty_bytes(s.head), 65536);
            assert_int_equal(bitmap_dirty_bytes(s.head->next), 512);
        } else {
            assert_true(bitmap_dirty_bytes(s.head) >= 100 * GiB - 65536);
            assert_true(bitmap_dirty_bytes(s.head->next) >= 100 * GiB - 100 * KiB);
        }
        bitmap_set_clear(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_batches_give_the_known_counts),
        cmocka_unit_test(write_batch_gives_the_known_extents),
        cmocka_unit_test(partial_last_granule_counts_whole_but_ends_with_the_disk),
        cmocka_unit_test(names_and_granularities_are_checked),
        cmocka_unit_test(busy_bitmaps_refuse_changes_but_keep_recording),
        cmocka_unit_test(inconsistent_bitmaps_can_only_be_removed),
        cmocka_unit_test(an_inconsistent_bitmap_goes_on_wholly_dirty),
        cmocka_unit_test(disabled_bitmaps_record_nothing),
        cmocka_unit_test(frozen_bits_stay_while_a_successor_records),
        cmocka_unit_test(reclaiming_joins_both),
        cmocka_unit_test(merging_crosses_granularities),
        cmocka_unit_test(merging_keeps_the_target_and_needs_equal_sizes),
        cmocka_unit_test(shrinking_then_growing_leaves_the_new_range_dirty),
        cmocka_unit_test(without_memory_a_bitmap_claims_everything),
        cmocka_unit_test(failed_merge_and_growth_change_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
