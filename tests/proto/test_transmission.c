/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Commands and replies, byte by byte.
 */
#include "tests/proto/proto.h"

enum { READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZERO, STATUS };
enum { FUA = 1, NO_HOLE = 2, DF = 4, REQ_ONE = 8, FAST_ZERO = 16 };

static uint8_t data[2 * 1024 * 1024];

static void fill(struct proto *p, uint64_t off, uint64_t len, uint8_t byte)
{
    memset(data, byte, sizeof(data));
    for (uint64_t at = 0; at < len; at += sizeof(data))
        assert_int_equal(node_write(p->disk, off + at, data, min_u64(sizeof(data), len - at), 0),
                         0);
}

PROTO_TEST(what_was_written_is_read_in_both_styles)
{
    for (int structured = 0; structured < 2; structured++) {
        struct peer c = peer_ready(p, structured);
        static const struct {
            uint64_t off;
            uint32_t len;
        } at[] = {{0, 512}, {1, 1}, {4095, 2}, {100, 70000}, {DISK_SIZE - 3, 3}, {5000, 1500000}};

        for (size_t i = 0; i < ARRAY_LEN(at); i++) {
            uint8_t head[28];

            memset(data, (int)(i + 1 + 10 * structured), at[i].len);
            peer_request(&c, 0, WRITE, i, at[i].off, at[i].len);
            peer_send(&c, data, at[i].len);
            assert_int_equal(peer_simple(&c, i), 0);
            peer_request(&c, DF * structured, READ, i, at[i].off, at[i].len);
            if (structured) {
                peer_recv(&c, head, 28);
                assert_memory_equal(head, "\x66\x8e\x33\xef\0\1\0\1", 8);
                assert_int_equal(get_be64(head + 8), i);
                assert_int_equal(get_be32(head + 16), 8 + at[i].len);
                assert_int_equal(get_be64(head + 20), at[i].off);
            } else {
                assert_int_equal(peer_simple(&c, i), 0);
            }
            memset(data, 0, at[i].len);
            peer_recv(&c, data, at[i].len);
            for (uint32_t k = 0; k < at[i].len; k++)
                assert_int_equal(data[k], i + 1 + 10 * structured);
        }
        peer_close(&c);
    }
}

PROTO_TEST(large_reads_skip_holes_unless_told_not_to)
{
    struct peer c = peer_ready(p, true);
    struct chunk k;

    fill(p, 256 * KiB, 64 * KiB, 7);
    peer_request(&c, 0, READ, 1, 0, MiB);
    peer_chunk(&c, &k);
    assert_true(k.type == 2 && k.len == 12 && k.flags == 0);
    assert_int_equal(get_be64(k.data), 0);
    assert_int_equal(get_be32(k.data + 8), 256 * KiB);
    peer_chunk(&c, &k);
    assert_true(k.type == 1 && k.len == 8 + 64 * KiB && k.flags == 0);
    assert_int_equal(get_be64(k.data), 256 * KiB);
    assert_int_equal(k.data[8], 7);
    assert_int_equal(k.data[7 + 64 * KiB], 7);
    peer_chunk(&c, &k);
    assert_true(k.type == 2 && k.len == 12 && k.flags == 1);
    assert_int_equal(get_be64(k.data), 320 * KiB);
    assert_int_equal(get_be32(k.data + 8), 704 * KiB);

    peer_request(&c, DF, READ, 2, 0, MiB);
    peer_chunk(&c, &k);
    assert_true(k.type == 1 && k.len == 8 + MiB && k.flags == 1);
    assert_true(bytes_are_zero(k.data + 8, 256 * KiB));
    assert_int_equal(k.data[8 + 256 * KiB], 7);
    peer_close(&c);
}

PROTO_TEST(a_hole_that_is_not_known_to_be_zero_is_read)
{
    struct peer c = peer_ready(p, true);
    struct chunk k;

    p->mask_status = EXTENT_ZERO;
    peer_request(&c, 0, READ, 1, 0, MiB);
    peer_chunk(&c, &k);
    assert_true(k.type == 1 && k.len == 8 + MiB && k.flags == 1);
    assert_int_equal(p->n_ops[REQ_READ], 1);
    peer_close(&c);
}

