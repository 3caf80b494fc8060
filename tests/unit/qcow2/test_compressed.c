/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Compressed clusters: streams and descriptors that are right, odd or hostile, and what is kept of
 * an unpacked cluster.
 */
#include <errno.h>
#include <zlib.h>
#include <zstd.h>

#include "base/log.h"
#include "tests/unit/qcow2/image.h"

#define CLUSTER 4096
#define AT 0x20e39 /* where a planted stream begins */
#define STREAM_MAX (3 * CLUSTER)

static const struct qc_create_opts small = {.size = 512 * KiB, .cluster_size = CLUSTER};

static void no_log(enum log_level level, const char *line, void *arg)
{
}

/* --- Streams. Each is for the content of pattern(), or pretends to be. --- */

struct stream {
    uint8_t v[STREAM_MAX];
    size_t n;
};

static void pattern(uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)(i % 61 * 3 + i / 256);
}

static void deflate_of(struct stream *s, const uint8_t *p, size_t len, int level)
{
    z_stream z = {
        .next_in = (uint8_t *)p, .avail_in = (uInt)len, .next_out = s->v, .avail_out = STREAM_MAX};
    must(deflateInit2(&z, level, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY) == Z_OK &&
             deflate(&z, Z_FINISH) == Z_STREAM_END,
         "deflate");
    s->n = STREAM_MAX - z.avail_out;
    deflateEnd(&z);
}

/* window_log 0: as the library likes it; else a frame that tells no size and asks for this. */
static void zstd_of(struct stream *s, const uint8_t *p, size_t len, int window_log)
{
    ZSTD_CCtx *c = ZSTD_createCCtx();
    ZSTD_outBuffer out = {s->v + s->n, STREAM_MAX - s->n, 0};
    ZSTD_inBuffer in = {p, len, 0};
    if (window_log) {
        ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, window_log);
        ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0);
        ZSTD_compressStream2(c, &out, &in, ZSTD_e_flush);
    }
    must(ZSTD_compressStream2(c, &out, &in, ZSTD_e_end) == 0, "zstd");
    s->n += out.pos;
    ZSTD_freeCCtx(c);
}

enum shape { WHOLE, STORED, GARBAGE, SHORT, LONG, BOMB, TWO_FRAMES, SKIPPABLE, WIDE, EMPTY_FRAMES };

static void make_stream(struct stream *s, enum shape shape, bool zstd)
{
    static uint8_t p[1 << 20];
    size_t len = shape == SHORT  ? CLUSTER - 1
                 : shape == LONG ? CLUSTER + 1
                 : shape == BOMB ? sizeof(p)
                                 : CLUSTER;
    struct rng r;
    memset(p, 0, sizeof(p));
    pattern(p, min_u64(len, CLUSTER));
    s->n = 0;
    switch (shape) {
    case GARBAGE:
        rng_seed(&r, 1);
        for (s->n = 0; s->n < 1000; s->n++)
            s->v[s->n] = (uint8_t)rng_u64(&r);
        break;
    case TWO_FRAMES:
        zstd_of(s, p, 1000, 0);
        zstd_of(s, p + 1000, CLUSTER - 1000, 0);
        break;
    case SKIPPABLE:
        memcpy(s->v, "\x50\x2a\x4d\x18\x04\0\0\0abcd", 12);
        s->n = 12;
        zstd_of(s, p, len, 0);
        break;
    case EMPTY_FRAMES:
        while (s->n < STREAM_MAX / 2)
            zstd_of(s, p, 0, 0);
        break;
    default:
        if (zstd)
            zstd_of(s, p, len, shape == WIDE ? 27 : 0);
        else
            deflate_of(s, p, len, shape == STORED ? 0 : Z_DEFAULT_COMPRESSION);
    }
}

/* --- An image with one of them --- */

struct plant {
    const char *what;
    bool zstd;
    enum shape shape;
    int sectors; /* more (or less) in the descriptor than the stream takes */
    int tail;    /* bytes of file behind the stream; < 0: the end of the stream is missing */
    int result;
};

