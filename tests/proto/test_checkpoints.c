/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Checkpoints: frozen views by name, and the differences between them.
 */
#include "tests/proto/proto.h"

#include <stdio.h>

#include "base/mem.h"
#include "filters/filters.h"

#define INVALID 0x80000003u
#define POLICY 0x80000002u
#define UNKNOWN 0x80000006u
#define LIST 9
#define SET 10

static char names[4096];

static void frozen_disk(struct proto *p)
{
    proto_publish(p, "daily", 65536);
    p->export_opts.cbw = cbw_open(p->export_opts.top, NULL);
    assert_non_null(p->export_opts.cbw);
    p->export_opts.top = p->export_opts.cbw;
    p->export_opts.checkpoints = true;
    p->server_opts.scratch_in_memory = true;
    p->server_opts.max_checkpoints = 5;
}

/* A write through the server, at a 64 KiB block. */
static void put(struct proto *p, unsigned block, uint8_t byte)
{
    static uint8_t data[65536];
    struct peer c = peer_ready(p, false);

    memset(data, byte, sizeof(data));
    peer_request(&c, 0, 1, 1, block * 65536ull, sizeof(data));
    peer_send(&c, data, sizeof(data));
    assert_int_equal(peer_simple(&c, 1), 0);
    peer_close(&c);
    proto_settle();
}

static struct peer haggling(struct proto *p)
{
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    peer_option(&c, 8, NULL, 0);
    assert_int_equal(peer_reply(&c, 8, NULL, 0, NULL), 1);
    return c;
}

/* Open a view with a context (NULL: none). */
static struct peer open_view(struct proto *p, const char *name, const char *context)
{
    struct peer c = haggling(p);

    if (context) {
        assert_int_equal(peer_meta(&c, SET, name, &context, 1, names, sizeof(names), NULL), 1);
        if (strncmp(names, context, strlen(context)) != 0)
            fail_msg("%s does not offer %s", name, context);
    }
    assert_int_equal(peer_go(&c, 7, name, NULL, NULL), 1);
    return c;
}

static int byte_of(struct peer *c, unsigned block)
{
    struct chunk k;

    peer_request(c, 0, 0, 7, block * 65536ull, 1);
    peer_chunk(c, &k);
    return k.type == 1 ? k.data[8] : -(int)get_be32(k.data);
}

/* The dirty 64 KiB blocks, as letters: ".#..#" */
static const char *dirty(struct peer *c, unsigned n)
{
    static char text[200];
    struct chunk k;
    unsigned at = 0;

    peer_request(c, 0, 7, 9, 0, n * 65536);
    peer_chunk(c, &k);
    assert_int_equal(k.type, 5);
    for (uint32_t i = 4; i < k.len; i += 8) {
        assert_int_equal(get_be32(k.data + i) % 65536, 0);
        for (uint32_t b = 0; b < get_be32(k.data + i) / 65536; b++)
            text[at++] = get_be32(k.data + i + 4) ? '#' : '.';
    }
    text[at] = '\0';
    return text;
}

static const char *changes(struct proto *p, const char *base, const char *view, unsigned n)
{
    char context[64], name[64];

    snprintf(context, sizeof(context), "qemu:dirty-bitmap:%s", base);
    snprintf(name, sizeof(name), "disk@%s", view);
    struct peer c = open_view(p, name, context);
    const char *text = dirty(&c, n);
    peer_close(&c);
    return text;
}

PROTO_TEST_WITH(a_view_shows_the_instant_it_was_opened, frozen_disk)
{
    put(p, 0, 1);
    struct peer a = open_view(p, "disk@a", NULL);
    put(p, 0, 2);
    put(p, 1, 3);
    struct peer b = open_view(p, "disk@b", NULL), a2 = open_view(p, "disk@a", NULL);
    put(p, 1, 4);
    assert_int_equal(byte_of(&a, 0), 1);
    assert_int_equal(byte_of(&a, 1), 0);
    assert_int_equal(byte_of(&a2, 0), 1);
    assert_int_equal(byte_of(&b, 0), 2);
    assert_int_equal(byte_of(&b, 1), 3);
    struct peer live = peer_ready(p, true);
    assert_int_equal(byte_of(&live, 1), 4);
    peer_close(&a);
    peer_close(&a2);
    peer_close(&b);
    peer_close(&live);
}

