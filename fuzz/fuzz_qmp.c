/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The control socket: the input is what a client sends after it has negotiated. Whatever it is,
 * the client is answered or cut off, nothing is left behind, and the same bytes in small pieces
 * mean the same. Files may be opened only below a folder that does not hold any.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "base/log.h"
#include "control/control.h"
#include "control/json_stream.h"
#include "fuzz/fuzz.h"
#include "io/io.h"
#include "io/reactor.h"

#define PIPE_SIZE 4096
#define MAX_INPUT 65536

struct session {
    const uint8_t *data;
    size_t size;
    struct stream *peer;
};

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void drain(void *arg)
{
    struct session *s = arg;
    char buf[4096];

    while (stream_recv(s->peer, buf, sizeof(buf), IO_NO_DEADLINE) > 0)
        ;
}

static void say(struct session *s, const void *data, size_t size)
{
    struct iovec v = {(void *)(uintptr_t)data, size};

    stream_sendv(s->peer, &v, 1, IO_NO_DEADLINE);
}

static void run(void *arg)
{
    static const char hello[] = "{'execute':'qmp_capabilities'}";
    static const char *const nowhere[] = {"/proc/self/fdinfo"};
    struct session *s = arg;
    struct control_opts o = {.allow_paths = nowhere, .n_allow_paths = 1};
    struct control *c = control_new(&o, NULL);
    struct stream *ends[2];

    must(c && stream_pipe(PIPE_SIZE, ends));
    s->peer = ends[0];
    must(control_serve(c, ends[1], false, NULL));
    must(co_start(drain, s));
    say(s, hello, sizeof(hello) - 1);
    say(s, s->data, s->size);
    co_sleep_until(clock_ns() + NS_PER_S);
    must(control_stop(c, NULL));
    control_free(c);
    co_sleep_until(clock_ns() + NS_PER_S);
    stream_free(s->peer);
}

/* A number for the sequence of values and errors in the input, given in pieces. */
static unsigned fingerprint(const uint8_t *data, size_t size, size_t piece)
{
    struct json_stream in = {0};
    unsigned n = 0;

    for (size_t at = 0; at < size;) {
        size_t len = size - at < piece ? size - at : piece;
        json_t *value = NULL;
        struct err *e = NULL;
        bool found;

        at += json_stream_feed(&in, (const char *)data + at, len, &found, &value, &e);
        must(!found || (value != NULL) != (e != NULL));
        if (found)
            n = n * 31 + 1 + (value != NULL);
        json_decref(value);
        err_free(e);
    }
    json_stream_clear(&in);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct session s = {.data = data, .size = size};
    struct reactor *r;

    if (size > MAX_INPUT)
        return 0;
    log_set_level(LOG_LEVEL_ERROR);
    must(fingerprint(data, size, size ? size : 1) == fingerprint(data, size, 3));
    must(reactor_new(REACTOR_SIM, &r, NULL));
    must(reactor_run_co(r, run, &s));
    must(co_alive() == 0);
    reactor_free(r);
    return 0;
}
