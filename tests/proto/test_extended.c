/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Extended headers: the option, and requests and replies with 64-bit lengths. Source: doc/proto.md
 * on the branch extension-ext-header of the NBD project.
 */
#include "tests/proto/proto.h"
#include "tests/proto/vast.h"

#define GO 7
#define SR 8
#define SET 10
#define EXT 11
#define INVALID 0x80000003u
#define EXT_HEADER_REQD 0x8000000au

#define DONE 1
#define NONE 0
#define OFFSET_DATA 1
#define OFFSET_HOLE 2
#define STATUS_EXT 6
#define ERROR 0x8001

enum { READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZERO, STATUS };

#define FUA 1
#define REQ_ONE 8
#define PAYLOAD 32

/* --- The client's side. --- */

static struct peer hello(struct proto *p)
{
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    return c;
}

static void ask_extended(struct peer *c)
{
    peer_option(c, EXT, NULL, 0);
    assert_int_equal(peer_reply(c, EXT, NULL, 0, NULL), 1);
}

static struct peer extended(struct proto *p, const char *name)
{
    struct peer c = hello(p);

    ask_extended(&c);
    assert_int_equal(peer_go(&c, GO, name, NULL, NULL), 1);
    return c;
}

/* With base:allocation (id 0) and the bitmap "daily" (id 2) selected. */
static struct peer with_contexts(struct proto *p)
{
    static const char *const q[] = {"base:allocation", "qemu:dirty-bitmap:daily"};
    struct peer c = hello(p);
    uint32_t ids[2];
    char names[256];

    ask_extended(&c);
    assert_int_equal(peer_meta(&c, SET, "disk", q, 2, names, sizeof(names), ids), 1);
    assert_int_equal(ids[0], 0);
    assert_int_equal(ids[1], 2);
    assert_int_equal(peer_go(&c, GO, "disk", NULL, NULL), 1);
    return c;
}

static void request(struct peer *c, uint16_t flags, uint16_t type, uint64_t cookie, uint64_t off,
                    uint64_t len)
{
    uint8_t b[32];

    put_be32(b, 0x21e41c71);
    put_be16(b + 4, flags);
    put_be16(b + 6, type);
    put_be64(b + 8, cookie);
    put_be64(b + 16, off);
    put_be64(b + 24, len);
    peer_send(c, b, sizeof(b));
}

struct reply {
    uint16_t flags, type;
    uint64_t len;
    uint8_t data[128 * 1024];
};
static struct reply k;

/* The next chunk, which answers the request with this cookie at this offset. */
static void chunk(struct peer *c, uint64_t cookie, uint64_t off)
{
    uint8_t b[32];

    peer_recv(c, b, sizeof(b));
    assert_int_equal(get_be32(b), 0x6e8a278c);
    k.flags = get_be16(b + 4);
    k.type = get_be16(b + 6);
    assert_int_equal(get_be64(b + 8), cookie);
    assert_int_equal(get_be64(b + 16), off);
    k.len = get_be64(b + 24);
    assert_true(k.len <= sizeof(k.data));
    peer_recv(c, k.data, k.len);
}

static void expect_done(struct peer *c, uint64_t cookie, uint64_t off)
{
    chunk(c, cookie, off);
    assert_int_equal(k.flags, DONE);
    assert_int_equal(k.type, NONE);
    assert_int_equal(k.len, 0);
}

static void expect_error(struct peer *c, uint64_t cookie, uint64_t off, uint32_t error)
{
    chunk(c, cookie, off);
    assert_int_equal(k.flags, DONE);
    assert_int_equal(k.type, ERROR);
    assert_int_equal(get_be32(k.data), error);
    assert_int_equal(k.len, 6 + get_be16(k.data + 4));
}

/* A status chunk of context id with n extents. */
static void expect_status(struct peer *c, uint64_t cookie, uint64_t off, uint32_t id, uint32_t n)
{
    chunk(c, cookie, off);
    assert_int_equal(k.type, STATUS_EXT);
    assert_int_equal(get_be32(k.data), id);
    assert_int_equal(get_be32(k.data + 4), n);
    assert_int_equal(k.len, 8 + 16 * n);
}