PROTO_TEST(a_read_of_many_holes_is_answered_whole)
{
    struct peer c = peer_ready(p, true);
    struct chunk k;
    uint64_t covered = 0;

    for (uint64_t off = 0; off < 4 * MiB; off += 128 * KiB)
        fill(p, off, 64 * KiB, 1 + off / (128 * KiB));
    peer_request(&c, 0, READ, 1, 0, 4 * MiB);
    memset(data, 0xee, sizeof(data));
    do {
        peer_chunk(&c, &k);
        uint64_t off = get_be64(k.data);
        uint64_t len = k.type == 2 ? get_be32(k.data + 8) : k.len - 8;
        assert_int_equal(off, covered);
        for (uint64_t i = 0; i < len; i += 4096) {
            uint64_t block = (off + i) / (64 * KiB);
            uint8_t want = block % 2 ? 0 : 1 + block / 2;
            assert_int_equal(k.type == 2 ? 0 : k.data[8 + i], want);
        }
        covered += len;
    } while (!(k.flags & 1));
    assert_int_equal(covered, 4 * MiB);
    peer_close(&c);
}

PROTO_TEST(small_reads_and_solid_disks_cost_few_status_requests)
{
    struct peer c = peer_ready(p, true);
    struct chunk k;

    fill(p, 0, DISK_SIZE, 9);
    for (int i = 0; i < 100; i++) {
        peer_request(&c, 0, READ, 1, 4096 * i, 4096);
        peer_chunk(&c, &k);
    }
    assert_int_equal(p->n_ops[REQ_STATUS], 0);
    for (int i = 0; i < 100; i++) {
        peer_request(&c, 0, READ, 1, 65536 * (i % 8), 65536);
        peer_chunk(&c, &k);
    }
    assert_in_range(p->n_ops[REQ_STATUS], 1, 10);
    peer_close(&c);
}

PROTO_TEST(a_status_error_under_a_read_is_not_swallowed)
{
    struct peer c = peer_ready(p, true);

    p->fail = EIO;
    peer_request(&c, 0, READ, 1, 0, MiB);
    assert_int_equal(peer_chunk_error(&c, 1), 5);
    p->fail = 0;
    peer_close(&c);
}

