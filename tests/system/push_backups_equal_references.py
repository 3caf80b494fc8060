#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Backup jobs under QMP: every scenario of QEMU's incremental backup, judged by full references.

The disk and the writes to it are those of QEMU's own test of incremental backups: what a bitmap
counts after them is known. Each increment must equal a full backup that is taken right after it.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from qmp import Daemon, expect_error  # noqa: E402

BREAKWATER = os.environ["BREAKWATER"]
PROGRAM = [BREAKWATER, "daemon"]

FIRST = ["write -P 0x41 0 512", "write -P 0xd5 1M 32K", "write -P 0xdc 32M 124K"]
BATCH1 = ["write -P 0xab 0 512", "write -P 0xfe 16M 256K", "write -P 0x64 32736K 64K"]
BATCH2 = ["write -P 0x9a 0 512", "write -P 0x55 8M 352K", "write -P 0x78 15872K 1M"]
# What the bitmap counts after each, by granularity.
COUNTS = {65536: (458752, 1507328), 32768: (360448, 1441792), 131072: (655360, 1572864)}

RAN = ["created", "running", "waiting", "pending", "BLOCK_JOB_COMPLETED", "concluded", "null"]
FAILED = ["created", "running", "BLOCK_JOB_ERROR", "aborting", "BLOCK_JOB_COMPLETED", "concluded",
          "null"]
CANCELLED = ["created", "running", "aborting", "BLOCK_JOB_CANCELLED", "concluded", "null"]
# The first read of the image after a flush fails.
EIO_AFTER_FLUSH = {
    "set-state": [{"event": "flush_to_disk", "state": 1, "new_state": 2}],
    "inject-error": [{"event": "read_aio", "errno": 5, "state": 2, "immediately": False,
                      "once": True}]}


def sh(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def create(name, *options, size="64M", backing=None):
    chain = ["-b", backing, "-F", "qcow2"] if backing else []
    sh("qemu-img", "create", "-q", "-f", "qcow2", *options, *chain, name, size)


def same(a, b):
    p = subprocess.run(["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", a, b],
                       capture_output=True, text=True)
    assert p.returncode == 0, (a, b, p.stdout, p.stderr)


class Drive:
    """A node that is served writable, its bitmaps, and the backups that were made of it."""

    def __init__(self, rig, name="drive0", faults=None, size="64M"):
        self.rig, self.q, self.name, self.size = rig, rig.q, name, size
        self.n = 0
        self.parent = {}  # of each bitmap's next increment
        self.image = name + ".qcow2"
        if not os.path.exists(self.image):
            create(self.image)
            sh("qemu-io", "-f", "qcow2", *[a for c in FIRST for a in ("-c", c)], self.image)
        file = {"driver": "file", "filename": self.image}
        if faults:
            file = dict({"driver": "blkdebug", "image": file}, **faults)
        self.q("blockdev-add", driver="qcow2", node_name=name, file=file)
        self.export()

    def export(self):
        self.q("block-export-add", type="nbd", id="e-" + self.name, node_name=self.name,
               name=self.name, writable=True)

    def write(self, commands):
        out = sh("qemu-io", "-f", "raw", *[a for c in commands for a in ("-c", c)],
                 "nbd+unix:///%s?socket=%s" % (self.name, os.path.abspath("nbd.sock")))
        assert "rror" not in out and "failed" not in out, out

    def bitmap(self, name="bitmap0"):
        for node in self.q("query-named-block-nodes"):
            if node["node-name"] == self.name:
                for b in node.get("dirty-bitmaps", []):
                    if b["name"] == name:
                        return b
        return None

    def add_bitmap(self, name="bitmap0", **options):
        self.q("block-dirty-bitmap-add", node=self.name, name=name, **options)

    def target(self, file, *options, backing=None, size=None):
        create(file, *options, size=size or self.size, backing=backing)
        self.q("blockdev-add", driver="qcow2", node_name="t-" + self.name,
               file={"driver": "file", "filename": file})
        return "t-" + self.name

    def drop_target(self):
        self.q("blockdev-del", node_name="t-" + self.name)

    def arguments(self, sync, **more):
        return dict({"job-id": self.name, "device": self.name, "target": "t-" + self.name,
                     "sync": sync}, **more)

    def backup(self, sync, file, *options, backing=None, expect=RAN, size=None, **more):
        """A whole job; returns the data of its last BLOCK_JOB_ event."""
        self.target(file, *options, backing=backing, size=size)
        self.q("blockdev-backup", **self.arguments(sync, **more))
        data = self.rig.run({self.name: expect})[self.name]
        self.drop_target()
        return data

    def full(self, file):
        data = self.backup("full", file)
        assert data["len"] == data["offset"] and "error" not in data, data

    def anchor(self, bitmap="bitmap0"):
        self.parent[bitmap] = "%s-%s-anchor.qcow2" % (self.name, bitmap)
        self.full(self.parent[bitmap])

    def reference(self):
        self.n += 1
        file = "%s-ref%d.qcow2" % (self.name, self.n)
        self.full(file)
        return file

    def increment(self, bitmap="bitmap0", dirty=None, size=None):
        """An increment, which must equal a reference; returns both."""
        file = "%s-%s-inc%d.qcow2" % (self.name, bitmap, self.n)
        data = self.backup("incremental", file, backing=self.parent[bitmap], bitmap=bitmap,
                           size=size)
        assert data["len"] == data["offset"] and "error" not in data, data
        assert dirty is None or data["len"] == dirty, data
        reference = self.reference()
        same(file, reference)
        self.parent[bitmap] = file
        return file, reference


class Rig:
    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        os.chdir(self.folder.name)
        self.daemon = Daemon(PROGRAM)
        self.q = self.daemon.connect()
        self.q("nbd-server-start",
               addr={"type": "unix", "data": {"path": os.path.abspath("nbd.sock")}})

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            assert self.q("query-jobs") == [] and self.q("query-block-jobs") == []
            assert not [e for e in self.q.events if e["event"] != "BLOCK_EXPORT_DELETED"]
            self.q("quit")
            assert self.daemon.end() == 0
        self.daemon.__exit__()
        os.chdir("/")
        self.folder.cleanup()

    def next_event(self):
        while True:
            event = self.q.events.pop(0) if self.q.events else self.q.receive()
            assert event is not None, "the monitor hung up"
            if event["event"] != "BLOCK_EXPORT_DELETED":
                return event

    def until(self, job, last):
        """The events of one job up to this one."""
        seen = []
        while not seen or seen[-1] != last:
            event = self.next_event()
            data = event["data"]
            assert data.get("id", data.get("device")) == job, event
            seen.append(data.get("status", event["event"]))
        return seen

    def run(self, expect):
        """Wait for jobs to end, each with these events in order; the data of each one's last."""
        seen, last = {job: [] for job in expect}, {}
        while any(not s or s[-1] != "null" for s in seen.values()):
            event = self.next_event()
            data = event["data"]
            job = data.get("id", data.get("device"))
            seen[job].append(data.get("status", event["event"]))
            if seen[job][-3:] == ["running", "waiting", "aborting"]:
                del seen[job][-2]  # it had copied all, or not, when another failed
            if event["event"] != "JOB_STATUS_CHANGE":
                last[job] = data
            if event["event"] == "BLOCK_JOB_ERROR":
                last["error"] = data
        for job, wanted in expect.items():
            assert seen[job] == wanted, (job, seen[job], wanted)
        return last


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
    for scenario in SCENARIOS:
        if len(sys.argv) < 2 or scenario.__name__ in sys.argv[1:]:
            print(scenario.__name__, flush=True)
            scenario()