static void expect_extent(unsigned i, uint64_t len, uint64_t flags)
{
    assert_int_equal(get_be64(k.data + 8 + 16 * i), len);
    assert_int_equal(get_be64(k.data + 16 + 16 * i), flags);
}

/* --- The option. --- */

PROTO_TEST(the_option_has_no_data_comes_once_and_needs_no_structured_replies_before)
{
    struct peer c = hello(p);

    peer_option(&c, EXT, "x", 1);
    peer_expect_error(&c, EXT, INVALID, "no data");
    ask_extended(&c);
    peer_option(&c, EXT, NULL, 0);
    peer_expect_error(&c, EXT, INVALID, "already");
    peer_option(&c, SR, NULL, 0);
    peer_expect_error(&c, SR, EXT_HEADER_REQD, "already");
    peer_close(&c);
}

PROTO_TEST(it_takes_over_from_structured_replies)
{
    struct peer c = hello(p);

    peer_option(&c, SR, NULL, 0);
    assert_int_equal(peer_reply(&c, SR, NULL, 0, NULL), 1);
    ask_extended(&c);
    assert_int_equal(peer_go(&c, GO, "disk", NULL, NULL), 1);
    request(&c, 0, FLUSH, 1, 0, 0);
    expect_done(&c, 1, 0);
    peer_close(&c);
}

PROTO_TEST(export_name_must_not_follow_it)
{
    struct peer c = hello(p);

    ask_extended(&c);
    peer_option(&c, 1, "disk", 4);
    peer_expect_end(&c);
    peer_close(&c);
}

PROTO_TEST_WITH(the_flag_for_filters_of_status_comes_with_contexts_alone, NULL)
{
    struct peer c = hello(p);
    uint16_t flags;

    ask_extended(&c);
    assert_int_equal(peer_go(&c, GO, "disk", NULL, &flags), 1);
    assert_int_equal(flags & 1 << 12, 0);
    peer_close(&c);

    static const char *const q[] = {"base:allocation"};
    char names[64];
    uint32_t ids[1];
    c = hello(p);
    ask_extended(&c);
    assert_int_equal(peer_meta(&c, SET, "disk", q, 1, names, sizeof(names), ids), 1);
    assert_int_equal(peer_go(&c, GO, "disk", NULL, &flags), 1);
    assert_int_equal(flags & 1 << 12, 1 << 12);
    peer_close(&c);

    c = hello(p);
    peer_option(&c, SR, NULL, 0);
    assert_int_equal(peer_reply(&c, SR, NULL, 0, NULL), 1);
    assert_int_equal(peer_meta(&c, SET, "disk", q, 1, names, sizeof(names), ids), 1);
    assert_int_equal(peer_go(&c, GO, "disk", NULL, &flags), 1);
    assert_int_equal(flags & 1 << 12, 0);
    peer_close(&c);
}

/* --- Requests. --- */

PROTO_TEST(what_is_written_is_read_back)
{
    struct peer c = extended(p, "disk");
    uint8_t data[5000];

    memset(data, 0xa5, sizeof(data));
    request(&c, PAYLOAD | FUA, WRITE, 1, 65536, sizeof(data));
    peer_send(&c, data, sizeof(data));
    expect_done(&c, 1, 65536);
    request(&c, 0, READ, 2, 65536 + 100, 4000);
    chunk(&c, 2, 65536 + 100);
    assert_int_equal(k.type, OFFSET_DATA);
    assert_int_equal(k.flags, DONE);
    assert_int_equal(k.len, 8 + 4000);
    assert_int_equal(get_be64(k.data), 65536 + 100);
    assert_memory_equal(k.data + 8, data, 4000);
    peer_close(&c);
}