PROTO_TEST(errors_are_those_of_the_protocol_and_the_stream_stays_in_step)
{
    static const struct {
        uint16_t flags, type;
        uint64_t off;
        uint32_t len, error;
    } bad[] = {
        {0, READ, DISK_SIZE, 1, 22},
        {0, READ, DISK_SIZE - 1, 2, 22},
        {0, READ, UINT64_MAX, 1, 22},
        {0, READ, UINT64_MAX - 1, 0xffffffff, 22},
        {0, WRITE, DISK_SIZE, 1, 28},
        {0, WRITE, DISK_SIZE - 1, 2, 28},
        {0, WRITE, UINT64_MAX, 65536, 28},
        {0, ZERO, DISK_SIZE, 1, 28},
        {0, ZERO, 0, 0xffffffff, 28},
        {0, TRIM, DISK_SIZE, 1, 22},
        {0, TRIM, 1, DISK_SIZE, 22},
        {0, CACHE, DISK_SIZE, 1, 22},
        {0, STATUS, 0, 4096, 22}, /* no context selected */
        {0, FLUSH, 1, 0, 22},
        {0, FLUSH, 0, 1, 22},
        {NO_HOLE, READ, 0, 512, 22},
        {REQ_ONE, READ, 0, 512, 22},
        {FAST_ZERO, READ, 0, 512, 22},
        {DF, WRITE, 0, 512, 22},
        {NO_HOLE, WRITE, 0, 512, 22},
        {NO_HOLE, TRIM, 0, 512, 22},
        {DF, ZERO, 0, 512, 22},
        {DF, FLUSH, 0, 0, 22},
        {DF, CACHE, 0, 512, 22},
        {32, ZERO, 0, 512, 22}, /* PAYLOAD_LEN, of extended headers */
        {0x8000, READ, 0, 512, 22},
        {0, 8, 0, 512, 22}, /* RESIZE */
        {0, 0xffff, 0, 512, 22},
    };
    struct peer c = peer_ready(p, true), simple = peer_ready(p, false);

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        peer_request(&c, bad[i].flags, bad[i].type, 100 + i, bad[i].off, bad[i].len);
        peer_request(&simple, bad[i].flags, bad[i].type, 100 + i, bad[i].off, bad[i].len);
        if (bad[i].type == WRITE) {
            peer_send(&c, data, bad[i].len);
            peer_send(&simple, data, bad[i].len);
        }
        if (peer_chunk_error(&c, 100 + i) != bad[i].error)
            fail_msg("line %zu, structured", i);
        if (peer_simple(&simple, 100 + i) != bad[i].error)
            fail_msg("line %zu, simple", i);
    }
    for (size_t i = 0; i < ARRAY_LEN(p->n_ops); i++)
        assert_int_equal(p->n_ops[i], 0);
    peer_request(&c, FUA, FLUSH, 5, 0, 0);
    assert_int_equal(peer_simple(&c, 5), 0);
    peer_request(&simple, DF, READ, 6, 0, 512); /* DF goes with structured replies only */
    assert_int_equal(peer_simple(&simple, 6), 22);
    peer_close(&c);
    peer_close(&simple);
}

static void read_only(struct proto *p)
{
    p->export_opts.read_only = true;
}

PROTO_TEST_WITH(a_read_only_export_refuses_writes_with_eperm, read_only)
{
    struct peer c = peer_ready(p, true);
    struct chunk k;

    peer_request(&c, 0, WRITE, 1, 0, 70000);
    peer_send(&c, data, 70000);
    assert_int_equal(peer_chunk_error(&c, 1), 1);
    peer_request(&c, 0, ZERO, 2, 0, 512);
    assert_int_equal(peer_chunk_error(&c, 2), 1);
    peer_request(&c, 0, TRIM, 3, 0, 512);
    assert_int_equal(peer_chunk_error(&c, 3), 1);
    peer_request(&c, 0, FLUSH, 4, 0, 0);
    assert_int_equal(peer_simple(&c, 4), 0);
    peer_request(&c, 0, READ, 5, 0, 512);
    peer_chunk(&c, &k);
    assert_int_equal(k.type, 1);
    assert_int_equal(p->n_ops[REQ_WRITE] + p->n_ops[REQ_ZERO] + p->n_ops[REQ_DISCARD], 0);
    peer_close(&c);
}

PROTO_TEST(errors_of_the_disk_are_mapped)
{
    static const int map[][2] = {{EIO, 5},      {ENOSPC, 28},     {EDQUOT, 28}, {EFBIG, 28},
                                 {EPERM, 1},    {EROFS, 1},       {ENOMEM, 12}, {EINVAL, 22},
                                 {ENOTSUP, 22}, {ESHUTDOWN, 108}, {ENODEV, 5},  {ETIMEDOUT, 5}};
    struct peer c = peer_ready(p, true), simple = peer_ready(p, false);

    for (size_t i = 0; i < ARRAY_LEN(map); i++) {
        p->fail = map[i][0];
        peer_request(&c, 0, READ, i, 0, 512);
        assert_int_equal(peer_chunk_error(&c, i), map[i][1]);
        peer_request(&simple, 0, WRITE, i, 0, 4);
        peer_send(&simple, data, 4);
        assert_int_equal(peer_simple(&simple, i), map[i][1]);
    }
    p->fail = ENOTSUP; /* ... which is only for this one */
    peer_request(&c, FAST_ZERO, ZERO, 1, 0, 512);
    assert_int_equal(peer_chunk_error(&c, 1), 95);
    p->fail = 0;
    peer_close(&c);
    peer_close(&simple);
}

