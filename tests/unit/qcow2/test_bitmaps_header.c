/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The header's reference to stored bitmaps, in headers of every layout: power cuts while the first
 * bitmap comes, a second one, one goes, and the last goes. No state may be refused, no other
 * extension and no backing name may change, and no bitmap that was reported may vanish.
 */
#include <errno.h>

#include "base/log.h"
#include "block/node_bitmap.h"
#include "tests/unit/qcow2/image.h"

#define UNKNOWN_EXT 0x12345678u

struct layout {
    const char *name;
    uint32_t cluster;
    unsigned end;     /* where the extensions end: where the end marker is */
    unsigned backing; /* where the backing file's name is; 0: none */
    bool may_vanish;  /* no single step can change the extension's content */
    bool no_room;
};

/* Sectors end at 512 and 1024. */
static const struct layout layouts[] = {
    {"all in one sector", 4096, 128, 0, false, false},
    {"the type in one sector, the content in the next", 4096, 504, 0, false, false},
    {"the content across two sectors", 4096, 488, 0, true, false},
    {"the end marker in the next sector", 4096, 480, 0, false, false},
    {"all in the second sector", 4096, 520, 0, false, false},
    {"a name right behind the end marker", 4096, 160, 168, false, false},
    {"a name that must make room across a sector", 4096, 480, 500, false, false},
    {"a name with just enough room before it", 4096, 200, 240, false, false},
    {"a small cluster that is full", 512, 480, 0, false, true},
    {"a small cluster whose name cannot move", 512, 448, 480, false, true},
};

struct world {
    const struct layout *l;
    struct sim_disk *disk;
    uint8_t before[512]; /* the unknown extension's bytes */
    uint64_t added[2], removing[2];
    uint64_t states;
};

static const char name_text[] = "base-of-some-length.raw";

static void image_lay(struct world *w)
{
    const struct layout *l = w->l;
    struct qc_create_opts o = {.size = 64 * KiB, .cluster_size = l->cluster};
    w->disk = image_new(&o);
    uint64_t len = sim_disk_size(w->disk);
    uint8_t *b = mem_alloc(len);
    sim_disk_peek(w->disk, 0, b, len);
    memset(b + 112, 0, l->cluster - 112);
    put_be32(b + 112, UNKNOWN_EXT);
    put_be32(b + 116, l->end - 120 - 3); /* padded */
    for (unsigned i = 120; i < l->end - 3; i++)
        b[i] = (uint8_t)(i * 7);
    if (l->backing) {
        put_be64(b + 8, l->backing);
        put_be32(b + 16, sizeof(name_text) - 1);
        memcpy(b + l->backing, name_text, sizeof(name_text) - 1);
    }
    memcpy(w->before, b + 112, l->end - 112);
    must(sim_disk_load(w->disk, b, len), "memory");
    mem_free(b);
}

/* What no step may touch. */
static void check_rest(const struct world *w, struct sim_disk *d, const char *what)
{
    uint8_t b[4096];
    sim_disk_peek(d, 0, b, w->l->cluster);
    must(memcmp(b + 112, w->before, w->l->end - 112) == 0, "%s: another extension changed", what);
    if (w->l->backing) {
        uint64_t at = get_be64(b + 8);
        must(get_be32(b + 16) == sizeof(name_text) - 1 &&
                 memcmp(b + at, name_text, sizeof(name_text) - 1) == 0,
             "%s: the backing file's name is lost", what);
    }
}

static bool visit(struct sim_disk *state, const struct sim_crash *how, void *arg)
{
    struct world *w = arg;
    char what[256];
    snprintf(what, sizeof(what), "%s, cut at %llu", w->l->name, (unsigned long long)how->at);
    struct qc_open_opts o = {.read_only = true, .no_backing = true};
    check_rest(w, state, what);
    image_judge(state, true, what);
    struct node *n = image_open(state, &o); /* fails the test if it is refused */
    for (unsigned i = 0; i < 2; i++) {
        bool sure =
            w->added[i] && w->added[i] <= how->at && !(w->removing[i] && w->removing[i] <= how->at);
        const struct bitmap *b = node_bitmap_find(n, i ? "two" : "one");
        must(b || !sure || w->l->may_vanish, "%s: bitmap %u has vanished", what, i + 1);
    }
    node_unref(n);
    return true;
}

