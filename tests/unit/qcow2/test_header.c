/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What an open refuses: each row changes a good image in one way and names the error and what its
 * message must say. No refusal may have written to the image.
 */
#include <errno.h>

#include "block/sim.h"
#include "tests/unit/qcow2/image.h"

#define IMAGE_LEN (2 * MiB)

struct patch {
    uint32_t off, bytes; /* bytes: 1, 4 or 8; 0 ends the list */
    uint64_t value;
};

struct row {
    const char *name;
    int code; /* 0: opens */
    const char *says;
    bool read_only;
    uint32_t cluster; /* 0 = 64 KiB */
    uint32_t version; /* 0 = 3 */
    struct patch p[8];
};

#define BACKING(off, len)                                                                          \
    {8, 8, off},                                                                                   \
    {                                                                                              \
        16, 4, len                                                                                 \
    }
/* An extension as the first one, behind a header of 112 bytes. */
#define EXT(type, len)                                                                             \
    {112, 4, type},                                                                                \
    {                                                                                              \
        116, 4, len                                                                                \
    }
#define BITMAPS(n, reserved, size, off)                                                            \
    EXT(0x23852875, 24), {120, 4, n}, {124, 4, reserved}, {128, 8, size},                          \
    {                                                                                              \
        136, 8, off                                                                                \
    }

