/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "block/graph.h"
#include "block/mem_disk.h"
#include "io/reactor.h"

static void run(co_fn *fn)
{
    struct reactor *r;

    assert_true(reactor_new(REACTOR_SIM, &r, NULL));
    assert_true(reactor_run_co(r, fn, NULL));
    reactor_free(r);
}

/* A leaf with an entry. */
static struct graph_node *add(struct graph *g, const char *name, bool read_only)
{
    struct graph_node *n = graph_reserve(g, name, "mem", read_only, NULL);

    assert_non_null(n);
    graph_opened(n, mem_open(65536, NULL));
    return n;
}

static void expect_message(struct err *e, const char *text)
{
    assert_non_null(e);
    assert_string_equal(err_msg(e), text);
    err_free(e);
}

static void names_body(void *arg)
{
    struct graph g = {0};
    struct err *e = NULL;
    static const char *const bad[] = {"", "1a", "#block1", "a b", "a/b", "-a", "a\xc3\xa4"};

    for (unsigned i = 0; i < 7; i++) {
        assert_null(graph_reserve(&g, bad[i], "mem", false, &e));
        assert_non_null(strstr(err_msg(e), "Invalid node-name: '"));
        err_free(e);
        e = NULL;
    }
    assert_null(graph_reserve(&g, "a123456789012345678901234567890x", "mem", false, &e));
    expect_message(e, "Node name too long");
    e = NULL;
    add(&g, "a", false);
    add(&g, "a12345678901234567890123456789.", false);
    assert_null(graph_reserve(&g, "a", "mem", false, &e));
    expect_message(e, "Duplicate nodes with node-name='a'");
    struct graph_node *one = add(&g, NULL, false), *two = add(&g, NULL, false);
    assert_string_equal(one->name, "#block1");
    assert_string_equal(two->name, "#block2");
    assert_ptr_equal(graph_find(&g, "#block2"), two);
    assert_null(graph_find(&g, "b"));
    graph_clear(&g);
    assert_null(g.nodes);
}

static void names_are_checked_unique_and_made_up(void **state)
{
    run(names_body);
}

static void conflict_body(void *arg)
{
    struct graph g = {0};
    struct err *e = NULL;
    struct graph_node *file = add(&g, "file", false), *q1 = add(&g, "q1", false),
                      *q2 = add(&g, "q2", false), *raw = add(&g, "raw", false);

    assert_true(graph_link(&g, q1, file, "file", ROLE_FORMAT, NULL));
    assert_false(graph_link(&g, q2, file, "file", ROLE_FORMAT, &e));
    expect_message(e, "Permission conflict on node 'file': permissions 'write, resize' are both "
                      "required by node 'q1' (uses node 'file' as 'file' child) and unshared by "
                      "node 'q2' (uses node 'file' as 'file' child).");
    e = NULL;
    /* A filter wants nothing by itself, only what its users want. */
    assert_true(graph_link(&g, raw, file, "file", ROLE_FILTER, NULL));
    struct graph_edge *reader =
        graph_use(&g, raw, "a reader", PERM_CONSISTENT_READ, PERM_ALL, NULL);
    assert_non_null(reader);
    assert_null(graph_use(&g, raw, "a writer", PERM_WRITE, PERM_ALL, &e));
    assert_non_null(strstr(err_msg(e), "Permission conflict on node 'file': permissions 'write'"));
    err_free(e);
    e = NULL;
    graph_unuse(&g, reader);
    /* What was refused has left nothing behind. */
    assert_true(graph_delete(&g, "q1", NULL));
    assert_true(graph_link(&g, q2, file, "file", ROLE_FORMAT, NULL));
    graph_clear(&g);
}

static void two_writers_never_share_a_node_unawares(void **state)
{
    run(conflict_body);
}

static void read_only_body(void *arg)
{
    struct graph g = {0};
    struct err *e = NULL;
    struct graph_node *file = add(&g, "file", true), *q = add(&g, "q", false),
                      *base = add(&g, "base", false), *top = add(&g, "top", true);

    assert_false(graph_link(&g, q, file, "file", ROLE_FORMAT, &e));
    expect_message(e, "Block node is read-only");
    e = NULL;
    /* A backing image may be written as long as nobody relies on what is above it. */
    assert_true(graph_link(&g, top, base, "backing", ROLE_BACKING, NULL));
    struct graph_edge *w = graph_use(&g, base, "w", PERM_WRITE, PERM_ALL, NULL);
    assert_non_null(w);
    assert_null(graph_use(&g, top, "r", PERM_CONSISTENT_READ, PERM_ALL & ~PERM_WRITE, &e));
    err_free(e);
    graph_unuse(&g, w);
    w = graph_use(&g, top, "r", PERM_CONSISTENT_READ, PERM_ALL & ~PERM_WRITE, NULL);
    assert_non_null(w);
    assert_null(graph_use(&g, base, "w", PERM_WRITE, PERM_ALL, NULL));
    graph_clear(&g);
}

static void nobody_writes_what_is_read_only_or_relied_on(void **state)
{
    run(read_only_body);
}

static void delete_body(void *arg)
{
    struct graph g = {0};
    struct err *e = NULL;
    struct graph_node *file = add(&g, NULL, false), *q = add(&g, "q", false);

    assert_true(graph_link(&g, q, file, "file", ROLE_FORMAT, NULL));
    assert_false(graph_delete(&g, "zz", &e));
    expect_message(e, "Failed to find node with node-name='zz'");
    e = NULL;
    assert_false(graph_delete(&g, file->name, &e));
    expect_message(e, "Block device #block1 is in use");
    e = NULL;
    struct graph_edge *use = graph_use(&g, q, "x", 0, PERM_ALL, NULL);
    assert_false(graph_delete(&g, "q", &e));
    expect_message(e, "Node q is in use");
    graph_unuse(&g, use);
    assert_non_null(graph_find(&g, "q")); /* a client's, who must delete it */
    assert_true(graph_delete(&g, "q", NULL));
    assert_null(g.nodes); /* with the child that nobody named */
}

static void what_is_in_use_is_not_deleted(void **state)
{
    run(delete_body);
}

static void loop_body(void *arg)
{
    struct graph g = {0};
    struct err *e = NULL;
    struct graph_node *a = add(&g, "a", true), *b = add(&g, "b", true), *c = add(&g, "c", true);

    assert_true(graph_link(&g, a, b, "file", ROLE_FILTER, NULL));
    assert_true(graph_link(&g, b, c, "file", ROLE_FILTER, NULL));
    assert_false(graph_link(&g, c, a, "file", ROLE_FILTER, &e));
    expect_message(e, "Making 'a' a file child of 'c' would create a cycle");
    assert_false(graph_link(&g, a, a, "file", ROLE_FILTER, NULL));
    graph_clear(&g);
}

static void loops_are_refused(void **state)
{
    run(loop_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_checked_unique_and_made_up),
        cmocka_unit_test(two_writers_never_share_a_node_unawares),
        cmocka_unit_test(nobody_writes_what_is_read_only_or_relied_on),
        cmocka_unit_test(what_is_in_use_is_not_deleted),
        cmocka_unit_test(loops_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