PROTO_TEST_WITH(a_view_is_read_only_and_shared, frozen_disk)
{
    struct peer c = haggling(p);
    uint64_t size;
    uint16_t flags;

    assert_int_equal(peer_go(&c, 7, "disk@a", &size, &flags), 1);
    assert_int_equal(flags, 0x58F);
    assert_int_equal(size, DISK_SIZE);
    peer_request(&c, 0, 6, 1, 0, 512);
    assert_int_equal(peer_chunk_error(&c, 1), 1);
    peer_close(&c);
}

PROTO_TEST_WITH(differences_are_the_union_of_what_lies_between, frozen_disk)
{
    struct peer hold[3];

    put(p, 0, 1); /* before the first: in no difference */
    hold[0] = open_view(p, "disk@a", NULL);
    put(p, 1, 1);
    hold[1] = open_view(p, "disk@b", NULL);
    put(p, 2, 1);
    hold[2] = open_view(p, "disk@c", NULL);
    put(p, 3, 1); /* after the last view */
    assert_string_equal(changes(p, "a", "b", 5), ".#...");
    assert_string_equal(changes(p, "b", "c", 5), "..#..");
    assert_string_equal(changes(p, "a", "c", 5), ".##..");
    assert_string_equal(changes(p, "c", "d", 5), "...#.");
    assert_string_equal(changes(p, "a", "d", 5), ".###.");
    assert_string_equal(changes(p, "a", "d", 5), ".###."); /* from the cache */
    for (int i = 0; i < 3; i++)
        peer_close(&hold[i]);
}

PROTO_TEST_WITH(a_view_lists_earlier_checkpoints_and_frozen_bitmaps_only, frozen_disk)
{
    struct peer a = open_view(p, "disk@a", NULL), b = open_view(p, "disk@b", NULL);
    struct peer c = haggling(p);
    const char *q = "qemu:";

    assert_int_equal(peer_meta(&c, LIST, "disk@b", &q, 1, names, sizeof(names), NULL), 1);
    assert_string_equal(names, "qemu:dirty-bitmap:daily\nqemu:dirty-bitmap:a\n");
    assert_int_equal(peer_meta(&c, LIST, "disk@a", &q, 1, names, sizeof(names), NULL), 1);
    assert_string_equal(names, "qemu:dirty-bitmap:daily\n");
    assert_int_equal(peer_meta(&c, LIST, "disk", &q, 1, names, sizeof(names), NULL), 1);
    assert_string_equal(names, "qemu:dirty-bitmap:daily\n");
    /* A name that does not exist yet: what it would have. */
    assert_int_equal(peer_meta(&c, LIST, "disk@new", &q, 1, names, sizeof(names), NULL), 1);
    assert_string_equal(names, "qemu:dirty-bitmap:daily\nqemu:dirty-bitmap:a\n"
                               "qemu:dirty-bitmap:b\n");
    peer_close(&a);
    peer_close(&b);
    peer_close(&c);
}

PROTO_TEST_WITH(published_bitmaps_are_frozen_with_the_view, frozen_disk)
{
    put(p, 0, 1);
    struct peer v = open_view(p, "disk@a", "qemu:dirty-bitmap:daily");
    put(p, 1, 1);
    assert_string_equal(dirty(&v, 3), "#..");
    peer_close(&v);
    v = open_view(p, "disk", "qemu:dirty-bitmap:daily");
    assert_string_equal(dirty(&v, 3), "##.");
    peer_close(&v);
}

PROTO_TEST_WITH(looking_freezes_nothing, frozen_disk)
{
    struct peer c = haggling(p);
    uint64_t size;

    put(p, 0, 1);
    assert_int_equal(peer_go(&c, 6, "disk@a", &size, NULL), 1);
    assert_int_equal(size, DISK_SIZE);
    peer_meta(&c, LIST, "disk@a", NULL, 0, names, sizeof(names), NULL);
    put(p, 0, 2);
    assert_int_equal(peer_go(&c, 7, "disk@a", NULL, NULL), 1);
    assert_int_equal(byte_of(&c, 0), 2);
    peer_close(&c);
}

