/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A whole connection: handshake and transmission, against an export with bitmaps and checkpoints,
 * with TLS for who asks for it. The input is what the client sends; after a STARTTLS it waits for
 * the answer. It then hangs up, and nothing may be left behind. Every other input (by its length)
 * arrives in small pieces.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/mem_disk.h"
#include "block/node_bitmap.h"
#include "filters/filters.h"
#include "fuzz/fuzz.h"
#include "io/io.h"
#include "io/reactor.h"
#include "io/tls.h"
#include "io/tls_make.h"
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

/* Made once: what follows a ClientHello depends on keys, but not on which. */
static struct tls_creds *get_creds(void)
{
    static const char *const word[] = {"localhost"};
    static const char *const files[] = {"ca-cert.pem",    "ca-key.pem",      "server-cert.pem",
                                        "server-key.pem", "client-cert.pem", "client-key.pem",
                                        "keys.psk"};
    static struct tls_creds *creds;
    const struct tls_make_opts make = {word, 1, word, 1, "client", 1};
    char dir[] = "/tmp/fuzz_server.XXXXXX", path[64];

    if (creds)
        return creds;
    must(mkdtemp(dir) && tls_make(dir, &make, NULL));
    snprintf(path, sizeof(path), "%s/keys.psk", dir);
    const struct tls_creds_opts load = {dir, path, .verify_peer = true};
    creds = tls_creds_load(&load, NULL);
    must(creds);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
    return creds;
}

static void drain(void *arg)
{
    struct session *s = arg;
    char buf[4096];

    while (stream_recv(s->peer, buf, sizeof(buf), IO_NO_DEADLINE) > 0)
        ;
    s->drained = true;
}

static bool send_part(struct session *s, const uint8_t *p, size_t len, size_t piece)
{
    for (size_t at = 0; at < len; at += piece) {
        struct iovec v = {.iov_base = (void *)(uintptr_t)(p + at)};
        v.iov_len = len - at < piece ? len - at : piece;
        if (stream_sendv(s->peer, &v, 1, IO_NO_DEADLINE) < 0)
            return false;
    }
    return true;
}

static void talk(struct session *s)
{
    static const uint8_t starttls[] = "IHAVEOPT\0\0\0\5\0\0\0\0";
    size_t piece = s->size % 2 ? 7 : s->size + 1;
    const uint8_t *p = s->data, *end = p + s->size;
    bool up = true;

    while (up && p < end) {
        const uint8_t *found = memmem(p, (size_t)(end - p), starttls, 16);
        const uint8_t *stop = found ? found + 16 : end;
        up = send_part(s, p, (size_t)(stop - p), piece);
        co_sleep_until(clock_ns() + NS_PER_MS);
        p = stop;
    }
    co_sleep_until(clock_ns() + NS_PER_MS);
}

static void run(void *arg)
{
    struct session *s = arg;
    struct server_opts so = {.scratch_in_memory = true, .view_grace_ms = 1};
    so.tls = SERVER_TLS_ON;
    so.creds = get_creds();
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
