/* SPDX-License-Identifier: BSD-3-Clause
 *
 * CPU time and memory of bitmaps of 1 PiB at 64 KiB, 1 % of which is dirty, granule by granule at
 * random: marking in them, merging two. Run by hand, in a build without sanitizers:
 *
 *     build-release/tests/unit/bitmap/large_bitmaps
 */
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/rng.h"
#include "bitmap/bitmap.h"

#define PIB (UINT64_C(1) << 50)
#define GRANULARITY 65536
#define PIECE 512 /* bytes */
#define MARKS 1000000

static double cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Loaded, as random marks of that many granules take minutes. */
static struct bitmap *scattered(uint64_t seed)
{
    uint64_t len = bitmap_stored_size(PIB, GRANULARITY);
    struct bitmap *b = bitmap_new("b", PIB, GRANULARITY);
    uint8_t piece[PIECE];
    struct rng r;
    rng_seed(&r, seed);
    for (uint64_t at = 0; at < len; at += PIECE) {
        memset(piece, 0, sizeof(piece));
        for (unsigned i = 0; i < PIECE * 8 / 100; i++) {
            uint64_t bit = rng_below(&r, PIECE * 8);
            piece[bit / 8] |= (uint8_t)(1 << bit % 8);
        }
        bitmap_load(b, at, piece, PIECE);
    }
    double start = cpu();
    for (unsigned i = 0; i < MARKS; i++)
        bitmap_mark(b, rng_below(&r, PIB), 1);
    printf("%.2f %% dirty, %.1f MiB of nodes, %.1f MiB of heap in all; a mark: %.0f ns\n",
           (double)bitmap_dirty_bytes(b) / (double)PIB * 100,
           (double)hbits_memory(b->bits) / 1048576, (double)mallinfo2().uordblks / 1048576,
           (cpu() - start) / MARKS * 1e9);
    return b;
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct bitmap *a = scattered(1), *b = scattered(2);
    double start = cpu();
    bool ok = bitmap_merge(a, b, NULL);
    printf("merge: %s, %.2f s; %.2f %% dirty\n", ok ? "done" : "failed", cpu() - start,
           (double)bitmap_dirty_bytes(a) / (double)PIB * 100);
    bitmap_free(a);
    bitmap_free(b);
    return ok ? 0 : 1;
}