static void remove_one(struct world *w, struct node *n, unsigned i)
{
    w->removing[i] = sim_seq(w->disk);
    must(node_bitmap_remove(n, i ? "two" : "one", NULL), "%s: remove", w->l->name);
}

static void add_one(struct world *w, struct node *n, unsigned i)
{
    struct err *e = NULL;
    must(node_bitmap_add(n, i ? "two" : "one", 0, true, &e), "%s: %s", w->l->name, err_msg(e));
    w->added[i] = sim_seq(w->disk);
}

static void no_room(struct world *w, struct node *n)
{
    struct err *e = NULL;
    must(sim_log_mark(w->disk), "memory");
    must(!node_bitmap_add(n, "one", 0, true, &e), "%s: there was room", w->l->name);
    must(err_code(e) == ENOSPC && strstr(err_msg(e), "no room for the bitmaps extension"), "%s",
         err_msg(e));
    err_free(e);
    must(!n->bitmaps, "it is there all the same");
}

static void layout_body(void *arg)
{
    struct world w = {.l = arg};
    struct qc_open_opts o = {.no_backing = true};
    image_lay(&w);
    struct node *n = image_open(w.disk, &o);
    must(sim_log_mark(w.disk), "memory");
    if (w.l->no_room) {
        no_room(&w, n);
    } else {
        add_one(&w, n, 0);
        add_one(&w, n, 1);
        remove_one(&w, n, 0);
        remove_one(&w, n, 1);
    }
    node_unref(n);
    check_rest(&w, w.disk, "at the end");
    image_judge(w.disk, false, w.l->name);
    struct sim_explore x = {
        .seed = 5, .max_full_bits = 8, .samples = 40, .max_states = 1500, .unit = 512};
    w.states = sim_explore(w.disk, &x, visit, &w);
    must(w.l->no_room || w.states > 20, "only %llu states", (unsigned long long)w.states);
    sim_disk_free(w.disk);
}

static void no_power_cut_breaks_a_header_of_any_layout(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(layouts); i++)
        run_sim(layout_body, (void *)&layouts[i]);
}

/* An extension behind that of the bitmaps stays where it is, so that of the bitmaps must stay too.
 */
static void followed_body(void *arg)
{
    struct qc_create_opts o = {.size = 64 * KiB, .cluster_size = 4096};
    struct qc_open_opts oo = {0};
    struct sim_disk *d = image_new(&o);
    uint64_t len = sim_disk_size(d);
    uint8_t *b = mem_alloc(len), after[16];
    sim_disk_peek(d, 0, b, len);
    memset(b + 112, 0, 4096 - 112);
    put_be32(b + 112, 0x23852875);
    put_be32(b + 116, 24);
    put_be32(b + 120, 1);
    put_be64(b + 128, 32);
    put_be64(b + 136, 4096 * 7);
    put_be32(b + 144, UNKNOWN_EXT);
    put_be32(b + 148, 8);
    memcpy(b + 152, "and more", 8);
    must(sim_disk_load(d, b, len), "memory");
    for (unsigned i = 0; i < 2; i++) {
        struct node *n = image_open(d, &oo);
        must(node_bitmap_add(n, "one", 0, true, NULL), "add");
        node_unref(n);
        n = image_open(d, &oo);
        must(node_bitmap_find(n, "one") && node_bitmap_remove(n, "one", NULL), "remove");
        node_unref(n);
        sim_disk_peek(d, 144, after, 16);
        must(memcmp(after, b + 144, 16) == 0, "the other extension changed");
        image_judge(d, false, "followed");
    }
    mem_free(b);
    sim_disk_free(d);
}

static void an_extension_behind_is_left_alone(void **state)
{
    run_sim(followed_body, NULL);
}

int main(void)
{
    log_set_level(LOG_LEVEL_ERROR); /* cut between two steps, it may be warned of */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_power_cut_breaks_a_header_of_any_layout),
        cmocka_unit_test(an_extension_behind_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
