/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Transactions of bitmap actions: all or nothing, and nothing that a guest wrote is lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "block/node_bitmap.h"
#include "control/control_priv.h"

static struct control *c;
static struct node *disk;

/* Runs a command; its error, or NULL. */
static char *command(const char *name, const char *args)
{
    json_t *a = json_loads(args, 0, NULL);
    struct err *e = NULL;
    char *text = NULL;

    assert_non_null(a);
    if (!control_run(c, name, a, false, NULL, &e))
        text = mem_strdup(err_msg(e));
    err_free(e);
    json_decref(a);
    return text;
}

static void good(const char *name, const char *args)
{
    char *text = command(name, args);

    if (text)
        fail_msg("%s: %s", name, text);
}

static void bad(const char *name, const char *args, const char *want)
{
    char *text = command(name, args);

    assert_non_null(text);
    if (!strstr(text, want))
        fail_msg("'%s' has no '%s'", text, want);
    mem_free(text);
}

static void write_at(uint64_t off)
{
    assert_int_equal(node_write(disk, off, "x", 1, 0), 0);
}

static uint64_t count(const char *name)
{
    struct bitmap *b = node_bitmap_find(disk, name);

    assert_non_null(b);
    return bitmap_dirty_bytes(b) / b->granularity;
}

/* Bitmaps a (granules 0 and 5), b (5, disabled) and fine (of 4 KiB; granules of 5). */
static void begin(void)
{
    struct control_opts o = {0};

    c = control_new(&o, NULL);
    assert_non_null(c);
    good("blockdev-add", "{\"driver\":\"null-co\",\"node-name\":\"d\",\"size\":1048576}");
    disk = graph_find(&c->graph, "d")->node;
    good("block-dirty-bitmap-add", "{\"node\":\"d\",\"name\":\"a\"}");
    write_at(0);
    good("block-dirty-bitmap-add", "{\"node\":\"d\",\"name\":\"b\"}");
    good("block-dirty-bitmap-add", "{\"node\":\"d\",\"name\":\"fine\",\"granularity\":4096}");
    write_at(5 * 65536);
    good("block-dirty-bitmap-disable", "{\"node\":\"d\",\"name\":\"b\"}");
}

static void expect_as_before(void)
{
    assert_int_equal(count("a"), 2);
    assert_int_equal(count("b"), 1);
    assert_int_equal(count("fine"), 1);
    assert_true(node_bitmap_find(disk, "a")->enabled);
    assert_false(node_bitmap_find(disk, "b")->enabled);
    assert_null(node_bitmap_find(disk, "new"));
    for (const struct bitmap *b = node_bitmap_first(disk); b; b = b->next)
        assert_int_equal(b->busy, 0);
    assert_int_equal(disk->drained, 0);
}

static void end(void)
{
    assert_true(control_stop(c, NULL));
    control_free(c);
}

static void run(co_fn *fn)
{
    struct reactor *r;

    assert_true(reactor_new(REACTOR_SIM, &r, NULL));
    assert_true(reactor_run_co(r, fn, NULL));
    assert_int_equal(co_alive(), 0);
    reactor_free(r);
}

#define A(type, rest)                                                                              \
    "{\"type\":\"block-dirty-bitmap-" type "\",\"data\":{\"node\":\"d\"," rest "}}"
#define N(name) "\"name\":\"" name "\""
/* Every kind of action, each of which changes something. */
static const char all[] = A("add", N("new")) "," A("merge", "\"target\":\"new\",\"bitmaps\":[\"a\","
                                                            "\"fine\"]") "," A(
    "clear",
    N("a")) "," A("merge",
                  "\"target\":\"a\",\"bitmaps\":[\"b\"]") "," A("enable",
                                                                N("b")) "," A("disable",
                                                                              N("a")) "," A("remov"
                                                                                            "e",
                                                                                            N("fin"
                                                                                              "e"));

/* All of them, then more, as the arguments of a transaction. */
static char *and_then(const char *more)
{
    char *text = mem_printf("{\"actions\":[%s%s%s]}", all, *more ? "," : "", more);

    assert_non_null(text);
    return text;
}

