/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Damaging images. The tables are found by the format, however they are damaged already: what is
 * not inside the file is not touched.
 */
#include "tests/lib/damage.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "block/sim.h"
#include "tests/lib/workload.h"

#define MAX_IMAGE (UINT64_C(1) << 20)
#define OFFSET_MASK UINT64_C(0x00fffffffffffe00)

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "damage: out of memory\n");
        abort();
    }
    return p;
}

static struct damage_image *add(struct damage_image **v, unsigned *n, const char *name,
                                uint64_t len)
{
    *v = must(realloc(*v, (*n + 1) * sizeof(**v)));
    struct damage_image *im = &(*v)[(*n)++];
    snprintf(im->name, sizeof(im->name), "%s", name);
    im->data = must(calloc(1, len + DAMAGE_SPARE));
    im->len = len;
    return im;
}

static void add_workload(struct damage_image **v, unsigned *n, const struct workload *w)
{
    struct load_run run = {.w = w,
                           .seed = 7,
                           .short_run = true,
                           .disk = must(load_create(w)),
                           .oracle = load_oracle(w)};
    load_run(&run);
    uint64_t len = sim_disk_size(run.disk);
    if (!run.problem[0] && len <= MAX_IMAGE) {
        struct damage_image *im = add(v, n, w->name, len);
        sim_disk_peek(run.disk, 0, im->data, len);
    }
    load_snaps_free(&run);
    oracle_free(run.oracle);
    sim_disk_free(run.disk);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void add_folder(struct damage_image **v, unsigned *n, const char *folder)
{
    struct dirent **names;
    int count = scandir(folder, &names, NULL, by_name);
    if (count < 0) {
        perror(folder);
        abort();
    }
    for (int i = 0; i < count; i++) {
        char path[512];
        struct stat st;
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]->d_name);
        bool skip = names[i]->d_name[0] == '.' || strncmp(names[i]->d_name, "bad_", 4) == 0;
        FILE *f = skip ? NULL : fopen(path, "rb");
        if (f && fstat(fileno(f), &st) == 0 && (uint64_t)st.st_size <= MAX_IMAGE) {
            struct damage_image *im = add(v, n, names[i]->d_name, (uint64_t)st.st_size);
            if (fread(im->data, 1, im->len, f) != im->len)
                abort();
        }
        if (f)
            fclose(f);
        free(names[i]);
    }
    free(names);
}

struct damage_image *damage_bases(const char *const *folders, unsigned *n)
{
    struct damage_image *v = NULL;
    *n = 0;
    for (unsigned i = 0; i < n_workloads; i++)
        add_workload(&v, n, &workloads[i]);
    for (; *folders; folders++)
        add_folder(&v, n, *folders);
    return v;
}

void damage_bases_free(struct damage_image *v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        free(v[i].data);
    free(v);
}

static uint64_t cluster_of(const struct damage_image *im)
{
    uint32_t bits = get_be32(im->data + 20);
    return bits >= 9 && bits <= 21 ? UINT64_C(1) << bits : 512;
}

/* One of the nonzero 8-byte entries of a table; 0 if there is none. */
static uint64_t pick_entry(struct rng *r, const struct damage_image *im, uint64_t off, uint64_t n)
{
    uint64_t seen = 0, at = 0;
    for (uint64_t i = 0; i < n && off && off + i * 8 + 8 <= im->len; i++)
        if (get_be64(im->data + off + i * 8) && rng_below(r, ++seen) == 0)
            at = off + i * 8;
    return at;
}

static uint64_t pick_l1(struct rng *r, const struct damage_image *im)
{
    return pick_entry(r, im, get_be64(im->data + 40), get_be32(im->data + 36));
}

static uint64_t pick_l2(struct rng *r, const struct damage_image *im)
{
    uint64_t l1 = pick_l1(r, im), l2 = l1 ? get_be64(im->data + l1) & OFFSET_MASK : 0;
    return pick_entry(r, im, l2, cluster_of(im) / 8);
}

static uint64_t pick_reftable(struct rng *r, const struct damage_image *im)
{
    uint64_t n = get_be32(im->data + 56) * cluster_of(im) / 8;
    return pick_entry(r, im, get_be64(im->data + 48), n);
}

