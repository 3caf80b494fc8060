#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The ways in which a running disk is read by others under QEMU, message by message: libvirt's pull
backup, and copy-before-write with snapshot-access. While guests write, the client reads what the disk
held at one moment. The same steps pass with qemu-storage-daemon.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from qmp import Daemon, expect_error  # noqa: E402

OURS = [os.environ["BREAKWATER"], "daemon"]
THEIRS = ["qemu-storage-daemon"]

BASE = ["write -P 0x41 0 512", "write -P 0xd5 1M 32K", "write -P 0xdc 32M 124K"]
BATCH1 = ["write -P 0xab 0 512", "write -P 0xfe 16M 256K", "write -P 0x64 32736K 64K"]
STORM = ["write -P %d %dK 4k" % (i % 255 + 1, i * 397 % 65536) for i in range(300)] + [
    "write -z 1M 128k", "discard 16M 128k", "write -P 0x55 40M 3M"]


def sh(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def io(target, commands, *options):
    out = sh("qemu-io", *options, *[a for c in commands for a in ("-c", c)], target)
    assert "rror" not in out and "failed" not in out, out


def uri(name):
    return "nbd+unix:///%s?socket=%s" % (name, os.path.abspath("nbd.sock"))


def storm(name, program=OURS):
    """A guest at work, beside the test. QEMU 7.2's snapshot-access shows zeros where data was, if that
    was zeroed since: there the guest does without."""
    commands = [c for c in STORM if program is OURS or "-z" not in c]
    return subprocess.Popen(["qemu-io", "-f", "raw", *[a for c in commands for a in ("-c", c)],
                             uri(name)], stdout=subprocess.DEVNULL)


def extents(name, context):
    """Runs of (offset, length, type)."""
    return [(e["offset"], e["length"], e["type"])
            for e in json.loads(sh("nbdinfo", "--json", "--map=" + context, uri(name)))]


class Host:
    """A daemon with one disk, which holds the base, as the node `disk`."""

    def __init__(self, program):
        self.exit_codes = [0]
        self.folder = tempfile.TemporaryDirectory()
        os.chdir(self.folder.name)
        sh("qemu-img", "create", "-q", "-f", "qcow2", "disk.qcow2", "64M")
        io("disk.qcow2", BASE, "-f", "qcow2")
        self.daemon = Daemon(program)
        self.q = self.daemon.connect()
        self.add("disk", "disk.qcow2")
        self.q("nbd-server-start",
               addr={"type": "unix", "data": {"path": os.path.abspath("nbd.sock")}})

    def add(self, node, file, **options):
        self.q("blockdev-add", driver="file", filename=file, node_name=node + "-storage")
        self.q("blockdev-add", driver="qcow2", file=node + "-storage", node_name=node, **options)

    def delete(self, node):
        self.q("blockdev-del", node_name=node)
        self.q("blockdev-del", node_name=node + "-storage")

    def export(self, node, **options):
        self.q("block-export-add", type="nbd", id=node, node_name=node, name=node, **options)

    def unexport(self, node):
        self.q("block-export-del", id=node, mode="hard")
        self.q.wait_event("BLOCK_EXPORT_DELETED")

    def job(self, name, status):
        """Wait until it has that status."""
        while True:
            data = self.q.wait_event("JOB_STATUS_CHANGE")["data"]
            if data["id"] == name and data["status"] == status:
                return

    def create_overlay(self, file):
        """As libvirt makes the scratch: jobs of the daemon."""
        self.q("blockdev-create", job_id="c1", options={"driver": "file", "filename": file, "size": 0})
        self.job("c1", "concluded")
        self.q("job-dismiss", id="c1")
        self.q("blockdev-add", driver="file", filename=file, node_name="scratch-storage")
        self.q("blockdev-create", job_id="c2", options={
            "driver": "qcow2", "file": "scratch-storage", "size": 64 << 20,
            "backing-file": os.path.abspath("disk.qcow2"), "backing-fmt": "qcow2"})
        self.job("c2", "concluded")
        self.q("job-dismiss", id="c2")
        self.q("blockdev-add", driver="qcow2", file="scratch-storage", node_name="scratch",
               backing="disk")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.q("quit")
            assert self.daemon.end() in self.exit_codes
        self.daemon.__exit__()
        os.chdir("/")
        self.folder.cleanup()


def pull_as_libvirt_does(program):
    with Host(program) as h:
        q = h.q
        h.export("disk", writable=True)
        q("block-dirty-bitmap-add", node="disk", name="monday", persistent=True)
        io(uri("disk"), BATCH1, "-f", "raw")
        sh("qemu-img", "convert", "-f", "raw", "-O", "raw", uri("disk"), "reference.raw")
        h.create_overlay("scratch.qcow2")
        q("transaction", actions=[
            {"type": "block-dirty-bitmap-add",
             "data": {"node": "disk", "name": "tuesday", "persistent": True}},
            {"type": "block-dirty-bitmap-add",
             "data": {"node": "scratch", "name": "backup-disk", "persistent": False,
                      "disabled": True}},
            {"type": "block-dirty-bitmap-merge",
             "data": {"node": "scratch", "target": "backup-disk",
                      "bitmaps": [{"node": "disk", "name": "monday"}]}},
            {"type": "blockdev-backup",
             "data": {"job-id": "backup-disk", "device": "disk", "target": "scratch", "sync": "none",
                      "auto-finalize": True, "auto-dismiss": False}}])
        h.job("backup-disk", "running")
        q("nbd-server-add", device="scratch", name="vda", bitmap="backup-disk")
        guest = storm("disk")
        dirty = [e for e in extents("vda", "qemu:dirty-bitmap:backup-disk") if e[2] == 1]
        sh("nbdcopy", "--connections=2", uri("vda"), "whole.raw")
        assert guest.wait() == 0
        sh("cmp", "whole.raw", "reference.raw")
        # What was read once reads so again, after all that the guest has done.
        sh("nbdcopy", uri("vda"), "whole.raw")
        sh("cmp", "whole.raw", "reference.raw")
        apply_increment("disk.base.raw", "whole.raw", dirty)
        q("job-cancel", id="backup-disk")
        h.job("backup-disk", "concluded")
        q("nbd-server-remove", name="vda")
        q("job-dismiss", id="backup-disk")
        h.delete("scratch")
        tuesday, = [b for n in q("query-named-block-nodes") if n["node-name"] == "disk"
                    for b in n["dirty-bitmaps"] if b["name"] == "tuesday"]
        assert tuesday["count"] > 0 and tuesday["recording"] and not tuesday.get("busy"), tuesday
        h.unexport("disk")
        h.delete("disk")


def apply_increment(base, increment, dirty):
    """The base with the dirty ranges over it is the increment."""
    if not os.path.exists(base):
        with open(base, "wb") as f:
            f.truncate(64 << 20)
            for off, byte, length in [(0, 0x41, 512), (1 << 20, 0xd5, 32 << 10),
                                      (32 << 20, 0xdc, 124 << 10)]:
                os.pwrite(f.fileno(), bytes([byte]) * length, off)
    with open(base, "r+b") as f, open(increment, "rb") as new:
        for off, length, _ in dirty:
            f.seek(off)
            new.seek(off)
            f.write(new.read(length))
    sh("cmp", base, increment)


def fleece_through_copy_before_write(program):
    for options in {}, {"on-cbw-error": "break-snapshot", "cbw-timeout": 30}:
        with Host(program) as h:
            q = h.q
            sh("qemu-img", "create", "-q", "-f", "qcow2", "scratch.qcow2", "64M")
            sh("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "-U", "disk.qcow2", "reference.raw")
            h.add("scratch", "scratch.qcow2")
            q("blockdev-add", driver="copy-before-write", node_name="cbw", file="disk",
              target="scratch", **options)
            q("blockdev-add", driver="snapshot-access", node_name="access", file="cbw")
            h.export("cbw", writable=True)
            h.export("access")
            guest = storm("cbw", program)
            sh("nbdcopy", "--connections=2", uri("access"), "one.raw")
            assert guest.wait() == 0
            sh("nbdcopy", uri("access"), "two.raw")
            for copy in "one.raw", "two.raw":
                sh("cmp", copy, "reference.raw")
            assert sh("qemu-img", "compare", "-f", "raw", "-F", "raw", uri("access"), uri("access"))
            io(uri("cbw"), ["read -P %d %dK 4k" % (299 % 255 + 1, 299 * 397 % 65536)], "-f", "raw")
            expect_error("in use", q, "blockdev-del", node_name="cbw")
            for node in "access", "cbw":
                h.unexport(node)
                q("blockdev-del", node_name=node)
            h.delete("scratch")
            h.delete("disk")


def bitmaps_and_discards_limit_what_is_kept(program):
    with Host(program) as h:
        q = h.q
        sh("qemu-img", "create", "-q", "-f", "qcow2", "scratch.qcow2", "64M")
        h.add("scratch", "scratch.qcow2", discard="unmap")
        q("block-dirty-bitmap-add", node="disk", name="b")
        h.export("disk", writable=True)
        io(uri("disk"), BATCH1, "-f", "raw")
        h.unexport("disk")
        q("block-dirty-bitmap-disable", node="disk", name="b")
        q("blockdev-add", driver="copy-before-write", node_name="cbw", file="disk", target="scratch",
          bitmap={"node": "disk", "name": "b"})
        q("blockdev-add", driver="snapshot-access", node_name="access", file="cbw", discard="unmap")
        h.export("cbw", writable=True)
        h.export("access", writable=True, bitmaps=[{"node": "disk", "name": "b"}])
        io(uri("cbw"), ["write -P 1 0 64k", "write -P 2 1M 64k", "write -P 3 16M 256k"], "-f", "raw")
        io(uri("access"), ["read -P 0xab 0 512", "read -P 0xfe 16M 256k"], "-f", "raw")
        assert extents("access", "qemu:dirty-bitmap:b")[0] == (0, 65536, 1)
        if program is OURS:
            # QEMU fails the status of what is not in the snapshot, and with it the client.
            assert extents("access", "base:allocation")[:2] == [(0, 65536, 0), (65536, 16711680, 1)]
        with_failure = subprocess.run(["qemu-io", "-f", "raw", "-c", "read 1M 4k", uri("access")],
                                      capture_output=True, text=True)
        assert "rror" in with_failure.stdout + with_failure.stderr or with_failure.returncode
        # What was read is given up: its room, and the copies that would still be made.
        if program is OURS:
            io(uri("access"), ["discard 16M 256k", "discard 32704K 128K"], "-f", "raw")
            io(uri("cbw"), ["write -P 4 32704K 128k"], "-f", "raw")
            h.export("scratch")
            assert [e[:2] for e in extents("scratch", "base:allocation") if e[2] == 0] == [(0, 65536)]
            h.unexport("scratch")
            out = subprocess.run(["qemu-io", "-f", "raw", "-c", "read 16M 4k", uri("access")],
                                 capture_output=True, text=True)
            assert "read failed" in out.stdout + out.stderr
        for node in "access", "cbw":
            h.unexport(node)
            q("blockdev-del", node_name=node)


def a_full_scratch_fails_the_write_or_the_snapshot(program):
    for policy in "break-guest-write", "break-snapshot":
        with Host(program) as h:
            q = h.q
            h.exit_codes = [0, 1]  # the scratch cannot be flushed at the end, either
            sh("qemu-img", "create", "-q", "-f", "qcow2", "scratch.qcow2", "64M")
            q("blockdev-add", driver="qcow2", node_name="scratch", file={
                "driver": "blkdebug", "image": {"driver": "file", "filename": "scratch.qcow2"},
                "inject-error": [{"event": "write_aio", "errno": 28}]})
            q("blockdev-add", driver="copy-before-write", node_name="cbw", file="disk",
              target="scratch", **{"on-cbw-error": policy})
            q("blockdev-add", driver="snapshot-access", node_name="access", file="cbw")
            h.export("cbw", writable=True)
            h.export("access")
            for node, command, fails in [
                    ("cbw", "write -P 7 0 4k", policy == "break-guest-write"),
                    ("access", "read -P 0x41 0 512", policy == "break-snapshot"),
                    ("access", "read -P 0xd5 1M 32k", policy == "break-snapshot"),
                    ("cbw", "read -P 0x41 0 512", policy == "break-snapshot")]:
                p = subprocess.run(["qemu-io", *["-r"] * (node == "access"), "-f", "raw", "-c", command,
                                    uri(node)],
                                   capture_output=True, text=True)
                out = p.stdout + p.stderr
                bad = p.returncode != 0 or "failed" in out
                assert bad == fails, (policy, node, command, out)
            for node in "access", "cbw":
                h.unexport(node)
                q("blockdev-del", node_name=node)


def what_cannot_be_a_snapshot_is_refused(program):
    if program is THEIRS:
        return
    with Host(program) as h:
        q = h.q
        q("blockdev-add", driver="raw", node_name="r", file="disk")
        for target in "disk", "r":
            expect_error("would change source 'disk'", q, "blockdev-add", driver="copy-before-write",
                         node_name="cbw", file="disk", target=target)
        expect_error("would change source 'disk'", q, "blockdev-backup", device="disk", target="r",
                     sync="full")
        expect_error("it is no copy-before-write node", q, "blockdev-add", driver="snapshot-access",
                     node_name="s", file="disk")
        sh("qemu-img", "create", "-q", "-f", "qcow2", "small.qcow2", "1M")
        h.add("small", "small.qcow2")
        q("block-dirty-bitmap-add", node="small", name="b")
        expect_error("different sizes", q, "blockdev-add", driver="copy-before-write", node_name="cbw",
                     file="disk", target="small", bitmap={"node": "small", "name": "b"})
        assert not [n for n in q("query-named-block-nodes") if n["drv"] == "copy-before-write"]
        # A snapshot cannot be written.
        q("blockdev-add", driver="copy-before-write", node_name="cbw", file="disk", target="small")
        q("blockdev-add", driver="snapshot-access", node_name="s", file="cbw")
        h.export("s", writable=True)
        try:
            io(uri("s"), ["write 0 4k"], "-f", "raw")
            raise SystemExit("a snapshot was written")
        except (AssertionError, subprocess.CalledProcessError):
            pass
        h.unexport("s")


def main():
    sections = [pull_as_libvirt_does, fleece_through_copy_before_write,
                bitmaps_and_discards_limit_what_is_kept, a_full_scratch_fails_the_write_or_the_snapshot,
                what_cannot_be_a_snapshot_is_refused]
    for section in sections:
        for program in THEIRS, OURS:
            if len(sys.argv) > 1 and section.__name__ not in sys.argv[1:]:
                continue
            print("==", section.__name__, program[0], flush=True)
            section(program)


if __name__ == "__main__":
    main()
