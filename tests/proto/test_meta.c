/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Metadata contexts: negotiation, and the extents of BLOCK_STATUS.
 */
#include "tests/proto/proto.h"

#define INVALID 0x80000003u
#define UNKNOWN 0x80000006u
#define LIST 9
#define SET 10
#define REQ_ONE 8

static char names[4096];

static void two_bitmaps(struct proto *p)
{
    proto_publish(p, "daily", 65536);
    proto_publish(p, "hourly", 4096);
}

static struct peer haggling(struct proto *p, bool structured)
{
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    if (structured) {
        peer_option(&c, 8, NULL, 0);
        assert_int_equal(peer_reply(&c, 8, NULL, 0, NULL), 1);
    }
    return c;
}

static uint32_t list(struct peer *c, const char *query)
{
    return peer_meta(c, LIST, "disk", &query, query ? 1 : 0, names, sizeof(names), NULL);
}

PROTO_TEST_WITH(list_knows_wildcards_and_needs_no_structured_replies, two_bitmaps)
{
    static const struct {
        const char *query, *want;
    } c[] = {
        {NULL, "base:allocation\nqemu:dirty-bitmap:daily\nqemu:dirty-bitmap:hourly\n"},
        {"base:", "base:allocation\n"},
        {"base:allocation", "base:allocation\n"},
        {"qemu:", "qemu:dirty-bitmap:daily\nqemu:dirty-bitmap:hourly\n"},
        {"qemu:dirty-bitmap:", "qemu:dirty-bitmap:daily\nqemu:dirty-bitmap:hourly\n"},
        {"qemu:dirty-bitmap:hourly", "qemu:dirty-bitmap:hourly\n"},
        {"qemu:dirty-bitmap:hour", ""},
        {"qemu:dirty-bitmap:hourlyx", ""},
        {"qemu:allocation-depth", ""},
        {"x-other:", ""},
        {"nocolon", ""},
        {"", ""},
    };
    struct peer peer = haggling(p, false);

    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        assert_int_equal(list(&peer, c[i].query), 1);
        assert_string_equal(names, c[i].want);
    }
    peer_close(&peer);
}

PROTO_TEST_WITH(set_ignores_wildcards_and_answers_a_repeated_query_once, two_bitmaps)
{
    static const char *const q[] = {
        "base:", "qemu:", "qemu:dirty-bitmap:",      "base:allocation", "base:allocation",
        "x:y",   "",      "qemu:dirty-bitmap:hourly"};
    struct peer c = haggling(p, true);
    uint32_t ids[8];

    assert_int_equal(peer_meta(&c, SET, "disk", q, ARRAY_LEN(q), names, sizeof(names), ids), 1);
    assert_string_equal(names, "base:allocation\nqemu:dirty-bitmap:hourly\n");
    assert_int_equal(ids[0], 0);
    assert_int_equal(ids[1], 3);
    peer_close(&c);
}

PROTO_TEST(set_needs_structured_replies_and_a_known_export)
{
    static const char *const q[] = {"base:allocation"};
    struct peer c = haggling(p, false);

    assert_int_equal(peer_meta(&c, SET, "disk", q, 1, names, sizeof(names), NULL), INVALID);
    assert_int_equal(peer_meta(&c, LIST, "disc", q, 1, names, sizeof(names), NULL), UNKNOWN);
    peer_option(&c, 8, NULL, 0);
    assert_int_equal(peer_reply(&c, 8, NULL, 0, NULL), 1);
    assert_int_equal(peer_meta(&c, SET, "", q, 1, names, sizeof(names), NULL), UNKNOWN);
    peer_close(&c);
}