PROTO_TEST(length_zero_succeeds_and_does_nothing)
{
    static const uint16_t types[] = {WRITE, TRIM, CACHE, ZERO};
    struct peer c = peer_ready(p, true), simple = peer_ready(p, false);
    struct chunk k;

    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        peer_request(&c, 0, types[i], i, DISK_SIZE, 0);
        assert_int_equal(peer_simple(&c, i), 0);
    }
    peer_request(&c, 0, READ, 9, 12345, 0);
    peer_chunk(&c, &k);
    assert_true(k.type == 0 && k.len == 0 && k.flags == 1 && k.cookie == 9);
    peer_request(&simple, 0, READ, 9, 12345, 0);
    assert_int_equal(peer_simple(&simple, 9), 0);
    for (size_t i = 0; i < ARRAY_LEN(p->n_ops); i++)
        assert_int_equal(p->n_ops[i], 0);
    peer_close(&c);
    peer_close(&simple);
}

PROTO_TEST(flags_reach_the_disk)
{
    static const struct {
        uint16_t flags, type;
        uint32_t want;
    } c[] = {
        {0, WRITE, 0},
        {FUA, WRITE, REQ_FUA},
        {0, ZERO, REQ_MAY_UNMAP},
        {NO_HOLE, ZERO, 0},
        {FUA | NO_HOLE | FAST_ZERO, ZERO, REQ_FUA | REQ_NO_FALLBACK},
        {FUA, TRIM, REQ_FUA},
        {FUA, READ, 0},
    };
    struct peer peer = peer_ready(p, false);

    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        unsigned flushes = p->n_ops[REQ_FLUSH];
        peer_request(&peer, c[i].flags, c[i].type, i, 0, 4096);
        if (c[i].type == WRITE)
            peer_send(&peer, data, 4096);
        assert_int_equal(peer_simple(&peer, i), 0);
        if (c[i].type == READ)
            peer_recv(&peer, data, 4096);
        /* The node may turn FUA into a flush behind the request. */
        if (p->n_ops[REQ_FLUSH] > flushes)
            assert_int_equal(c[i].want & REQ_FUA, REQ_FUA);
        else
            assert_int_equal(p->last_flags, c[i].want);
    }
    peer_close(&peer);
}

static void ignore_discard(struct proto *p)
{
    p->export_opts.ignore_discard = true;
}

PROTO_TEST_WITH(ignored_discards_change_nothing, ignore_discard)
{
    struct peer c = peer_ready(p, false);

    fill(p, 0, MiB, 3);
    peer_request(&c, 0, TRIM, 1, 0, MiB);
    assert_int_equal(peer_simple(&c, 1), 0);
    assert_int_equal(p->n_ops[REQ_DISCARD], 0);
    peer_request(&c, 0, ZERO, 2, 0, 4096);
    assert_int_equal(peer_simple(&c, 2), 0);
    assert_int_equal(p->last_flags & REQ_MAY_UNMAP, 0);
    peer_close(&c);
}

PROTO_TEST(zeroing_more_than_a_payload_really_zeroes)
{
    struct peer c = peer_ready(p, true);
    static uint8_t back[4096];

    fill(p, 0, DISK_SIZE, 5);
    peer_request(&c, 0, ZERO, 1, 1, DISK_SIZE - 2);
    assert_int_equal(peer_simple(&c, 1), 0);
    for (uint64_t off = 0; off < DISK_SIZE; off += sizeof(back)) {
        assert_int_equal(node_read(p->disk, off, back, sizeof(back)), 0);
        assert_int_equal(back[0], off == 0 ? 5 : 0);
        assert_true(bytes_are_zero(back + 1, sizeof(back) - 2));
        assert_int_equal(back[sizeof(back) - 1], off + sizeof(back) == DISK_SIZE ? 5 : 0);
    }
    peer_close(&c);
}

