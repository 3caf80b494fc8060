/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Opens an image as the program would, first read-only, then for writing, and tells what happened,
 * by the kind of error: for tests that know which one it must be.
 *
 * usage: open_image [-s SNAPSHOT] [-d DIRECTORY] [-w OFFSET] [-n] IMAGE
 *   -s: look at this internal snapshot, read-only only    -d: backing files may be in DIRECTORY
 *   -w: write the cluster at this guest offset (0)         -n: read-only only
 *
 * Of each opening, a JSON object on a line of its own: the error and the message of the opening
 * ("0": none), the first error of reading and of asking for the status, that of writing a cluster
 * and of reading it back, that of a flush; milliseconds from opening to having closed; the peak of
 * resident memory in KiB up to then; and a checksum of the file. Reading is bounded: SAMPLE bytes
 * from the start and the end, and a block in each of PROBES places in between.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>
#include <zlib.h>

#include "base/bytes.h"
#include "base/parse.h"
#include "base/sanitizers.h"
#include "block/extent.h"
#include "block/file.h"
#include "io/reactor.h"
#include "qcow2/qcow2.h"
#include "qcow2/snapshot.h"

#define BLOCK (UINT64_C(64) << 10)
#define SAMPLE (UINT64_C(4) << 20)
#define PROBES 64
#define MAX_CLUSTER (UINT64_C(2) << 20)

struct look {
    const char *path, *dir, *snapshot;
    uint64_t write_off;
    bool writable;
    struct err *e;
    int read, status, write, back, flush; /* 0 or -errno, the first one */
    uint64_t size;
};

static uint8_t buf[MAX_CLUSTER], again[MAX_CLUSTER];

static void note(int *first, int r)
{
    if (*first == 0)
        *first = r;
}

static void read_part(struct look *l, struct node *n, uint64_t off, uint64_t len)
{
    for (uint64_t end = off + min_u64(len, n->size - off); off < end; off += BLOCK)
        note(&l->read, node_read(n, off, buf, min_u64(BLOCK, end - off)));
}

static void read_all(struct look *l, struct node *n)
{
    struct extents x;

    read_part(l, n, 0, 2 * SAMPLE);
    if (n->size > 2 * SAMPLE) {
        for (uint64_t i = 1; i < PROBES; i++)
            read_part(l, n, round_down(n->size / PROBES * i, 512), BLOCK);
        read_part(l, n, n->size - SAMPLE, SAMPLE);
    }
    extents_init(&x, 1000);
    note(&l->status, n->size ? node_status(n, 0, n->size, &x) : 0);
    extents_free(&x);
}

static void write_one(struct look *l, struct node *n)
{
    uint64_t off = l->write_off, len = min_u64(n->limits.cluster, n->size - off);

    memset(buf, 0x5a, len);
    memset(again, 0, len);
    l->write = node_write(n, off, buf, len, 0);
    if (l->write == 0)
        l->back = node_read(n, off, again, len);
    if (l->write == 0 && l->back == 0 && memcmp(buf, again, len) != 0)
        l->back = -EILSEQ;
    l->flush = node_flush(n);
}

static void look_co(void *arg)
{
    struct look *l = arg;
    const struct qc_snapshot_ref ref = {.any = l->snapshot};
    const struct file_opts fo = {.path = l->path, .read_only = !l->writable};
    const struct qc_open_opts o = {.path = l->path,
                                   .backing_dir = l->dir,
                                   .read_only = !l->writable,
                                   .snapshot = l->snapshot ? &ref : NULL};
    struct node *file = file_open(&fo, &l->e);
    struct node *n = file ? qc_open(file, &o, &l->e) : NULL;

    if (n) {
        l->size = n->size;
        read_all(l, n);
        if (l->writable && n->size > l->write_off)
            write_one(l, n);
    }
    node_unref(n ? n : file);
}

static const char *kind(int r)
{
    const char *name = strerrorname_np(r < 0 ? -r : r);

    return r == 0 ? "0" : r == -ENOTSUP || r == ENOTSUP ? "ENOTSUP" : name ? name : "?";
}

/* The peak since this program began: that of getrusage may be its parent's. */
static uint64_t peak_kib(void)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "re");

    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "VmHWM: %llu", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib;
}

/* Of the first 16 MiB of the file. */
static uint32_t file_crc(const char *path)
{
    FILE *f = fopen(path, "re");
    uLong crc = crc32(0, NULL, 0);

    for (unsigned i = 0; f && i < (16 << 20) / MAX_CLUSTER; i++)
        crc = crc32(crc, buf, (uInt)fread(buf, 1, MAX_CLUSTER, f));
    if (f)
        fclose(f);
    return (uint32_t)crc;
}

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void tell(const struct look *l, double ms)
{
    char text[4096];

    snprintf(text, sizeof(text), "%s", err_msg(l->e));
    for (char *p = text; *p; p++) /* names from images need not be UTF-8 */
        if (*p < ' ' || *p > '~')
            *p = '?';
    json_t *j = json_pack("{s:b s:s s:s s:I s:s s:s s:s s:s s:s s:f s:I s:b s:I}", "writable",
                          l->writable, "open", kind(err_code(l->e)), "message", text, "size",
                          (json_int_t)l->size, "read", kind(l->read), "status", kind(l->status),
                          "write", kind(l->write), "back", kind(l->back), "flush", kind(l->flush),
                          "ms", ms, "peak_kib", (json_int_t)peak_kib(), "sanitized", WITH_ASAN,
                          "crc", (json_int_t)file_crc(l->path));
    if (!j || json_dumpf(j, stdout, 0) < 0)
        abort();
    printf("\n");
    fflush(stdout);
    json_decref(j);
}

static bool look(struct reactor *r, struct look *l)
{
    double from = now_ms();
    bool ran = reactor_run_co(r, look_co, l);

    tell(l, now_ms() - from);
    err_free(l->e);
    l->e = NULL;
    l->read = l->status = l->write = l->back = l->flush = 0;
    return ran;
}

int main(int argc, char **argv)
{
    struct look l = {0};
    bool only = false, ok;
    struct reactor *r;
    int c;

    while ((c = getopt(argc, argv, "s:d:w:n")) != -1) {
        if (c == 's')
            l.snapshot = optarg;
        else if (c == 'd')
            l.dir = optarg;
        else if (c == 'n')
            only = true;
        else if (c != 'w' || !parse_u64(optarg, "-w", 0, INT64_MAX, &l.write_off, NULL))
            return 2;
    }
    if (optind + 1 != argc || !reactor_new(REACTOR_AUTO, &r, NULL))
        return 2;
    l.path = argv[optind];
    ok = look(r, &l);
    l.writable = true;
    if (!only && !l.snapshot)
        ok = ok && look(r, &l);
    reactor_free(r);
    return ok ? 0 : 1;
}
