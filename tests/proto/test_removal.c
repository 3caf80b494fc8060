/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Taking an export away while the server goes on: clients end, requests in flight do not.
 */
#include "tests/proto/proto.h"

#include "block/mem_disk.h"
#include "io/co.h"

enum { READ, WRITE };
#define ESHUTDOWN_NBD 108
#define UNKNOWN 0x80000006u

static uint8_t data[4096];

static struct err *removal_error;
static bool removal_done;

static void remove_disk(void *arg)
{
    removal_done = false;
    removal_error = NULL;
    server_remove_export(arg, "disk", &removal_error);
    removal_done = true;
}

static void begin_removal(struct proto *p)
{
    assert_true(co_start(remove_disk, p->server));
}

PROTO_TEST(an_export_without_clients_goes_at_once)
{
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    assert_int_equal(peer_go(&c, 6, "disk", NULL, NULL), 1);
    begin_removal(p);
    assert_true(removal_done);
    assert_null(removal_error);
    assert_int_equal(peer_go(&c, 7, "disk", NULL, NULL), UNKNOWN);
    struct err *e = NULL;
    assert_false(server_remove_export(p->server, "disk", &e));
    assert_int_equal(err_code(e), ENOENT);
    err_free(e);
    peer_close(&c);
}

PROTO_TEST(idle_clients_are_disconnected_and_those_of_other_exports_stay)
{
    struct node *other = mem_open(65536, NULL);
    struct export_opts o = {.name = "other", .top = other};
    struct peer a = peer_ready(p, false), b, haggling = peer_connect(p);
    const char *query[] = {"base:allocation"};
    char names[64];
    uint32_t ids[4];

    assert_true(server_add_export(p->server, &o, NULL));
    b = peer_connect(p);
    peer_hello(&b, 3);
    assert_int_equal(peer_go(&b, 7, "other", NULL, NULL), 1);
    /* This one has only selected contexts of the export. */
    peer_hello(&haggling, 3);
    peer_option(&haggling, 8, NULL, 0);
    assert_int_equal(peer_reply(&haggling, 8, NULL, 0, NULL), 1);
    assert_int_equal(peer_meta(&haggling, 10, "disk", query, 1, names, sizeof(names), ids), 1);
    assert_int_equal(server_export_clients(p->server, "disk"), 1);
    begin_removal(p);
    proto_settle();
    assert_true(removal_done);
    peer_expect_end(&a);
    assert_true(peer_ended(&haggling));
    peer_request(&b, 0, READ, 1, 0, 512);
    assert_int_equal(peer_simple(&b, 1), 0);
    peer_recv(&b, data, 512);
    peer_close(&a);
    peer_close(&b);
    peer_close(&haggling);
}

PROTO_TEST(requests_in_flight_end_and_new_ones_are_refused)
{
    struct peer c = peer_ready(p, false);

    p->gate_closed = true;
    peer_request(&c, 0, READ, 1, 0, 512);
    proto_settle();
    begin_removal(p);
    proto_settle();
    assert_false(removal_done);
    assert_int_equal(server_export_clients(p->server, "disk"), 0); /* it is not found any more */
    peer_request(&c, 0, READ, 2, 0, 512);
    assert_int_equal(peer_simple(&c, 2), ESHUTDOWN_NBD);
    gate_open(p);
    assert_int_equal(peer_simple(&c, 1), 0);
    peer_recv(&c, data, 512);
    peer_expect_end(&c);
    proto_settle();
    assert_true(removal_done);
    peer_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_export_without_clients_goes_at_once),
        cmocka_unit_test(idle_clients_are_disconnected_and_those_of_other_exports_stay),
        cmocka_unit_test(requests_in_flight_end_and_new_ones_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
