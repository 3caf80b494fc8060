/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Rules come and go while requests are under way.
 */
#include "tests/unit/faults/fault_test.h"

#include "faults/live.h"

static struct rules *live(const char *text)
{
    struct rules *r = rules_of(text);

    rules_serve_layer(r, FAULT_HOST);
    return r;
}

static bool fails_write(struct rules *r)
{
    return ask(r, FAULT_WRITE, 0, 512).deed == FAULT_FAIL;
}

static struct rules_info info(const struct rules *r, unsigned i)
{
    struct rules_info x;

    assert_true(rules_info(r, i, &x));
    return x;
}

static void refused(bool ok, struct err **e, int code, const char *text)
{
    assert_false(ok);
    assert_int_equal(err_code(*e), code);
    if (!strstr(err_msg(*e), text))
        fail_msg("'%s' has no '%s'", err_msg(*e), text);
    err_free(*e);
    *e = NULL;
}

#define ERROR_ON(op, id) "[fault \"" id "\"]\nop = " op "\naction = error\n"

static void rules_are_added_behind_or_in_front(void **state)
{
    struct rules *r = live(ERROR_ON("write", "a") ERROR_ON("write", "c"));
    struct rules *b = rules_of("[fault \"b\"]\nop = write\naction = log\n");
    struct rules *d = rules_of(ERROR_ON("write", "d"));
    static const char *const order[] = {"a", "b", "c", "d"};
    (void)state;

    assert_true(rules_adopt(r, b, "c", NULL));
    assert_true(rules_adopt(r, d, NULL, NULL));
    for (unsigned i = 0; i < 4; i++)
        assert_string_equal(info(r, i).id, order[i]);
    assert_int_equal(rules_count(r), 4);
    assert_int_equal(rules_count(b) + rules_count(d), 0);
    assert_true(fails_write(r));
    assert_true(rules_remove(r, "a", NULL));
    assert_true(fails_write(r)); /* past b, which only logs */
    assert_int_equal(info(r, 0).fired, 1);
    assert_int_equal(info(r, 1).fired, 1);
    rules_free(b);
    rules_free(d);
    rules_free(r);
}

static void counters_begin_when_a_rule_comes_and_outlive_others(void **state)
{
    struct rules *r = live("[fault \"a\"]\nop = write\naction = error\nlimit = 3\n"
                           "[fault \"b\"]\nop = write\naction = log\n");
    struct rules *c = rules_of("[fault \"c\"]\nop = write\naction = log\n");
    (void)state;

    for (int i = 0; i < 5; i++)
        ask(r, FAULT_WRITE, 4096, 512); /* a ends the first three */
    assert_int_equal(info(r, 0).seen, 5);
    assert_int_equal(info(r, 1).seen, 2);
    assert_true(rules_adopt(r, c, "b", NULL));
    assert_int_equal(info(r, 1).seen, 0);
    ask(r, FAULT_WRITE, 8192, 512);
    assert_int_equal(info(r, 1).seen, 1);
    assert_true(rules_remove(r, "a", NULL));
    assert_int_equal(info(r, 0).seen, 1);
    assert_int_equal(info(r, 1).seen, 3);
    ask(r, FAULT_WRITE, 8192, 1024);
    assert_int_equal(info(r, 0).seen, 2);
    assert_int_equal(info(r, 1).seen, 4);
    assert_true(info(r, 1).any_last);
    assert_int_equal(info(r, 1).last_op, FAULT_WRITE);
    assert_int_equal(info(r, 1).last_off, 8192);
    assert_int_equal(info(r, 1).last_len, 1024);
    rules_free(c);
    rules_free(r);
}

static void a_set_is_replaced_as_a_whole(void **state)
{
    struct rules *r = live(INJECT "event = \"read_aio\"\n" ERROR_ON("write", "a")
                               ERROR_ON("read", "b") "[engine]\nseed = 7\n");
    struct rules *next =
        rules_of(INJECT "event = \"write_aio\"\n" ERROR_ON("flush", "b") "[engine]\nseed = 8\n");
    (void)state;

    rules_event(r, EV_READ_AIO, NULL);
    rules_set_state(r, 5);
    assert_true(rules_replace(r, next, NULL));
    assert_true(rules_idle(r)); /* what was armed is gone */
    assert_int_equal(rules_state(r), 5);
    assert_int_equal(rules_seed(r), 8);
    assert_int_equal(rules_count(r), 2);
    assert_false(fails_write(r));
    assert_int_equal(ask(r, FAULT_READ, 0, 512).deed, FAULT_PASS);
    assert_int_equal(ask(r, FAULT_FLUSH, 0, 0).deed, FAULT_FAIL);
    assert_false(rules_listens(r, EV_READ_AIO));
    rules_event(r, EV_WRITE_AIO, NULL);
    assert_int_equal(rules_check(r, FAULT_WRITE, 0, 512).error, EIO);
    rules_free(next);
    rules_free(r);
}

