/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Stored bitmaps that cannot be: every field of extension, directory and table is refused with its
 * kind of error, by name, before anything is written. Those that must be left alone are.
 */
#include <errno.h>

#include "base/log.h"
#include "block/node_bitmap.h"
#include "tests/unit/qcow2/image.h"

#define CLUSTER 65536
#define BIG (UINT64_C(4) << 40)
#define FIRST "abcdefghi" /* entries of 40 bytes: room for 8 bytes of extra data */

enum where { EXT, ENTRY, SECOND, TABLE };

struct patch {
    enum where where;
    unsigned off, bytes;
    uint64_t value;
};

struct row {
    const char *name;
    int code; /* 0: it opens */
    const char *says;
    struct patch p[4];
    bool inconsistent; /* the first bitmap, if it opens */
};

static const struct row rows[] = {
    {"as it is", 0, "", .p = {{EXT, 0, 0, 0}}},
    {"E3 directory too small", EINVAL, "bitmap_directory_size is 40, too small for nb_bitmaps 2",
     .p = {{EXT, 8, 8, 40}}},
    {"E3 directory larger than its entries", EINVAL, "directory has 88 bytes, its entries 80",
     .p = {{EXT, 8, 8, 88}}},
    {"E3 directory on the header", EINVAL, "bitmap_directory_offset is 0x0",
     .p = {{EXT, 16, 8, 0}}},
    {"E3 directory past the end", EINVAL, "not inside the file", .p = {{EXT, 16, 8, 0x7fff0000}}},
    {"B1 no table", EINVAL, "bitmap_table_size is 0", .p = {{ENTRY, 8, 4, 0}}},
    {"B1 huge table", EINVAL, "must be 1 to 134217728", .p = {{ENTRY, 8, 4, 0x08000001}}},
    {"B1 table too long", EINVAL, "needs 2", .p = {{ENTRY, 8, 4, 3}}},
    {"B1 table too short", EINVAL, "needs 2", .p = {{ENTRY, 8, 4, 1}}},
    {"B1 table on the header", EINVAL, "bitmap_table_offset is 0x0", .p = {{ENTRY, 0, 8, 0}}},
    {"B1 table askew", EINVAL, "bitmap_table_offset is 0x200", .p = {{ENTRY, 0, 8, 0x200}}},
    {"B1 table past the end", EINVAL, "inside the file", .p = {{ENTRY, 0, 8, 0x7fff0000}}},
    {"B1 granularity 256", EINVAL, "granularity_bits is 8", .p = {{ENTRY, 17, 1, 8}}},
    {"B1 granularity 4 GiB", EINVAL, "granularity_bits is 32", .p = {{ENTRY, 17, 1, 32}}},
    {"B1 type 0", EINVAL, "type is 0", .p = {{ENTRY, 16, 1, 0}}},
    {"B1 type 2", EINVAL, "type is 2", .p = {{SECOND, 16, 1, 2}}},
    {"B1 reserved flag", EINVAL, "reserved flags in 0xa", .p = {{ENTRY, 12, 4, 10}}},
    {"B1 no name", EINVAL, "name_size is 0", .p = {{ENTRY, 18, 1, 0}, {ENTRY, 19, 1, 0}}},
    {"B1 long name", EINVAL, "past the directory's end", .p = {{SECOND, 18, 1, 4}}},
    {"B1 name with NUL", EINVAL, "NUL byte", .p = {{ENTRY, 28, 1, 0}}},
    {"B1 twice", EINVAL, "appears twice", .p = {{SECOND, 24, 1, 'a'}}},
    {"B1 RAM", EFBIG, "1073741824 bytes of bits, the limit is 536870912", .p = {{ENTRY, 17, 1, 9}}},
    {"B2 reserved bit 1", EINVAL, "reserved bits", .p = {{TABLE, 0, 8, 2}}},
    {"B2 reserved bit 56", EINVAL, "reserved bits", .p = {{TABLE, 8, 8, UINT64_C(1) << 56}}},
    {"B2 ones with a cluster", EINVAL, "reserved bits", .p = {{TABLE, 0, 8, CLUSTER | 1}}},
    {"B2 askew", EINVAL, "not aligned", .p = {{TABLE, 0, 8, CLUSTER + 512}}},
    {"B2 past the end", EINVAL, "past the end", .p = {{TABLE, 0, 8, 0x7fff0000}}},
    {"B3 in use", 0, "", .p = {{ENTRY, 12, 4, 3}}, .inconsistent = true},
    {"B3 in use, of another size", 0, "", .p = {{ENTRY, 12, 4, 3}, {ENTRY, 8, 4, 7}},
     .inconsistent = true},
    {"B5 extra data", 0, "", .p = {{ENTRY, 20, 4, 8}, {ENTRY, 19, 1, 1}}, .inconsistent = true},
    {"B5 compatible extra data", 0, "",
     .p = {{ENTRY, 20, 4, 8}, {ENTRY, 19, 1, 1}, {ENTRY, 12, 4, 6}}},
    {"B5 extra data past the end", EINVAL, "past the directory's end",
     .p = {{SECOND, 20, 4, 0xffffffff}}},
};

