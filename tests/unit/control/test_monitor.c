/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Clients of the control object over pipes in memory, on the simulated clock.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include <cmocka.h>

#include "control/control_priv.h"
#include "io/io.h"

#define PIPE_BYTES 4096

struct client {
    struct stream *s;
    struct json_stream in;
    char buf[PIPE_BYTES]; /* on the stack of a coroutine, which is small */
    size_t head, tail;
};

static void run(co_fn *fn)
{
    struct reactor *r;

    assert_true(reactor_new(REACTOR_SIM, &r, NULL));
    assert_true(reactor_run_co(r, fn, NULL));
    reactor_run_until_idle(r);
    assert_int_equal(co_alive(), 0);
    reactor_free(r);
}

static struct control *start(unsigned max_sessions)
{
    struct control_opts o = {.max_sessions = max_sessions};
    struct control *c = control_new(&o, NULL);

    assert_non_null(c);
    return c;
}

static void finish(struct control *c)
{
    assert_true(control_stop(c, NULL));
    control_free(c);
}

static bool connect_client(struct control *c, struct client *k)
{
    struct stream *ends[2];

    assert_true(stream_pipe(PIPE_BYTES, ends));
    *k = (struct client){.s = ends[0]};
    return control_serve(c, ends[1], false, NULL);
}

static void disconnect(struct client *k)
{
    stream_free(k->s);
    json_stream_clear(&k->in);
}

static void say(struct client *k, const char *text)
{
    struct iovec v = {(void *)text, strlen(text)};

    assert_int_equal(stream_sendv(k->s, &v, 1, clock_ns() + NS_PER_S), 0);
}

/* The next object; NULL at the end of the stream, or if none comes in a second. */
static json_t *hear(struct client *k)
{
    for (;;) {
        json_t *value;
        bool found;

        k->head +=
            json_stream_feed(&k->in, k->buf + k->head, k->tail - k->head, &found, &value, NULL);
        if (found) {
            assert_non_null(value);
            return value;
        }
        k->head = 0;
        ssize_t n = stream_recv(k->s, k->buf, sizeof(k->buf), clock_ns() + NS_PER_S);
        k->tail = n > 0 ? (size_t)n : 0;
        if (n <= 0)
            return NULL;
    }
}

/* hear, as compact text in a static buffer. */
static const char *heard(struct client *k)
{
    static char text[65536];
    json_t *v = hear(k);
    char *t = v ? json_dumps(v, JSON_COMPACT) : NULL;

    snprintf(text, sizeof(text), "%s", t ? t : "(nothing)");
    free(t);
    json_decref(v);
    return text;
}

static void expect_error(struct client *k, const char *message, const char *class, const char *desc)
{
    json_t *v, *e;

    say(k, message);
    v = hear(k);
    assert_non_null(v);
    e = json_object_get(v, "error");
    assert_non_null(e);
    assert_string_equal(arg_str(e, "desc"), desc);
    assert_string_equal(arg_str(e, "class"), class);
    json_decref(v);
}

static void negotiate(struct client *k)
{
    assert_non_null(strstr(heard(k), "{\"QMP\":{\"version\":{\"qemu\":"));
    say(k, "{\"execute\":\"qmp_capabilities\"}");
    assert_string_equal(heard(k), "{\"return\":{}}");
}