/* An offset that is not 0, of which some are inside the file and some aligned. */
static uint64_t some_offset(struct rng *r, const struct damage_image *im)
{
    uint64_t cluster = cluster_of(im);
    switch (rng_below(r, 6)) {
    case 0:
        return 512 * (1 + rng_below(r, im->len / 512));
    case 1:
        return round_up(im->len, cluster) + cluster * rng_below(r, 20);
    case 2:
        return UINT64_C(1) << (9 + rng_below(r, 47));
    default:
        return cluster * (1 + rng_below(r, im->len / cluster + 1));
    }
}

static uint64_t twist(struct rng *r, const struct damage_image *im, uint64_t old)
{
    switch (rng_below(r, 6)) {
    case 0:
        return old ^ UINT64_C(1) << rng_below(r, 64);
    case 1:
        return rng_u64(r);
    case 2:
        return 0;
    case 3:
        return old ^ UINT64_C(3) << rng_below(r, 60);
    default:
        return (old & ~OFFSET_MASK) | some_offset(r, im);
    }
}

static bool twist_at(struct rng *r, struct damage_image *im, uint64_t at)
{
    if (at)
        put_be64(im->data + at, twist(r, im, get_be64(im->data + at)));
    return at != 0;
}

static bool damage_refcounts(struct rng *r, struct damage_image *im, uint64_t most)
{
    uint64_t cluster = cluster_of(im), at = pick_reftable(r, im);
    uint64_t block = at ? get_be64(im->data + at) : 0;
    if (!block || block % 512 || block + cluster > im->len)
        return false;
    /* Of clusters that the file has, if it is the first block. */
    uint64_t room = min_u64(cluster, im->len / cluster * 2 + 8);
    uint64_t from = rng_below(r, room), n = min_u64(1 + rng_below(r, most), cluster - from);
    bool zero = rng_below(r, 3) == 0;
    for (uint64_t i = 0; i < n; i++)
        im->data[block + from + i] =
            zero ? 0 : (uint8_t)(rng_below(r, 2) ? rng_below(r, 4) : rng_u64(r));
    return true;
}

static bool damage_copied(struct rng *r, struct damage_image *im)
{
    uint64_t at = rng_below(r, 3) ? pick_l2(r, im) : pick_l1(r, im);
    bool v3 = get_be32(im->data + 4) >= 3;
    /* On a compressed cluster, or where the flag means something else. */
    if (!at || (v3 && (im->data[79] & 0x14)) || !(get_be64(im->data + at) & OFFSET_MASK))
        return false;
    im->data[at] ^= 0x80;
    return true;
}

static bool damage_marks(struct rng *r, struct damage_image *im)
{
    if (get_be32(im->data + 4) < 3)
        return false;
    im->data[79] |= 1 + rng_below(r, 3);
    im->data[92] |= (uint8_t)(rng_below(r, 2) << 3);
    return true;
}

static bool damage_no_table(struct rng *r, struct damage_image *im)
{
    switch (rng_below(r, 3)) {
    case 0:
        put_be32(im->data + 56, rng_below(r, 2) ? 0 : (uint32_t)rng_u64(r));
        break;
    case 1:
        put_be64(im->data + 48, twist(r, im, get_be64(im->data + 48)));
        break;
    default:
        put_be64(im->data + 48, some_offset(r, im));
    }
    return true;
}

static bool damage_truncate(struct rng *r, struct damage_image *im)
{
    uint64_t cut = rng_below(r, 4) ? cluster_of(im) * (1 + rng_below(r, 5)) : rng_below(r, im->len);
    if (cut + 1024 > im->len)
        return false;
    im->len -= cut;
    memset(im->data + im->len, 0, cut);
    return true;
}