PROTO_TEST(a_long_read_comes_in_holes_and_data)
{
    struct peer c = extended(p, "disk");
    uint8_t data[4096];

    memset(data, 1, sizeof(data));
    request(&c, PAYLOAD, WRITE, 1, 1 * MiB, sizeof(data));
    peer_send(&c, data, sizeof(data));
    expect_done(&c, 1, 1 * MiB);
    request(&c, 0, READ, 2, 1 * MiB - 64 * KiB, 128 * KiB);
    chunk(&c, 2, 1 * MiB - 64 * KiB);
    assert_int_equal(k.type, OFFSET_HOLE);
    assert_int_equal(k.flags, 0);
    assert_int_equal(get_be64(k.data), 1 * MiB - 64 * KiB);
    assert_int_equal(get_be32(k.data + 8), 64 * KiB);
    chunk(&c, 2, 1 * MiB - 64 * KiB);
    assert_int_equal(k.type, OFFSET_DATA);
    assert_int_equal(get_be64(k.data), 1 * MiB);
    assert_memory_equal(k.data + 8, data, sizeof(data));
    while (!(k.flags & DONE))
        chunk(&c, 2, 1 * MiB - 64 * KiB);
    peer_close(&c);
}

PROTO_TEST(zero_and_trim_reach_over_4_gib_in_one_request)
{
    add_vast(p);
    struct peer c = extended(p, "vast");

    request(&c, FUA, ZERO, 1, 3 << 20, VAST / 2);
    expect_done(&c, 1, 3 << 20);
    assert_int_equal(vast_last.op, REQ_ZERO);
    assert_int_equal(vast_last.off, 3 << 20);
    assert_int_equal(vast_last.len, VAST / 2);
    request(&c, 0, TRIM, 2, 0, VAST);
    expect_done(&c, 2, 0);
    assert_int_equal(vast_last.op, REQ_DISCARD);
    assert_int_equal(vast_last.len, VAST);
    request(&c, 0, CACHE, 3, 0, VAST);
    expect_done(&c, 3, 0);
    request(&c, 0, ZERO, 4, 1, VAST);
    expect_error(&c, 4, 1, 28);
    request(&c, 0, TRIM, 5, 1, UINT64_MAX);
    expect_error(&c, 5, 1, 22);
    request(&c, 0, READ, 6, 0, UINT64_C(1) << 32);
    expect_error(&c, 6, 0, 75);
    peer_close(&c);
}

/* QEMU's client leaves the flag out. */
PROTO_TEST(a_write_has_a_payload_also_without_the_flag)
{
    struct peer c = extended(p, "disk");
    uint8_t data[64];

    /* What follows looks like requests, and must not be taken for some. */
    request(&c, 0, WRITE, 1, 4096, sizeof(data));
    request(&c, 0, ZERO, 2, 0, 4096);
    request(&c, 0, TRIM, 3, 0, 4096);
    expect_done(&c, 1, 4096);
    assert_int_equal(p->n_ops[REQ_ZERO] + p->n_ops[REQ_DISCARD], 0);
    request(&c, 0, READ, 4, 4096, sizeof(data));
    chunk(&c, 4, 4096);
    assert_int_equal(k.type, OFFSET_DATA);
    assert_int_equal(get_be32(k.data + 8), 0x21e41c71);
    assert_int_equal(get_be32(k.data + 8 + 32), 0x21e41c71);
    peer_close(&c);
}

PROTO_TEST(payloads_of_other_commands_are_skipped_and_refused)
{
    struct peer c = extended(p, "disk");
    uint8_t junk[1000] = {0};
    static const uint16_t types[] = {READ, FLUSH, TRIM, CACHE, ZERO, STATUS, 77};

    for (unsigned i = 0; i < ARRAY_LEN(types); i++) {
        request(&c, PAYLOAD, types[i], i, 0, sizeof(junk));
        peer_send(&c, junk, sizeof(junk));
        expect_error(&c, i, 0, 22);
    }
    request(&c, PAYLOAD, TRIM, 8, 0, 0);
    expect_error(&c, 8, 0, 22);
    request(&c, 0, FLUSH, 9, 0, 0);
    expect_done(&c, 9, 0);
    peer_close(&c);
}