static void form_body(void *arg)
{
    struct control *c = start(0);
    struct client k;

    assert_true(connect_client(c, &k));
    assert_non_null(strstr(heard(&k), "\"capabilities\":[]"));
    expect_error(&k, "{\"execute\":\"query-version\"}", "CommandNotFound",
                 "Expecting capabilities negotiation with 'qmp_capabilities'");
    expect_error(&k, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}",
                 "GenericError", "Capability oob not available");
    say(&k, "{\"execute\":\"qmp_capabilities\",\"id\":[1,{}]}");
    assert_string_equal(heard(&k), "{\"return\":{},\"id\":[1,{}]}");
    expect_error(&k, "{\"execute\":\"qmp_capabilities\"}", "CommandNotFound",
                 "Capabilities negotiation is already complete, command ignored");
    expect_error(&k, "[]", "GenericError", "QMP input must be a JSON object");
    expect_error(&k, "{}", "GenericError", "QMP input lacks member 'execute'");
    expect_error(&k, "{\"execute\":1}", "GenericError",
                 "QMP input member 'execute' must be a string");
    expect_error(&k, "{\"execute\":\"quit\",\"arguments\":[]}", "GenericError",
                 "QMP input member 'arguments' must be an object");
    expect_error(&k, "{\"exec-oob\":\"quit\"}", "GenericError",
                 "QMP input member 'exec-oob' is unexpected");
    expect_error(&k, "{\"execute\":\"nope\"}", "CommandNotFound",
                 "The command nope has not been found");
    expect_error(&k, "{\"execute\":\"query-version\",\"arguments\":{\"x\":1}}", "GenericError",
                 "Parameter 'x' is unexpected");
    expect_error(&k, "nonsense\n", "GenericError", "JSON parse error, invalid keyword 'nonsense'");
    say(&k, "{\"execute\":\"query-block\"}{\"execute\":\"query-block\",\"id\":2}");
    assert_string_equal(heard(&k), "{\"return\":[]}");
    assert_string_equal(heard(&k), "{\"return\":[],\"id\":2}");
    disconnect(&k);
    finish(c);
}

static void messages_are_answered_as_by_qemu(void **state)
{
    run(form_body);
}

static void events_body(void *arg)
{
    struct control *c = start(0);
    struct client a, b, fresh;

    assert_true(connect_client(c, &a) && connect_client(c, &b) && connect_client(c, &fresh));
    negotiate(&a);
    negotiate(&b);
    event_emit(c, "BLOCK_EXPORT_DELETED", json_pack("{s:s}", "id", "e"));
    for (int i = 0; i < 2; i++) {
        json_t *v = hear(i ? &b : &a);

        assert_string_equal(arg_str(v, "event"), "BLOCK_EXPORT_DELETED");
        assert_true(arg_int(arg_get(v, "timestamp"), "seconds", 0) > 1500000000);
        assert_in_range(arg_int(arg_get(v, "timestamp"), "microseconds", -1), 0, 999999);
        assert_string_equal(arg_str(arg_get(v, "data"), "id"), "e");
        json_decref(v);
    }
    /* Who has not negotiated gets none. */
    assert_non_null(strstr(heard(&fresh), "QMP"));
    assert_string_equal(heard(&fresh), "(nothing)");
    disconnect(&a);
    disconnect(&b);
    disconnect(&fresh);
    finish(c);
}

static void events_reach_all_clients_with_the_time(void **state)
{
    run(events_body);
}

static void deaf_body(void *arg)
{
    struct control *c = start(0);
    struct client deaf, good;
    unsigned n = 0;

    assert_true(connect_client(c, &deaf) && connect_client(c, &good));
    negotiate(&deaf);
    negotiate(&good);
    /* Twice what may pile up; the good one reads and misses none. */
    for (size_t bytes = 0; bytes < 2 * SESSION_EVENT_BYTES; bytes += 100) {
        event_emit(c, "BLOCK_EXPORT_DELETED", json_pack("{s:i}", "id", (int)n));
        json_t *v = hear(&good);
        assert_int_equal(arg_int(arg_get(v, "data"), "id", -1), n++);
        json_decref(v);
    }
    assert_int_equal(c->n_sessions, 1);
    say(&good, "{\"execute\":\"query-block\"}");
    assert_string_equal(heard(&good), "{\"return\":[]}");
    disconnect(&deaf);
    disconnect(&good);
    finish(c);
}

static void a_client_that_reads_no_events_is_cut_off_alone(void **state)
{
    run(deaf_body);
}

