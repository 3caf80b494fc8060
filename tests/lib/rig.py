# SPDX-License-Identifier: BSD-3-Clause
"""A storage daemon with a served disk, for tests of jobs: the disk and the writes to it are those of
QEMU's own test of incremental backups, so that what a bitmap counts after them is known.
"""

import os
import subprocess
import sys
import tempfile

from qmp import Daemon

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
        self.restart()

    def restart(self):
        """A daemon without any node, after the last one was killed."""
        self.daemon = Daemon(PROGRAM)
        self.q = self.daemon.connect()
        if os.path.exists("nbd.sock"):
            os.unlink("nbd.sock")
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


def run_scenarios(scenarios):
    """The main of a test: all of its functions, or those named on the command line."""
    for scenario in scenarios:
        if len(sys.argv) < 2 or scenario.__name__ in sys.argv[1:]:
            print("-", scenario.__name__, flush=True)
            scenario()