static const struct plant plants[] = {
    {"deflate", false, WHOLE, 0, 3000, 0},
    {"deflate at the end of the file", false, WHOLE, 0, 0, 0},
    {"deflate, more sectors than there are", false, WHOLE, 15, 0, 0},
    {"deflate, stored, in two clusters", false, STORED, 0, 3000, 0},
    {"deflate, its end cut off", false, WHOLE, 0, -20, -EIO},
    {"deflate, a sector too few", false, STORED, -1, 3000, -EIO},
    {"deflate, garbage", false, GARBAGE, 0, 3000, -EIO},
    {"deflate, a byte too short", false, SHORT, 0, 3000, -EIO},
    {"deflate, a byte too long", false, LONG, 0, 3000, -EIO},
    {"deflate, a bomb", false, BOMB, 0, 3000, -EIO},
    {"zstd", true, WHOLE, 0, 3000, 0},
    {"zstd at the end of the file", true, WHOLE, 0, 0, 0},
    {"zstd, more sectors than there are", true, WHOLE, 10, 0, 0},
    {"zstd, two frames", true, TWO_FRAMES, 0, 3000, 0},
    {"zstd, asks for a large window", true, WIDE, 0, 3000, 0},
    {"zstd, its end cut off", true, WHOLE, 0, -20, -EIO},
    {"zstd, garbage", true, GARBAGE, 0, 3000, -EIO},
    {"zstd, a byte too short", true, SHORT, 0, 3000, -EIO},
    {"zstd, a byte too long", true, LONG, 0, 3000, -EIO},
    {"zstd, a bomb", true, BOMB, 0, 3000, -EIO},
    {"zstd, skippable frames", true, SKIPPABLE, 0, 3000, -EIO},
    {"zstd, many empty frames", true, EMPTY_FRAMES, 0, 3000, -EIO},
};

/* A disk whose guest cluster 1 is p, with refcounts that are right. */
static struct sim_disk *planted(const struct plant *p)
{
    static struct stream s;
    struct sim_disk *d = image_new(&small);
    if (p->zstd)
        image_set_zstd(d);
    struct qc_open_opts o = {0};
    struct node *n = image_open(d, &o);
    uint8_t zero[CLUSTER] = {1};
    must(node_write(n, 0, zero, CLUSTER, 0) == 0, "write");
    node_unref(n);

    make_stream(&s, p->shape, p->zstd);
    uint64_t len = AT + s.n + (uint64_t)p->tail;
    uint8_t *image = calloc(1, AT + STREAM_MAX + CLUSTER);
    sim_disk_peek(d, 0, image, sim_disk_size(d));
    memset(image + AT + s.n, 0xa5, CLUSTER); /* not read: it must not matter */
    memcpy(image + AT, s.v, s.n);
    uint64_t l2 = get_be64(image + get_be64(image + 40)) & UINT64_C(0x00fffffffffffe00);
    uint64_t block = get_be64(image + get_be64(image + 48));
    uint64_t more = (AT + s.n - 1) / 512 - AT / 512 + (uint64_t)p->sectors;
    if (p->sectors > 0)
        more = min_u64(more, 15); /* what the field holds */
    put_be64(image + l2 + 8, UINT64_C(1) << 62 | more << 58 | AT);
    for (uint64_t c = AT / CLUSTER; c <= ((AT & ~511u) + more * 512 + 511) / CLUSTER; c++)
        put_be16(image + block + 2 * c, 1);
    must(sim_disk_load(d, image, len), "memory");
    free(image);
    return d;
}