PROTO_TEST(malformed_data_is_invalid)
{
    static const struct {
        const char *data;
        uint32_t len;
    } bad[] = {
        {"", 0},
        {"\0\0\0\4dis", 7},
        {"\0\0\0\4disk", 8},
        {"\0\0\0\4disk\0\0\0", 11},
        {"\0\0\0\4disk\0\0\0\1", 12},              /* a query is missing */
        {"\0\0\0\4disk\0\0\0\1\0\0\0\5base", 20},  /* a byte is missing */
        {"\0\0\0\4disk\0\0\0\1\0\0\0\4base:", 21}, /* a byte too many */
        {"\0\0\0\4disk\0\0\0\0x", 13},
        {"\0\0\0\4disk\xff\xff\xff\xff", 12},
        {"\0\0\0\4disk\0\0\0\1\xff\xff\xff\xff", 16},
        {"\0\0\0\4disk\0\0\0\1\0\0\0\3b\0a", 19},
    };
    struct peer c = haggling(p, true);

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        peer_option(&c, 9 + i % 2, bad[i].data, bad[i].len);
        peer_expect_error(&c, 9 + i % 2, INVALID, "malformed");
    }
    assert_int_equal(list(&c, NULL), 1);
    peer_close(&c);
}

PROTO_TEST(a_query_of_4096_bytes_is_passed_over_a_longer_one_is_invalid)
{
    static char q[4098];
    struct peer c = haggling(p, true);
    const char *query = q;

    memset(q, 'q', 4096);
    assert_int_equal(peer_meta(&c, SET, "disk", &query, 1, names, sizeof(names), NULL), 1);
    assert_string_equal(names, "");
    q[4096] = 'q';
    assert_int_equal(peer_meta(&c, SET, "disk", &query, 1, names, sizeof(names), NULL), INVALID);
    peer_close(&c);
}

PROTO_TEST(more_than_1024_queries_are_too_many)
{
    static const char *query[1025];
    struct peer c = haggling(p, true);

    for (unsigned i = 0; i < 1025; i++)
        query[i] = i == 1023 ? "base:allocation" : "x:";
    for (uint32_t option = LIST; option <= SET; option++) {
        assert_int_equal(peer_meta(&c, option, "disk", query, 1025, names, sizeof(names), NULL),
                         0x80000009);
        assert_int_equal(peer_meta(&c, option, "disk", query, 1024, names, sizeof(names), NULL), 1);
        assert_string_equal(names, "base:allocation\n");
    }
    peer_close(&c);
}

/* Select, go, and be ready for BLOCK_STATUS. */
static struct peer with_contexts(struct proto *p, const char *const *q, unsigned n)
{
    struct peer c = haggling(p, true);

    assert_int_equal(peer_meta(&c, SET, "disk", q, n, names, sizeof(names), NULL), 1);
    assert_int_equal(peer_go(&c, 7, "disk", NULL, NULL), 1);
    return c;
}

static void expect_extents(struct peer *c, bool last, uint32_t id, const uint32_t (*want)[2],
                           unsigned n)
{
    struct chunk k;

    peer_chunk(c, &k);
    assert_int_equal(k.type, 5);
    assert_int_equal(k.flags, last);
    assert_int_equal(get_be32(k.data), id);
    assert_int_equal(k.len, 4 + 8 * n);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(get_be32(k.data + 4 + 8 * i), want[i][0]);
        assert_int_equal(get_be32(k.data + 8 + 8 * i), want[i][1]);
    }
}

PROTO_TEST(allocation_shows_data_and_holes)
{
    static const char *const q[] = {"base:allocation"};
    static const uint32_t all[][2] = {{65536, 3}, {131072, 0}, {DISK_SIZE - 196608, 3}};
    static const uint32_t part[][2] = {{1, 3}, {131072, 0}, {5, 3}};
    static const uint32_t one[][2] = {{100, 0}};
    uint8_t block[131072];
    struct peer c;

    memset(block, 1, sizeof(block));
    assert_int_equal(node_write(p->disk, 65536, block, sizeof(block), 0), 0);
    c = with_contexts(p, q, 1);
    peer_request(&c, 0, 7, 1, 0, DISK_SIZE);
    expect_extents(&c, true, 0, all, 3);
    peer_request(&c, 0, 7, 2, 65535, 131072 + 6);
    expect_extents(&c, true, 0, part, 3);
    peer_request(&c, REQ_ONE, 7, 3, 65600, 100);
    expect_extents(&c, true, 0, one, 1);
    peer_request(&c, REQ_ONE, 7, 4, 65536, DISK_SIZE - 65536);
    expect_extents(&c, true, 0, (const uint32_t[][2]){{131072, 0}}, 1);
    peer_request(&c, 0, 7, 5, 0, 0);
    assert_int_equal(peer_chunk_error(&c, 5), 22);
    peer_request(&c, 0, 7, 6, 1, DISK_SIZE);
    assert_int_equal(peer_chunk_error(&c, 6), 22);
    p->fail = EIO;
    peer_request(&c, 0, 7, 7, 0, 512);
    assert_int_equal(peer_chunk_error(&c, 7), 5);
    p->fail = 0;
    peer_close(&c);
}