static const struct row rows[] = {
    {"good", 0, "", .p = {{0}}},
    {"H1 magic", EINVAL, "magic", .p = {{0, 4, 0x514649fa}}},
    {"H2 version 1", ENOTSUP, "version is 1", .p = {{4, 4, 1}}},
    {"H2 version 4", ENOTSUP, "version is 4", .p = {{4, 4, 4}}},
    {"H3 backing past cluster", EINVAL, "backing_file_offset", .p = {BACKING(65537, 4)}},
    {"H3 backing in header", EINVAL, "backing_file_offset", .p = {BACKING(64, 4)}},
    {"H4 backing too long", EINVAL, "backing_file_size is 1024", .p = {BACKING(512, 1024)}},
    {"H4 backing past cluster", EINVAL, "backing_file_size", .p = {BACKING(65500, 100)}},
    {"H4 backing empty", EINVAL, "backing_file_size is 0", .p = {BACKING(512, 0)}},
    {"H4 backing with NUL", EINVAL, "NUL", .p = {BACKING(512, 4), {512, 4, 0x61006200}}},
    {"H5 cluster_bits 8", EINVAL, "cluster_bits is 8", .p = {{20, 4, 8}}},
    {"H5 cluster_bits 22", EINVAL, "cluster_bits is 22", .p = {{20, 4, 22}}},
    {"H5 cluster_bits huge", EINVAL, "cluster_bits", .p = {{20, 4, 0xffffffff}}},
    {"H6 size beyond L1 maximum", EFBIG, "size is", .p = {{24, 8, UINT64_C(1) << 63}}},
    {"H6 petabytes", EINVAL, "l1_size", .p = {{24, 8, UINT64_C(1) << 50}}},
    {"H6 size not of sectors", 0, "", .p = {{24, 8, 1000001}}},
    {"H7 AES", ENOTSUP, "AES", .p = {{32, 4, 1}}},
    {"H7 LUKS", ENOTSUP, "LUKS", .p = {{32, 4, 2}}},
    {"H7 crypt 3", ENOTSUP, "crypt_method is 3", .p = {{32, 4, 3}}},
    {"H8 l1_size over 32 MiB", EFBIG, "l1_size", .p = {{36, 4, (4 << 20) + 1}}},
    {"H8 l1_size too small", EINVAL, "l1_size is 0", .p = {{36, 4, 0}}},
    {"H9 l1 unaligned", EINVAL, "l1_table_offset", .p = {{40, 8, 0x30200}}},
    {"H9 l1 at 0", EINVAL, "l1_table_offset is 0", .p = {{40, 8, 0}}},
    {"H9 l1 past EOF", EINVAL, "l1_table_offset", .p = {{40, 8, 0x40000000}}},
    {"H9 l1 past INT64_MAX", EINVAL, "l1_table_offset", .p = {{40, 8, UINT64_C(1) << 63}}},
    {"H10 reftable unaligned", EINVAL, "refcount_table_offset", .p = {{48, 8, 0x10200}}},
    {"H10 reftable at 0", EINVAL, "refcount_table_offset is 0", .p = {{48, 8, 0}}},
    {"H10 reftable past EOF", EINVAL, "refcount_table_offset", .p = {{48, 8, 0x40000000}}},
    {"H11 no reftable", EINVAL, "refcount_table_clusters is 0", .p = {{56, 4, 0}}},
    {"H11 reftable over 8 MiB", EFBIG, "refcount_table_clusters is 129", .p = {{56, 4, 129}}},
    {"H12 snapshots", EFBIG, "nb_snapshots is 65537", .p = {{60, 4, 65537}}},
    {"H13 snapshots unaligned", EINVAL, "snapshots_offset", .p = {{64, 8, 0x200}}},
    {"H13 snapshots past EOF", EINVAL, "snapshots_offset", .p = {{60, 4, 1}, {64, 8, 0x40000000}}},
    {"S1 snapshot L1 unaligned", EINVAL, "snapshot 0: l1_table_offset",
     .p = {{60, 4, 1}, {64, 8, 0x50000}, {0x50000, 8, 0x200}}},
    {"S1 snapshot L1 too big", EFBIG, "snapshot 0: l1_size",
     .p = {{60, 4, 1}, {64, 8, 0x50000}, {0x50008, 4, 0x7fffffff}}},
    {"S1 snapshot extra data", EFBIG, "extra_data_size is 1025",
     .p = {{60, 4, 1}, {64, 8, 0x50000}, {0x50024, 4, 1025}}},
    {"H14 header_length 96", EINVAL, "header_length is 96", .p = {{100, 4, 96}}},
    {"H14 header_length past cluster", EINVAL, "header_length", .p = {{100, 4, 65544}}},
    {"H14 header_length odd", EINVAL, "multiple of 8", .p = {{100, 4, 109}}},
    {"H15 refcount_order 7", EINVAL, "refcount_order is 7", .p = {{96, 4, 7}}},
    {"H16 compression 2", ENOTSUP, "compression_type is 2", .p = {{72, 8, 8}, {104, 1, 2}}},
    {"H16 zstd without bit", EINVAL, "compression_type is 1", .p = {{104, 1, 1}}},
    {"H16 bit without zstd", EINVAL, "compression_type is 0", .p = {{72, 8, 8}}},
    {"H16 zstd", 0, "", .p = {{72, 8, 8}, {104, 1, 1}}},
    {"F0 dirty, writable", 0, "", .p = {{72, 8, 1}}},
    {"F0 dirty, beyond repair", EIO, "not closed cleanly",
     .p = {{72, 8, 1}, {0x30000, 8, UINT64_C(0x8000000000040200)}}},
    {"F0 dirty and corrupt", EACCES, "marked corrupt", .p = {{72, 8, 3}}},
    {"F0 dirty, read-only", 0, "", .read_only = true, .p = {{72, 8, 1}}},
    {"F1 corrupt, writable", EACCES, "marked corrupt", .p = {{72, 8, 2}}},
    {"F1 corrupt, read-only", 0, "", .read_only = true, .p = {{72, 8, 2}}},
    {"F2 data file", EACCES, "external data file", .read_only = true, .p = {{72, 8, 4}}},
    {"F2 data file and snapshots", ENOTSUP, "nb_snapshots is 1", .read_only = true,
     .p = {{72, 8, 4}, {60, 4, 1}, {64, 8, 0x50000}}},
    {"E5 data file without a path", EACCES, "no path",
     .p = {{72, 8, 4}, EXT(0x44415441, 4), {120, 4, 0x61626364}}},
    {"E5 data file protocol", ENOTSUP, "protocol",
     .p = {{72, 8, 4}, EXT(0x44415441, 8), {120, 8, 0x6a736f6e3a7b7d20}}},
    {"E5 data file name with NUL", EINVAL, "data file extension",
     .p = {{72, 8, 4}, EXT(0x44415441, 4), {120, 4, 0x61006364}}},
    {"E5 data file name too long", EINVAL, "data file extension",
     .p = {{72, 8, 4}, EXT(0x44415441, 1024)}},
    {"F4 extended L2", 0, "", .p = {{72, 8, 16}}},
    {"F4 extended L2, small clusters", EINVAL, "cluster_bits is 13", .cluster = 8192,
     .p = {{72, 8, 16}}},
    {"F5 bit 5", ENOTSUP, "bit 5 (no name given)", .read_only = true, .p = {{72, 8, 32}}},
    {"F5 bit 63", ENOTSUP, "bit 63", .p = {{72, 8, UINT64_C(1) << 63}}},
    {"F5 named bit", ENOTSUP, "bit 6 (ABCDEFGH)",
     .p = {{72, 8, 64}, EXT(0x6803f857, 48), {121, 1, 6}, {122, 8, 0x4142434445464748}}},
    {"F7 unknown compatible", 0, "", .p = {{80, 8, 0xff00}}},
    {"F8 bitmaps bit alone", EINVAL, "bitmaps bit", .p = {{88, 8, 1}}},
    {"F9 raw bit alone", EINVAL, "raw external data", .p = {{88, 8, 2}}},
    {"F9 raw bit and backing", EINVAL, "excludes the backing file",
     .p = {{88, 8, 2}, {72, 8, 4}, BACKING(512, 4), {512, 4, 0x61626364}}},
    {"F10 unknown autoclear", 0, "", .p = {{88, 8, 0x70}}},
    {"E1 backing format too long", EINVAL, "backing format extension", .p = {EXT(0xe2792aca, 16)}},
    {"E1 backing format with NUL", EINVAL, "without NUL", .p = {EXT(0xe2792aca, 8)}},
    {"E1 no backing format", EINVAL, "no format", .p = {BACKING(512, 4), {512, 4, 0x61626364}}},
    {"E1 backing format vmdk", ENOTSUP, "'vmdk'",
     .p = {BACKING(512, 4), {512, 4, 0x61626364}, EXT(0xe2792aca, 4), {120, 4, 0x766d646b}}},
    {"K2 backing protocol", ENOTSUP, "protocol",
     .p =
         {BACKING(512, 8), {512, 8, 0x6e62643a2f2f6162}, EXT(0xe2792aca, 3), {120, 4, 0x72617700}}},
    {"K2 backing without a path", EACCES, "no path",
     .p = {BACKING(512, 4), {512, 4, 0x61626364}, EXT(0xe2792aca, 3), {120, 4, 0x72617700}}},
    {"E2 feature table too long", EINVAL, "0x6803f857", .p = {EXT(0x6803f857, 65536)}},
    {"E3 bitmaps length", EINVAL, "length 16", .p = {EXT(0x23852875, 16)}},
    {"E3 bitmaps reserved", EINVAL, "reserved", .p = {BITMAPS(1, 1, 64, 0x50000)}},
    {"E3 no bitmaps", EINVAL, "nb_bitmaps is 0", .p = {BITMAPS(0, 0, 64, 0x50000)}},
    {"E3 many bitmaps", EINVAL, "nb_bitmaps is 65536", .p = {BITMAPS(65536, 0, 64, 0x50000)}},
    {"E3 bitmaps unaligned", EINVAL, "bitmap_directory_offset", .p = {BITMAPS(1, 0, 64, 0x200)}},
    {"E3 big directory", EINVAL, "bitmap_directory_size",
     .p = {BITMAPS(1, 0, 65536 * 1024, 0x50000)}},
    {"F8 bitmaps not vouched for", 0, "", .p = {BITMAPS(1, 0, 64, 0x50000)}},
    {"E4 crypto without LUKS", EINVAL, "encryption", .p = {EXT(0x0537be77, 16)}},
    {"E6 unknown extension", 0, "", .p = {EXT(0x12345678, 8)}},
    {"E7 length past area", EINVAL, "0x12345678", .p = {EXT(0x12345678, 0xfffffff0)}},
    {"E7 twice", EINVAL, "appears twice",
     .p = {EXT(0xe2792aca, 3), {120, 4, 0x72617700}, {128, 4, 0xe2792aca}, {132, 4, 3}}},
    {"v2 with extensions", 0, "", .version = 2, .p = {{72, 4, 0x12345678}, {76, 4, 8}}},
    {"v2 extension too long", EINVAL, "0x12345678", .version = 2,
     .p = {{72, 4, 0x12345678}, {76, 4, 65536}}},
};