static void try_plant(const struct plant *p, bool part)
{
    uint8_t want[CLUSTER], got[CLUSTER], one[64];
    struct qc_open_opts o = {0};
    struct sim_disk *d = planted(p);
    struct node *n = image_open(d, &o);
    pattern(want, CLUSTER);
    for (unsigned i = 0; i < 2; i++) {
        int r = node_read(n, CLUSTER, got, CLUSTER);
        must(r == p->result, "%s: read gave %d", p->what, r);
        must(r < 0 || !memcmp(got, want, CLUSTER), "%s: content", p->what);
        must(node_read(n, 0, got, CLUSTER) == 0 && got[0] == 1, "%s: neighbour", p->what);
    }
    memset(one, 0xee, sizeof(one));
    if (part) {
        int r = node_write(n, CLUSTER + 100, one, sizeof(one), 0);
        must(r == p->result, "%s: write of a part gave %d", p->what, r);
        memcpy(want + 100, one, sizeof(one));
    } else {
        memset(want, 0x77, CLUSTER);
        must(node_write(n, CLUSTER, want, CLUSTER, 0) == 0, "%s: overwrite", p->what);
    }
    bool good = p->result == 0 || !part;
    int r = node_read(n, CLUSTER, got, CLUSTER);
    must(good ? r == 0 && !memcmp(got, want, CLUSTER) : r == p->result, "%s: after a write: %d",
         p->what, r);
    node_unref(n);
    if (good)
        image_judge(d, false, p->what);
    sim_disk_free(d);
}

static void plants_body(void *arg)
{
    log_set_sink(no_log, NULL);
    for (size_t i = 0; i < ARRAY_LEN(plants); i++) {
        try_plant(&plants[i], false);
        try_plant(&plants[i], true);
    }
    log_set_sink(NULL, NULL);
}

/* --- What is kept --- */

static unsigned n_loads, n_reading, max_reading;

static void count_event(struct node *n, enum blk_event ev)
{
    n_loads += ev == EV_READ_COMPRESSED;
    node_event(n->child[0], ev);
}

static int count_submit(struct node *n, struct req *r)
{
    bool data = r->op == REQ_READ;
    n_reading += data;
    max_reading = n_reading > max_reading ? n_reading : max_reading;
    int ret = node_submit(n->child[0], r);
    n_reading -= data;
    return ret;
}

static const struct driver counter = {
    .name = "counter", .is_filter = true, .submit = count_submit, .event = count_event};

static struct node *open_counted(struct sim_disk *d)
{
    struct qc_open_opts o = {0};
    struct node *c = node_new(&counter, "counter", NULL);
    must(c && node_attach(c, sim_open(d, false, NULL), NULL), "attach");
    struct node *n = qc_open(c, &o, NULL);
    must(n, "open");
    n_loads = max_reading = 0;
    return n;
}

static void put(struct node *n, uint64_t cluster, int byte, uint32_t flags)
{
    uint8_t buf[CLUSTER];
    memset(buf, byte, CLUSTER);
    must(node_write(n, cluster * CLUSTER, buf, CLUSTER, flags) == 0, "write");
}

static bool holds(struct node *n, uint64_t off, uint64_t len, int byte)
{
    uint8_t buf[CLUSTER];
    bool ok = node_read(n, off, buf, len) == 0;
    for (uint64_t i = 0; i < len; i++)
        ok = ok && buf[i] == (uint8_t)byte;
    return ok;
}

static void once_body(void *arg)
{
    struct sim_disk *d = image_new(&small);
    struct node *n = open_counted(d);
    for (unsigned c = 0; c < 8; c++)
        put(n, c, (int)c + 1, REQ_COMPRESSED);
    for (uint64_t off = 0; off < 8 * CLUSTER; off += 512)
        must(holds(n, off, 512, (int)(off / CLUSTER) + 1), "content");
    must(n_loads == 8, "8 clusters were unpacked %u times", n_loads);
    node_unref(n);
    sim_disk_free(d);
}

static struct node *crowd_node;
static unsigned crowd_next;

static void crowd_main(void *arg)
{
    struct co_group *all = arg;
    unsigned c = crowd_next++ % 32;
    must(holds(crowd_node, c * CLUSTER + 512, 1024, (int)c + 1), "content of cluster %u", c);
    co_group_done(all);
}