static void success_body(void *arg)
{
    char *args = and_then("");

    begin();
    good("transaction", args);
    mem_free(args);
    assert_int_equal(count("new"), 2);
    assert_int_equal(count("a"), 1);
    assert_false(node_bitmap_find(disk, "a")->enabled);
    assert_true(node_bitmap_find(disk, "b")->enabled);
    assert_null(node_bitmap_find(disk, "fine"));
    assert_int_equal(disk->drained, 0);
    end();
}

static void all_actions_take_effect_in_order(void **state)
{
    run(success_body);
}

static void failure_body(void *arg)
{
    static const char *const last[][2] = {
        {"{\"type\":\"abort\",\"data\":{}}", "Transaction aborted"},
        {A("add", N("a")), "Bitmap already exists: a"},
        {A("clear", N("zz")), "Dirty bitmap 'zz' not found"},
        {A("merge", "\"target\":\"a\",\"bitmaps\":[\"new\",\"zz\"]"), "'zz' not found"},
        {A("clear", N("fine")), "in use by another operation"}, /* it is being removed */
        {A("add", N("fine")), "Bitmap already exists: fine"},
        {"{\"type\":\"block-dirty-bitmap-clear\",\"data\":{\"node\":\"x\",\"name\":\"a\"}}",
         "Node 'x' not found"},
    };

    begin();
    for (unsigned i = 0; i < 7; i++) {
        char *args = and_then(last[i][0]);

        bad("transaction", args, last[i][1]);
        mem_free(args);
        expect_as_before();
    }
    /* They record as before, and a guest can write. */
    write_at(7 * 65536);
    assert_int_equal(count("a"), 3);
    assert_int_equal(count("b"), 1);
    end();
}

static void one_failure_undoes_all_whatever_it_is(void **state)
{
    run(failure_body);
}

static void merge_body(void *arg)
{
    begin();
    bad("block-dirty-bitmap-merge", "{\"node\":\"d\",\"target\":\"b\",\"bitmaps\":[\"a\",\"zz\"]}",
        "'zz' not found");
    expect_as_before();
    good("block-dirty-bitmap-merge", "{\"node\":\"d\",\"target\":\"b\",\"bitmaps\":[]}");
    expect_as_before();
    good("block-dirty-bitmap-merge", "{\"node\":\"d\",\"target\":\"b\",\"bitmaps\":[\"a\"]}");
    assert_int_equal(count("b"), 2);
    end();
}

static void a_merge_of_several_is_all_or_nothing(void **state)
{
    run(merge_body);
}

/* Refuse the nth allocation, until it succeeds. */
static void memory_body(void *arg)
{
    begin();
    for (unsigned nth = 1;; nth++) {
        char *args = and_then("");
        json_t *a = json_loads(args, 0, NULL);
        struct err *e = NULL;
        bool ok;

        mem_free(args);
        mem_fail_nth(nth, 0);
        ok = control_run(c, "transaction", a, false, NULL, &e);
        mem_fail_nth(0, 0);
        json_decref(a);
        err_free(e);
        if (ok)
            break;
        expect_as_before();
        assert_true(nth < 1000);
    }
    assert_int_equal(count("new"), 2);
    end();
}

static void refused_memory_undoes_all(void **state)
{
    run(memory_body);
}

static void grouped_body(void *arg)
{
    begin();
    bad("transaction",
        "{\"actions\":[" A("clear", N("a")) "],\"properties\":{\"completion-mode\":\"grouped\"}}",
        "does not support Transaction property completion-mode = grouped");
    expect_as_before();
    good(
        "transaction",
        "{\"actions\":[" A("clear", N("a")) "],"
                                            "\"properties\":{\"completion-mode\":\"individual\"}}");
    assert_int_equal(count("a"), 0);
    end();
}

static void only_jobs_can_be_grouped(void **state)
{
    run(grouped_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_actions_take_effect_in_order),
        cmocka_unit_test(one_failure_undoes_all_whatever_it_is),
        cmocka_unit_test(a_merge_of_several_is_all_or_nothing),
        cmocka_unit_test(refused_memory_undoes_all),
        cmocka_unit_test(only_jobs_can_be_grouped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
