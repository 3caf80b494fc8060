/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The command RESIZE. Source: doc/proto.md on the branch extension-resize of the NBD project.
 */
#include "tests/proto/proto.h"

#define GO 7
#define READ 0
#define WRITE 1
#define RESIZE 8
#define SEND_RESIZE (1 << 9)

static void resizable(struct proto *p)
{
    p->export_opts.resizable = true;
}

static struct peer ready(struct proto *p, uint64_t *size, uint16_t *flags)
{
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    assert_int_equal(peer_go(&c, GO, "disk", size, flags), 1);
    return c;
}

static uint32_t resize(struct peer *c, uint64_t size)
{
    peer_request(c, 0, RESIZE, 9, size, 0);
    return peer_simple(c, 9);
}

static uint32_t write_at(struct peer *c, uint64_t off)
{
    uint8_t data[512] = {1};

    peer_request(c, 0, WRITE, 5, off, sizeof(data));
    peer_send(c, data, sizeof(data));
    return peer_simple(c, 5);
}

PROTO_TEST_WITH(a_larger_disk_is_there_for_all_and_for_later_clients, resizable)
{
    uint16_t flags;
    uint64_t size;
    struct peer a = ready(p, NULL, &flags), b = ready(p, NULL, NULL);

    assert_int_equal(flags & SEND_RESIZE, SEND_RESIZE);
    assert_int_equal(write_at(&a, DISK_SIZE), 28);
    assert_int_equal(resize(&a, DISK_SIZE + MiB), 0);
    assert_int_equal(write_at(&a, DISK_SIZE), 0);
    assert_int_equal(write_at(&b, DISK_SIZE + MiB - 512), 0);
    assert_int_equal(write_at(&b, DISK_SIZE + MiB), 28);
    struct peer c = ready(p, &size, NULL);
    assert_int_equal(size, DISK_SIZE + MiB);
    peer_close(&a);
    peer_close(&b);
    peer_close(&c);
}

PROTO_TEST_WITH(only_its_single_client_makes_a_disk_smaller, resizable)
{
    struct peer a = ready(p, NULL, NULL), b = ready(p, NULL, NULL);

    assert_int_equal(resize(&a, MiB), 1);
    assert_int_equal(write_at(&a, DISK_SIZE - 512), 0);
    peer_close(&b);
    proto_settle();
    assert_int_equal(resize(&a, MiB), 0);
    assert_int_equal(write_at(&a, MiB), 28);
    assert_int_equal(write_at(&a, MiB - 512), 0);
    peer_close(&a);
}

PROTO_TEST(who_was_not_offered_it_does_not_have_it)
{
    uint16_t flags;
    struct peer c = ready(p, NULL, &flags);

    assert_int_equal(flags & SEND_RESIZE, 0);
    assert_int_equal(resize(&c, 2 * DISK_SIZE), 22);
    assert_int_equal(p->n_ops[REQ_TRUNCATE], 0);
    peer_close(&c);
}

static void resizable_read_only(struct proto *p)
{
    resizable(p);
    p->export_opts.read_only = true;
}

PROTO_TEST_WITH(a_read_only_export_does_not_offer_it, resizable_read_only)
{
    uint16_t flags;
    struct peer c = ready(p, NULL, &flags);

    assert_int_equal(flags & SEND_RESIZE, 0);
    assert_int_equal(resize(&c, 2 * DISK_SIZE), 22);
    assert_int_equal(p->n_ops[REQ_TRUNCATE], 0);
    peer_close(&c);
}

PROTO_TEST_WITH(failures_leave_the_size_as_it_is, resizable)
{
    static const struct {
        int error;
        uint32_t want;
    } t[] = {{EIO, 5}, {ENOSPC, 28}, {ENOTSUP, 1}, {EBUSY, 1}, {EINVAL, 22}};
    struct peer c = ready(p, NULL, NULL);

    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        p->fail = t[i].error;
        assert_int_equal(resize(&c, 2 * DISK_SIZE), t[i].want);
        p->fail = 0;
        assert_int_equal(write_at(&c, DISK_SIZE), 28);
    }
    unsigned before = p->n_ops[REQ_TRUNCATE];
    assert_int_equal(resize(&c, UINT64_C(1) << 63), 22);
    assert_int_equal(p->n_ops[REQ_TRUNCATE], before);
    peer_close(&c);
}

static void resizable_with_bitmap(struct proto *p)
{
    resizable(p);
    proto_publish(p, "daily", 65536);
}

PROTO_TEST_WITH(a_published_bitmap_holds_the_size, resizable_with_bitmap)
{
    struct peer c = ready(p, NULL, NULL);

    assert_int_equal(resize(&c, 2 * DISK_SIZE), 1);
    assert_int_equal(write_at(&c, DISK_SIZE), 28);
    peer_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_larger_disk_is_there_for_all_and_for_later_clients),
        cmocka_unit_test(only_its_single_client_makes_a_disk_smaller),
        cmocka_unit_test(who_was_not_offered_it_does_not_have_it),
        cmocka_unit_test(a_read_only_export_does_not_offer_it),
        cmocka_unit_test(failures_leave_the_size_as_it_is),
        cmocka_unit_test(a_published_bitmap_holds_the_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