PROTO_TEST(a_payload_of_more_than_64_mib_ends_the_connection)
{
    struct peer c = extended(p, "disk");

    request(&c, PAYLOAD, WRITE, 1, 0, UINT64_C(1) << 40);
    expect_error(&c, 1, 0, 22);
    assert_true(peer_ended(&c));
    peer_close(&c);
}

PROTO_TEST(compact_magic_numbers_end_the_connection)
{
    struct peer c = extended(p, "disk");

    peer_request(&c, 0, FLUSH, 1, 0, 0);
    peer_request(&c, 0, FLUSH, 1, 0, 0);
    peer_expect_end(&c);
    peer_close(&c);
    c = peer_ready(p, true);
    request(&c, 0, FLUSH, 1, 0, 0);
    peer_expect_end(&c);
    peer_close(&c);
}

/* --- BLOCK_STATUS. --- */

static void daily(struct proto *p)
{
    proto_publish(p, "daily", 65536);
}

PROTO_TEST_WITH(status_has_wide_extents_for_each_context, daily)
{
    struct peer c = with_contexts(p);
    uint8_t data[65536] = {1};

    request(&c, PAYLOAD, WRITE, 1, 1 * MiB, sizeof(data));
    peer_send(&c, data, sizeof(data));
    expect_done(&c, 1, 1 * MiB);
    request(&c, 0, STATUS, 2, 0, 8 * MiB);
    expect_status(&c, 2, 0, 0, 3);
    assert_int_equal(k.flags, 0);
    expect_extent(0, 1 * MiB, 3);
    expect_extent(1, 65536, 0);
    expect_extent(2, 7 * MiB - 65536, 3);
    expect_status(&c, 2, 0, 2, 3);
    assert_int_equal(k.flags, DONE);
    expect_extent(1, 65536, 1);
    request(&c, REQ_ONE, STATUS, 3, 1 * MiB, 100);
    expect_status(&c, 3, 1 * MiB, 0, 1);
    expect_extent(0, 100, 0);
    expect_status(&c, 3, 1 * MiB, 2, 1);
    expect_extent(0, 100, 1);
    peer_close(&c);
}

PROTO_TEST(status_of_a_vast_export_may_stop_early_but_goes_on)
{
    static const char *const q[] = {"base:allocation"};
    struct peer c = hello(p);
    uint32_t ids[1];
    char names[64];
    uint64_t half = UINT64_C(1) << 39, off = half - GiB, got = 0;

    add_vast(p);
    ask_extended(&c);
    assert_int_equal(peer_meta(&c, SET, "vast", q, 1, names, sizeof(names), ids), 1);
    assert_int_equal(peer_go(&c, GO, "vast", NULL, NULL), 1);
    request(&c, 0, STATUS, 1, off, VAST - off);
    expect_status(&c, 1, off, 0, 2);
    expect_extent(0, GiB, 0);
    got = get_be64(k.data + 8 + 16);
    assert_true(got > UINT32_MAX);
    assert_true(got <= half);
    request(&c, 0, STATUS, 2, off + GiB + got, half);
    expect_status(&c, 2, off + GiB + got, 0, 1);
    expect_extent(0, get_be64(k.data + 8), 3);
    peer_close(&c);
}

static void ask_for(struct peer *c, uint16_t flags, uint64_t cookie, uint64_t off, uint64_t len,
                    const uint32_t *ids, unsigned n)
{
    uint8_t b[8 + 4 * 16];

    put_be64(b, len);
    for (unsigned i = 0; i < n; i++)
        put_be32(b + 8 + 4 * i, ids[i]);
    request(c, PAYLOAD | flags, STATUS, cookie, off, 8 + 4 * n);
    peer_send(c, b, 8 + 4 * n);
}

