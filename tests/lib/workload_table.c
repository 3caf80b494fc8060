/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The workloads. Clusters and disks are small, so that tables grow and are evicted within a few
 * operations; each row aims at one way in which an image may be harmed.
 */
#include "base/bytes.h"
#include "tests/lib/workload.h"

#define MS INT64_C(1000000)

/* clang-format off */
const struct workload workloads[] = {
    {.name = "sequential-512", .what = "allocation in order; refcount blocks grow",
     .version = 3, .cluster_size = 512, .refcount_bits = 64, .size = 256 * KiB,
     .unit = 512, .max_len = 12 * KiB, .fibers = 1, .ops = 24, .short_ops = 10, .sequential = true,
     .weight = {[LOAD_WRITE] = 8, [LOAD_FLUSH] = 1, [LOAD_READ] = 1}},
    {.name = "reftable-growth", .what = "the refcount table is outgrown and moved",
     .version = 3, .cluster_size = 512, .refcount_bits = 64, .size = 2 * MiB + 256 * KiB,
     .prefill = 1 * MiB + 896 * KiB,
     .unit = 512, .max_len = 16 * KiB, .fibers = 2, .ops = 20, .short_ops = 5, .sequential = true,
     .latency_ns = MS, .weight = {[LOAD_WRITE] = 12, [LOAD_FLUSH] = 1}},
    {.name = "random-4k", .what = "aligned writes, many L2 tables",
     .version = 3, .cluster_size = 4096, .refcount_bits = 16, .size = 2 * MiB + 64 * KiB,
     .hot_off = 2 * MiB - 64 * KiB, .hot_len = 128 * KiB,
     .unit = 4096, .max_len = 16 * KiB, .fibers = 2, .ops = 25, .short_ops = 7, .latency_ns = MS,
     .weight = {[LOAD_WRITE] = 10, [LOAD_FLUSH] = 2, [LOAD_READ] = 2}},
    {.name = "unaligned-512", .what = "writes of any byte, merged within small clusters",
     .version = 3, .cluster_size = 512, .refcount_bits = 16, .size = 96 * KiB,
     .hot_off = 30 * KiB, .hot_len = 6 * KiB,
     .unit = 1, .max_len = 1500, .fibers = 2, .ops = 25, .short_ops = 7, .latency_ns = MS,
     .weight = {[LOAD_WRITE] = 8, [LOAD_FLUSH] = 3, [LOAD_READ] = 2}},
    {.name = "cow-64k", .what = "small writes into fresh large clusters",
     .version = 3, .cluster_size = 64 * KiB, .refcount_bits = 16, .size = 1 * MiB,
     .unit = 512, .max_len = 20 * KiB, .fibers = 2, .ops = 25, .short_ops = 6, .latency_ns = MS,
     .weight = {[LOAD_WRITE] = 8, [LOAD_FLUSH] = 2, [LOAD_READ] = 2, [LOAD_ZERO_UNMAP] = 1}},
    {.name = "same-cluster", .what = "six writers in the same few clusters at once",
     .version = 3, .cluster_size = 16 * KiB, .refcount_bits = 8, .size = 256 * KiB,
     .hot_off = 32 * KiB, .hot_len = 48 * KiB,
     .unit = 512, .max_len = 4 * KiB, .fibers = 6, .ops = 10, .short_ops = 2, .latency_ns = MS,
     .overlap = true,
     .weight = {[LOAD_WRITE] = 10, [LOAD_WRITE_FUA] = 1, [LOAD_FLUSH] = 2, [LOAD_READ] = 3}},
    {.name = "zeroes", .what = "zeroing with and without unmap among writes",
     .version = 3, .cluster_size = 4096, .refcount_bits = 16, .size = 256 * KiB,
     .hot_off = 64 * KiB, .hot_len = 64 * KiB,
     .unit = 512, .max_len = 12 * KiB, .fibers = 2, .ops = 25, .short_ops = 7, .latency_ns = MS,
     .weight = {[LOAD_WRITE] = 5, [LOAD_ZERO] = 3, [LOAD_ZERO_UNMAP] = 4, [LOAD_ZERO_FUA] = 1,
                [LOAD_FLUSH] = 3, [LOAD_READ] = 2}},
    {.name = "reuse", .what = "discards, then writes that want the space",
     .version = 3, .cluster_size = 1024, .refcount_bits = 16, .size = 32 * KiB,
     .hot_off = 0, .hot_len = 12 * KiB,
     .unit = 1024, .max_len = 3 * KiB, .fibers = 4, .ops = 16, .short_ops = 6, .latency_ns = MS,
     .overlap = true,
     .weight = {[LOAD_WRITE] = 7, [LOAD_DISCARD] = 4, [LOAD_ZERO_UNMAP] = 3, [LOAD_FLUSH] = 6,
                [LOAD_READ] = 3}},
    {.name = "hot-overwrite", .what = "the same sectors again and again, flushed between",
     .version = 3, .cluster_size = 4096, .refcount_bits = 16, .size = 64 * KiB,
     .hot_off = 4096, .hot_len = 8 * KiB,
     .unit = 512, .max_len = 4 * KiB, .fibers = 3, .ops = 16, .short_ops = 5, .latency_ns = MS,
     .weight = {[LOAD_WRITE] = 8, [LOAD_WRITE_FUA] = 2, [LOAD_FLUSH] = 4, [LOAD_READ] = 2}},
    {.name = "fua", .what = "every change is to be durable when it returns",
     .version = 3, .cluster_size = 2048, .refcount_bits = 32, .size = 128 * KiB,
     .unit = 512, .max_len = 6 * KiB, .fibers = 3, .ops = 12, .short_ops = 4, .latency_ns = MS,
     .weight = {[LOAD_WRITE_FUA] = 8, [LOAD_ZERO_FUA] = 3, [LOAD_DISCARD] = 1, [LOAD_READ] = 1}},
    {.name = "tiny-cache", .what = "caches of few tables: eviction writes metadata back early",
     .version = 3, .cluster_size = 512, .refcount_bits = 64, .size = 512 * KiB,
     .unit = 512, .max_len = 2 * KiB, .l2_cache_bytes = 1, .refcount_cache_bytes = 1,
     .fibers = 3, .ops = 16, .short_ops = 4, .latency_ns = MS,
     .weight = {[LOAD_WRITE] = 10, [LOAD_ZERO_UNMAP] = 2, [LOAD_DISCARD] = 2, [LOAD_FLUSH] = 1,
                [LOAD_READ] = 2}},
    {.name = "version-2", .what = "an image without zero flags",
     .version = 2, .cluster_size = 4096, .refcount_bits = 16, .size = 128 * KiB,
     .unit = 512, .max_len = 10 * KiB, .fibers = 2, .ops = 25, .short_ops = 6, .latency_ns = MS,
     .weight = {[LOAD_WRITE] = 8, [LOAD_ZERO_UNMAP] = 3, [LOAD_DISCARD] = 3, [LOAD_FLUSH] = 3,
                [LOAD_READ] = 2}},
    {.name = "refcount-1-bit", .what = "the narrowest refcounts",
     .version = 3, .cluster_size = 512, .refcount_bits = 1, .size = 128 * KiB,
     .hot_off = 0, .hot_len = 32 * KiB,
     .unit = 512, .max_len = 4 * KiB, .fibers = 3, .ops = 16, .short_ops = 5, .latency_ns = MS,
     .weight = {[LOAD_WRITE] = 8, [LOAD_ZERO_UNMAP] = 2, [LOAD_DISCARD] = 3, [LOAD_FLUSH] = 3,
                [LOAD_READ] = 1}},
    {.name = "grow", .what = "the disk is made larger while it is written; the L1 table moves",
     .version = 3, .cluster_size = 512, .refcount_bits = 16, .size = 64 * KiB,
     .max_size = 6 * MiB,
     .unit = 512, .max_len = 4 * KiB, .fibers = 3, .ops = 12, .short_ops = 4, .latency_ns = MS,
     .weight = {[LOAD_WRITE] = 8, [LOAD_RESIZE] = 4, [LOAD_FLUSH] = 3, [LOAD_READ] = 1}},
    {.name = "flush-storm", .what = "flushes meet writes in flight",
     .version = 3, .cluster_size = 1024, .refcount_bits = 16, .size = 128 * KiB,
     .unit = 512, .max_len = 3 * KiB, .fibers = 6, .ops = 10, .short_ops = 3, .latency_ns = MS,
     .overlap = true,
     .weight = {[LOAD_WRITE] = 6, [LOAD_FLUSH] = 6, [LOAD_ZERO_UNMAP] = 1, [LOAD_DISCARD] = 1}},
    {.name = "shared", .what = "tables and clusters that must be copied before they are written",
     .version = 3, .cluster_size = 4096, .refcount_bits = 16, .size = 96 * KiB,
     .prefill = 96 * KiB, .shared = true,
     .unit = 512, .max_len = 10 * KiB, .fibers = 3, .ops = 14, .short_ops = 4, .latency_ns = MS,
     .weight = {[LOAD_WRITE] = 8, [LOAD_ZERO] = 1, [LOAD_ZERO_UNMAP] = 2, [LOAD_DISCARD] = 1,
                [LOAD_FLUSH] = 3, [LOAD_READ] = 2}},
    {.name = "shared-512", .what = "the same with many small tables",
     .version = 3, .cluster_size = 512, .refcount_bits = 16, .size = 128 * KiB,
     .prefill = 128 * KiB, .shared = true,
     .unit = 1, .max_len = 3000, .fibers = 3, .ops = 14, .short_ops = 4, .latency_ns = MS,
     .weight = {[LOAD_WRITE] = 8, [LOAD_ZERO_UNMAP] = 2, [LOAD_DISCARD] = 2, [LOAD_FLUSH] = 3,
                [LOAD_READ] = 2}},
    {.name = "mixed-64k", .what = "everything, at the usual cluster size",
     .version = 3, .cluster_size = 64 * KiB, .refcount_bits = 16, .size = 2 * MiB,
     .hot_off = 512 * KiB, .hot_len = 512 * KiB,
     .unit = 512, .max_len = 96 * KiB, .fibers = 3, .ops = 16, .short_ops = 4, .latency_ns = MS,
     .weight = {[LOAD_WRITE] = 8, [LOAD_WRITE_FUA] = 1, [LOAD_ZERO] = 1, [LOAD_ZERO_UNMAP] = 2,
                [LOAD_DISCARD] = 2, [LOAD_FLUSH] = 2, [LOAD_READ] = 2}},
    {.name = "mixed-4k", .what = "everything, four at a time, byte for byte",
     .version = 3, .cluster_size = 4096, .refcount_bits = 4, .size = 192 * KiB,
     .hot_off = 32 * KiB, .hot_len = 32 * KiB,
     .unit = 1, .max_len = 9000, .fibers = 4, .ops = 14, .short_ops = 4, .latency_ns = MS,
     .weight = {[LOAD_WRITE] = 8, [LOAD_WRITE_FUA] = 1, [LOAD_ZERO] = 1, [LOAD_ZERO_UNMAP] = 2,
                [LOAD_DISCARD] = 2, [LOAD_FLUSH] = 4, [LOAD_READ] = 2}},
};
/* clang-format on */

const unsigned n_workloads = ARRAY_LEN(workloads);

const struct workload *workload_find(const char *name)
{
    for (unsigned i = 0; i < n_workloads; i++) {
        if (!strcmp(workloads[i].name, name))
            return &workloads[i];
    }
    return NULL;
}
