# SPDX-License-Identifier: BSD-3-Clause
"""Table entries (T), compressed data (T8), and what a write may not land on (M)."""

import zlib

from rows import C, CLUSTER, Command, Outcome, damaged, fine, unreadable, unwritable
from rows_extension import RAW
from seeds import COMPRESSED, COPIED, bitmaps, span

L1, L2, DATA0 = 3 * CLUSTER, 4 * CLUSTER, 5 * CLUSTER
CHECK = ("check", "-f", "qcow2", "image")


def squeezed(data, window=-12, level=9):
    squeeze = zlib.compressobj(level, zlib.DEFLATED, window)
    return squeeze.compress(data) + squeeze.flush()


def in_place_of_first(data, sectors=None):
    """Other compressed data for guest cluster 0, in a host cluster of their own."""
    def change(im):
        at = im.take(1 + len(data) // im.cluster)
        im.put(at, data)
        length = len(data) if sectors is None else sectors * 512
        im.entry(0, COMPRESSED | span(at, length, im.bits))
        im.counts[im.packed[0][0] // im.cluster] = 1
    return change


def noise(n):
    """Bytes without repetitions that compress to more than they are."""
    state, out = 1, bytearray()
    while len(out) < n:
        state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        out += (state >> 16).to_bytes(6, "big")
    return bytes(out[:n])


# A match 32 KiB back: no writer may make it, but it can be read as long as the cluster is at hand.
FAR = squeezed(noise(300) + bytes(32000) + noise(300) + bytes(CLUSTER - 32600), -15)


def zstd_block(kind, size, data, content=CLUSTER):
    return b"\x28\xb5\x2f\xfd\xa0" + content.to_bytes(4, "little") + \
        (size << 3 | kind << 1 | 1).to_bytes(3, "little") + data


def far_reftable(im):
    """A refcount table of 8 MiB, the largest, in a part of the file that is a hole."""
    im.be(48, 8, 1 << 30)
    im.be(56, 4, 128)
    im.far = [(1 << 30, bytes(im.bytes[im.reftable:im.reftable + 8]))]


def far_l1(im):
    """The same for an L1 table of 32 MiB."""
    im.be(40, 8, 1 << 30)
    im.be(36, 4, 1 << 22)
    im.far = [(1 << 30, bytes(im.bytes[im.l1:im.l1 + 8]))]


def points_at(where):
    """Guest cluster 0, which may be written in place by its flag, is where something else is."""
    def change(im):
        im.entry(0, COPIED | (where if isinstance(where, int) else getattr(im, where)))
    return change


def uncounted(where):
    """The refcount says that what is there is free."""
    def change(im):
        im.counts[(where if isinstance(where, int) else getattr(im, where)) // im.cluster] = 0
    return change


def bitmaps_in_use():
    """Which opening the image leaves as they are."""
    im = bitmaps()
    for at in (im.dir + 12, im.dir + 32 + 12):
        im.be(at, 4, 3)
    return im


ROWS = [
    unwritable("T1 entry %#x" % entry, "plain", ["reftable[0]=%d" % entry], text)
    for entry, text in ((0x20001, "refcount table entry 0"), (0x20100, "refcount table entry 0"),
                        (0x20200, "refcount table entry 0"), (0x90000, "past the end of the file"),
                        (0xffffffffffff0000, "past the end of the file"),
                        (1 << 62 | 0x20000, "past the end of the file"),
                        (0, "no refcount block counts host offset 0x0"))
] + [
    unwritable("T1 in a version 2 image, which has no mark", "v2", ["reftable[0]=0x20001"],
               "refcount table entry 0", left="same"),
    fine("T1 a table of 8 MiB", "plain", [far_reftable], sound=False),
    fine("H8 a table of 32 MiB", "plain", [far_l1], sound=False),
    fine("T2 refcount at its maximum", "plain", ["refcount[5]=0xffff"], sound=False),
    Command("T2 a snapshot, and no refcount can rise", "plain", ["refcount[5]=0xffff"],
            ("snapshot", "-f", "qcow2", "-c", "one", "image"), 1, "too narrow",
            "grown"),
    Command("T2 a snapshot, with refcounts of a bit", "refcounts_0", [],
            ("snapshot", "-f", "qcow2", "-c", "one", "image"), 1, "too narrow",
            "grown"),
] + [
    damaged("T3 entry %#x" % entry, "plain", ["l1[0]=%d" % entry], "L1 entry 0")
    for entry in (COPIED | L2 | 1, COPIED | L2 | 0x100, COPIED | L2 | 0x200, COPIED | 0x90000,
                  COPIED | 0x00ffffffffff0000, COPIED | L2 | 1 << 56, COPIED | L2 | 1 << 62, COPIED)
] + [
    damaged("T3 in a version 2 image, which has no mark", "v2", ["l1[0]=%d" % (L2 | 1)],
            "L1 entry 0", left="same"),
    fine("T3 COPIED is not set, though it might be", "plain", ["l1[0]=%d" % L2], write=0),
] + [
    damaged("T4 entry %#x" % entry, "plain", ["l2[0]=%d" % entry], text)
    for entry, text in ((COPIED | DATA0 | 0x200, "not aligned"), (DATA0 | 0x8000, "not aligned"),
                        (COPIED | 0xa0000, "past the end of the file"),
                        (COPIED | 0x00ffffffffff0000, "past the end of the file"),
                        (COPIED | 0x7fffffff0000 | 1, "past the end of the file"))
] + [
    Command("T4 reserved bit %d" % bit, "plain", ["l2[0]=^%d" % (1 << bit)], CHECK, 2, "reserved")
    for bit in (1, 8, 56, 61)
] + [
    Command("T5 COPIED with a refcount of 2", "plain", ["refcount[5]=2"], CHECK, 2, "COPIED"),
    fine("T5 not COPIED with a refcount of 1", "plain", ["l2[0]=%d" % DATA0], write=0),
    damaged("T6 zero flag in version 2", "v2", ["l2[0]=^1"], "zero flag in a version 2 image",
            left="same"),
    damaged("T6 zero flag in an image with subclusters", "subclusters", ["l2[0]=^1"],
            "zero flag in an image with subclusters"),
    fine("T7 zero, with a place", "plain", ["l2[0]=^1"], write=0),

    damaged("T8 past the end of the file", "zlib", ["l2[0]=%d" % (COMPRESSED | 0x7fffff0000)],
            "compressed data is past the end"),
    damaged("T8 far past the end of the file", "zlib",
            ["l2[0]=%d" % (COMPRESSED | (1 << 54) - 512)], "compressed data is past the end"),
    damaged("T8 past 2^56", "tiny", ["l2[0]=%d" % (COMPRESSED | 1 << 57)], "exceeds 56 bits"),
    damaged("T8 in an image with a data file", "data_file", ["l2[0]=%d" % (COMPRESSED | DATA0)],
            "compressed, in an image with a data file", files=RAW),
    unwritable("T8 where the L2 table is", "plain", ["l2[0]=%d" % (COMPRESSED | L2)],
               "compressed data where there is metadata", 0)._replace(
                   ro=Outcome(read=C), rw=Outcome(read=C, write=C)),
    unreadable("T8 deflate, garbage", "zlib", [in_place_of_first(b"\xff" * 600)]),
    unreadable("T8 deflate, nothing", "zlib", [in_place_of_first(bytes(512))]),
    unreadable("T8 deflate, too short", "zlib", [in_place_of_first(squeezed(bytes(CLUSTER - 1)))]),
    unreadable("T8 deflate, too long", "zlib",
               [in_place_of_first(squeezed(b"\7" * CLUSTER + b"\0"))]),
    unreadable("T8 deflate, a bomb", "zlib", [in_place_of_first(squeezed(bytes(32 << 20)))]),
    unreadable("T8 deflate, without an end", "zlib",
               [in_place_of_first(squeezed(b"\7" * (CLUSTER // 2))[:-4])]),
    unreadable("T8 deflate, the span ends before the data", "zlib",
               [in_place_of_first(squeezed(noise(60000) + bytes(5536)), 60)]),
    fine("T8 deflate, a window of 32 KiB", "zlib", [in_place_of_first(FAR)]),
    unreadable("T8 deflate with a header of zlib", "zlib",
               [in_place_of_first(zlib.compress(b"\7" * CLUSTER))]),
    fine("T8 deflate, and something behind it", "zlib",
         [in_place_of_first(squeezed(b"\7" * CLUSTER) + b"trailing" * 99)]),
    fine("T8 deflate, across two clusters", "zlib",
         [in_place_of_first(squeezed(noise(65000) + bytes(536), level=0))], sound=False),
    unreadable("T8 zstd, garbage", "zstd", [in_place_of_first(b"\xff" * 600)]),
    unreadable("T8 zstd, nothing", "zstd", [in_place_of_first(bytes(512))]),
    unreadable("T8 zstd, deflate", "zstd", [in_place_of_first(squeezed(bytes(CLUSTER)))]),
    unreadable("T8 zstd, too short", "zstd",
               [in_place_of_first(zstd_block(1, CLUSTER - 1, b"\7", CLUSTER - 1))]),
    unreadable("T8 zstd, too long", "zstd",
               [in_place_of_first(zstd_block(1, CLUSTER + 1, b"\7", CLUSTER + 1))]),
    unreadable("T8 zstd, of 4 GiB by its word", "zstd",
               [in_place_of_first(zstd_block(1, CLUSTER, b"\7", 0xffffffff))]),
    unreadable("T8 zstd, without an end", "zstd", [in_place_of_first(zstd_block(0, 60000, b"x"))]),
    fine("T8 zstd, and something behind it", "zstd",
         [in_place_of_first(zstd_block(1, CLUSTER, b"\7") + b"trailing" * 99)]),

    damaged("T9 a subcluster both allocated and zero", "subclusters",
            ["l2[1]=0x00000001ffffffff"], "both allocated and zero"),
    damaged("T9 allocated without a place", "subclusters", ["l2[0]=0"],
            "allocated subclusters without a cluster"),
    damaged("T9 compressed, with a map", "subclusters", ["l2[0]=%d" % (COMPRESSED | DATA0)],
            "compressed, with subclusters"),
    damaged("T9 askew", "subclusters", ["l2[0]=^0x800"], "not aligned"),
    damaged("T9 past the end of the file", "subclusters", ["l2[0]=0x7fff0000"], "past the end"),
    fine("T9 subclusters", "subclusters", []),
    damaged("F2 not at its guest offset", "data_file", ["l2[1]=%d" % (COPIED | 2 * CLUSTER)],
            "not at its guest offset in the data file", files=RAW),
    damaged("F2 guest offset and host offset askew", "data_file",
            ["l2[1]=%d" % (COPIED | CLUSTER + 512)], "not at its guest offset", files=RAW),

    unwritable("M1 on the header", "plain", ["l2[0]=%d" % (COPIED | 512)], "not aligned", 0)
    ._replace(ro=Outcome(read=C), rw=Outcome(read=C, write=C)),
] + [
    unwritable("M1 on " + what, seed, [points_at(where)], "metadata", 0)
    for what, seed, where in (
        ("the refcount table", "plain", "reftable"), ("a refcount block", "plain", "refblock"),
        ("the L1 table", "plain", "l1"), ("its own L2 table", "plain", "l2"),
        ("the snapshot table", "snapshots", "table"), ("the bitmap directory", bitmaps_in_use, "dir"),
        ("the refcount table, version 3 with subclusters", "subclusters", "reftable"))
] + [
    unwritable("M2 the header is free", "plain", [uncounted(0)], "host cluster 0x0 says free"),
] + [
    unwritable("M2 %s is free" % what, seed, [uncounted(where)], "says free")
    for what, seed, where in (
        ("the refcount table", "plain", "reftable"), ("a refcount block", "plain", "refblock"),
        ("the L1 table", "plain", "l1"), ("an L2 table", "plain", "l2"),
        ("the snapshot table", "snapshots", "table"), ("the bitmap directory", bitmaps_in_use, "dir"))
] + [
    unwritable("M2 nothing is counted", "plain", [lambda im: im.counts.clear()],
               "host cluster 0x0 says free"),
]
