/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Every allocation of a session fails once. The client may be refused or cut off; the server must
 * stay whole, leak nothing, and serve the next client in full.
 */
#include "tests/proto/proto.h"

#include <sys/uio.h>

#include "base/mem.h"
#include "filters/filters.h"
#include "io/io.h"

static void frozen_disk(struct proto *p)
{
    proto_publish(p, "daily", 65536);
    p->export_opts.cbw = cbw_open(p->export_opts.top, NULL);
    assert_non_null(p->export_opts.cbw);
    p->export_opts.top = p->export_opts.cbw;
    p->export_opts.checkpoints = true;
    p->server_opts.scratch_in_memory = true;
    p->server_opts.view_grace_ms = 1000;
}

/* What the client says: all options, GO, then every command. */
static const char session[] = "\0\0\0\3"
                              "IHAVEOPT\0\0\0\x8\0\0\0\0"
                              "IHAVEOPT\0\0\0\x3\0\0\0\0"
                              "IHAVEOPT\0\0\0\x9\0\0\0\xc\0\0\0\4disk\0\0\0\0"
                              "IHAVEOPT\0\0\0\xa\0\0\0\x21\0\0\0\6disk@b\0\0\0\1\0\0\0\xf"
                              "base:allocation"
                              "IHAVEOPT\0\0\0\xa\0\0\0\x38\0\0\0\6disk@c\0\0\0\2\0\0\0\xf"
                              "base:allocation\0\0\0\x13"
                              "qemu:dirty-bitmap:b"
                              "IHAVEOPT\0\0\0\xa\0\0\0\x38\0\0\0\4disk\0\0\0\2\0\0\0\xf"
                              "base:allocation\0\0\0\x15"
                              "qemu:dirty-bitmap:dai"
                              "IHAVEOPT\0\0\0\xa\0\0\0\x1f\0\0\0\4disk\0\0\0\1\0\0\0\xf"
                              "base:allocation"
                              "IHAVEOPT\0\0\0\7\0\0\0\xa\0\0\0\4disk\0\0"
                              "\x25\x60\x95\x13\0\0\0\1cookie01\0\0\0\0\0\0\0\0\0\0\0\4data"
                              "\x25\x60\x95\x13\0\0\0\0cookie02\0\0\0\0\0\0\0\0\0\0\x10\0"
                              "\x25\x60\x95\x13\0\0\0\0cookie03\0\0\0\0\0\0\0\0\0\2\0\0"
                              "\x25\x60\x95\x13\0\0\0\6cookie04\0\0\0\0\0\0\0\0\0\2\0\0"
                              "\x25\x60\x95\x13\0\0\0\4cookie05\0\0\0\0\0\0\0\0\0\2\0\0"
                              "\x25\x60\x95\x13\0\0\0\7cookie06\0\0\0\0\0\0\0\0\0\2\0\0"
                              "\x25\x60\x95\x13\0\0\0\x9"
                              "cookie07\0\0\0\0\0\0\0\0\0\2\0\0"
                              "\x25\x60\x95\x13\0\0\0\3cookie08\0\0\0\0\0\0\0\0\0\0\0\0"
                              "\x25\x60\x95\x13\0\0\0\2cookie09\0\0\0\0\0\0\0\0\0\0\0\0";

/* Bytes that the server answered. */
static size_t converse(struct peer *c)
{
    static char data[sizeof(session)];
    struct iovec v = {.iov_base = data, .iov_len = sizeof(session) - 1};
    char buf[65536];
    size_t total = 0;
    ssize_t n;

    memcpy(data, session, sizeof(session));
    stream_sendv(c->s, &v, 1, IO_NO_DEADLINE); /* may find the server gone */
    while ((n = stream_recv(c->s, buf, sizeof(buf), IO_NO_DEADLINE)) > 0)
        total += (size_t)n;
    return total;
}

static uint64_t failing;
static bool ran_out;

PROTO_TEST_WITH(one_round, frozen_disk)
{
    struct stream *ends[2];
    struct peer c;

    assert_true(stream_pipe(64 * 1024, ends));
    c.s = ends[1];
    mem_fail_nth(failing, 0);
    if (server_serve(p->server, ends[0], NULL))
        converse(&c);
    ran_out = mem_count() < failing;
    mem_fail_nth(0, 0);
    peer_close(&c);

    c = peer_connect(p);
    size_t got = converse(&c);
    assert_true(got > 4096 + 500); /* one whole read, at least a hole, and all the rest */
    peer_close(&c);
    proto_settle();
    assert_int_equal(server_connections(p->server), 0);
}

static void every_failing_allocation_is_survived(void **state)
{
    for (failing = 1; !ran_out; failing++) {
        assert_true(failing < 10000);
        one_round(state);
    }
    print_message("%llu allocations\n", (unsigned long long)failing - 2);
    assert_true(failing > 20); /* there was something to fail */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failing_allocation_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
