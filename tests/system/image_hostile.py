#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Hostile images for `breakwater image`: each is made here, looked at by every command, and must give
the exit code of the table, soon, without a crash, and stay as it was.

usage: image_hostile.py BREAKWATER PATCH_IMAGE   in an empty directory; needs qemu-img and qemu-io
       SEED and MUTATIONS in the environment: which random damage, and how much of it
"""

import hashlib
import os
import random
import re
import shutil
import struct
import subprocess
import sys

BREAKWATER, PATCH = sys.argv[1:3]
SECONDS = 20  # with sanitizers, on a busy machine; each takes well below one otherwise
MUTATIONS = int(os.environ.get("MUTATIONS", "60"))
SEED = int(os.environ.get("SEED", "7"))


def tool(*command):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def seed_images():
    tool("qemu-img", "create", "-q", "-f", "qcow2", "plain", "16M")
    tool("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 256k", "-c", "write -P 2 8M 64k", "plain")
    shutil.copy("plain", "full")
    tool("qemu-img", "snapshot", "-c", "one", "full")
    tool("qemu-img", "snapshot", "-c", "two", "full")
    tool("qemu-img", "bitmap", "--add", "-f", "qcow2", "full", "daily")
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=512", "small", "1M")
    tool("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 128k", "small")
    tool("qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", "-c", "plain", "compressed")


def patched(source, *patches):
    def make(path):
        shutil.copy(source, path)
        tool(sys.executable, PATCH, path, *patches)
    return make


def written(data):
    def make(path):
        with open(path, "wb") as out:
            out.write(data)
    return make


def header(cluster_bits=16, size=1 << 20, l1=(1, 0x30000), reftable=(0x10000, 1), order=4, **more):
    """The bytes of a version 3 header without extensions."""
    snapshots = more.get("snapshots", (0, 0))
    return struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, cluster_bits, size, 0, l1[0],
                       l1[1], reftable[0], reftable[1], snapshots[0], snapshots[1], 0, 0, 0, order,
                       104) + bytes(8)


def sparse(size, *parts):
    def make(path):
        with open(path, "wb") as out:
            out.truncate(size)
            for offset, data in parts:
                out.seek(offset)
                out.write(data)
    return make


def one_table_for_all(path):
    """4 Mi L1 entries share one L2 table, all of whose entries share one cluster: 10^11 references."""
    table = struct.pack(">Q", 0x50000) * 8192
    sparse(0x60000 + (32 << 20),
           (0, header(size=1 << 20, l1=(1 << 22, 0x60000))), (0x10000, struct.pack(">Q", 0x20000)),
           (0x40000, table), (0x60000, struct.pack(">Q", 0x40000) * (1 << 22)))(path)


def tables_in_holes(path):
    """1 Mi L1 entries, each with an L2 table of its own, in a file that is one hole: 2 TiB of it."""
    entries = struct.pack(">%dQ" % (1 << 20), *(0x8000000 + (i << 21) for i in range(1 << 20)))
    sparse(1 << 41, (0, header(cluster_bits=21, l1=(1 << 20, 0x800000), reftable=(0x200000, 1))),
           (0x800000, entries))(path)


def same_l1_for_all(path):
    """65536 snapshots, all with the same L1 table of 32 MiB: 2 TiB to read."""
    entry = struct.pack(">QIHHIIQII", 0x1000000, 1 << 22, 0, 0, 0, 0, 0, 0, 16) + bytes(16)
    sparse(0x4000000, (0, header(snapshots=(65536, 0x100000))), (0x100000, entry * 65536),
           (0x1000000, bytes(64)))(path)


def exact_beyond_15_bits(path):
    """70000 references to a cluster, and a refcount of 70000: nothing is wrong with it."""
    entries, order = 70000, 6
    l1_clusters = (entries * 8 + 511) // 512
    total = 3 + 32 + l1_clusters  # header, reftable, L2 table, data
    l1_at, l2_at, data_at = 34, 34 + l1_clusters, 35 + l1_clusters
    total = data_at + 1
    counts = [1] * total + [0] * 2048
    counts[l2_at] = counts[data_at] = entries
    blocks = (total + 63) // 64
    assert blocks <= 32
    for i in range(blocks, 32):  # the room for refcount blocks that are not needed
        counts[2 + i] = 0
    sparse(total * 512,
           (0, header(cluster_bits=9, size=512, l1=(entries, l1_at * 512), reftable=(512, 1),
                      order=order)),
           (512, struct.pack(">%dQ" % blocks, *((2 + i) * 512 for i in range(blocks)))),
           (1024, struct.pack(">%dQ" % (blocks * 64), *counts[:blocks * 64])),
           (l1_at * 512, struct.pack(">Q", l2_at * 512) * entries),
           (l2_at * 512, struct.pack(">Q", data_at * 512)))(path)


def many_compressed_in_one(path):
    """300 compressed clusters share a host cluster, whose refcount says so, and then comes one whose
    COPIED flag is right: nothing is wrong."""
    sparse(0x70000,
           (0, header(size=32 << 20)), (0x10000, struct.pack(">Q", 0x20000)),
           (0x20000, struct.pack(">7H", 1, 1, 1, 1, 1, 300, 1)),
           (0x30000, struct.pack(">Q", 1 << 63 | 0x40000)),
           (0x40000, struct.pack(">Q", 1 << 62 | 0x50000) * 300 +
            struct.pack(">Q", 1 << 63 | 0x60000)))(path)


def same_block_for_all(path):
    """A refcount table of 8 MiB whose entries all name the same block."""
    sparse(0x2000000, (0, header(reftable=(0x1000000, 128), l1=(1, 0x30000))),
           (0x1000000, struct.pack(">Q", 0x20000) * (1 << 20)))(path)


# name: (how to make it, exit code of check, pattern in what check says)
IMAGES = {
    "no bytes": (written(b""), 1, "0 bytes"),
    "half a header": (written(header()[:60]), 1, "60 bytes"),
    "another magic": (patched("plain", "magic=0x514649fa"), 1, "magic"),
    "version 4": (patched("plain", "version=4"), 1, "version"),
    "clusters of 1 GiB": (patched("plain", "cluster_bits=30"), 1, "cluster_bits"),
    "AES": (patched("plain", "crypt=1"), 1, "AES"),
    "an unknown feature": (patched("plain", "incompatible=0x100"), 1, "bit 8"),
    "a huge L1 table": (patched("plain", "l1_size=0xffffffff"), 1, "l1_size"),
    "an L1 table past the end": (patched("plain", "l1_off=0x7fffffff0000"), 1, "l1_table_offset"),
    "a huge refcount table": (patched("plain", "reftable_clusters=0xffff"), 2,
                              "refcount_table_clusters"),
    "a refcount table past the end": (patched("plain", "reftable_off=0x7fff0000"), 2,
                                      "refcount_table_offset"),
    "a disk of 8 EiB": (patched("plain", "size=0x7ffffffffffffe00"), 1, "size"),
    "too many snapshots": (patched("full", "nb_snapshots=70000"), 2, "snapshot 2 of 70000"),
    "snapshots past the end": (patched("full", "nb_snapshots=65000"), 2, "snapshot"),
    "a snapshot with much extra data": (patched("full", "snapshot[0].extra=0xffffffff"), 2,
                                        "over a limit"),
    "a snapshot's L1 table in nowhere": (patched("full", "snapshot[0].l1_off=0x7fffffff0000"), 2,
                                         "past the end"),
    "a snapshot's huge L1 table": (patched("full", "snapshot[0].l1_size=0xffffffff"), 2,
                                   "cannot be"),
    "a bitmap without a name": (patched("full", "bitmap.name_len=0"), 2, "name_size"),
    "a bitmap of 2^200": (patched("full", "bitmap.granularity=200"), 2, "granularity_bits"),
    "a huge bitmap table": (patched("full", "bitmap.table_size=0xffffffff"), 2, "cannot be"),
    "a bitmap table in nowhere": (patched("full", "bitmap.table_off=0x7fff00000000"), 2,
                                  "past the end"),
    "a bitmap table on the header": (patched("full", "bitmap.table_off=0"), 2, "cannot be"),
    "a refcount block past the end": (patched("plain", "reftable[0]=0x7fffffff0000"), 2,
                                      "past the end"),
    "a refcount block askew": (patched("plain", "reftable[0]=0x20200"), 2, "not aligned"),
    "reserved bits in the refcount table": (patched("plain", "reftable[0]=0x20001"), 2, "reserved"),
    "a compressed cluster in nowhere": (patched("compressed", "l2[0]=0x4fffffffffff0000"), 2,
                                        "past the end"),
    "data on the L1 table, and counted": (patched("plain", "l2[0]=0x30000", "refcount[3]=2",
                                                  "refcount[5]=0"), 2, "the L1 table"),
    "data on its own table, and counted": (patched("plain", "l2[0]=0x40000", "refcount[4]=2",
                                                   "refcount[5]=0", "l1[0]=0x40000"), 2,
                                           "an L2 table"),
    "one table for all": (one_table_for_all, 2, "refcount 0, but"),
    "tables in holes": (tables_in_holes, 2, "refcount 0, but"),
    "one L1 table for all snapshots": (same_l1_for_all, 2, "L1 tables overlap"),
    "one refcount block for all": (same_block_for_all, 2, "same refcount block"),
    "a refcount of 300": (many_compressed_in_one, 0, "No errors"),
    "a refcount of 70000": (exact_beyond_15_bits, 0, "No errors"),
}


def digest(path):
    if os.stat(path).st_blocks * 512 < os.path.getsize(path) // 2:
        return os.path.getsize(path), os.stat(path).st_mtime_ns
    with open(path, "rb") as data:
        return hashlib.sha256(data.read()).hexdigest()


def look(name, path, command, *options):
    """(exit code, what it said) of one command; fails on a crash, a report, or a long run."""
    try:
        result = subprocess.run([BREAKWATER, "image", command, *options], check=False, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, timeout=SECONDS, errors="replace")
    except subprocess.TimeoutExpired:
        sys.exit("%s: image %s takes more than %d s (%s)" % (name, command, SECONDS, path))
    if result.returncode < 0 or re.search(r"Sanitizer|runtime error:", result.stdout):
        sys.exit("%s: image %s: code %d\n%s" % (name, command, result.returncode, result.stdout))
    if len(result.stdout) > 100000 and command == "check":
        sys.exit("%s: image check prints %d bytes" % (name, len(result.stdout)))
    return result.returncode, result.stdout


def look_all(name, path):
    before = digest(path)
    outcome = look(name, path, "check", "-f", "qcow2", path)
    look(name, path, "check", "--json", "-f", "qcow2", path)
    for options in ([], ["--json"], ["--backing-chain"]):
        code, text = look(name, path, "info", "-f", "qcow2", *options, path)
        if code not in (0, 1):
            sys.exit("%s: image info: code %d\n%s" % (name, code, text))
    for options in ([], ["--backing-chain"]):
        code, _ = look(name, path, "map", "--json", "-f", "qcow2", *options, path)
        if code not in (0, 1):
            sys.exit("%s: image map: code %d" % (name, code))
    if os.path.getsize(path) < 1 << 30:
        code, text = look(name, path, "compare", "-f", "qcow2", "-F", "qcow2", path, "plain")
        if code not in (0, 1, 2):
            sys.exit("%s: image compare: code %d\n%s" % (name, code, text))
    if digest(path) != before:
        sys.exit("%s: the image was changed" % name)
    return outcome


def main():
    seed_images()
    for name, (make, wanted, pattern) in IMAGES.items():
        make("hostile.img")
        code, text = look_all(name, "hostile.img")
        if code != wanted or not re.search(pattern, text):
            sys.exit("%s: check ends with %d, expected %d and '%s'\n%s" %
                     (name, code, wanted, pattern, text))
    print("%d hostile images" % len(IMAGES))

    rng = random.Random(SEED)
    for number in range(MUTATIONS):
        source = rng.choice(("plain", "full", "small", "compressed"))
        shutil.copy(source, "hostile.img")
        with open("hostile.img", "r+b") as image:
            # Where the tables are: most of the rest is guest data.
            end = 0x4000 if source == "small" else 0x60000
            for _ in range(rng.randint(1, 12)):
                image.seek(rng.choice((rng.randrange(120), rng.randrange(end),
                                       rng.randrange(end) // 0x200 * 0x200)))
                image.write(rng.choice((rng.randbytes(8), b"\xff" * 8, bytes(8),
                                        struct.pack(">Q", rng.randrange(0x10) << 16))))
        name = "mutation %d of SEED=%d" % (number, SEED)
        code, text = look_all(name, "hostile.img")
        if code not in (0, 1, 2, 3):
            sys.exit("%s: image check: code %d\n%s" % (name, code, text))
    print("%d mutations" % MUTATIONS)


main()