struct image {
    uint8_t *bytes;
    uint64_t len, at[4];
};

static void image_make(struct image *im)
{
    struct qc_create_opts o = {.size = BIG, .cluster_size = CLUSTER};
    struct qc_open_opts oo = {0};
    struct sim_disk *d = image_new(&o);
    struct node *n = image_open(d, &oo);
    /* Two clusters of bits: the second table entry is in use too. */
    must(node_bitmap_add(n, FIRST, 4 * MiB, true, NULL) &&
             node_bitmap_add(n, "bbcdefghi", 4 * MiB, true, NULL),
         "add");
    must(node_zero(n, BIG - CLUSTER, CLUSTER, 0) == 0, "zero");
    node_unref(n);
    im->len = round_up(sim_disk_size(d), CLUSTER);
    im->bytes = mem_zalloc(im->len);
    sim_disk_peek(d, 0, im->bytes, im->len);
    for (im->at[EXT] = 112; get_be32(im->bytes + im->at[EXT]) != 0x23852875;)
        im->at[EXT] += 8 + round_up(get_be32(im->bytes + im->at[EXT] + 4), 8);
    im->at[EXT] += 8;
    im->at[ENTRY] = get_be64(im->bytes + im->at[EXT] + 16);
    im->at[SECOND] = im->at[ENTRY] + 40;
    im->at[TABLE] = get_be64(im->bytes + im->at[ENTRY]);
    sim_disk_free(d);
}

static void apply(const struct image *im, const struct patch *p, uint8_t *bytes)
{
    for (unsigned i = 0; i < 4; i++, p++) {
        uint8_t *at = bytes + im->at[p->where] + p->off;
        if (p->bytes == 1)
            *at = (uint8_t)p->value;
        else if (p->bytes == 4)
            put_be32(at, (uint32_t)p->value);
        else if (p->bytes == 8)
            put_be64(at, p->value);
    }
}

static void expect_opened(const struct row *row, struct node *n)
{
    bool extra = strncmp(row->name, "B5", 2) == 0;
    const struct bitmap *b = node_bitmap_find(n, extra ? "i" : FIRST);
    must(b, "%s: not there", row->name);
    must(b->inconsistent == row->inconsistent, "%s: inconsistent %d", row->name, b->inconsistent);
    must(node_bitmap_find(n, "bbcdefghi") && !node_bitmap_find(n, "bbcdefghi")->inconsistent,
         "%s: the other one", row->name);
    if (!row->inconsistent)
        must(bitmap_dirty_bytes(b) == 4 * MiB, "%s: %llu bytes dirty", row->name,
             (unsigned long long)bitmap_dirty_bytes(b));
}

static void try_row(const struct image *im, const struct row *row, bool read_only)
{
    uint8_t *bytes = mem_alloc(im->len);
    struct sim_disk *d = sim_disk_new(0);
    struct qc_open_opts oo = {.read_only = read_only};
    struct err *e = NULL;

    memcpy(bytes, im->bytes, im->len);
    apply(im, row->p, bytes);
    must(sim_disk_load(d, bytes, im->len) && sim_log_mark(d), "memory");
    struct node *file = sim_open(d, read_only, NULL), *n = qc_open(file, &oo, &e);
    if (row->code == 0) {
        must(n, "%s: %s", row->name, err_msg(e));
        expect_opened(row, n);
        node_unref(n);
    } else {
        must(!n, "%s: not refused", row->name);
        must(err_code(e) == row->code && strstr(err_msg(e), row->says), "%s: error %d: %s",
             row->name, err_code(e), err_msg(e));
        must(sim_log_len(d) == 0, "%s: the image was written to", row->name);
        err_free(e);
        node_unref(file);
    }
    sim_disk_free(d);
    mem_free(bytes);
}

static void rows_body(void *arg)
{
    struct image im;
    image_make(&im);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        try_row(&im, &rows[i], true);
        try_row(&im, &rows[i], false);
    }
    mem_free(im.bytes);
}