PROTO_TEST(cookies_are_opaque_and_may_repeat)
{
    struct peer c = peer_ready(p, false);

    for (int i = 0; i < 10; i++)
        peer_request(&c, 0, FLUSH, 0xfeedfacecafebeef, 0, 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(peer_simple(&c, 0xfeedfacecafebeef), 0);
    peer_close(&c);
}

PROTO_TEST(a_wrong_request_magic_closes_after_what_was_asked_before)
{
    struct peer c = peer_ready(p, false);
    uint8_t b[28] = {0x25, 0x60, 0x95, 0x14};

    peer_request(&c, 0, FLUSH, 1, 0, 0);
    peer_send(&c, b, 28);
    assert_int_equal(peer_simple(&c, 1), 0);
    peer_expect_end(&c);
    peer_close(&c);
}

PROTO_TEST(a_write_of_more_than_64_mib_is_told_and_closes)
{
    struct peer c = peer_ready(p, true);

    peer_request(&c, 0, WRITE, 1, 0, (64 << 20) + 1);
    assert_int_equal(peer_chunk_error(&c, 1), 22);
    peer_expect_end(&c);
    peer_close(&c);
}

static void huge_disk(struct proto *p)
{
    p->disk->size = 1 * GiB;
    p->export_opts.top->size = 1 * GiB;
}

PROTO_TEST_WITH(reads_and_writes_of_64_mib_work_longer_reads_are_too_big, huge_disk)
{
    struct peer c = peer_ready(p, true);
    struct chunk k;
    uint32_t len = 64 << 20;

    peer_request(&c, 0, WRITE, 1, 4096, len);
    for (uint32_t at = 0; at < len; at += sizeof(data)) {
        memset(data, (int)(1 + at / sizeof(data)), sizeof(data));
        peer_send(&c, data, sizeof(data));
    }
    assert_int_equal(peer_simple(&c, 1), 0);
    peer_request(&c, 0, READ, 2, 4096, len);
    peer_chunk(&c, &k);
    assert_true(k.type == 1 && k.len == 8 + len);
    for (uint32_t at = 0; at < len; at += 4096)
        assert_int_equal(k.data[8 + at], 1 + at / sizeof(data));
    peer_request(&c, 0, READ, 3, 0, len + 1);
    assert_int_equal(peer_chunk_error(&c, 3), 75);
    peer_request(&c, 0, WRITE, 4, GiB - 512, len); /* refused, but skipped: in step */
    for (uint32_t at = 0; at < len; at += sizeof(data))
        peer_send(&c, data, sizeof(data));
    assert_int_equal(peer_chunk_error(&c, 4), 28);
    peer_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read_in_both_styles),
        cmocka_unit_test(large_reads_skip_holes_unless_told_not_to),
        cmocka_unit_test(a_hole_that_is_not_known_to_be_zero_is_read),
        cmocka_unit_test(a_read_of_many_holes_is_answered_whole),
        cmocka_unit_test(small_reads_and_solid_disks_cost_few_status_requests),
        cmocka_unit_test(a_status_error_under_a_read_is_not_swallowed),
        cmocka_unit_test(errors_are_those_of_the_protocol_and_the_stream_stays_in_step),
        cmocka_unit_test(a_read_only_export_refuses_writes_with_eperm),
        cmocka_unit_test(errors_of_the_disk_are_mapped),
        cmocka_unit_test(length_zero_succeeds_and_does_nothing),
        cmocka_unit_test(flags_reach_the_disk),
        cmocka_unit_test(ignored_discards_change_nothing),
        cmocka_unit_test(zeroing_more_than_a_payload_really_zeroes),
        cmocka_unit_test(cookies_are_opaque_and_may_repeat),
        cmocka_unit_test(a_wrong_request_magic_closes_after_what_was_asked_before),
        cmocka_unit_test(a_write_of_more_than_64_mib_is_told_and_closes),
        cmocka_unit_test(reads_and_writes_of_64_mib_work_longer_reads_are_too_big),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
