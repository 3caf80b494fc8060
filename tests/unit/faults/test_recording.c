/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Recordings: which moments there are, and what is volatile at each.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "faults/recording.h"

/* A letter is an entry: w write, z zero, t trim, W write with FUA, p a write that is not
 * acknowledged until the next a, F flush, a digit a mark. Each change is at 512 times its place. */
static void record(struct recording *r, const char *what)
{
    static uint8_t data[512];

    *r = (struct recording){.limit = MiB};
    for (uint64_t i = 0; what[i]; i++) {
        struct recorded_entry e = {.off = 512 * i, .len = 512, .data = data};
        char name[2] = {what[i], 0};

        if (what[i] == 'a') {
            recording_acknowledge(r, r->tickets);
            continue;
        }
        e.fua = what[i] == 'W';
        e.ticket = what[i] == 'p' ? ++r->tickets : 0;
        switch (what[i]) {
        case 'p':
        case 'w':
        case 'W':
            e.what = RECORDED_WRITE;
            break;
        case 'z':
            e.what = RECORDED_ZERO;
            break;
        case 't':
            e.what = RECORDED_TRIM;
            break;
        case 'F':
            e.what = RECORDED_FLUSH;
            break;
        default:
            e.what = RECORDED_MARK;
            e.data = (uint8_t *)name;
            e.len = 1;
        }
        assert_int_equal(recording_put(r, &e), 0);
    }
}

/* All moments as text: "mark:volatile+durable", entries by their place, FUA that is done in
 * brackets. */
static void tell(const struct recording *r, char *out, size_t len)
{
    struct moments m = {.r = r};

    *out = 0;
    while (moments_next(&m)) {
        struct cache c = {.conf.unit = 512};
        size_t n = strlen(out);

        snprintf(out + n, len - n, "%s%s:", n ? " " : "", m.now.mark);
        assert_true(moment_cache(r, &m.now, &c));
        for (const struct cache_rec *rec = c.head; rec; rec = rec->next) {
            n = strlen(out);
            snprintf(out + n, len - n, rec->durable ? "(%d)" : "%d", (int)(rec->off / 512));
        }
        cache_clear(&c);
    }
}

static void expect(const char *what, const char *moments)
{
    struct recording r;
    char told[256];

    record(&r, what);
    tell(&r, told, sizeof(told));
    assert_string_equal(told, moments);
    recording_free(&r);
}

static void each_flush_ends_a_moment_and_so_does_the_end(void **state)
{
    expect("", ":");
    expect("w", ":0");
    expect("wzFt", ":01 :3");
    expect("wF", ":0 :");
    expect("wFwF", ":0 :2 :");
}

static void a_flush_of_nothing_is_none(void **state)
{
    expect("F", ":");
    expect("FFwFFw", ":2 :5");
    expect("wFFF", ":0 :");
}

static void fua_is_volatile_until_it_is_done_and_durable_then(void **state)
{
    expect("W", ":0 :(0)");
    expect("wWw", ":01 :0(1)2");
    expect("WFw", ":0 :2");
    expect("wWF", ":01 :0(1) :");
}

static void a_flush_does_not_cover_what_is_in_flight(void **state)
{
    expect("wpFw", ":0 :13");
    expect("wpaFw", ":01 :4");
    expect("pFaFw", ":0 :4");
    expect("pFFF", ":0");
    expect("wpwppFw", ":02 :1346");
    expect("wp1F2", "1:0 2:1");
}

/* Two writes to one place: what was written last must not be undone by the order. */
static void what_was_changed_again_keeps_its_order(void **state)
{
    struct recording r = {.limit = MiB};
    uint8_t data[1024] = {0};
    struct recorded_entry a = {.what = RECORDED_WRITE, .len = 1024, .data = data, .ticket = 1};
    struct recorded_entry b = {.what = RECORDED_WRITE, .off = 512, .len = 512, .data = data};
    struct recorded_entry flush = {.what = RECORDED_FLUSH};

    assert_int_equal(recording_put(&r, &a), 0);
    assert_int_equal(recording_put(&r, &b), 0);
    assert_int_equal(recording_put(&r, &flush), 0);
    assert_int_equal(r.entry[0].len, 1024);
    assert_int_equal(r.entry[2].what, RECORDED_FLUSH);
    recording_acknowledge(&r, 1);
    assert_int_equal(r.unacknowledged, 0);
    recording_free(&r);
}

static void the_last_mark_before_a_moment_counts(void **state)
{
    expect("w1F2w3", "1:0 3:4");
    expect("1wF", "1:1 1:");
    expect("w1W2", "1:02 2:0(2)");
}

static void what_is_too_much_or_too_late_is_not_recorded(void **state)
{
    struct recording r = {.limit = 600};
    uint8_t data[512] = {0};
    struct recorded_entry e = {.what = RECORDED_WRITE, .len = 512, .data = data};
    struct recorded_entry zero = {.what = RECORDED_ZERO, .off = GiB, .len = 88};

    assert_int_equal(recording_put(&r, &e), 0);
    assert_int_equal(recording_put(&r, &zero), 0);
    zero.len = 1;
    assert_int_equal(recording_put(&r, &zero), -ENOSPC);
    assert_int_equal(r.error, -ENOSPC);
    assert_int_equal(r.n, 2);
    assert_int_equal(recording_end(&r), GiB + 88);
    r.closed = true;
    assert_int_equal(recording_put(&r, &e), 0);
    assert_int_equal(r.n, 2);
    recording_free(&r);
}

static void without_memory_nothing_is_recorded(void **state)
{
    struct recording r = {.limit = MiB};
    uint8_t data[512] = {0};
    struct recorded_entry e = {.what = RECORDED_WRITE, .len = 512, .data = data};

    for (int nth = 1; nth <= 2; nth++) {
        mem_fail_nth((uint64_t)nth, 0);
        assert_int_equal(recording_put(&r, &e), -ENOMEM);
        mem_fail_nth(0, 0);
        assert_int_equal(r.n, 0);
        assert_int_equal(r.bytes, 0);
        assert_int_equal(r.error, -ENOMEM);
    }
    recording_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_flush_ends_a_moment_and_so_does_the_end),
        cmocka_unit_test(a_flush_of_nothing_is_none),
        cmocka_unit_test(fua_is_volatile_until_it_is_done_and_durable_then),
        cmocka_unit_test(a_flush_does_not_cover_what_is_in_flight),
        cmocka_unit_test(what_was_changed_again_keeps_its_order),
        cmocka_unit_test(the_last_mark_before_a_moment_counts),
        cmocka_unit_test(what_is_too_much_or_too_late_is_not_recorded),
        cmocka_unit_test(without_memory_nothing_is_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