PROTO_TEST_WITH(selecting_contexts_freezes_and_go_joins, frozen_disk)
{
    struct peer c = haggling(p);
    const char *q = "base:allocation";

    put(p, 0, 1);
    assert_int_equal(peer_meta(&c, SET, "disk@a", &q, 1, names, sizeof(names), NULL), 1);
    put(p, 0, 2);
    co_sleep_until(clock_ns() + 5 * NS_PER_S);
    assert_int_equal(peer_go(&c, 7, "disk@a", NULL, NULL), 1);
    assert_int_equal(byte_of(&c, 0), 1);
    peer_close(&c);
}

PROTO_TEST_WITH(a_view_outlives_its_last_client_by_the_grace_period, frozen_disk)
{
    struct peer c = open_view(p, "disk@a", NULL);

    put(p, 0, 1);
    peer_close(&c);
    co_sleep_until(clock_ns() + 29 * NS_PER_S);
    c = open_view(p, "disk@a", NULL); /* in time, and that starts a new period */
    assert_int_equal(byte_of(&c, 0), 0);
    co_sleep_until(clock_ns() + 100 * NS_PER_S);
    peer_close(&c);
    co_sleep_until(clock_ns() + 29 * NS_PER_S);
    c = haggling(p); /* looking at it starts one too, but does not hold it */
    assert_int_equal(peer_go(&c, 6, "disk@a", NULL, NULL), 1);
    assert_int_equal(peer_meta(&c, LIST, "disk@a", NULL, 0, names, sizeof(names), NULL), 1);
    co_sleep_until(clock_ns() + 5 * NS_PER_S);
    assert_int_equal(peer_go(&c, 6, "disk@a", NULL, NULL), 1);
    peer_close(&c);
    co_sleep_until(clock_ns() + 31 * NS_PER_S);
    c = haggling(p);
    uint8_t b[] = "\0\0\0\6disk@a\0\0";
    for (uint32_t option = 6; option <= 7; option++) {
        peer_option(&c, option, b, sizeof(b) - 1);
        peer_expect_error(&c, option, UNKNOWN, "'a' of 'disk' is no longer readable");
    }
    peer_close(&c);
    put(p, 1, 1);
    assert_string_equal(changes(p, "a", "b", 3), "##."); /* but it still is a base */
}

PROTO_TEST_WITH(old_checkpoints_are_forgotten_without_losing_a_change, frozen_disk)
{
    char name[32];
    struct peer f;

    for (unsigned i = 0; i < 5; i++) { /* a..e; then the block of the same number changes */
        snprintf(name, sizeof(name), "disk@%c", 'a' + i);
        /* c uses a as a base, so that b is the least recently used in the end */
        struct peer c = open_view(p, name, i == 2 ? "qemu:dirty-bitmap:a" : NULL);
        peer_close(&c);
        put(p, i, 1);
        co_sleep_until(clock_ns() + 40 * NS_PER_S);
    }
    f = open_view(p, "disk@f", NULL);
    struct peer c = haggling(p);
    const char *q = "qemu:";
    assert_int_equal(peer_meta(&c, LIST, "disk@f", &q, 1, names, sizeof(names), NULL), 1);
    assert_string_equal(names, "qemu:dirty-bitmap:daily\nqemu:dirty-bitmap:a\n"
                               "qemu:dirty-bitmap:c\nqemu:dirty-bitmap:d\nqemu:dirty-bitmap:e\n");
    peer_close(&c);
    assert_string_equal(changes(p, "a", "f", 6), "#####.");
    assert_string_equal(changes(p, "c", "f", 6), "..###.");
    peer_close(&f);
}

static void expect_refused(struct proto *p, const char *name, size_t len, uint32_t type,
                           const char *text)
{
    struct peer c = haggling(p);
    uint8_t b[4200];

    put_be32(b, (uint32_t)len);
    memcpy(b + 4, name, len);
    put_be16(b + 4 + len, 0);
    peer_option(&c, 7, b, (uint32_t)len + 6);
    peer_expect_error(&c, 7, type, text);
    peer_close(&c);
}