PROTO_TEST_WITH(a_payload_chooses_contexts, daily)
{
    struct peer c = with_contexts(p);
    static const uint32_t map[] = {2}, both[] = {2, 0};

    ask_for(&c, 0, 1, 0, 8 * MiB, map, 1);
    expect_status(&c, 1, 0, 2, 1);
    assert_int_equal(k.flags, DONE);
    expect_extent(0, 8 * MiB, 0);
    /* The header's length is the payload's, and no range of the export. */
    ask_for(&c, REQ_ONE, 2, 8 * MiB - 4, 4, map, 1);
    expect_status(&c, 2, 8 * MiB - 4, 2, 1);
    expect_extent(0, 4, 0);
    ask_for(&c, 0, 3, 0, 4096, both, 2);
    expect_status(&c, 3, 0, 0, 1);
    expect_status(&c, 3, 0, 2, 1);
    assert_int_equal(k.flags, DONE);
    /* And the next request is without a choice again. */
    request(&c, 0, STATUS, 4, 0, 4096);
    expect_status(&c, 4, 0, 0, 1);
    expect_status(&c, 4, 0, 2, 1);
    peer_close(&c);
}

PROTO_TEST_WITH(a_wrong_choice_of_contexts_is_refused, daily)
{
    struct peer c = with_contexts(p);
    static const uint32_t unknown[] = {1}, twice[] = {2, 2}, many[] = {0, 2, 5}, good[] = {0};

    ask_for(&c, 0, 1, 0, 4096, unknown, 1);
    expect_error(&c, 1, 0, 22);
    ask_for(&c, 0, 2, 0, 4096, twice, 2);
    expect_error(&c, 2, 0, 22);
    ask_for(&c, 0, 3, 0, 4096, many, 3);
    expect_error(&c, 3, 0, 22);
    ask_for(&c, 0, 4, 0, 4096, good, 0);
    expect_error(&c, 4, 0, 22);
    request(&c, PAYLOAD, STATUS, 5, 0, 7);
    peer_send(&c, "1234567", 7);
    expect_error(&c, 5, 0, 22);
    ask_for(&c, 0, 6, 0, 8 * MiB + 1, good, 1);
    expect_error(&c, 6, 0, 22);
    ask_for(&c, 0, 7, 0, 0, good, 1);
    expect_error(&c, 7, 0, 22);
    ask_for(&c, 2, 8, 0, 4096, good, 1); /* NO_HOLE */
    expect_error(&c, 8, 0, 22);
    static uint8_t many_ids[300 * 1024];
    request(&c, PAYLOAD, STATUS, 9, 0, sizeof(many_ids));
    peer_send(&c, many_ids, sizeof(many_ids));
    expect_error(&c, 9, 0, 22);
    ask_for(&c, 0, 10, 0, 4096, good, 1);
    expect_status(&c, 10, 0, 0, 1);
    peer_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_option_has_no_data_comes_once_and_needs_no_structured_replies_before),
        cmocka_unit_test(it_takes_over_from_structured_replies),
        cmocka_unit_test(export_name_must_not_follow_it),
        cmocka_unit_test(the_flag_for_filters_of_status_comes_with_contexts_alone),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(a_long_read_comes_in_holes_and_data),
        cmocka_unit_test(zero_and_trim_reach_over_4_gib_in_one_request),
        cmocka_unit_test(a_write_has_a_payload_also_without_the_flag),
        cmocka_unit_test(payloads_of_other_commands_are_skipped_and_refused),
        cmocka_unit_test(a_payload_of_more_than_64_mib_ends_the_connection),
        cmocka_unit_test(compact_magic_numbers_end_the_connection),
        cmocka_unit_test(status_has_wide_extents_for_each_context),
        cmocka_unit_test(status_of_a_vast_export_may_stop_early_but_goes_on),
        cmocka_unit_test(a_payload_chooses_contexts),
        cmocka_unit_test(a_wrong_choice_of_contexts_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
