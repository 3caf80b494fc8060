/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Checkpoints under random concurrency, on the simulated clock: writers, zeroers and trimmers on
 * connections of their own, over a disk that takes its time, tears what it writes in two and fails
 * at random (having written or not), while views are opened at random instants, read again and
 * again, and left. Of every view must hold:
 *  - it never changes;
 *  - each of its sectors is what some write left there that may have been the last one before the
 *    instant of its opening;
 *  - where the difference since an earlier view says nothing, the two are equal;
 *  - the difference says nothing where nobody wrote between the two.
 * Replay a failure with SEED=n.
 */
#include "tests/proto/proto.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"
#include "filters/filters.h"

#define SECTOR 512u
#define SECTORS 2048u /* the part of the disk that is used */
#define GRANULE 8u    /* sectors of a bit in differences */
#define WRITERS 6
#define WRITES 40 /* by each writer */
#define MAX_WRITES (WRITERS * WRITES + 1)
#define VIEWS 14
#define LONGEST 260u /* sectors of one request */
#define NEVER UINT64_MAX

struct change {
    unsigned first, n; /* sectors */
    uint32_t tag;      /* what it leaves in each word: 0 for zeros */
    uint64_t start, end;
    bool sure; /* it succeeded, and is not only advice */
};

struct view {
    char name[24];
    uint64_t start, end; /* ticks around the instant */
    uint32_t tag[SECTORS];
    struct peer peer;
};

struct world {
    struct rng rng;
    uint64_t tick;
    struct change change[MAX_WRITES];
    unsigned n_changes;
    struct view view[VIEWS];
    unsigned n_views, compared;
    struct co_group running;
};

static uint64_t seed;
static struct world *world; /* of the present run: for the jittery disk */

static void nap(uint64_t max_us)
{
    co_sleep_until(clock_ns() + (int64_t)rng_below(&world->rng, max_us * 1000 + 1));
}

/* --- A disk that is slow, tears and fails. --- */

static int jitter_half(struct node *n, const struct req *r, uint64_t from, uint64_t to)
{
    struct req half = *r;

    half.off += from;
    half.len = to - from;
    if (r->buf)
        half.buf = (char *)r->buf + from;
    return half.len ? node_submit(n->child[0], &half) : 0;
}

static int jitter_submit(struct node *n, struct req *r)
{
    if (!world)
        return node_submit(n->child[0], r);
    if (rng_below(&world->rng, 3))
        nap(2000);
    if (r->op != REQ_WRITE && r->op != REQ_ZERO && r->op != REQ_DISCARD)
        return node_submit(n->child[0], r);

    unsigned fate = (unsigned)rng_below(&world->rng, 40);
    uint64_t cut = rng_below(&world->rng, r->len / SECTOR + 1) * SECTOR;
    if (fate == 0)
        return -EIO;
    int ret = jitter_half(n, r, 0, cut);
    nap(2000);
    if (fate == 1)
        return -EIO;
    if (ret == 0)
        ret = jitter_half(n, r, cut, r->len);
    if (rng_below(&world->rng, 3) == 0)
        nap(2000);
    return fate == 2 ? -EIO : ret;
}

static const struct driver jitter_driver = {
    .name = "jitter",
    .state_size = 1,
    .is_filter = true,
    .submit = jitter_submit,
    .fua_ops = 1 << REQ_WRITE | 1 << REQ_ZERO | 1 << REQ_DISCARD,
};

static void jittery_disk(struct proto *p)
{
    struct node *n = node_new(&jitter_driver, "jitter", NULL);

    assert_non_null(n);
    assert_true(node_attach(n, p->export_opts.top, NULL));
    n->limits.cluster = GRANULE * SECTOR;
    proto_publish(p, "daily", 8192);
    p->export_opts.cbw = cbw_open(n, NULL);
    assert_non_null(p->export_opts.cbw);
    p->export_opts.top = p->export_opts.cbw;
    p->export_opts.checkpoints = true;
    p->server_opts.scratch_in_memory = true;
    p->server_opts.max_checkpoints = 7;
    p->server_opts.view_grace_ms = 4;
}

/* --- Writers. --- */

static uint32_t send_change(struct peer *c, struct change *ch, unsigned kind, uint8_t *buf)
{
    static const uint16_t type[] = {1, 1, 1, 6, 4}; /* WRITE, WRITE_ZEROES, TRIM */
    uint16_t flags = rng_below(&world->rng, 4) == 0;

    if (type[kind] == 6 && rng_below(&world->rng, 2))
        flags |= 2; /* NO_HOLE */
    ch->start = ++world->tick;
    peer_request(c, flags, type[kind], 5, ch->first * SECTOR, ch->n * SECTOR);
    if (type[kind] == 1) {
        for (unsigned i = 0; i < ch->n * SECTOR; i += 4)
            put_be32(buf + i, ch->tag);
        peer_send(c, buf, ch->n * SECTOR);
    }
    uint32_t error = peer_simple(c, 5);
    ch->end = ++world->tick;
    ch->sure = error == 0 && type[kind] != 4;
    return error;
}

