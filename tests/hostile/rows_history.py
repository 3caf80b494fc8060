# SPDX-License-Identifier: BSD-3-Clause
"""What has been done to other programs: images of published weaknesses, and locks (K3)."""

import fcntl
import os
import struct

from rows import A, B, C, CLUSTER, I, U, Command, Outcome, Row, damaged, fine, refused, unwritable
from rows_extension import backed, data_name
from rows_table import CHECK, points_at, uncounted
from seeds import COMPRESSED, COPIED, Image, plain

INFO = ("info", "-f", "qcow2", "image")
MAP = ("map", "-f", "qcow2", "image")


def locked(path):
    """As if another program wrote to the image: the bytes that QEMU locks are taken while the file
    that this returns is open."""
    lock = open(path, "r+b")
    for byte in (101, 201):
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK,
                    struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))
    return lock


def vast(size, l1_size):
    """A disk of this size in a file of some clusters; the L1 table, which may be large, is last."""
    def make():
        im = Image(bits=21, size=size, l1_size=l1_size).fill()
        im.be(40, 8, 1 << 30)
        im.far = [((1 << 30) + 8 * l1_size - 8, bytes(8)), (1 << 30, im.bytes[im.l1:im.l1 + 8])]
        return im
    return make


ROWS = [
    refused("CVE-2014-0143 the size of the L1 table overflows", "plain",
            ["l1_size=0x20000001"], B, "l1_size"),
    unwritable("CVE-2014-0143 a refcount table full of numbers", "plain",
               [lambda im: im.put(im.reftable, b"\xff" * CLUSTER)], "refcount table entry 0"),
    refused("CVE-2014-0144 header_length", "plain", ["header_len=0x80000000"], I, "header_length"),
    refused("CVE-2014-0144 backing file", "plain", ["backing_off=0xffffffff", "backing_len=1"], I,
            "backing_file_offset"),
    refused("CVE-2014-0144 refcount table", "plain", ["reftable_clusters=0x10000000"], B,
            "refcount_table_clusters"),
    refused("CVE-2014-0144 snapshot table", "plain",
            ["nb_snapshots=0x10000000", "snapshots_off=0x40000"], B, "nb_snapshots"),
    refused("CVE-2014-0144 L1 table", "tiny", ["l1_size=0x10000000"], B, "l1_size"),
    refused("CVE-2014-0145 a snapshot's L1 table", "snapshots",
            ["snapshot[0].l1_size=0x10000000"], B, "snapshot 0: l1_size"),
    Command("CVE-2014-0145 apply a snapshot of more entries", "snapshots",
            ["snapshot[0].l1_size=0x400000"],
            ("snapshot", "-f", "qcow2", "-a", "one", "image"), 1, "l1_size 4194304"),
    refused("CVE-2014-0146 a snapshot table past the end", "plain",
            ["nb_snapshots=1", "snapshots_off=0x7fffffff0000"], I, "snapshots_offset"),
    unwritable("CVE-2014-0147 a refcount block that is free", "plain", [uncounted(2 * CLUSTER)],
               "says free"),
    unwritable("CVE-2014-0147 a refcount block that is the refcount table", "plain",
               ["reftable[0]=0x10000"], "says free"),
    refused("CVE-2014-0222 qcow version 1", "plain",
            [(0, struct.pack(">4sIQIIQBBHIQ", b"QFI\xfb", 1, 0, 0, 0, 1 << 63, 63, 63, 0, 0, 48))],
            U, "version is 1"),
    refused("CVE-2014-0223 qcow version 1, size", "plain",
            [(0, struct.pack(">4sIQIIQBBHIQ", b"QFI\xfb", 1, 0, 0, 0, (1 << 64) - 1, 12, 9, 0, 0,
                             48))], U, "version is 1"),
    fine("CVE-2008-2004 a guest wrote a header into a raw disk", "plain",
         backed(b"data.raw", b"raw"),
         files={"data.raw": plain().backing(b"/etc/passwd", b"raw").finish()}),
    refused("CVE-2008-2004 a format that would have to be guessed", "plain",
            backed(b"data.raw", None), I, "no format",
            files={"data.raw": plain().backing(b"/etc/passwd", b"raw").finish()}),
    refused("CVE-2024-4467 json as a data file", "nameless_data_file",
            data_name(b'json:{"file":{"driver":"null-co"}}'), U, "protocol"),
    Command("CVE-2024-4467 info opens no data file", "nameless_data_file",
            data_name(b'json:{"file":{"driver":"file","filename":"/etc/passwd"}}'), INFO, 0,
            "json:"),
    Command("CVE-2024-4467 info opens no data file, a pipe", "data_file", [], INFO, 0, "data.raw",
            files={"data.raw": os.mkfifo}),
    Command("CVE-2024-4467 check opens no data file, a pipe", "data_file", [], CHECK, 0, "",
            files={"data.raw": os.mkfifo}),
    Command("CVE-2024-4467 map opens no backing file, a pipe", "plain",
            backed(b"base.qcow2", b"raw"), MAP, 0, "",
            files={"base.qcow2": os.mkfifo}),
    Command("CVE-2024-4467 info opens no backing file, a pipe", "plain",
            backed(b"base.qcow2", b"raw"), INFO, 0, "base.qcow2",
            files={"base.qcow2": os.mkfifo}),
    Command("CVE-2024-4467 check opens no backing file, a pipe", "plain",
            backed(b"base.qcow2", b"raw"), CHECK, 0, "",
            files={"base.qcow2": os.mkfifo}),
    Command("CVE-2024-4467 map opens no data file, a pipe", "data_file", [], MAP, 0, "data.raw",
            files={"data.raw": os.mkfifo}),
    refused("CVE-2024-32498 a file of the host", "nameless_data_file", data_name(b"/etc/shadow"),
            A, "is not beneath"),
    refused("CVE-2015-5163 a path of the host", "plain", backed(b"../../../etc/shadow", b"raw"), A,
            "is not beneath"),
    fine("CVE-2015-5162 1 PiB in a small file", vast(1 << 50, 1 << 11), [], write=10 << 21,
         sound=False),
    fine("CVE-2015-5162 2 EiB in a small file", vast(1 << 61, 1 << 22), [], write=10 << 21,
         sound=False),
    refused("CVE-2015-5162 4 EiB in a small file", vast(1 << 62, 1 << 23), [], B, "l1_size"),
    unwritable("allocation at 0: the first refcount is 0", "plain", [uncounted(0)],
               "host cluster 0x0"),
    unwritable("allocation at 0: the refcount block is at 0", "plain", ["reftable[0]=0"],
               "no refcount block"),
    refused("no refcount table, but a file", "v2", ["reftable_clusters=0"], I,
            "refcount_table_clusters is 0"),
    refused("a shift by a granularity of 64", "bitmaps", ["bitmap.granularity=64"], I,
            "granularity_bits is 64"),
    Command("check of an offset at 2^55", "plain", ["l2[0]=0x0080000000000000"], CHECK, 2,
            "past the end"),
    Command("check of compressed data at 2^53", "zlib", ["l2[0]=0x4020000000000000"], CHECK, 2,
            "past the end"),
    Command("check of a refcount table that leads far away", "plain",
            ["reftable[8000]=0x0080000000000000"], CHECK, 2, "past the end"),
    damaged("an offset in a cached table askew", "plain", ["l2[1]=0x8000000000060400"],
            "not aligned"),
    unwritable("a loop: the L1 table as its own L2 table", "plain", ["l1[0]=%d" % (
        COPIED | 3 * CLUSTER)], "metadata", 0),
    unwritable("a loop: an L2 entry at its own table", "plain", [points_at("l2")], "metadata", 0),
    unwritable("a loop: the refcount table as its own block", "plain", ["reftable[0]=0x10000"],
               "says free"),
    Row("K3 another program writes to it", "plain", [], Outcome("EBUSY", "image"),
        Outcome("EBUSY", "image"), "same"),
]
