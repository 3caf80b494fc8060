#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Damages a qcow2 image in a known place.

usage: patch_image.py FILE WHERE=VALUE...

WHERE is a header field, or an entry of a table: l1[I], l2[I] (of the first L2 table), l2[T][I],
reftable[I], refcount[CLUSTER] (of a whole-byte width), snapshot[N].FIELD (from byte N of the table),
bitmap.FIELD, or @OFFSET:BYTES. VALUE is a number, or ^NUMBER (exclusive or with what is there), or
+NUMBER; `truncate=BYTES` cuts the file, or makes it longer.
"""

import re
import sys

HEADER = {  # name: offset, length in bytes
    "magic": (0, 4), "version": (4, 4), "backing_off": (8, 8), "backing_len": (16, 4),
    "cluster_bits": (20, 4), "size": (24, 8), "crypt": (32, 4), "l1_size": (36, 4),
    "l1_off": (40, 8), "reftable_off": (48, 8), "reftable_clusters": (56, 4),
    "nb_snapshots": (60, 4), "snapshots_off": (64, 8), "incompatible": (72, 8),
    "compatible": (80, 8), "autoclear": (88, 8), "refcount_order": (96, 4), "header_len": (100, 4),
}
SNAPSHOT = {"l1_off": (0, 8), "l1_size": (8, 4), "id_len": (12, 2), "name_len": (14, 2),
            "extra": (36, 4)}
BITMAP = {"table_off": (0, 8), "table_size": (8, 4), "flags": (12, 4), "type": (16, 1),
          "granularity": (17, 1), "name_len": (18, 2), "extra": (20, 4)}
OFFSET = 0x00fffffffffffe00


class Image:
    def __init__(self, path):
        self.file = open(path, "r+b", buffering=0)

    def get(self, offset, length):
        self.file.seek(offset)
        return int.from_bytes(self.file.read(length).ljust(length, b"\0"), "big")

    def put(self, offset, length, value):
        self.file.seek(offset)
        self.file.write((value & ((1 << (8 * length)) - 1)).to_bytes(length, "big"))

    def field(self, name):
        return self.get(*HEADER[name])

    def first_l2(self, skip):
        l1 = self.field("l1_off")
        for i in range(self.field("l1_size")):
            entry = self.get(l1 + 8 * i, 8) & OFFSET
            if entry and skip == 0:
                return entry
            skip -= bool(entry)
        raise SystemExit("no such L2 table")

    def bitmap_directory(self):
        at = self.field("header_len") if self.field("version") > 2 else 72
        while True:
            kind, length = self.get(at, 4), self.get(at + 4, 4)
            if kind == 0x23852875:
                return self.get(at + 8 + 16, 8)
            if kind == 0:
                raise SystemExit("no bitmaps")
            at += 8 + (length + 7) // 8 * 8

    def place(self, where):
        """(offset, length) of what is named."""
        if where in HEADER:
            return HEADER[where]
        found = re.fullmatch(r"@(\w+):(\d+)", where)
        if found:
            return int(found[1], 0), int(found[2])
        numbers = [int(n, 0) for n in re.findall(r"\[(\w+)\]", where)]
        name = where.split("[")[0].split(".")[0]
        if name == "l1":
            return self.field("l1_off") + 8 * numbers[0], 8
        if name == "l2":
            return self.first_l2(numbers[0] if len(numbers) > 1 else 0) + 8 * numbers[-1], 8
        if name == "reftable":
            return self.field("reftable_off") + 8 * numbers[0], 8
        if name == "refcount":
            order = self.field("refcount_order") if self.field("version") > 2 else 4
            width, cluster = (1 << order) // 8, 1 << self.field("cluster_bits")
            block = self.get(self.field("reftable_off") + numbers[0] // (cluster // width) * 8, 8)
            return block + numbers[0] % (cluster // width) * width, width
        table, base = (SNAPSHOT, self.field("snapshots_off")) if name == "snapshot" else \
            (BITMAP, self.bitmap_directory())
        offset, length = table[where.split(".")[1]]
        return base + (numbers[0] if numbers else 0) + offset, length

    def patch(self, text):
        where, value = text.rsplit("=", 1)
        if where == "truncate":
            self.file.truncate(int(value, 0))
            return
        offset, length = self.place(where)
        old = self.get(offset, length)
        number = int(value.lstrip("^+"), 0)
        self.put(offset, length, old ^ number if value[0] == "^" else
                 old + number if value[0] == "+" else number)


def main(argv):
    if len(argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    image = Image(argv[1])
    for text in argv[2:]:
        image.patch(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