/* It asks and asks and never reads an answer: at some point nobody listens to it any more. */
static void greedy_body(void *arg)
{
    struct control *c = start(0);
    struct client k;
    int ret = 0;
    unsigned asked = 0;

    assert_true(connect_client(c, &k));
    negotiate(&k);
    while (ret == 0 && asked < 100000) {
        char text[] = "{\"execute\":\"query-commands\"}";
        struct iovec v = {text, strlen(text)};

        ret = stream_sendv(k.s, &v, 1, clock_ns() + NS_PER_S);
        asked += ret == 0;
    }
    assert_int_equal(ret, -ETIMEDOUT);
    assert_true(c->sessions->out.len < 2 * SESSION_ANSWER_BYTES);
    /* Once it reads, all is answered. */
    for (unsigned i = 0; i < asked - 1; i++) {
        json_t *v = hear(&k);

        assert_non_null(v);
        json_decref(v);
    }
    disconnect(&k);
    finish(c);
}

static void a_client_that_reads_no_answers_must_wait(void **state)
{
    run(greedy_body);
}

static void limit_body(void *arg)
{
    struct control *c = start(2);
    struct client a, b, third;

    assert_true(connect_client(c, &a) && connect_client(c, &b));
    assert_false(connect_client(c, &third));
    disconnect(&third);
    disconnect(&a);
    co_sleep_until(clock_ns() + NS_PER_MS);
    assert_true(connect_client(c, &third));
    negotiate(&third);
    disconnect(&b);
    disconnect(&third);
    finish(c);
}

static void clients_are_limited(void **state)
{
    run(limit_body);
}

static void quit(void *arg)
{
    ++*(int *)arg;
}

static void quit_body(void *arg)
{
    struct control *c = start(0);
    struct client k, idle;
    int quits = 0;

    control_on_quit(c, quit, &quits);
    assert_true(connect_client(c, &k) && connect_client(c, &idle));
    negotiate(&k);
    say(&k, "{\"execute\":\"quit\"}");
    assert_string_equal(heard(&k), "{\"return\":{}}");
    assert_int_equal(quits, 1);
    finish(c); /* does not wait for clients to go by themselves */
    assert_string_equal(heard(&k), "(nothing)");
    disconnect(&k);
    disconnect(&idle);
}

static void quit_is_answered_and_ends_all(void **state)
{
    run(quit_body);
}

static void schema_body(void *arg)
{
    struct control *c = start(0);
    json_t *schema, *names = json_object(), *v;
    size_t i;

    assert_true(control_run(c, "query-qmp-schema", NULL, false, &schema, NULL));
    json_array_foreach(schema, i, v)
    {
        assert_null(json_object_get(names, arg_str(v, "name"))); /* each once */
        json_object_set(names, arg_str(v, "name"), v);
    }
    /* Whatever is mentioned is there. */
    json_array_foreach(schema, i, v)
    {
        static const char *const keys[] = {"arg-type", "ret-type", "element-type"};
        size_t k;
        json_t *m;

        for (int j = 0; j < 3; j++) {
            if (arg_has(v, keys[j]))
                assert_true(arg_has(names, arg_str(v, keys[j])));
        }
        if (strcmp(arg_str(v, "meta-type"), "object") != 0)
            continue;
        json_array_foreach(arg_get(v, "members"), k, m)
            assert_true(arg_has(names, arg_str(m, "type")));
        json_array_foreach(arg_get(v, "variants"), k, m)
            assert_true(arg_has(names, arg_str(m, "type")));
    }
    for (unsigned j = 0; command_at(j); j++)
        assert_string_equal(arg_str(arg_get(names, command_at(j)->name), "meta-type"), "command");
    json_decref(schema);
    json_decref(names);
    finish(c);
}

static void the_schema_is_whole(void **state)
{
    run(schema_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_answered_as_by_qemu),
        cmocka_unit_test(events_reach_all_clients_with_the_time),
        cmocka_unit_test(a_client_that_reads_no_events_is_cut_off_alone),
        cmocka_unit_test(a_client_that_reads_no_answers_must_wait),
        cmocka_unit_test(clients_are_limited),
        cmocka_unit_test(quit_is_answered_and_ends_all),
        cmocka_unit_test(the_schema_is_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