static void writer_run(void *arg)
{
    struct peer *c = arg;
    uint8_t *buf = malloc(LONGEST * SECTOR);

    for (unsigned i = 0; i < WRITES; i++) {
        unsigned kind = (unsigned)rng_below(&world->rng, 5);
        unsigned max = rng_below(&world->rng, 4) ? 20 : LONGEST;
        struct change *ch = &world->change[world->n_changes];

        *ch = (struct change){.end = NEVER, .tag = kind < 3 ? world->n_changes : 0};
        world->n_changes++;
        ch->n = 1 + (unsigned)rng_below(&world->rng, max);
        ch->first = (unsigned)rng_below(&world->rng, SECTORS - ch->n + 1);
        uint32_t error = send_change(c, ch, kind, buf);
        assert_true(error == 0 || error == 5);
        nap(6000);
    }
    free(buf);
    peer_close(c);
    co_group_done(&world->running);
}

/* --- Views. --- */

static void read_view(struct view *v, uint32_t *tag)
{
    enum { PIECE = 128 }; /* sectors */
    uint8_t *buf = malloc(28 + PIECE * SECTOR);

    for (unsigned at = 0; at < SECTORS; at += PIECE) {
        peer_request(&v->peer, 4, 0, 3, at * SECTOR, PIECE * SECTOR); /* READ, DF */
        peer_recv(&v->peer, buf, 28);
        assert_int_equal(get_be16(buf + 6), 1);
        assert_int_equal(get_be32(buf + 16), 8 + PIECE * SECTOR);
        peer_recv(&v->peer, buf + 28, PIECE * SECTOR);
        for (unsigned s = 0; s < PIECE; s++) {
            const uint8_t *sector = buf + 28 + s * SECTOR;

            tag[at + s] = get_be32(sector);
            if (memcmp(sector, sector + 4, SECTOR - 4))
                fail_msg("SEED=%llu: %s: sector %u is torn", (unsigned long long)seed, v->name,
                         at + s);
        }
    }
    free(buf);
}

static bool touches(const struct change *ch, unsigned first, unsigned n)
{
    return ch->first < first + n && first < ch->first + ch->n;
}

/* May the view's sector be what ch left? Not if another write has surely come between. */
static bool may_be_last(const struct view *v, const struct change *ch, unsigned sector)
{
    if (ch->start > v->end)
        return false;
    for (unsigned i = 0; i < world->n_changes; i++) {
        const struct change *later = &world->change[i];

        if (later->sure && later->start > ch->end && later->end < v->start &&
            touches(later, sector, 1))
            return false;
    }
    return true;
}

static void check_instant(const struct view *v)
{
    for (unsigned s = 0; s < SECTORS; s++) {
        bool legal = false;

        for (unsigned i = 0; i < world->n_changes && !legal; i++) {
            const struct change *ch = &world->change[i];
            legal = ch->tag == v->tag[s] && touches(ch, s, 1) && may_be_last(v, ch, s);
        }
        if (!legal)
            fail_msg("SEED=%llu: %s: sector %u holds %u, which cannot have been there",
                     (unsigned long long)seed, v->name, s, v->tag[s]);
    }
}

/* base NULL: since the disk was empty. */
static void check_difference(const struct view *v, const struct view *base, const bool *dirty)
{
    for (unsigned s = 0; s < SECTORS; s++) {
        bool written = false;

        if (!dirty[s] && v->tag[s] != (base ? base->tag[s] : 0))
            fail_msg("SEED=%llu: sector %u is %u in %s and %u in %s, but not dirty",
                     (unsigned long long)seed, s, base ? base->tag[s] : 0,
                     base ? base->name : "the beginning", v->tag[s], v->name);
        if (!dirty[s] || !base || s % GRANULE)
            continue;
        for (unsigned i = 1; i < world->n_changes && !written; i++) {
            const struct change *ch = &world->change[i];
            written = ch->start < v->end && ch->end > base->start && touches(ch, s, GRANULE);
        }
        if (!written)
            fail_msg("SEED=%llu: sector %u is dirty between %s and %s, but nobody wrote it",
                     (unsigned long long)seed, s, base->name, v->name);
    }
    world->compared++;
}

/* Ask for all contexts' extents and check each. context: for each chunk the number of the view that
 * is its base, or -1. */
