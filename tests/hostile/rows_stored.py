# SPDX-License-Identifier: BSD-3-Clause
"""Internal snapshots (S) and stored bitmaps (B)."""

import struct

from rows import B, CLUSTER, I, Command, Outcome, Row, fine, refused
from rows_table import bitmaps_in_use
from seeds import Image, bitmap_entry, snapshot_entry


def pick(name, changes, kind, text, snapshot="one"):
    """A snapshot that cannot be looked at, in an image that can be used."""
    return Row(name, "snapshots", changes, Outcome(kind, text), Outcome(), "same",
               ("-s", snapshot))


def table(entries, gap=0):
    """The snapshot table anew, behind everything, each entry followed by a hole."""
    def change(im):
        at = 0x1000000
        im.be(60, 4, len(entries))
        im.be(64, 8, at)
        im.far = []
        for entry in entries:
            im.far.append((at, entry))
            at += -(-(len(entry) + gap) // 8) * 8
        im.far.append((at - 8, bytes(8)))
    return change


# An entry of 40 bytes whose two names take 65535 bytes each.
LONG = struct.pack(">QIHHIIQII", 0, 0, 0xffff, 0xffff, 0, 0, 0, 0, 0)
EMPTY = struct.pack(">QIHHIIQII", 0, 0, 0, 0, 0, 0, 0, 0, 0)


def entry(**more):
    """The bitmap directory anew, with one entry."""
    def change(im):
        fields = {"table": im.table, "entries": 1, "name": b"daily"}
        fields.update(more)
        directory(bitmap_entry(**fields), 1)(im)
    return change


def directory(data, count, size=None):
    def change(im):
        im.put(im.dir, data)
        im.put(120, struct.pack(">IIQQ", count, 0, len(data) if size is None else size, im.dir))
        while im.clusters * im.cluster < im.dir + len(data):
            im.take()
    return change


def at_table(value):
    return lambda im: im.be(im.table, 8, value)


def vast(granularity, entries, size=1 << 49):
    """A disk of 512 TiB in large clusters, and a bitmap of all of it, all ones."""
    def make():
        im = Image(bits=21, size=size, l1_size=1 << 10, autoclear=1)
        im.dir, im.table = im.take(), im.take()
        im.put(im.table, struct.pack(">Q", 1) * entries)
        data = bitmap_entry(im.table, entries, b"vast", granularity)
        im.put(im.dir, data)
        im.extend(0x23852875, struct.pack(">IIQQ", 1, 0, len(data), im.dir))
        return im
    return make


def with_extra(length, flags=2):
    """A bitmap with so much extra data, most of it a hole."""
    def make():
        im = Image(autoclear=1).fill()
        im.table = im.take()
        im.dir = im.take()
        head = struct.pack(">QIIBBHI", im.table, 1, flags, 1, 16, 5, length)
        size = (24 + length + 5 + 7) // 8 * 8
        im.far = [(im.dir, head), (im.dir + 24 + length, b"daily"), (im.dir + size - 1, b"\0")]
        im.extend(0x23852875, struct.pack(">IIQQ", 1, 0, size, im.dir))
        return im
    return make


ROWS = [
    refused("S1 L1 table askew", "snapshots", ["snapshot[0].l1_off=0x10200"], I,
            "snapshot 0: l1_table_offset is 0x10200"),
    refused("S1 L1 table over 32 MiB", "snapshots", ["snapshot[0].l1_size=0x400001"], B,
            "snapshot 0: l1_size is 4194305"),
    refused("S1 L1 table of the second one", "snapshots",
            [lambda im: im.be(im.table + im.second + 8, 4, 0xffffffff)], B,
            "snapshot 1: l1_size is 4294967295"),
    refused("S1 extra data of 1025 bytes", "snapshots", ["snapshot[0].extra=1025"], B,
            "extra_data_size is 1025"),
    refused("S1 extra data of 4 GiB", "snapshots", ["snapshot[0].extra=0xffffffff"], B,
            "extra_data_size is 4294967295"),
    fine("S1 extra data of 1024 bytes", "plain",
         [table([snapshot_entry(0, 0, b"1", b"one", CLUSTER * 16, 1024)])], sound=False),
    fine("S1 no extra data", "plain",
         [table([snapshot_entry(0, 0, b"1", b"one", 0, 0)])], sound=False),
    refused("S1 a table over 64 MiB", "plain", [table([LONG] * 512, 131070)], B,
            "the snapshot table is larger than"),
    fine("S1 a table of nearly 64 MiB", "plain", [table([LONG] * 511, 131070)], sound=False),
    refused("S1 a table past the end of the file", "snapshots", ["nb_snapshots=65536"], I,
            "past the end of the file"),
    fine("H12 65536 snapshots", "plain", [table([EMPTY] * 65536)], sound=False),
    pick("S1 no such snapshot", [], "ENOENT", "no snapshot", "three"),
    pick("S1 L1 table on the header", ["snapshot[0].l1_off=0"], I, "l1_table_offset is 0x0"),
    pick("S1 L1 table past the end", ["snapshot[0].l1_off=0x7fff00000000"], I,
         "l1_table_offset is 0x7fff00000000"),
    pick("S1 L1 table past 2^63", ["snapshot[0].l1_off=0xffffffffffff0000"], I,
         "l1_table_offset is 0xffffffffffff0000"),
    pick("S1 L1 table too small", ["snapshot[0].l1_size=0"], I, "too few"),
    pick("S1 disk size of 8 EiB", [lambda im: im.be(im.table + 48, 8, 0x7ffffffffffffe00)], I,
         "disk size 9223372036854775296"),
    pick("S1 disk size of half a sector", [lambda im: im.be(im.table + 48, 8, 256)], I,
         "disk size 256"),
    Row("S1 a snapshot's L1 table is the active one", "snapshots",
        [lambda im: im.be(im.table, 8, im.l1)], Outcome(), Outcome(), "same", ("-s", "one")),
    Command("S3 apply a snapshot from nowhere", "snapshots",
            ["snapshot[0].l1_off=0x7fff00000000"],
            ("snapshot", "-f", "qcow2", "-a", "one", "image"), 1, "l1_table_offset"),
    Command("S3 delete a snapshot of nowhere", "snapshots",
            ["snapshot[0].l1_off=0x7fff00000000"],
            ("snapshot", "-f", "qcow2", "-d", "one", "image"), 1, "l1_table_offset"),
    Command("S3 delete, and a cluster has more references than counted", "snapshots",
            ["@0xa0008:8=0xb0000"], ("snapshot", "-f", "qcow2", "-d", "one", "image"), 1,
            "has refcount 1, but more references", "grown, corrupt"),
    Command("S3 apply, and a cluster has more references than counted", "snapshots",
            ["l2[1]=0x50000"], ("snapshot", "-f", "qcow2", "-a", "one", "image"), 1,
            "has refcount 1, but more references", "grown, corrupt"),
    Command("S2 a snapshot of clusters past the end", "plain", ["l2[0]=0x8000000000f00000"],
            ("snapshot", "-f", "qcow2", "-c", "one", "image"), 1, "past the end of the file",
            "grown, corrupt"),
    Command("S2 a snapshot of a cluster askew", "plain", ["l2[0]=0x8000000000050200"],
            ("snapshot", "-f", "qcow2", "-c", "one", "image"), 1, "not aligned",
            "grown, corrupt"),
    Command("S2 a snapshot with a data file", "data_file", [],
            ("snapshot", "-f", "qcow2", "-c", "one", "image"), 1, "data file",
            files={"data.raw": bytes(16 * CLUSTER)}),

    refused("B1 no table", "bitmaps", ["bitmap.table_size=0"], I, "bitmap_table_size is 0"),
    refused("B1 a table of 2^27+1", "bitmaps", ["bitmap.table_size=0x8000001"], I,
            "bitmap_table_size is 134217729"),
    refused("B1 a table too large for the disk", "bitmaps", ["bitmap.table_size=2"], I,
            "bitmap_table_size is 2"),
    refused("B1 table on the header", "bitmaps", ["bitmap.table_off=0"], I,
            "bitmap_table_offset is 0x0"),
    refused("B1 table askew", "bitmaps", ["bitmap.table_off=0xa0200"], I,
            "bitmap_table_offset is 0xa0200"),
    refused("B1 table past the end", "bitmaps", ["bitmap.table_off=0x7fff0000"], I,
            "bitmap_table_offset is 0x7fff0000"),
    refused("B1 granularity of 256 bytes", "bitmaps", ["bitmap.granularity=8"], I,
            "granularity_bits is 8"),
    refused("B1 granularity of 4 GiB", "bitmaps", ["bitmap.granularity=32"], I,
            "granularity_bits is 32"),
    refused("B1 granularity of 2^255", "bitmaps", ["bitmap.granularity=255"], I,
            "granularity_bits is 255"),
    fine("B1 granularity of 512 bytes", "bitmaps", ["bitmap.granularity=9"]),
    fine("B1 granularity of 2 GiB", "bitmaps", ["bitmap.granularity=31"], sound=False),
    refused("B1 no name", "bitmaps", ["bitmap.name_len=0"], I, "name_size is 0"),
    refused("B1 a name of 1024 bytes", "bitmaps", [entry(name=b"n" * 1024)], I,
            "name_size is 1024"),
    fine("B1 a name of 1023 bytes", "bitmaps", [entry(name=b"n" * 1023)], sound=False),
    refused("B1 a name with a NUL", "bitmaps", [entry(name=b"da\0ly")], I, "NUL byte"),
    refused("B1 type 0", "bitmaps", ["bitmap.type=0"], I, "type is 0"),
    refused("B1 type 2", "bitmaps", ["bitmap.type=2"], I, "type is 2"),
    refused("B1 flag 3", "bitmaps", ["bitmap.flags=8"], I, "reserved flags in 0x8"),
    refused("B1 flag 31", "bitmaps", ["bitmap.flags=0x80000000"], I,
            "reserved flags in 0x80000000"),
    refused("B1 two of one name", "bitmaps",
            [lambda im: directory(bitmap_entry(im.table, 1, b"x") * 2, 2)(im)], I,
            "'x' appears twice"),
    refused("B1 the directory has room for more", "bitmaps",
            [lambda im: directory(bitmap_entry(im.table, 1, b"x"), 1, 40)(im)], I,
            "directory has 40 bytes, its entries 32"),
    refused("B1 the directory ends in an entry", "bitmaps",
            [lambda im: directory(bitmap_entry(im.table, 1, b"x"), 1, 24)(im)], I,
            "reaches past the directory's end"),
    refused("B1 1 GiB of bits", vast(16, 512), [], B, "bytes of bits, the limit is"),
    fine("B1 512 MiB of bits", vast(17, 256), [], write=0, sound=False),
] + [
    refused("B2 entry %#x" % value, "bitmaps", [at_table(value)], I, "table entry 0")
    for value in (2, 0x100, 1 << 56, 1 << 63, 0xb0001, 0xb0200, 0x7fff0000)
] + [
    refused("B2 two bitmaps in one cluster of a small file", "bitmaps",
            [lambda im: im.put(im.dir, b"".join(
                bitmap_entry(im.table, 1, b"%05d" % i) for i in range(40))),
             lambda im: im.put(120, struct.pack(">IIQQ", 40, 0, 40 * 32, im.dir))], I, "overlap"),
    fine("B3 in use", "bitmaps", ["bitmap.flags=3"]),
    fine("B3 in use, with a table of another size", "bitmaps",
         ["bitmap.flags=3", "bitmap.table_size=1000"], sound=False),
    fine("B5 extra data", "bitmaps", [entry(extra=b"unknown!")]),
    fine("B5 extra data that one need not understand", "bitmaps",
         [entry(extra=b"unknown!", flags=6)]),
    fine("B5 extra data of 1024 bytes", with_extra(1024), [], sound=False),
    refused("B5 extra data of 1025 bytes", with_extra(1025), [], B, "extra_data_size is 1025"),
    refused("B5 extra data of 60 MiB", with_extra(60 << 20), [], B, "extra_data_size is 62914560"),
    refused("B5 extra data past the directory's end", "bitmaps", ["bitmap.extra=64"], I,
            "reaches past the directory's end"),
    refused("B5 extra data of 4 GiB", "bitmaps", ["bitmap.extra=0xffffffff"], I,
            "reaches past the directory's end"),
    Command("B6 another size, and a bitmap in use", bitmaps_in_use, [],
            ("resize", "-f", "qcow2", "image", "2M"), 1, "nconsistent"),
]
