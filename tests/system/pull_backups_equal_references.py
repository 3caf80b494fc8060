#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Backup sessions: every scenario of QEMU's incremental backup once more, with a client that pulls over
NBD and says itself how it went.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from puller import MIB, Puller, anchor, begin, bitmaps, end, increment, nbd, run  # noqa: E402
from qmp import expect_error  # noqa: E402
from rig import BATCH1, BATCH2, COUNTS, EIO_AFTER_FLUSH, Drive, Rig, run_scenarios, same, sh  # noqa: E402


def simple(granularity=65536):
    with Rig() as rig:
        d = Drive(rig)
        p = Puller(d)
        anchor(p, granularity=granularity, persistent=False)
        batch1, batch2 = COUNTS[granularity]
        assert p.bitmap()["count"] == 0
        increment(p, dirty=0)
        d.write(BATCH1)
        assert p.bitmap() == {"granularity": granularity, "count": batch1, "recording": True,
                              "busy": False, "persistent": False}, p.bitmap()
        assert increment(p, dirty=batch1)["granularity"] == granularity
        assert p.bitmap()["count"] == 0
        d.write(BATCH2)
        increment(p, dirty=batch2)
        # One bitmap is left of all these backups.
        assert len(bitmaps(rig.q)) == 1
        rig.q("block-export-del", id="e-drive0")
        rig.q("blockdev-del", node_name="drive0")
        same(p.parent, "drive0.qcow2")


def small_granularity():
    simple(32768)


def large_granularity():
    simple(131072)


def larger_cluster_target():
    for more in {}, {"restrict": True, "align": 131072}:
        with Rig() as rig:
            d = Drive(rig)
            p = Puller(d)
            info, = begin(rig.q, "a", p.wish(persistent=False))["disks"]
            p.take(info, "anchor.qcow2", cluster="128k", align=131072)
            end(rig.q, "a", "success")
            p.took(info, "anchor.qcow2")
            d.write(BATCH1)
            b = p.bitmap()
            assert (b["count"], b["granularity"], b["persistent"]) == (458752, 65536, False), b
            info, = begin(rig.q, "i", p.wish(**more))["disks"]
            p.parent = None  # no backing file: nothing can come from there
            p.take(info, "inc.qcow2", cluster="128k", align=131072)
            end(rig.q, "i", "success")
            sh("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "anchor.qcow2", "-F", "qcow2",
               "inc.qcow2")
            same("inc.qcow2", d.reference())


def incremental_transaction():
    with Rig() as rig:
        d = Drive(rig)
        a, b = Puller(d, "a"), Puller(d, "b")
        d.write(BATCH1)
        for p in a, b:
            run(p, p.stem + "-anchor.qcow2")
        assert a.bitmap()["count"] == b.bitmap()["count"] == 0
        d.write(BATCH2)
        for p in a, b:
            increment(p, dirty=1507328)
        expect_error("is named twice", begin, rig.q, "x", a.wish(), b.wish())


def transaction_failure(race=False):
    with Rig() as rig:
        a, b = Drive(rig, "drive0"), Drive(rig, "drive1", faults=EIO_AFTER_FLUSH)
        pa, pb = Puller(a), Puller(b)
        for p in pa, pb:
            run(p, p.d.name + "-anchor.qcow2")
        if not race:
            a.write(BATCH1)
        b.write(BATCH1)
        count = 0 if race else 458752
        disks = begin(rig.q, "both", pa.wish(), pb.wish())["disks"]
        assert [i["dirty"] for i in disks] == [count, 458752], disks
        pa.take(disks[0], "lost.qcow2")
        try:
            pb.take(disks[1], "never.qcow2")
            raise AssertionError("the fault did not strike")
        except nbd.Error as e:
            assert "Input/output error" in str(e), e
        end(rig.q, "both", "failure")
        assert pa.bitmap()["count"] == count and pb.bitmap()["count"] == 458752
        assert not pa.bitmap()["busy"] and not pb.bitmap()["busy"]
        assert len(bitmaps(rig.q, "drive0")) == len(bitmaps(rig.q, "drive1")) == 1
        disks = begin(rig.q, "again", pa.wish(), pb.wish())["disks"]
        for p, i in zip((pa, pb), disks):
            p.take(i, p.d.name + "-inc.qcow2")
        end(rig.q, "again", "success")
        for p, i in zip((pa, pb), disks):
            p.took(i, p.d.name + "-inc.qcow2")
            assert p.bitmap()["count"] == 0
            same(p.parent, p.d.reference())


def transaction_failure_race():
    transaction_failure(race=True)


