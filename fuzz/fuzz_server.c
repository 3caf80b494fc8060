/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A whole connection: handshake and transmission, against an export with bitmaps and checkpoints.
 * The input is what the client sends. It then hangs up, and nothing may be left behind. The second
 * half of the inputs (by their length) arrives in small pieces.
 */
#include <stdlib.h>
#include <sys/uio.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/mem_disk.h"
#include "block/node_bitmap.h"
#include "filters/filters.h"
#include "fuzz/fuzz.h"
#include "io/io.h"
#include "io/reactor.h"
#include "server/server.h"

#define DISK_SIZE (1 * MiB)
#define PIPE_SIZE 4096

struct session {
    const uint8_t *data;
    size_t size;
    struct stream *peer;
    bool drained;
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
    s->drained = true;
}

static void talk(struct session *s)
{
    size_t piece = s->size % 2 ? 7 : s->size;

    for (size_t at = 0; at < s->size; at += piece) {
        size_t n = s->size - at < piece ? s->size - at : piece;
        struct iovec v = {.iov_base = (void *)(uintptr_t)(s->data + at), .iov_len = n};
        if (stream_sendv(s->peer, &v, 1, IO_NO_DEADLINE) < 0)
            break;
    }
    co_sleep_until(clock_ns() + NS_PER_MS);
}

static void run(void *arg)
{
    struct session *s = arg;
    struct server_opts so = {.scratch_in_memory = true, .view_grace_ms = 1};
    struct stream *ends[2];

    struct export_bitmap daily = {.name = "daily"};
    struct node *cbw = cbw_open(mem_open(DISK_SIZE, NULL), NULL);
    must(node_bitmap_add(cbw, daily.name, 4096, false, NULL));
    struct export_opts eo = {.name = "disk", .top = cbw, .cbw = cbw, .checkpoints = true};
    eo.bitmaps = &daily;
    eo.n_bitmaps = 1;
    struct server *server = server_new(&so, NULL);
    must(server && server_add_export(server, &eo, NULL));
    must(stream_pipe(PIPE_SIZE, ends) && server_serve(server, ends[0], NULL));
    s->peer = ends[1];
    must(co_start(drain, s));
    talk(s);
    stream_shutdown(s->peer);
    must(server_stop(server, false) == 0);
    co_reschedule();
    must(s->drained && server_connections(server) == 0);
    stream_free(s->peer);
    server_free(server);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct session s = {.data = data, .size = size};
    struct reactor *r;

    log_set_level(LOG_LEVEL_ERROR);
    must(reactor_new(REACTOR_SIM, &r, NULL));
    must(reactor_run_co(r, run, &s));
    must(co_alive() == 0);
    reactor_free(r);
    return 0;
}
