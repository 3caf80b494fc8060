#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Makes a fully allocated qcow2 image whose data are holes, by writing its tables directly.

An image of 1 TiB with 16 Mi allocated clusters then takes 160 MiB on disk and a second or two to make.
What is measured with it is the check of its metadata.
"""

import argparse
import random
import struct
import sys

CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
PER_TABLE = CLUSTER // 8
PER_BLOCK = CLUSTER // 2
COPIED = 1 << 63


def tables_of(guest_clusters):
    """How many clusters of each kind of metadata such an image has: l1, l2, reftable, refblocks."""
    l2 = -(-guest_clusters // PER_TABLE)
    l1 = -(-l2 * 8 // CLUSTER)
    blocks = 1
    while True:
        reftable = -(-blocks * 8 // CLUSTER)
        need = -(-(1 + l1 + l2 + reftable + blocks + guest_clusters) // PER_BLOCK)
        if need <= blocks:
            return l1, l2, reftable, blocks
        blocks = need


def write_image(out, size, order):
    guest_clusters = size >> CLUSTER_BITS
    l1, l2, reftable, blocks = tables_of(guest_clusters)
    l1_at, reftable_at = 1, 1 + l1
    blocks_at = reftable_at + reftable
    l2_at = blocks_at + blocks
    data_at = l2_at + l2
    total = data_at + guest_clusters

    header = struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, CLUSTER_BITS, size, 0, l2,
                         l1_at * CLUSTER, reftable_at * CLUSTER, reftable, 0, 0, 0, 0, 0, 4, 104)
    out.write(header)
    out.seek(l1_at * CLUSTER)
    out.write(b"".join(struct.pack(">Q", COPIED | (l2_at + i) * CLUSTER) for i in range(l2)))
    out.seek(reftable_at * CLUSTER)
    out.write(b"".join(struct.pack(">Q", (blocks_at + i) * CLUSTER) for i in range(blocks)))
    for i in range(blocks):
        n = min(PER_BLOCK, total - i * PER_BLOCK)
        out.seek((blocks_at + i) * CLUSTER)
        out.write(struct.pack(">H", 1) * n)
    chooser = random.Random(1)
    where = list(range(l2))
    if order == "shuffled":
        chooser.shuffle(where)  # which stretch of the file a table maps
    for i in range(l2):
        first = data_at + where[i] * PER_TABLE
        n = min(PER_TABLE, data_at + guest_clusters - first)
        hosts = [COPIED | (first + k) << CLUSTER_BITS for k in range(n)]
        if order == "shuffled":
            chooser.shuffle(hosts)
        out.seek((l2_at + i) * CLUSTER)
        out.write(struct.pack(">%dQ" % n, *hosts))
    out.truncate(total * CLUSTER)


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-gib", type=int, default=1024, help="of the guest disk (1024)")
    parser.add_argument("--order", choices=("sequential", "shuffled"), default="sequential",
                        help="of the data clusters in the file (sequential)")
    parser.add_argument("file")
    options = parser.parse_args(argv)
    with open(options.file, "wb") as out:
        write_image(out, options.size_gib << 30, options.order)


if __name__ == "__main__":
    main(sys.argv[1:])