static void apply(uint8_t *image, const struct patch *p)
{
    for (; p->bytes; p++) {
        if (p->bytes == 1)
            image[p->off] = (uint8_t)p->value;
        else if (p->bytes == 4)
            put_be32(image + p->off, (uint32_t)p->value);
        else
            put_be64(image + p->off, p->value);
    }
}

static void try_row(const struct row *row)
{
    struct qc_create_opts o = {
        .size = 1 * MiB, .cluster_size = row->cluster, .version = row->version};
    struct sim_disk *d = image_new(&o);
    uint8_t *image = mem_zalloc(IMAGE_LEN);
    sim_disk_peek(d, 0, image, IMAGE_LEN);
    memset(image + (row->version == 2 ? 72 : 112), 0, 512); /* no extensions but the row's */
    apply(image, row->p);
    must(sim_disk_load(d, image, IMAGE_LEN) && sim_log_mark(d), "memory");

    struct err *e = NULL;
    struct node *file = sim_open(d, row->read_only, NULL);
    struct qc_open_opts oo = {.read_only = row->read_only};
    struct node *n = qc_open(file, &oo, &e);
    if (row->code == 0) {
        must(n, "%s: refused: %s", row->name, err_msg(e));
        node_unref(n);
    } else {
        must(!n, "%s: not refused", row->name);
        must(err_code(e) == row->code, "%s: error %d, not %d: %s", row->name, err_code(e),
             row->code, err_msg(e));
        must(strstr(err_msg(e), row->says), "%s: says \"%s\"", row->name, err_msg(e));
        must(sim_log_len(d) == 0, "%s: the image was written to", row->name);
        node_unref(file);
        err_free(e);
    }
    mem_free(image);
    sim_disk_free(d);
}