PROTO_TEST_WITH(dirty_bitmaps_are_live_and_each_context_gets_a_chunk, two_bitmaps)
{
    static const char *const q[] = {"qemu:dirty-bitmap:hourly", "base:allocation",
                                    "qemu:dirty-bitmap:daily"};
    static const uint32_t hole[][2] = {{DISK_SIZE, 3}};
    static const uint32_t clean[][2] = {{DISK_SIZE, 0}};
    static const uint32_t hourly[][2] = {{8192, 0}, {8192, 1}, {DISK_SIZE - 16384, 0}};
    static const uint32_t daily[][2] = {{65536, 1}, {DISK_SIZE - 65536, 0}};
    struct peer c = with_contexts(p, q, 3);

    peer_request(&c, 0, 7, 1, 0, DISK_SIZE);
    expect_extents(&c, false, 0, hole, 1);
    expect_extents(&c, false, 2, clean, 1);
    expect_extents(&c, true, 3, clean, 1);
    bitmap_set_mark(p->gate_node->bitmaps, 12287, 2); /* two blocks of 4 KiB, one of 64 */
    peer_request(&c, 0, 7, 2, 0, DISK_SIZE);
    expect_extents(&c, false, 0, hole, 1);
    expect_extents(&c, false, 2, daily, 2);
    expect_extents(&c, true, 3, hourly, 3);
    peer_close(&c);
}

static void eight_fine_bitmaps(struct proto *p)
{
    char name[] = "fine0";

    for (; name[4] < '8'; name[4]++)
        proto_publish(p, name, 512);
}

PROTO_TEST_WITH(long_answers_are_cut_and_can_be_gone_on_from, eight_fine_bitmaps)
{
    static const char *const q[] = {"qemu:dirty-bitmap:fine0", "qemu:dirty-bitmap:fine1",
                                    "qemu:dirty-bitmap:fine2", "qemu:dirty-bitmap:fine3",
                                    "qemu:dirty-bitmap:fine4", "qemu:dirty-bitmap:fine5",
                                    "qemu:dirty-bitmap:fine6", "qemu:dirty-bitmap:fine7"};
    struct peer c = with_contexts(p, q, 8);
    struct chunk k;
    uint64_t off = 0;
    unsigned replies = 0;

    for (uint64_t at = 0; at < DISK_SIZE; at += 1024)
        bitmap_set_mark(p->gate_node->bitmaps, at, 1);
    while (off < DISK_SIZE) { /* 16384 extents, but 8 contexts share 65536 */
        uint64_t end = off;

        peer_request(&c, 0, 7, 1, off, (uint32_t)(DISK_SIZE - off));
        for (int i = 0; i < 8; i++)
            peer_chunk(&c, &k);
        assert_int_equal(get_be32(k.data), 9);
        assert_int_equal(k.flags, 1);
        for (uint32_t i = 4; i < k.len; i += 8) {
            assert_int_equal(get_be32(k.data + i), 512);
            assert_int_equal(get_be32(k.data + i + 4), end % 1024 == 0);
            end += 512;
        }
        off = end;
        replies++;
    }
    assert_int_equal(replies, 2);
    peer_close(&c);
}

