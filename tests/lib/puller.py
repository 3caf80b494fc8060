# SPDX-License-Identifier: BSD-3-Clause
"""A client of backup sessions, for tests: it pulls over NBD into a chain of qcow2 images."""

import os
import sys

from rig import create, same, sh

try:
    import nbd
except ImportError:
    print("SKIP: python3-libnbd is not installed")
    sys.exit(77)

MIB = 1 << 20


def uri(name):
    return "nbd+unix:///%s?socket=%s" % (name, os.path.abspath("nbd.sock"))


class Disk:
    """A disk of a session as its client sees it."""

    def __init__(self, info):
        self.info = info
        self.h = nbd.NBD()
        if "context" in info:
            self.h.add_meta_context(info["context"])
        self.h.connect_uri(uri(info["export"]))

    def dirty(self, align=65536):
        """Ranges of whole units of which anything is dirty."""
        if "context" not in self.info:
            return [(0, self.info["size"])]
        units, at, size = set(), 0, self.info["size"]
        while at < size:
            extents = []

            def chunk(metacontext, offset, entries, error, extents=extents):
                extents.extend(entries)
            self.h.block_status(min(size - at, 1 << 30), at, chunk)
            for length, flags in zip(extents[::2], extents[1::2]):
                if flags & 1:
                    units.update(range(at // align, -(-(at + length) // align)))
                at += length
        return [(u * align, min(align, size - u * align)) for u in sorted(units)]

    def copy(self, target, align=65536, create_options=(), backing=None, cluster="64k"):
        """Into a new image, with what is dirty in it."""
        create(target, "-o", "cluster_size=" + cluster, *create_options, size=str(self.info["size"]),
               backing=backing)
        commands = []
        for off, length in self.dirty(align):
            for at in range(off, off + length, MIB):
                n = min(MIB, off + length - at)
                data = bytes(self.h.pread(n, at))
                if "context" not in self.info and not any(data):
                    continue
                piece = "piece-%d" % at
                with open(piece, "wb") as f:
                    f.write(data)
                commands.append("write -s %s %d %d" % (piece, at, n))
        if commands:
            sh("qemu-io", "-f", "qcow2", *[a for c in commands for a in ("-c", c)], target)
        return self

    def close(self):
        self.h.shutdown()


class Puller:
    """What a backup program keeps of one drive: its chain, and the UUID of the newest backup."""

    def __init__(self, drive, stem="backup"):
        self.d, self.q, self.stem = drive, drive.q, stem
        self.base = self.parent = None

    def wish(self, **more):
        wish = {"node": self.d.name, "bitmap": self.stem}
        if self.base:
            wish["base"] = self.base
        return dict(wish, **more)

    def bitmap(self):
        """That of the base, without its name."""
        b = self.d.bitmap("%s@%s" % (self.stem, self.base))
        return b and {k: v for k, v in b.items() if k != "name"}

    def take(self, info, target, **options):
        """Copy into a layer of the chain, which counts only if the session succeeds."""
        disk = Disk(info).copy(target, backing=self.parent if "context" in info else None, **options)
        disk.close()

    def took(self, info, target):
        self.base, self.parent = info["uuid"], target


def begin(q, id, *wishes, **more):
    return q("backup-begin", id=id, disks=list(wishes), **more)


def ended(q, id, status, reason=None):
    data = q.wait_event("BACKUP_ENDED")["data"]
    assert data == dict({"id": id, "status": status}, **{"reason": reason} if reason else {}), data


def end(q, id, outcome):
    q("backup-end", id=id, outcome=outcome)
    ended(q, id, outcome, "client" if outcome == "failure" else None)


counter = 0


def run(p, target, expect_level=None, align=65536, **wish):
    """A whole session of one disk; returns what was granted."""
    global counter
    counter += 1
    id = "s%d" % counter
    info, = begin(p.q, id, p.wish(**wish))["disks"]
    assert info["level"] == (expect_level or ("incremental" if p.base else "full")), info
    p.take(info, target, align=align)
    end(p.q, id, "success")
    p.took(info, target)
    return info


def anchor(p, **wish):
    run(p, p.d.name + "-anchor.qcow2", **wish)


def increment(p, dirty=None, **wish):
    """An increment, which must equal a reference."""
    target = "%s-inc%d.qcow2" % (p.d.name, p.d.n)
    info = run(p, target, **wish)
    assert dirty is None or info["dirty"] == dirty, info
    same(target, p.d.reference())
    return info


def bitmaps(q, node="drive0"):
    return [b for n in q("query-named-block-nodes") if n["node-name"] == node
            for b in n.get("dirty-bitmaps", [])]