static void table_body(void *arg)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        try_row(&rows[i]);
}

static void truncated_body(void *arg)
{
    struct qc_create_opts o = {.size = 1 * MiB};
    static const uint64_t lens[] = {0, 1, 71, 72, 103, 104, 111, 112, 511, 65536, 0x10001};
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        struct sim_disk *d = image_new(&o);
        uint8_t *image = mem_zalloc(IMAGE_LEN);
        struct err *e = NULL;
        sim_disk_peek(d, 0, image, IMAGE_LEN);
        must(sim_disk_load(d, image, lens[i]), "memory");
        struct node *file = sim_open(d, false, NULL);
        struct qc_open_opts oo = {0};
        must(!qc_open(file, &oo, &e), "a file of %llu bytes was opened",
             (unsigned long long)lens[i]);
        must(err_code(e) == EINVAL, "%s", err_msg(e));
        err_free(e);
        node_unref(file);
        sim_disk_free(d);
        mem_free(image);
    }
}

static void autoclear_body(void *arg)
{
    struct qc_create_opts o = {.size = 1 * MiB};
    struct sim_disk *d = image_new(&o);
    uint8_t *image = mem_zalloc(IMAGE_LEN);
    sim_disk_peek(d, 0, image, IMAGE_LEN);
    put_be64(image + 88, 0x70);
    must(sim_disk_load(d, image, IMAGE_LEN), "memory");
    struct qc_open_opts oo = {.read_only = true};
    node_unref(image_open(d, &oo));
    sim_disk_peek(d, 88, image, 8);
    must(get_be64(image) == 0x70, "a read-only open cleared autoclear bits");
    oo.read_only = false;
    node_unref(image_open(d, &oo));
    sim_disk_peek(d, 88, image, 8);
    must(get_be64(image) == 0, "unknown autoclear bits survived a writable open");
    mem_free(image);
    sim_disk_free(d);
}

static void every_bad_field_is_refused_by_name(void **state)
{
    run_sim(table_body, NULL);
}

static void truncated_files_are_refused(void **state)
{
    run_sim(truncated_body, NULL);
}

static void unknown_autoclear_bits_are_cleared_before_writing(void **state)
{
    run_sim(autoclear_body, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bad_field_is_refused_by_name),
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(unknown_autoclear_bits_are_cleared_before_writing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
