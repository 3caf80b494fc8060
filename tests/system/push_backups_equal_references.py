#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Backup jobs under QMP: every scenario of QEMU's incremental backup, judged by full references.

The disk and the writes to it are those of QEMU's own test of incremental backups: what a bitmap
counts after them is known. Each increment must equal a full backup that is taken right after it.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from qmp import expect_error  # noqa: E402
from rig import (  # noqa: E402
    BATCH1, BATCH2, CANCELLED, COUNTS, EIO_AFTER_FLUSH, FAILED, RAN, Drive, Rig, create,
    run_scenarios, same, sh)


def simple(**options):
    with Rig() as rig:
        d = Drive(rig)
        d.add_bitmap(**options)
        d.anchor()
        batch1, batch2 = COUNTS[options.get("granularity", 65536)]
        assert d.bitmap()["count"] == 0
        d.increment(dirty=0)
        d.write(BATCH1)
        assert d.bitmap() == {"name": "bitmap0", "granularity": options.get("granularity", 65536),
                              "count": batch1, "recording": True, "busy": False,
                              "persistent": False}, d.bitmap()
        d.increment(dirty=max(batch1, COUNTS[65536][0]))
        assert d.bitmap()["count"] == 0
        d.write(BATCH2)
        assert d.bitmap()["count"] == batch2
        last, _ = d.increment()
        rig.q("block-export-del", id="e-drive0")
        rig.q("blockdev-del", node_name="drive0")
        same(last, "drive0.qcow2")


def small_granularity():
    simple(granularity=32768)


def large_granularity():
    simple(granularity=131072)


def larger_cluster_target():
    with Rig() as rig:
        d = Drive(rig)
        d.add_bitmap()
        d.backup("full", "anchor.qcow2", "-o", "cluster_size=128k")
        d.write(BATCH1)
        b = d.bitmap()
        assert (b["count"], b["granularity"], b["persistent"]) == (458752, 65536, False), b
        d.backup("incremental", "inc.qcow2", "-o", "cluster_size=128k", bitmap="bitmap0")
        reference = d.reference()
        sh("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "anchor.qcow2", "-F", "qcow2",
           "inc.qcow2")
        same("inc.qcow2", reference)


def incremental_transaction():
    with Rig() as rig:
        d = Drive(rig)
        d.add_bitmap("bitmap0")
        d.write(BATCH1)
        d.add_bitmap("bitmap1")
        assert d.bitmap("bitmap0")["count"] == 458752 and d.bitmap("bitmap1")["count"] == 0
        d.target("anchor.qcow2")
        rig.q("transaction", actions=[
            {"type": "block-dirty-bitmap-clear", "data": {"node": "drive0", "name": "bitmap0"}},
            {"type": "block-dirty-bitmap-clear", "data": {"node": "drive0", "name": "bitmap1"}},
            {"type": "blockdev-backup", "data": d.arguments("full")}])
        rig.run({"drive0": RAN})
        d.drop_target()
        d.parent = {"bitmap0": "anchor.qcow2", "bitmap1": "anchor.qcow2"}
        d.write(BATCH2)
        d.increment("bitmap0", dirty=1507328)
        d.increment("bitmap1", dirty=1507328)