PROTO_TEST_WITH(a_limit_of_checkpoints_in_use_is_told, frozen_disk)
{
    struct peer c[5];
    char name[32];

    for (unsigned i = 0; i < 5; i++) {
        snprintf(name, sizeof(name), "disk@%c", 'a' + i);
        c[i] = open_view(p, name, NULL);
    }
    expect_refused(p, "disk@f", 6, POLICY, "--max-checkpoints");
    for (unsigned i = 0; i < 5; i++)
        peer_close(&c[i]);
}

PROTO_TEST_WITH(names_are_checked, frozen_disk)
{
    char name[5 + 1024 + 1] = "disk@";

    memset(name + 5, 'n', 1024);
    expect_refused(p, name, 5 + 1024, INVALID, "1023");
    struct peer c = haggling(p);
    name[5 + 1023] = '\0';
    assert_int_equal(peer_go(&c, 7, name, NULL, NULL), 1);
    peer_close(&c);
    c = open_view(p, "disk@Monday 3 o'clock @home \xc3\xa9", NULL);
    peer_close(&c);
    expect_refused(p, "disk@", 5, INVALID, "1023");
    expect_refused(p, "disk@a\nb", 8, INVALID, "0x0a");
    expect_refused(p, "disk@\x7f", 6, INVALID, "0x7f");
    expect_refused(p, "disk@daily", 10, INVALID, "is a bitmap of 'disk'");
    expect_refused(p, "disc@a", 6, UNKNOWN, "no export");
}

PROTO_TEST(without_checkpoints_a_view_is_refused)
{
    expect_refused(p, "disk@a", 6, UNKNOWN, "has no checkpoints");
}

PROTO_TEST_WITH(freezing_waits_for_writes_in_flight_and_holds_back_later_ones, frozen_disk)
{
    static uint8_t data[65536];
    struct peer w = peer_ready(p, false), c = haggling(p);
    uint8_t b[] = "\0\0\0\6disk@a\0\0\0\0"; /* SET_META_CONTEXT without queries */

    memset(data, 1, sizeof(data));
    p->gate_closed = true;
    peer_request(&w, 0, 1, 1, 0, sizeof(data));
    peer_send(&w, data, sizeof(data));
    proto_settle();
    peer_option(&c, SET, b, sizeof(b) - 1);
    co_sleep_until(clock_ns() + 20 * NS_PER_S); /* longer than a handshake may take */
    memset(data, 2, sizeof(data));
    peer_request(&w, 0, 1, 2, 0, sizeof(data));
    peer_send(&w, data, sizeof(data));
    proto_settle();
    assert_int_equal(p->n_ops[REQ_WRITE], 1);
    gate_open(p);
    assert_int_equal(peer_simple(&w, 1), 0);
    assert_int_equal(peer_simple(&w, 2), 0);
    assert_int_equal(peer_reply(&c, SET, NULL, 0, NULL), 1);
    proto_settle();
    assert_int_equal(peer_go(&c, 7, "disk@a", NULL, NULL), 1);
    assert_int_equal(byte_of(&c, 0), 1);
    peer_close(&w);
    peer_close(&c);
    assert_string_equal(changes(p, "a", "b", 2), "#.");
}

PROTO_TEST_WITH(connections_that_open_one_name_at_once_share_its_view, frozen_disk)
{
    struct peer c[4];
    uint8_t b[] = "\0\0\0\6disk@a\0\0";

    for (int i = 0; i < 4; i++) {
        c[i] = haggling(p);
        peer_option(&c[i], 7, b, sizeof(b) - 1);
    }
    for (int i = 0; i < 4; i++) {
        while (peer_reply(&c[i], 7, NULL, 0, NULL) == 3)
            ;
    }
    put(p, 0, 1);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(byte_of(&c[i], 0), 0);
        peer_close(&c[i]);
    }
}

static void little_scratch(struct proto *p)
{
    frozen_disk(p);
    p->server_opts.scratch_limit = 2 * 65536;
}