/* Entries that all name one cluster would take memory and time without end. */
static void overlap_body(void *arg)
{
    struct qc_create_opts o = {.size = 16 * GiB, .cluster_size = CLUSTER};
    struct qc_open_opts oo = {0};
    struct sim_disk *d = image_new(&o);
    struct node *n = image_open(d, &oo);
    must(node_bitmap_add(n, "b", 512, true, NULL), "add");
    must(node_zero(n, 0, 512, 0) == 0, "zero");
    node_unref(n);
    uint64_t len = round_up(sim_disk_size(d), CLUSTER), at = 112;
    uint8_t *bytes = mem_zalloc(len);
    sim_disk_peek(d, 0, bytes, len);
    while (get_be32(bytes + at) != 0x23852875)
        at += 8 + round_up(get_be32(bytes + at + 4), 8);
    uint64_t table = get_be64(bytes + get_be64(bytes + at + 24));
    for (unsigned i = 1; i < 64; i++)
        memcpy(bytes + table + i * 8, bytes + table, 8);
    must(sim_disk_load(d, bytes, len), "memory");
    struct err *e = NULL;
    struct node *file = sim_open(d, false, NULL);
    must(!qc_open(file, &oo, &e) && err_code(e) == EINVAL && strstr(err_msg(e), "overlap"), "%s",
         err_msg(e));
    err_free(e);
    node_unref(file);
    mem_free(bytes);
    sim_disk_free(d);
}

static void extra_body(void *arg)
{
    struct image im;
    struct qc_open_opts oo = {0};
    image_make(&im);
    for (unsigned compatible = 0; compatible < 2; compatible++) {
        struct patch p[4] = {
            {ENTRY, 20, 4, 8}, {ENTRY, 19, 1, 1}, {ENTRY, 12, 4, compatible ? 6 : 2}};
        uint8_t *bytes = mem_alloc(im.len), was[8], now[8];
        struct sim_disk *d = sim_disk_new(0);
        memcpy(bytes, im.bytes, im.len);
        apply(&im, p, bytes);
        memcpy(was, bytes + im.at[ENTRY] + 24, 8);
        must(sim_disk_load(d, bytes, im.len), "memory");
        struct node *n = image_open(d, &oo);
        must(node_bitmap_add(n, "new", 0, true, NULL), "add");
        must(node_write(n, 0, bytes, 512, 0) == 0, "write");
        node_unref(n);
        uint8_t dir[8], flags[4];
        sim_disk_peek(d, im.at[EXT] + 16, dir, 8);
        sim_disk_peek(d, get_be64(dir) + 24, now, 8);
        sim_disk_peek(d, get_be64(dir) + 12, flags, 4);
        must(memcmp(was, now, 8) == 0, "extra data were not preserved");
        /* It was to be kept up ("auto"), which only a compatible one can be. */
        must(get_be32(flags) == (compatible ? 6 : 3), "flags %u", get_be32(flags));
        mem_free(bytes);
        sim_disk_free(d);
    }
    mem_free(im.bytes);
}

static void no_log(enum log_level level, const char *line, void *arg)
{
    ++*(unsigned *)arg;
}

static void unvouched_body(void *arg)
{
    unsigned warnings = 0;
    struct image im;
    struct qc_open_opts oo = {0};
    struct sim_disk *d = sim_disk_new(0);
    image_make(&im);
    im.bytes[95] = 0; /* autoclear_features */
    must(sim_disk_load(d, im.bytes, im.len), "memory");
    log_set_sink(no_log, &warnings);
    struct node *n = image_open(d, &oo);
    must(!n->bitmaps && warnings == 1, "%u warnings", warnings);
    must(node_bitmap_add(n, FIRST, 0, true, NULL), "add");
    node_unref(n);
    log_set_sink(NULL, NULL);
    n = image_open(d, &oo);
    must(node_bitmap_find(n, FIRST) && !node_bitmap_find(n, FIRST)->inconsistent, "not stored");
    must(!node_bitmap_find(n, "bbcdefghi"), "the dead have risen");
    node_unref(n);
    image_judge(d, true, "unvouched");
    sim_disk_free(d);
    mem_free(im.bytes);
}

static void every_bad_field_is_refused_by_name(void **state)
{
    run_sim(rows_body, NULL);
}

static void overlapping_data_are_refused(void **state)
{
    run_sim(overlap_body, NULL);
}

static void extra_data_are_preserved(void **state)
{
    run_sim(extra_body, NULL);
}

static void without_the_autoclear_bit_nothing_is_believed(void **state)
{
    run_sim(unvouched_body, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bad_field_is_refused_by_name),
        cmocka_unit_test(overlapping_data_are_refused),
        cmocka_unit_test(extra_data_are_preserved),
        cmocka_unit_test(without_the_autoclear_bit_nothing_is_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