def transaction_failure(race=False):
    with Rig() as rig:
        a, b = Drive(rig), Drive(rig, "drive1", EIO_AFTER_FLUSH)
        for d in (a, b):
            d.add_bitmap()
            d.anchor()
        if not race:
            a.write(BATCH1)
        b.write(BATCH1)  # qemu-io flushes when it ends
        count = 0 if race else 458752
        actions = []
        for d in (a, b):
            d.target(d.name + "-inc.qcow2", backing=d.parent["bitmap0"])
            actions.append({"type": "blockdev-backup",
                            "data": d.arguments("incremental", bitmap="bitmap0")})
        together = {"completion-mode": "grouped"}
        assert rig.q("transaction", actions=actions, properties=together) == {}
        last = rig.run({
            "drive0": CANCELLED,
            "drive1": FAILED})
        assert last["error"] == {"device": "drive1", "operation": "read", "action": "report"}, last
        assert last["drive1"]["error"] == "Input/output error", last
        assert a.bitmap()["count"] == count and b.bitmap()["count"] == 458752
        assert not a.bitmap()["busy"] and not b.bitmap()["busy"]
        # Once more, into targets that hold part of it.
        rig.q("transaction", actions=actions, properties=together)
        last = rig.run({"drive0": RAN, "drive1": RAN})
        for d in (a, b):
            assert "error" not in last[d.name] and d.bitmap()["count"] == 0
            d.drop_target()
            same(d.name + "-inc.qcow2", d.reference())


def transaction_failure_race():
    transaction_failure(race=True)


def nothing_is_left_of_a_transaction_that_fails_at_once():
    with Rig() as rig:
        d = Drive(rig)
        d.add_bitmap()
        d.write(BATCH1)
        d.target("t.qcow2")
        backup = {"type": "blockdev-backup", "data": d.arguments("incremental", bitmap="bitmap0")}
        expect_error("aborted", rig.q, "transaction",
                     actions=[backup, {"type": "abort", "data": {}}])
        assert rig.until("drive0", "null") == ["created", "null"]
        assert d.bitmap() == {"name": "bitmap0", "granularity": 65536, "count": 458752,
                              "recording": True, "busy": False, "persistent": False}, d.bitmap()
        expect_error("Action 'abort' does not support Transaction property completion-mode = "
                     "grouped", rig.q, "transaction", properties={"completion-mode": "grouped"},
                     actions=[backup, {"type": "abort", "data": {}}])
        # Alone in a group it is as if it were alone.
        rig.q("transaction", properties={"completion-mode": "grouped"}, actions=[backup])
        rig.run({"drive0": RAN})
        d.drop_target()


def bitmaps_that_cannot_be_used_are_named():
    with Rig() as rig:
        d = Drive(rig)
        d.target("t.qcow2")
        create("small.qcow2", size="32M")
        rig.q("blockdev-add", driver="qcow2", node_name="small",
              file={"driver": "file", "filename": "small.qcow2"})
        rig.q("blockdev-add", driver="qcow2", node_name="ro", read_only=True,
              file={"driver": "file", "filename": "small.qcow2", "locking": "off"})
        rig.q("blockdev-add", driver="null-co", node_name="null", size=64 << 20)

        def refused(text, sync, **more):
            expect_error(text, rig.q, "blockdev-backup", **d.arguments(sync, **more))

        refused("must provide a valid bitmap name for 'incremental' sync mode", "incremental")
        refused("must provide a valid bitmap name for 'bitmap' sync mode", "bitmap")
        refused("Bitmap 'unknown' could not be found", "incremental", bitmap="unknown")
        for sync in "full", "top", "none":
            refused("Cannot specify bitmap sync mode without a bitmap", sync,
                    **{"bitmap-mode": "always"})
        expect_error("Granularity must be power of 2", rig.q, "block-dirty-bitmap-add",
                     node="drive0", name="bitmap0", granularity=64000)
        assert d.bitmap() is None
        d.add_bitmap()
        for sync in "full", "top", "none", "bitmap":
            refused("Bitmap sync mode must be given when providing a bitmap", sync,
                    bitmap="bitmap0")
        for mode in "always", "never":
            refused("Bitmap sync mode must be 'on-success' when using sync mode 'incremental'",
                    "incremental", bitmap="bitmap0", **{"bitmap-mode": mode})
        for mode in "on-success", "always", "never":
            refused("sync mode 'none' does not produce meaningful bitmap outputs", "none",
                    bitmap="bitmap0", **{"bitmap-mode": mode})
        for sync in "full", "top":
            refused("Bitmap sync mode 'never' has no meaningful effect when combined with sync "
                    "mode '%s'" % sync, sync, bitmap="bitmap0", **{"bitmap-mode": "never"})
        refused("Source and target image have different sizes", "full", target="small")
        refused("Source and target cannot be the same", "full", target="drive0")
        refused("Cannot find device='gone' nor node-name='gone'", "full", target="gone")
        refused("Cannot find device='gone' nor node-name='gone'", "full", device="gone")
        refused("Invalid job ID '1'", "full", **{"job-id": "1"})
        refused("expects a non-negative value", "full", speed=-1)
        refused("Compression is not supported for this drive null", "full", target="null",
                compress=True)
        assert rig.q("query-jobs") == []
        assert [e["data"]["status"] for e in rig.q.events] in ([], ["created", "null"])
        rig.q.events.clear()
        # Nothing was left in use.
        d.drop_target()
        rig.q("blockdev-del", node_name="small")