static bool damage_snapshots(struct rng *r, struct damage_image *im)
{
    uint64_t off = get_be64(im->data + 64), n = get_be32(im->data + 60);
    if (n == 0 || off == 0 || off + 64 > im->len) {
        if (rng_below(r, 4) == 0)
            put_be32(im->data + 60, 1 + (uint32_t)rng_below(r, 3)); /* garbage is a snapshot */
        return n == 0;
    }
    switch (rng_below(r, 5)) {
    case 0:
        put_be32(im->data + 60, (uint32_t)(rng_below(r, 2) ? 100000 : n + rng_below(r, 9)));
        break;
    case 1:
        put_be32(im->data + off + 36, (uint32_t)(rng_below(r, 2) ? rng_below(r, 4000) : 8));
        break;
    default:
        im->data[off + rng_below(r, 64)] ^= (uint8_t)(1u << rng_below(r, 8));
    }
    return true;
}

static bool damage_header(struct rng *r, struct damage_image *im)
{
    static const uint8_t at[] = {36, 40, 44, 60,  64, 68, 72, 76, 80,
                                 88, 92, 96, 100, 24, 28, 8,  16};
    uint8_t *p = im->data + at[rng_below(r, ARRAY_LEN(at))];
    put_be32(p, rng_below(r, 2) ? get_be32(p) ^ 1u << rng_below(r, 32) : (uint32_t)rng_u64(r));
    return true;
}

static bool damage_bytes(struct rng *r, struct damage_image *im)
{
    uint64_t tables[] = {pick_l1(r, im), pick_l2(r, im), pick_reftable(r, im), 112};
    uint64_t at = tables[rng_below(r, ARRAY_LEN(tables))], n = 1 + rng_below(r, 40);
    for (uint64_t i = 0; at && i < n && at + i < im->len; i++)
        im->data[at + i] = (uint8_t)rng_u64(r);
    return at != 0;
}

bool damage_apply(struct rng *r, struct damage_image *im, enum damage_kind kind)
{
    switch (kind) {
    case DAMAGE_REFCOUNT:
        return damage_refcounts(r, im, 1);
    case DAMAGE_BLOCK:
        return damage_refcounts(r, im, 400);
    case DAMAGE_REFTABLE:
        return twist_at(r, im, pick_reftable(r, im));
    case DAMAGE_COPIED:
        return damage_copied(r, im);
    case DAMAGE_MARKS:
        return damage_marks(r, im);
    case DAMAGE_NO_TABLE:
        return damage_no_table(r, im);
    case DAMAGE_L2:
        return twist_at(r, im, pick_l2(r, im));
    case DAMAGE_L1:
        return twist_at(r, im, pick_l1(r, im));
    case DAMAGE_TRUNCATE:
        return damage_truncate(r, im);
    case DAMAGE_SNAPSHOTS:
        return damage_snapshots(r, im);
    case DAMAGE_HEADER:
        return damage_header(r, im);
    default:
        return damage_bytes(r, im);
    }
}

bool damage_draw(struct rng *r, const struct damage_image *base, int only, struct damage_image *im,
                 unsigned *kinds)
{
    bool only_soft = rng_below(r, 3) == 0, soft = true;
    *im = *base;
    *kinds = 0;
    im->data = must(malloc(im->len + DAMAGE_SPARE));
    memcpy(im->data, base->data, im->len + DAMAGE_SPARE);
    for (uint64_t times = 1 + rng_below(r, 3); times; times--) {
        unsigned most = only_soft ? DAMAGE_LAST_SOFT + 1 : DAMAGE_COUNT;
        enum damage_kind kind = only >= 0 ? (unsigned)only : (unsigned)rng_below(r, most);
        if (!damage_apply(r, im, kind))
            continue;
        /* What a damaged refcount table points at may be no refcount block. */
        soft = soft && kind <= DAMAGE_LAST_SOFT && !(*kinds >> DAMAGE_REFTABLE & 1);
        *kinds |= 1u << kind;
        if (kind == DAMAGE_NO_TABLE)
            break; /* what is found through the header now is something else */
    }
    return soft;
}

void damage_copy_free(struct damage_image *im)
{
    free(im->data);
}

const char *damage_name(enum damage_kind kind)
{
    static const char *const name[] = {
        "refcount", "refcounts", "refcount table", "COPIED",    "marks",  "no table",
        "L2",       "L1",        "truncate",       "snapshots", "header", "bytes"};
    return name[kind];
}