static void crowd_body(void *arg)
{
    struct sim_disk *d = image_new(&small);
    struct co_group all = {0};
    crowd_node = open_counted(d);
    crowd_next = 0;
    for (unsigned c = 0; c < 32; c++)
        put(crowd_node, c, (int)c + 1, REQ_COMPRESSED);
    max_reading = 0;
    sim_set_latency(d, 1000, 100000, 1);
    for (unsigned i = 0; i < 128; i++) {
        co_group_add(&all);
        must(co_start(crowd_main, &all), "memory");
    }
    co_group_wait(&all);
    must(max_reading > 1 && max_reading <= 4, "%u clusters were read at a time", max_reading);
    sim_set_latency(d, 0, 0, 0);
    node_unref(crowd_node);
    sim_disk_free(d);
}

/* The same bytes of the file come to hold another cluster: the descriptor stays the same. */
static void reuse_body(void *arg)
{
    struct sim_disk *d = image_new(&small);
    struct node *n = open_counted(d);
    uint64_t size = 0;
    for (int i = 1; i < 20; i++) {
        put(n, 0, i, REQ_COMPRESSED);
        must(holds(n, 0, CLUSTER, i), "round %d: content", i);
        must(node_discard(n, 0, CLUSTER) == 0, "discard");
        must(node_flush(n) == 0 && node_flush(n) == 0, "flush");
        uint64_t end = round_up(sim_disk_size(d), CLUSTER);
        must(i == 1 || end == size, "round %d: the place was not used again", i);
        size = end;
    }
    node_unref(n);
    image_judge(d, false, "reuse");
    sim_disk_free(d);
}

static void request_body(void *arg)
{
    struct qc_create_opts o = small;
    o.size -= 1024; /* the last cluster ends before its end */
    struct sim_disk *d = image_new(&o);
    struct node *n = open_counted(d);
    uint8_t buf[2 * CLUSTER] = {0};
    must(node_write(n, 512, buf, CLUSTER, REQ_COMPRESSED) == -EINVAL, "unaligned offset");
    must(node_write(n, 0, buf, CLUSTER + 512, REQ_COMPRESSED) == -EINVAL, "unaligned length");
    must(node_write(n, o.size - 3072, buf, 3072, REQ_COMPRESSED) == 0, "the last cluster");
    must(node_write(n, 0, buf, 2 * CLUSTER, REQ_COMPRESSED) == 0, "two clusters");
    struct extents x;
    extents_init(&x, 8);
    must(node_status(n, 0, 3 * CLUSTER, &x) == 0 && x.n == 2 && x.v[0].len == 2 * CLUSTER &&
             x.v[0].flags == 0,
         "compressed clusters are data");
    extents_free(&x);
    must(sim_disk_size(d) < 6 * CLUSTER, "nothing was saved: %llu bytes",
         (unsigned long long)sim_disk_size(d));
    node_unref(n);
    image_judge(d, false, "requests");
    sim_disk_free(d);
}

static void streams_are_taken_as_the_format_says_and_never_further(void **state)
{
    run_sim(plants_body, NULL);
}

static void small_reads_in_sequence_unpack_a_cluster_once(void **state)
{
    run_sim(once_body, NULL);
}

static void a_crowd_of_readers_is_kept_within_bounds(void **state)
{
    run_sim(crowd_body, NULL);
}

static void a_place_that_is_used_again_is_unpacked_anew(void **state)
{
    run_sim(reuse_body, NULL);
}

static void only_whole_clusters_are_compressed(void **state)
{
    run_sim(request_body, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_are_taken_as_the_format_says_and_never_further),
        cmocka_unit_test(small_reads_in_sequence_unpack_a_cluster_once),
        cmocka_unit_test(a_crowd_of_readers_is_kept_within_bounds),
        cmocka_unit_test(a_place_that_is_used_again_is_unpacked_anew),
        cmocka_unit_test(only_whole_clusters_are_compressed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