PROTO_TEST(contexts_hold_only_for_the_export_they_were_selected_for)
{
    static const char *const q[] = {"base:allocation"};
    struct export_opts o = {.name = "other", .top = NULL};
    struct peer c = haggling(p, true);

    o.top = node_ref(p->disk);
    assert_true(server_add_export(p->server, &o, NULL));
    assert_int_equal(peer_meta(&c, SET, "other", q, 1, names, sizeof(names), NULL), 1);
    assert_int_equal(peer_go(&c, 7, "disk", NULL, NULL), 1);
    peer_request(&c, 0, 7, 1, 0, 4096);
    assert_int_equal(peer_chunk_error(&c, 1), 22);
    peer_close(&c);

    c = haggling(p, true); /* a failing SET forgets what an earlier one selected */
    assert_int_equal(peer_meta(&c, SET, "disk", q, 1, names, sizeof(names), NULL), 1);
    assert_int_equal(peer_meta(&c, SET, "none", q, 1, names, sizeof(names), NULL), UNKNOWN);
    assert_int_equal(peer_go(&c, 7, "disk", NULL, NULL), 1);
    peer_request(&c, 0, 7, 1, 0, 4096);
    assert_int_equal(peer_chunk_error(&c, 1), 22);
    peer_close(&c);
}

PROTO_TEST_WITH(an_exported_bitmap_is_busy_until_the_server_is_gone, two_bitmaps)
{
    assert_false(bitmap_check_idle(node_bitmap_find(p->gate_node, "daily"), NULL));
}

static void expect_no_export(struct proto *p, const struct export_opts *o, const char *text)
{
    struct err *e = NULL;

    assert_false(server_add_export(p->server, o, &e));
    assert_non_null(e);
    assert_string_equal(err_msg(e), text);
    err_free(e);
}

PROTO_TEST(bitmaps_that_cannot_be_published_refuse_the_export)
{
    struct node *n = p->gate_node;
    struct bitmap *b = node_bitmap_add(n, "b", 4096, false, NULL);
    struct export_bitmap want[] = {{.name = "b"}, {.name = "none"}};
    struct export_opts o = {.name = "o", .top = n, .bitmaps = want, .n_bitmaps = 2};

    expect_no_export(p, &o, "Bitmap 'none' is not found");
    assert_int_equal(b->busy, 0);
    o.n_bitmaps = 1;
    o.read_only = true;
    expect_no_export(p, &o, "Enabled bitmap 'b' incompatible with readonly export");
    want[0].node = n;
    expect_no_export(p, &o, "Enabled bitmap 'b' incompatible with readonly export");
    want[0].node = p->disk; /* not its owner */
    expect_no_export(p, &o, "Bitmap 'b' is not found");
    want[0].node = NULL;
    b->inconsistent = true;
    expect_no_export(p, &o,
                     "Bitmap 'b' is inconsistent and cannot be used; it can only be removed");
    b->inconsistent = false;
    assert_true(bitmap_enable(b, false, NULL));
    node_ref(n);
    assert_true(server_add_export(p->server, &o, NULL));
    assert_int_equal(b->busy, 1);
    o.name = "second";
    expect_no_export(p, &o,
                     "Bitmap 'b' is currently in use by another operation and cannot be used");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_knows_wildcards_and_needs_no_structured_replies),
        cmocka_unit_test(set_ignores_wildcards_and_answers_a_repeated_query_once),
        cmocka_unit_test(set_needs_structured_replies_and_a_known_export),
        cmocka_unit_test(malformed_data_is_invalid),
        cmocka_unit_test(a_query_of_4096_bytes_is_passed_over_a_longer_one_is_invalid),
        cmocka_unit_test(more_than_1024_queries_are_too_many),
        cmocka_unit_test(allocation_shows_data_and_holes),
        cmocka_unit_test(dirty_bitmaps_are_live_and_each_context_gets_a_chunk),
        cmocka_unit_test(long_answers_are_cut_and_can_be_gone_on_from),
        cmocka_unit_test(contexts_hold_only_for_the_export_they_were_selected_for),
        cmocka_unit_test(an_exported_bitmap_is_busy_until_the_server_is_gone),
        cmocka_unit_test(bitmaps_that_cannot_be_published_refuse_the_export),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