static void what_cannot_be_changes_nothing(void **state)
{
    struct rules *r = live(ERROR_ON("write", "a") INJECT "event = \"read_aio\"\nid = \"x\"\n");
    const char *const bad[] = {
        ERROR_ON("write", "n") ERROR_ON("read", "a"),
        ERROR_ON("write", "n") "[fault]\nlayer = guest\nop = read\naction = error\n",
        ERROR_ON("write", "n") "[cache]\nsize = 1M\n",
        ERROR_ON("write", "n") "[fault]\naction = powercut\n",
        ERROR_ON("write", "n") INJECT "event = \"read_aio\"\nid = \"x\"\n",
    };
    const char *const text[] = {"has the id \"a\"", "layer=guest", "[cache]", "volatile cache",
                                "[inject-error] has the id \"x\""};
    const int code[] = {EEXIST, EINVAL, EINVAL, EINVAL, EEXIST};
    struct err *e = NULL;
    (void)state;

    for (unsigned i = 0; i < 5; i++) {
        struct rules *fresh = rules_of(bad[i]);

        refused(rules_adopt(r, fresh, NULL, &e), &e, code[i], text[i]);
        if (code[i] == EINVAL) { /* ids of those that go do no harm */
            refused(rules_replace(r, fresh, &e), &e, code[i], text[i]);
        }
        assert_int_equal(rules_count(r), 2);
        assert_string_equal(info(r, 1).id, "a");
        rules_free(fresh);
    }
    struct rules *fresh = rules_of(INJECT "event = \"read_aio\"\n");
    refused(rules_adopt(r, fresh, "gone", &e), &e, ENOENT, "no fault 'gone'");
    refused(rules_adopt(r, fresh, "a", &e), &e, EINVAL, "in front of");
    refused(rules_remove(r, "gone", &e), &e, ENOENT, "no fault rule 'gone'");
    refused(rules_remove(r, "#99", &e), &e, ENOENT, "#99");
    assert_int_equal(rules_count(r), 2);
    rules_free(fresh);
    rules_free(r);
}

static void blkdebug_rules_are_removed_by_number(void **state)
{
    struct rules *r = live(INJECT "event = \"read_aio\"\nerrno = \"28\"\niotype = \"read\"\n" INJECT
                                  "event = \"read_aio\"\n");
    (void)state;

    rules_event(r, EV_READ_AIO, NULL);
    assert_int_equal(rules_check(r, FAULT_READ, 0, 512).error, ENOSPC);
    assert_true(rules_remove(r, "#1", NULL));
    assert_int_equal(rules_check(r, FAULT_READ, 0, 512).error, EIO); /* the other is armed still */
    assert_true(rules_remove(r, "#2", NULL));
    assert_int_equal(rules_check(r, FAULT_READ, 0, 512).error, 0);
    assert_true(rules_idle(r));
    assert_false(rules_listens(r, EV_READ_AIO));
    rules_free(r);
}

static void who_sleeps_at_a_breakpoint_that_goes_can_be_resumed(void **state)
{
    struct rules *r = live("[suspend \"T\"]\nevent = read_aio\n");
    struct rules_sleeper s = {0}, *woken;
    (void)state;

    rules_event(r, EV_READ_AIO, &s);
    assert_int_equal(s.left, 1);
    assert_true(info(r, 0).holds);
    assert_true(rules_remove(r, "T", NULL));
    assert_int_equal(rules_count(r), 0);
    assert_true(rules_is_suspended(r, "T"));
    assert_int_equal(rules_resume(r, "T", &woken), 0);
    assert_ptr_equal(woken, &s);
    rules_free(r);
}