static void check_differences(struct view *v, const int *context, const uint32_t *ids, unsigned n)
{
    peer_request(&v->peer, 0, 7, 4, 0, SECTORS * SECTOR);
    for (unsigned i = 0; i < n; i++) {
        static bool dirty[SECTORS];
        uint8_t head[24], extent[8];
        unsigned at = 0;

        peer_recv(&v->peer, head, 24);
        assert_int_equal(get_be16(head + 6), 5);
        assert_int_equal(get_be32(head + 20), ids[i]);
        for (uint32_t left = get_be32(head + 16) - 4; left > 0; left -= 8) {
            peer_recv(&v->peer, extent, 8);
            for (unsigned k = get_be32(extent) / SECTOR; k > 0; k--)
                dirty[at++] = get_be32(extent + 4);
        }
        assert_int_equal(at, SECTORS);
        check_difference(v, context[i] < 0 ? NULL : &world->view[context[i]], dirty);
    }
}

static void keeper_run(void *arg)
{
    static uint32_t again[VIEWS][SECTORS];
    struct view *v = arg;
    uint32_t *tag = again[v - world->view];

    for (unsigned n = (unsigned)rng_below(&world->rng, 4); n > 0; n--) {
        nap(40000);
        read_view(v, tag);
        if (memcmp(tag, v->tag, sizeof(v->tag)))
            fail_msg("SEED=%llu: %s has changed", (unsigned long long)seed, v->name);
    }
    peer_close(&v->peer);
    co_group_done(&world->running);
}

/* False: all checkpoints that the server may keep are in use. */
static bool open_one(struct proto *p, struct view *v)
{
    static char names[4096];
    char text[VIEWS][48];
    const char *query[VIEWS + 1];
    uint32_t ids[VIEWS + 1];
    int context[VIEWS + 1];
    unsigned n_queries = 0, n = 0;

    snprintf(v->name, sizeof(v->name), "disk@v%u", world->n_views);
    /* Not of all bases: who is asked for least is forgotten first, also from the middle. */
    for (unsigned i = 0; i < world->n_views; i++) {
        snprintf(text[i], sizeof(text[i]), "qemu:dirty-bitmap:v%u", i);
        if (rng_below(&world->rng, 3))
            query[n_queries++] = text[i];
    }
    query[n_queries++] = "qemu:dirty-bitmap:daily";
    v->peer = peer_connect(p);
    peer_hello(&v->peer, 3);
    peer_option(&v->peer, 8, NULL, 0);
    assert_int_equal(peer_reply(&v->peer, 8, NULL, 0, NULL), 1);
    v->start = ++world->tick;
    uint32_t type = peer_meta(&v->peer, 10, v->name, query, n_queries, names, sizeof(names), ids);
    v->end = ++world->tick;
    if (type != 1) {
        assert_int_equal(type, 0x80000002u);
        peer_close(&v->peer);
        return false;
    }
    for (char *line = strtok(names, "\n"); line; line = strtok(NULL, "\n"))
        context[n++] = strstr(line, ":daily") ? -1 : atoi(strrchr(line, 'v') + 1);
    assert_int_equal(peer_go(&v->peer, 7, v->name, NULL, NULL), 1);
    world->n_views++;
    read_view(v, v->tag);
    check_instant(v);
    check_differences(v, context, ids, n);
    return true;
}

static void race(struct proto *p)
{
    static struct world w; /* too large for a coroutine's stack */
    struct peer writer[WRITERS];

    memset(&w, 0, sizeof(w));
    w.n_changes = 1;
    w.change[0] = (struct change){.n = SECTORS, .sure = true};
    rng_seed(&w.rng, seed);
    for (unsigned i = 0; i < WRITERS; i++)
        writer[i] = peer_ready(p, false);
    world = &w;
    for (unsigned i = 0; i < WRITERS; i++) {
        co_group_add(&w.running);
        assert_true(co_start(writer_run, &writer[i]));
    }
    while (w.n_views < VIEWS) {
        nap(30000);
        struct view *v = &w.view[w.n_views];
        if (!open_one(p, v))
            continue;
        co_group_add(&w.running);
        assert_true(co_start(keeper_run, v));
    }
    co_group_wait(&w.running);
    assert_true(w.compared > VIEWS);
    world = NULL;
}

static void views_and_differences_are_exact_whatever_is_written_meanwhile(void **state)
{
    const char *replay = getenv("SEED");
    uint64_t first = replay ? strtoull(replay, NULL, 0) : 1;

    (void)state;
    for (seed = first; seed < first + (replay ? 1 : 12); seed++)
        proto_run(race, jittery_disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(views_and_differences_are_exact_whatever_is_written_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