def what_cannot_be_had_is_refused_by_name():
    with Rig() as rig:
        d = Drive(rig)
        p = Puller(d)
        some = "00000000-0000-4000-8000-000000000000"
        for level in "incremental", "differential":
            expect_error("must provide the base of node 'drive0'", begin, rig.q, "x",
                         p.wish(level=level))
            expect_error("Bitmap 'backup@%s' could not be found" % some, begin, rig.q, "x",
                         p.wish(level=level, base=some))
        expect_error("Granularity must be power of 2", begin, rig.q, "x", p.wish(granularity=64000))
        expect_error("Invalid base 'x'", begin, rig.q, "x", p.wish(base="x"))
        expect_error("'align' must be", begin, rig.q, "x", p.wish(align=3))
        expect_error("'bitmap' must have 1 to", begin, rig.q, "x", p.wish(bitmap="b" * 1000))
        expect_error("'scratch-limit'", begin, rig.q, "x", p.wish(**{"scratch-limit": 4096}))
        expect_error("Cannot find device='gone'", begin, rig.q, "x", p.wish(), {"node": "gone"})
        expect_error("Invalid backup id '1'", begin, rig.q, "1", p.wish())
        expect_error("1 to 256 disks", begin, rig.q, "x")
        expect_error("'lease' must be", begin, rig.q, "x", p.wish(), lease=0)
        expect_error("Backup 'x' not found", rig.q, "backup-end", id="x", outcome="success")
        expect_error("Backup 'x' not found", rig.q, "backup-renew", id="x")
        assert bitmaps(rig.q) == [] and rig.q("query-backups") == []
        # A disk that has no place for its view takes the others back.
        rig.q("blockdev-add", driver="null-co", node_name="null", size=MIB)
        rig.q("blockdev-add", driver="null-co", node_name="other", size=MIB)
        rig.q("block-export-add", type="nbd", id="taken", node_name="other", name="null@x")
        expect_error("already has export named", begin, rig.q, "x", p.wish(), {"node": "null"})
        assert bitmaps(rig.q) == [] and len(rig.q("query-block-exports")) == 2
        anchor(p)
        begin(rig.q, "one", p.wish())
        for other in "one", "two":
            expect_error("exists already" if other == "one" else "in use by another operation",
                         begin, rig.q, other, p.wish())
        expect_error("Backup 'one' is active", rig.q, "nbd-server-stop")
        expect_error("belongs to backup 'one'", rig.q, "block-export-del", id="one.drive0")
        expect_error("in use", rig.q, "blockdev-del", node_name="drive0")
        end(rig.q, "one", "failure")


def growing():
    with Rig() as rig:
        d = Drive(rig)
        p = Puller(d)
        anchor(p)
        rig.q("block-export-del", id="e-drive0")
        rig.q("block_resize", node_name="drive0", size=65 * MIB)
        d.size = "65M"
        d.export()
        d.write(["write -P 0x11 64M 64k"])
        assert increment(p)["size"] == 65 * MIB
        d.write(["write -P 0x12 65472K 128k"])
        increment(p, dirty=131072)


def incremental_failure():
    with Rig() as rig:
        d = Drive(rig, faults=EIO_AFTER_FLUSH)
        p = Puller(d)
        anchor(p)
        d.write(BATCH1)
        info, = begin(rig.q, "f", p.wish())["disks"]
        try:
            p.take(info, "failed.qcow2")
            raise AssertionError("the fault did not strike")
        except nbd.Error as e:
            assert "Input/output error" in str(e), e
        end(rig.q, "f", "failure")
        assert p.bitmap()["count"] == 458752
        d.write(BATCH2)
        assert p.bitmap()["count"] == 1638400, p.bitmap()
        increment(p, dirty=1638400)
        rig.q("block-export-del", id="e-drive0")
        rig.q("blockdev-del", node_name="drive0")
        same(p.parent, "drive0.qcow2")


def incremental_pause():
    with Rig() as rig:
        d = Drive(rig, faults=EIO_AFTER_FLUSH)
        p = Puller(d)
        anchor(p, persistent=False)
        d.write(BATCH1)
        b = {"granularity": 65536, "persistent": False, "recording": True}
        assert p.bitmap() == dict(b, count=458752, busy=False), p.bitmap()
        info, = begin(rig.q, "p", p.wish(persistent=False))["disks"]
        try:
            p.take(info, "inc.qcow2")
            raise AssertionError("the fault did not strike")
        except nbd.Error:
            pass
        assert p.bitmap() == dict(b, count=458752, busy=True), p.bitmap()
        d.write(["write -P 3 0 64k"])  # while it waits: not part of it
        p.take(info, "inc.qcow2")  # another connection goes on
        end(rig.q, "p", "success")
        p.took(info, "inc.qcow2")
        assert p.bitmap() == dict(b, count=65536, busy=False), p.bitmap()
        increment(p, dirty=65536)


SCENARIOS = [simple, small_granularity, large_granularity, larger_cluster_target,
             incremental_transaction, transaction_failure, transaction_failure_race,
             what_cannot_be_had_is_refused_by_name, growing, incremental_failure, incremental_pause]

if __name__ == "__main__":
    run_scenarios(SCENARIOS)