def growing():
    with Rig() as rig:
        d = Drive(rig)
        d.add_bitmap()
        d.anchor()
        rig.q("block-export-del", id="e-drive0")
        rig.q("block_resize", node_name="drive0", size=65 << 20)
        d.size = "65M"
        d.export()
        d.write(["write -P 0x11 64M 64k"])
        d.increment(size="65M")
        d.write(["write -P 0x12 65472K 128k"])
        d.increment(dirty=131072)


def incremental_failure():
    with Rig() as rig:
        d = Drive(rig, faults=EIO_AFTER_FLUSH)
        d.add_bitmap()
        d.anchor()
        d.write(BATCH1)
        data = d.backup("incremental", "failed.qcow2", backing=d.parent["bitmap0"],
                        bitmap="bitmap0", expect=FAILED)
        assert data["error"] == "Input/output error", data
        assert d.bitmap()["count"] == 458752
        d.write(BATCH2)
        assert d.bitmap()["count"] == 1638400, d.bitmap()
        last, _ = d.increment(dirty=1638400)
        rig.q("block-export-del", id="e-drive0")
        rig.q("blockdev-del", node_name="drive0")
        same(last, "drive0.qcow2")


def incremental_pause():
    with Rig() as rig:
        d = Drive(rig, faults=EIO_AFTER_FLUSH)
        d.add_bitmap()
        d.anchor()
        d.write(BATCH1)
        b = {"name": "bitmap0", "granularity": 65536, "persistent": False, "recording": True}
        assert d.bitmap() == dict(b, count=458752, busy=False), d.bitmap()
        d.target("inc.qcow2", backing=d.parent["bitmap0"])
        rig.q("blockdev-backup", **d.arguments("incremental", bitmap="bitmap0",
                                               **{"on-source-error": "stop"}))
        assert rig.until("drive0", "paused") == ["created", "running", "BLOCK_JOB_ERROR", "paused"]
        assert d.bitmap() == dict(b, count=458752, busy=True), d.bitmap()
        expect_error("in use by another operation", rig.q, "block-dirty-bitmap-clear",
                     node="drive0", name="bitmap0")
        job, = rig.q("query-block-jobs")
        assert (job["status"], job["paused"], job["io-status"]) == ("paused", True, "failed"), job
        d.write(["write -P 3 0 64k"])  # while it waits: not part of it
        rig.q("block-job-resume", device="drive0")
        rig.run({"drive0": ["running"] + RAN[2:]})
        d.drop_target()
        assert d.bitmap() == dict(b, count=65536, busy=False), d.bitmap()
        d.parent["bitmap0"] = "inc.qcow2"
        d.increment(dirty=65536)


SCENARIOS = [simple, small_granularity, large_granularity, larger_cluster_target,
             incremental_transaction, transaction_failure, transaction_failure_race,
             nothing_is_left_of_a_transaction_that_fails_at_once,
             bitmaps_that_cannot_be_used_are_named, growing, incremental_failure,
             incremental_pause]

if __name__ == "__main__":
    run_scenarios(SCENARIOS)
