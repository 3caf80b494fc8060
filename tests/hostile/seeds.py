# SPDX-License-Identifier: BSD-3-Clause
"""Sound qcow2 images, byte by byte, for others to damage: each place in them is known.

Written from the format's specification and from nothing else, so that what a test calls sound does
not depend on a program that makes images. SEEDS names them all; a seed is an Image in memory.

Clusters: 0 header, 1 refcount table, 2 refcount block, 3 L1 table, 4 L2 table, 5 to 8 guest data
(guest clusters 0 to 3, filled with 1 to 4), then what else a seed has.
"""

import struct
import zlib

COPIED, COMPRESSED = 1 << 63, 1 << 62
END, FORMAT, NAMES, BITMAPS, CRYPTO, DATA = \
    0, 0xe2792aca, 0x6803f857, 0x23852875, 0x0537be77, 0x44415441
DIRTY, CORRUPT, DATA_FILE, ZSTD, EXTENDED = 1, 2, 4, 8, 16


def extension(kind, data, length=None):
    """One header extension; length: what it says, if that is not the truth."""
    return struct.pack(">II", kind, len(data) if length is None else length) + \
        data + bytes(-len(data) % 8)


class Image:
    def __init__(self, version=3, bits=16, order=4, size=None, l1_size=1, incompatible=0,
                 autoclear=0):
        self.bits, self.cluster, self.order = bits, 1 << bits, order
        self.version = version
        self.size = self.cluster * 16 if size is None else size
        self.clusters, self.counts = 5, {i: 1 for i in range(5)}
        self.bytes = bytearray(5 * self.cluster)
        self.reftable, self.refblock, self.l1, self.l2 = (i * self.cluster for i in (1, 2, 3, 4))
        self.wide = 16 if incompatible & EXTENDED else 8  # bytes of an L2 entry
        self.put(0, struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", version, 0, 0, bits, self.size, 0,
                                l1_size, self.l1, self.reftable, 1, 0, 0))
        self.at = 72
        if version > 2:
            self.put(72, struct.pack(">QQQIIQ", incompatible, 0, autoclear, order, 112, 0))
            self.at = 112
        self.be(self.reftable, 8, self.refblock)
        self.be(self.l1, 8, COPIED | self.l2)

    def put(self, offset, data):
        end = offset + len(data)
        if end > len(self.bytes):
            self.bytes.extend(bytes(end - len(self.bytes)))
        self.bytes[offset:end] = data

    def be(self, offset, length, value):
        self.put(offset, value.to_bytes(length, "big"))

    def take(self, n=1):
        """The offset of n new clusters."""
        at = self.clusters
        self.clusters += n
        self.bytes.extend(bytes(max(0, self.clusters * self.cluster - len(self.bytes))))
        for i in range(at, at + n):
            self.counts[i] = 1
        return at * self.cluster

    def extend(self, kind, data):
        part = extension(kind, data)
        self.put(self.at, part)
        self.at += len(part)

    def entry(self, guest, value, subclusters=None):
        at = self.l2 + guest * self.wide
        self.be(at, 8, value)
        if self.wide == 16:
            self.be(at + 8, 8, subclusters or 0)

    def fill(self, n=4):
        for i in range(n):
            at = self.take()
            self.put(at, bytes([i + 1]) * self.cluster)
            self.entry(i, COPIED | at, 0xffffffff)
        return self

    def backing(self, name, fmt=b"qcow2"):
        if fmt:
            self.extend(FORMAT, fmt)
        self.put(self.at + 8, name)
        self.be(8, 8, self.at + 8)
        self.be(16, 4, len(name))
        return self

    def finish(self):
        """The refcounts, by what was taken."""
        width = 1 << self.order
        for cluster, count in self.counts.items():
            if width >= 8:
                self.be(self.refblock + cluster * width // 8, width // 8, count)
            else:
                at = self.refblock + cluster * width // 8
                self.bytes[at] |= count << (cluster * width % 8)
        return bytes(self.bytes)


def plain(**more):
    return Image(**more).fill()


def packed(zstd=False):
    """Guest clusters 0 and 1 compressed, one behind the other in a host cluster; 2 is plain."""
    im = Image(incompatible=ZSTD if zstd else 0)
    if zstd:
        im.put(104, b"\1")
    host = im.take()
    im.packed = []
    at = host
    for i in range(2):
        if zstd:  # one frame of one block, a byte repeated
            data = struct.pack("<IBI", 0xfd2fb528, 0xa0, im.cluster) + \
                (im.cluster << 3 | 3).to_bytes(3, "little") + bytes([i + 1])
        else:
            squeeze = zlib.compressobj(9, zlib.DEFLATED, -12)
            data = squeeze.compress(bytes([i + 1]) * im.cluster) + squeeze.flush()
        im.put(at, data)
        im.entry(i, COMPRESSED | span(at, len(data), im.bits))
        im.packed.append((at, len(data)))
        at += len(data)
    im.put(host, bytes(im.bytes[host:host + im.cluster]))
    im.counts[host // im.cluster] = 2
    plain_at = im.take()
    im.put(plain_at, b"\3" * im.cluster)
    im.entry(2, COPIED | plain_at)
    return im


def span(at, length, bits=16):
    """The entry of compressed data, without its flag."""
    sectors = (at + length - 1) // 512 - at // 512
    return at | sectors << (62 - (bits - 8))


def snapshot_entry(l1, l1_size, ident, name, size, extra=16):
    more = (struct.pack(">QQ", 0, size) + b"\xee" * 1024)[:extra]
    entry = struct.pack(">QIHHIIQII", l1, l1_size, len(ident), len(name), 1, 2, 3, 0, extra) + \
        more + ident + name
    return entry + bytes(-len(entry) % 8)


def snapshots():
    """Two snapshots; the first one shares all with the active table but guest cluster 0."""
    im = Image().fill()
    for i in range(2):
        l1, l2 = im.take(), im.take()
        im.be(l1, 8, COPIED | l2)
        data = im.take()
        im.put(data, bytes([0x11 * (i + 1)]) * im.cluster)
        im.be(l2, 8, COPIED | data)
        setattr(im, "snap_l1_%d" % i, l1)
    im.table = im.take()
    first = snapshot_entry(im.snap_l1_0, 1, b"1", b"one", im.size)
    im.put(im.table, first + snapshot_entry(im.snap_l1_1, 1, b"2", b"two", im.size))
    im.second = len(first)
    im.be(60, 4, 2)
    im.be(64, 8, im.table)
    return im


def bitmap_entry(table, entries, name, granularity=16, flags=2, kind=1, extra=b""):
    entry = struct.pack(">QIIBBHI", table, entries, flags, kind, granularity, len(name),
                        len(extra)) + extra + name
    return entry + bytes(-len(entry) % 8)


def bitmaps():
    """Two bitmaps: one whose table has a cluster of bits, and one that is all ones."""
    im = Image(autoclear=1).fill()
    im.dir, im.table, im.bits_at, other = im.take(), im.take(), im.take(), im.take()
    im.be(im.table, 8, im.bits_at)
    im.put(im.bits_at, b"\x03")
    im.be(other, 8, 1)
    entries = bitmap_entry(im.table, 1, b"daily") + bitmap_entry(other, 1, b"x")
    im.put(im.dir, entries)
    im.extend(BITMAPS, struct.pack(">IIQQ", 2, 0, len(entries), im.dir))
    return im


def subclusters():
    """Guest cluster 0: all there; 1: half of it, a quarter zero; 2: zero without a place."""
    im = Image(incompatible=EXTENDED)
    for i, subs in enumerate((0xffffffff, 0x00ff00000000ffff)):
        at = im.take()
        im.put(at, bytes([i + 1]) * im.cluster)
        im.entry(i, COPIED | at, subs)
    im.entry(2, 0, 0xffffffff << 32)
    return im


def data_file(raw=False, name=b"data.raw"):
    im = Image(incompatible=DATA_FILE, autoclear=2 if raw else 0)
    for i in range(4):
        im.entry(i, COPIED | i * im.cluster)
    if name:
        im.extend(DATA, name)
    return im


SEEDS = {
    "plain": plain, "v2": lambda: plain(version=2), "tiny": lambda: plain(bits=9),
    "thirteen": lambda: plain(bits=13), "large": lambda: plain(bits=21),
    "fourteen": lambda: plain(bits=14, incompatible=EXTENDED),
    "zlib": packed, "zstd": lambda: packed(True), "snapshots": snapshots, "bitmaps": bitmaps,
    "subclusters": subclusters, "data_file": data_file, "raw_data_file": lambda: data_file(True),
    "nameless_data_file": lambda: data_file(name=None),
}
SEEDS.update({"refcounts_%d" % order: lambda order=order: plain(order=order)
              for order in range(7)})