PROTO_TEST_WITH(a_view_whose_scratch_overflows_fails_reads_not_the_guest, little_scratch)
{
    for (unsigned i = 0; i < 6; i++)
        put(p, i, 1);
    struct peer v = open_view(p, "disk@a", NULL), live = peer_ready(p, true);
    for (unsigned i = 0; i < 6; i++)
        put(p, i, 2);
    assert_int_equal(byte_of(&v, 0), -5);
    assert_int_equal(byte_of(&live, 5), 2);
    peer_close(&v);
    v = open_view(p, "disk@b", "qemu:dirty-bitmap:a");
    assert_string_equal(dirty(&v, 7), "######.");
    assert_int_equal(byte_of(&v, 5), 2);
    peer_close(&v);
    peer_close(&live);
}

PROTO_TEST_WITH(clients_that_leave_after_selecting_leak_nothing, frozen_disk)
{
    const char *q = "base:allocation";

    for (int i = 0; i < 5; i++) {
        struct peer c = haggling(p);
        peer_meta(&c, SET, "disk@a", &q, 1, names, sizeof(names), NULL);
        if (i % 2)
            peer_meta(&c, SET, "disk", &q, 1, names, sizeof(names), NULL);
        peer_close(&c);
    }
    co_sleep_until(clock_ns() + 31 * NS_PER_S);
    struct peer c = haggling(p);
    assert_int_equal(peer_go(&c, 7, "disk@a", NULL, NULL), UNKNOWN);
    peer_close(&c);
}

static void many_checkpoints(struct proto *p)
{
    frozen_disk(p);
    p->server_opts.max_checkpoints = 64;
}

/* Nobody else is served while differences are made. */
PROTO_TEST_WITH(all_differences_together_cost_little_more_than_one, many_checkpoints)
{
    enum { N = 40 };
    char text[N][32], name[32];
    const char *query[N];

    for (unsigned i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "disk@%u", i);
        struct peer c = open_view(p, name, NULL);
        peer_close(&c);
        put(p, i, 1);
        snprintf(text[i], sizeof(text[i]), "qemu:dirty-bitmap:%u", i);
        query[i] = text[i];
    }
    struct peer c = haggling(p), first = haggling(p);
    assert_int_equal(peer_meta(&first, SET, "disk@last", query, 1, names, sizeof(names), NULL), 1);
    mem_fail_nth(0, 0); /* counts from here on */
    assert_int_equal(peer_meta(&c, SET, "disk@last", query, N, names, sizeof(names), NULL), 1);
    assert_true(mem_count() < N * 20);
    assert_int_equal(peer_go(&c, 7, "disk@last", NULL, NULL), 1);
    struct chunk k;
    peer_request(&c, 0, 7, 1, 0, N * 65536);
    for (unsigned i = 0; i < N; i++) {
        peer_chunk(&c, &k); /* clean below i, dirty from there on */
        assert_int_equal(k.len, i ? 20 : 12);
        assert_int_equal(get_be32(k.data + k.len - 8), (N - i) * 65536);
        assert_int_equal(get_be32(k.data + k.len - 4), 1);
    }
    peer_close(&first);
    peer_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_view_shows_the_instant_it_was_opened),
        cmocka_unit_test(a_view_is_read_only_and_shared),
        cmocka_unit_test(differences_are_the_union_of_what_lies_between),
        cmocka_unit_test(a_view_lists_earlier_checkpoints_and_frozen_bitmaps_only),
        cmocka_unit_test(published_bitmaps_are_frozen_with_the_view),
        cmocka_unit_test(looking_freezes_nothing),
        cmocka_unit_test(selecting_contexts_freezes_and_go_joins),
        cmocka_unit_test(a_view_outlives_its_last_client_by_the_grace_period),
        cmocka_unit_test(old_checkpoints_are_forgotten_without_losing_a_change),
        cmocka_unit_test(a_limit_of_checkpoints_in_use_is_told),
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(without_checkpoints_a_view_is_refused),
        cmocka_unit_test(freezing_waits_for_writes_in_flight_and_holds_back_later_ones),
        cmocka_unit_test(connections_that_open_one_name_at_once_share_its_view),
        cmocka_unit_test(a_view_whose_scratch_overflows_fails_reads_not_the_guest),
        cmocka_unit_test(clients_that_leave_after_selecting_leak_nothing),
        cmocka_unit_test(all_differences_together_cost_little_more_than_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