static void damage_goes_with_its_rule(void **state)
{
    struct rules *r = live("[fault \"a\"]\nop = write\naction = lost\n"), *next;
    struct fault_decision d = ask(r, FAULT_WRITE, 0, 512);
    uint8_t old[512], buf[512] = {0};
    (void)state;

    memset(old, 7, sizeof(old));
    assert_true(rules_rest_set(r, d.id, 0, old, sizeof(old)));
    assert_true(rules_rest_any(r, FAULT_HOST));
    rules_rest_patch(r, FAULT_HOST, 0, buf, sizeof(buf));
    assert_int_equal(buf[0], 7);
    /* The same rule anew is another one. */
    next = rules_of("[fault \"a\"]\nop = write\naction = lost\n");
    assert_true(rules_replace(r, next, NULL));
    assert_false(rules_rest_any(r, FAULT_HOST));
    memset(buf, 0, sizeof(buf));
    rules_rest_patch(r, FAULT_HOST, 0, buf, sizeof(buf));
    assert_int_equal(buf[0], 0);
    /* A request of before may still come with its damage: too late. */
    assert_false(rules_rest_set(r, d.id, 0, old, sizeof(old)));
    rules_free(next);
    rules_free(r);
}

static void what_decided_a_request_stays_until_that_is_over(void **state)
{
    struct rules *r = live(ERROR_ON("write", "a"));
    struct rules_gen *one = rules_enter(r), *two;
    struct fault_decision d = ask(r, FAULT_WRITE, 0, 512);
    (void)state;

    assert_true(rules_remove(r, "a", NULL));
    two = rules_enter(r);
    rules_leave(r, rules_enter(r));
    assert_string_equal(d.by, "rules.conf:1"); /* under ASan: not freed yet */
    rules_leave(r, two);
    assert_string_equal(d.by, "rules.conf:1"); /* the older generation is still there */
    rules_leave(r, one);
    rules_free(r);
}

static void what_is_armed_strikes_the_next_and_only_that(void **state)
{
    struct rules *r = live(ERROR_ON("read", "a"));
    struct err *e = NULL;
    (void)state;

    for (int i = 0; i < 200; i++) { /* those that have struck do not pile up for ever */
        struct rules *fresh = rules_new(&test_names);

        assert_true(rules_load_rule(fresh, "op=read action=error errno=ENOSPC", "arm", NULL));
        assert_true(rules_arm(r, fresh, NULL));
        assert_int_equal(ask(r, FAULT_WRITE, 0, 512).deed, FAULT_PASS);
        assert_int_equal(ask(r, FAULT_READ, 0, 512).error, ENOSPC); /* before "a" */
        assert_int_equal(ask(r, FAULT_READ, 0, 512).error, EIO);
        rules_free(fresh);
    }
    assert_in_range(rules_count(r), 2, 66);
    struct rules *fresh = rules_new(&test_names);
    assert_true(rules_load_rule(fresh, "op=read action=error limit=2", "arm", NULL));
    refused(rules_arm(r, fresh, &e), &e, EINVAL, "strikes once");
    rules_free(fresh);
    rules_free(r);
}

struct heard {
    unsigned n, ends;
    char last[64];
};

static void hear(void *arg, const struct rules_fire *f)
{
    struct heard *h = arg;

    if (!f) {
        h->ends++;
        return;
    }
    h->n++;
    snprintf(h->last, sizeof(h->last), "%s %s %s %s", f->id ? f->id : "-", f->where, f->action,
             fault_op_name(f->req->op));
}

static void who_listens_hears_of_each_that_fires(void **state)
{
    struct rules *r = live(ERROR_ON("write", "a") INJECT "event = \"read_aio\"\n");
    struct heard h = {0};
    (void)state;

    rules_on_fire(r, hear, &h);
    ask(r, FAULT_READ, 0, 512);
    assert_int_equal(h.n, 0);
    ask(r, FAULT_WRITE, 0, 512);
    assert_int_equal(h.n, 1);
    assert_string_equal(h.last, "a rules.conf:1 error write");
    rules_event(r, EV_READ_AIO, NULL);
    assert_int_equal(rules_check(r, FAULT_FLUSH, 0, 0).error, EIO);
    assert_string_equal(h.last, "- rules.conf:4 error flush");
    rules_free(r);
    assert_int_equal(h.ends, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_are_added_behind_or_in_front),
        cmocka_unit_test(counters_begin_when_a_rule_comes_and_outlive_others),
        cmocka_unit_test(a_set_is_replaced_as_a_whole),
        cmocka_unit_test(what_cannot_be_changes_nothing),
        cmocka_unit_test(blkdebug_rules_are_removed_by_number),
        cmocka_unit_test(who_sleeps_at_a_breakpoint_that_goes_can_be_resumed),
        cmocka_unit_test(damage_goes_with_its_rule),
        cmocka_unit_test(what_decided_a_request_stays_until_that_is_over),
        cmocka_unit_test(what_is_armed_strikes_the_next_and_only_that),
        cmocka_unit_test(who_listens_hears_of_each_that_fires),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
