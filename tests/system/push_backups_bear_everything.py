#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Backup jobs under QMP while guests write, errors strike and clients change their minds; and every
cell of the table of sync and bitmap modes, in success and failure.
"""

import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from qmp import expect_error  # noqa: E402
from rig import (  # noqa: E402
    BATCH1, BATCH2, CANCELLED, EIO_AFTER_FLUSH, FAILED, RAN, Drive, Rig, create, run_scenarios, same,
    sh)

MODES = [("full", "on-success"), ("full", "always"), ("top", "on-success"), ("top", "always"),
         ("incremental", None), ("bitmap", "on-success"), ("bitmap", "always"), ("bitmap", "never")]
# Guests change everything that there is, and more.
STORM = BATCH2 + ["write -P 1 0 128k", "write -P 2 1M 1M", "write -z 16M 256k", "write -P 3 32M 2M",
                  "write -P 4 40M 64k", "write -P 5 67043328 65536"]


def with_mode(mode, **more):
    return dict({"bitmap": "bitmap0"}, **({"bitmap-mode": mode} if mode else {}), **more)


def every_cell_in_success():
    for sync, mode in MODES:
        with Rig() as rig:
            d = Drive(rig)
            d.add_bitmap()
            d.anchor()
            d.write(BATCH1)
            backing = None if sync == "full" else d.parent["bitmap0"]
            reference = d.reference()
            # The drive is one image: its top layer is all that it holds.
            data = d.backup(sync, "new.qcow2", backing=backing, **with_mode(mode))
            same("new.qcow2", reference)
            assert data["len"] == data["offset"], data
            if sync not in ("full", "top"):
                assert data["len"] == 458752, (sync, mode, data)
            kept = 458752 if mode == "never" else 0
            b = d.bitmap()
            assert (b["count"], b["busy"], b["recording"]) == (kept, False, True), (sync, mode, b)


def every_cell_in_failure():
    for sync, mode in MODES:
        with Rig() as rig:
            d = Drive(rig, faults=EIO_AFTER_FLUSH)
            d.add_bitmap()
            d.anchor()
            d.write(BATCH1)
            data = d.backup(sync, "new.qcow2", backing=d.parent["bitmap0"], expect=FAILED,
                            **with_mode(mode))
            assert data["error"] == "Input/output error", data
            b = d.bitmap()
            assert not b["busy"] and b["recording"], b
            if mode != "always":
                assert b["count"] == 458752, (sync, mode, b)
                continue
            # What is not dirty any more is in the target: the rest makes it whole.
            assert b["count"] > 0, (sync, b)
            if sync == "full":  # what was clean before is not in the target either
                assert b["count"] > 458752, b
            d.write(["write -P 9 48M 64k"])
            rig.q("blockdev-add", driver="qcow2", node_name="t-drive0",
                  file={"driver": "file", "filename": "new.qcow2"})
            rig.q("blockdev-backup", **d.arguments("bitmap", **with_mode("on-success")))
            rig.run({"drive0": RAN})
            d.drop_target()
            same("new.qcow2", d.reference())


def only_the_top_layer_is_copied():
    with Rig() as rig:
        create("base.qcow2")
        sh("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 8M", "-c", "write -P 8 63M 1M", "base.qcow2")
        create("drive0.qcow2", backing="base.qcow2")
        sh("qemu-io", "-f", "qcow2", "-c", "write -P 1 1M 64k", "-c", "write -z 2M 128k",
           "-c", "write -P 2 40M 64k", "drive0.qcow2")
        d = Drive(rig)
        reference = d.reference()
        data = d.backup("top", "top.qcow2", backing="base.qcow2")
        assert data["len"] == data["offset"] == 4 * 65536, data
        same("top.qcow2", reference)


def guests_write_and_the_copy_is_of_its_moment():
    for options in [], ["-o", "cluster_size=256k"], ["compress"]:
        with Rig() as rig:
            d = Drive(rig)
            d.add_bitmap()
            d.write(BATCH1)
            reference = d.reference()
            compress = options == ["compress"]
            d.target("t.qcow2", *([] if compress else options))
            rig.q("blockdev-backup", **d.arguments("full", speed=65536, compress=compress,
                                                   **with_mode("on-success")))
            rig.until("drive0", "running")
            d.write(STORM)
            assert d.bitmap()["busy"] and d.bitmap()["count"] == 458752
            job, = rig.q("query-block-jobs")
            assert 0 < job["offset"] < job["len"] == 64 << 20, job
            assert rig.q("query-jobs")[0]["current-progress"] >= job["offset"]
            rig.q("block-job-set-speed", device="drive0", speed=0)
            data = rig.run({"drive0": RAN[2:]})["drive0"]
            assert data["offset"] == data["len"] == 64 << 20, data
            d.drop_target()
            same("t.qcow2", reference)
            check = json.loads(sh("qemu-img", "check", "--output=json", "t.qcow2"))
            assert (check.get("compressed-clusters", 0) > 0) == compress, check
            # What came meanwhile is in the next increment.
            d.parent["bitmap0"] = "t.qcow2"
            d.increment()


def fleecing_keeps_what_is_overwritten():
    with Rig() as rig:
        d = Drive(rig)
        d.write(BATCH1)
        reference = d.reference()
        create("scratch.qcow2", backing="drive0.qcow2")
        rig.q("blockdev-add", driver="qcow2", node_name="t-drive0", backing="drive0",
              file={"driver": "file", "filename": "scratch.qcow2"})
        rig.q("blockdev-backup", **d.arguments("none"))
        rig.until("drive0", "running")
        rig.q("block-export-add", type="nbd", id="s", node_name="t-drive0", name="s")
        d.write(STORM)
        p = subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2",
                            "nbd+unix:///s?socket=" + os.path.abspath("nbd.sock"), reference],
                           capture_output=True, text=True)
        assert p.returncode == 0, (p.stdout, p.stderr)
        expect_error("is in use", rig.q, "blockdev-del", node_name="t-drive0")
        rig.q("block-export-del", id="s", mode="hard")
        rig.q("block-job-cancel", device="drive0")
        rig.run({"drive0": CANCELLED[2:]})
        d.drop_target()


def a_cancelled_job_gives_the_bitmap_back():
    with Rig() as rig:
        d = Drive(rig)
        d.add_bitmap()
        d.write(BATCH1)
        d.target("t.qcow2")
        rig.q("blockdev-backup", **d.arguments("incremental", bitmap="bitmap0", speed=1))
        rig.until("drive0", "running")
        expect_error("in use by another operation", rig.q, "block-dirty-bitmap-remove",
                     node="drive0", name="bitmap0")
        expect_error("is busy", rig.q, "blockdev-backup", **dict(
            d.arguments("full"), **{"job-id": "other"}))
        expect_error("in use by block job: backup", rig.q, "block_resize", node_name="drive0",
                     size=65 << 20)
        d.write(BATCH2)
        rig.q("job-cancel", id="drive0")
        rig.run({"drive0": CANCELLED[2:]})
        assert d.bitmap() == {"name": "bitmap0", "granularity": 65536, "count": 1638400,
                              "recording": True, "busy": False, "persistent": False}, d.bitmap()
        d.drop_target()


def clients_pause_finalize_and_dismiss():
    with Rig() as rig:
        d = Drive(rig)
        d.add_bitmap()
        d.write(BATCH1)
        d.target("t.qcow2")
        rig.q("blockdev-backup", **d.arguments(
            "incremental", bitmap="bitmap0", speed=1,
            **{"auto-finalize": False, "auto-dismiss": False}))
        rig.until("drive0", "running")
        rig.q("block-job-pause", device="drive0")
        expect_error("already paused", rig.q, "block-job-pause", device="drive0")
        rig.q("block-job-set-speed", device="drive0", speed=0)
        rig.until("drive0", "paused")
        rig.q("block-job-resume", device="drive0")
        rig.until("drive0", "BLOCK_JOB_PENDING")
        assert d.bitmap()["busy"]
        expect_error("cannot accept command verb 'dismiss'", rig.q, "block-job-dismiss", id="drive0")
        rig.q("block-job-finalize", id="drive0")
        rig.until("drive0", "concluded")
        job, = rig.q("query-block-jobs")
        assert job["status"] == "concluded" and job["offset"] == job["len"] == 458752, job
        assert d.bitmap()["count"] == 0
        rig.q("block-job-dismiss", id="drive0")
        rig.until("drive0", "null")
        d.drop_target()


def the_target_may_fail():
    def target(errno, event="write_aio"):
        create("t.qcow2")
        rig.q("blockdev-add", driver="qcow2", node_name="t-drive0", file={
            "driver": "blkdebug", "image": {"driver": "file", "filename": "t.qcow2"},
            "inject-error": [{"event": event, "errno": errno, "once": True}]})

    with Rig() as rig:
        d = Drive(rig)
        d.write(BATCH1)
        for errno, policy, action in [(28, "enospc", "stop"), (5, "enospc", "report"),
                                      (5, "stop", "stop"), (5, "ignore", "ignore"),
                                      (28, "report", "report")]:
            reference = d.reference()
            target(errno)
            rig.q("blockdev-backup", **d.arguments("full", **{"on-target-error": policy}))
            seen = rig.until("drive0", "BLOCK_JOB_ERROR")
            assert seen == ["created", "running", "BLOCK_JOB_ERROR"], seen
            if action == "stop":
                rig.until("drive0", "paused")
                job, = rig.q("query-block-jobs")
                assert job["io-status"] == ("nospace" if errno == 28 else "failed"), job
                d.write(["write -P %d 2M 64k" % errno])
                rig.q("block-job-resume", device="drive0")
                rig.run({"drive0": ["running"] + RAN[2:]})
            else:
                last = rig.run({"drive0": (FAILED[3:] if action == "report" else RAN[2:])})
                assert last["drive0"].get("error") == (
                    None if action == "ignore" else os.strerror(errno)), last
            d.drop_target()
            if action != "report":
                same("t.qcow2", reference)
            os.unlink("t.qcow2")
        # It says that it is done when that is durable.
        target(5, "flush_to_disk")
        d.add_bitmap()
        d.write(BATCH1)
        rig.q("blockdev-backup", **d.arguments("incremental", bitmap="bitmap0"))
        assert rig.run({"drive0": FAILED})["drive0"]["error"] == "Input/output error"
        assert d.bitmap()["count"] == 458752
        d.drop_target()


def a_guests_write_never_fails_for_a_backup():
    with Rig() as rig:
        d = Drive(rig)
        create("t.qcow2")
        rig.q("blockdev-add", driver="qcow2", node_name="t-drive0", file={
            "driver": "blkdebug", "image": {"driver": "file", "filename": "t.qcow2"},
            "inject-error": [{"event": "write_aio", "errno": 28}]})
        rig.q("blockdev-backup", **d.arguments("none"))
        rig.until("drive0", "running")
        d.write(["write -P 6 0 64k", "read -P 6 0 64k"])
        last = rig.run({"drive0": FAILED[2:]})
        assert last["error"] == {"device": "drive0", "operation": "write", "action": "report"}, last
        assert last["drive0"]["error"] == "No space left on device", last
        d.drop_target()


def two_copies_of_one_moment_are_equal():
    with Rig() as rig:
        d = Drive(rig)
        d.write(BATCH1)
        d.add_bitmap()
        for i in range(8):
            guest = subprocess.Popen(
                ["qemu-img", "bench", "-w", "-c", "100000000", "-d", "16", "-s", "24576",
                 "-S", "32768", "--pattern", str(i + 1), "-f", "raw",
                 "nbd+unix:///drive0?socket=" + os.path.abspath("nbd.sock")],
                stdout=subprocess.DEVNULL)
            while not d.bitmap()["count"]:
                pass
            rig.q("block-dirty-bitmap-clear", node="drive0", name="bitmap0")
            actions = []
            for name in "a", "b":
                create(name + ".qcow2")
                rig.q("blockdev-add", driver="qcow2", node_name=name,
                      file={"driver": "file", "filename": name + ".qcow2"})
                actions.append({"type": "blockdev-backup", "data": {
                    "job-id": name, "device": "drive0", "target": name, "sync": "full",
                    "compress": name == "a" and i % 4 == 0}})
            rig.q("transaction", actions=actions,
                  properties={"completion-mode": "grouped" if i % 2 else "individual"})
            rig.run({"a": RAN, "b": RAN})
            assert guest.poll() is None
            guest.kill()
            guest.wait()
            for name in "a", "b":
                rig.q("blockdev-del", node_name=name)
                sh("qemu-img", "check", "-q", name + ".qcow2")
            same("a.qcow2", "b.qcow2")


def a_node_and_what_lies_below_it_are_drained_together():
    """The lower one first, by its place in the transaction; and requests pass through both."""
    with Rig() as rig:
        rig.q("blockdev-add", driver="null-co", node_name="low", size=64 << 20, latency_ns=1000000)
        rig.q("blockdev-add", driver="raw", node_name="high", file="low")
        for name in "low", "high":
            rig.q("block-dirty-bitmap-add", node=name, name="b")
        rig.q("block-export-add", type="nbd", id="e", node_name="high", name="x", writable=True)
        guest = subprocess.Popen(
            ["qemu-img", "bench", "-w", "-c", "1000000", "-d", "8", "-f", "raw",
             "nbd+unix:///x?socket=" + os.path.abspath("nbd.sock")], stdout=subprocess.DEVNULL)
        for _ in range(20):
            while not rig.q("query-named-block-nodes")[0]["dirty-bitmaps"][0]["count"]:
                pass
            rig.q("transaction", actions=[{"type": "block-dirty-bitmap-clear",
                                           "data": {"node": name, "name": "b"}}
                                          for name in ("low", "high")])
        assert guest.poll() is None
        guest.kill()
        guest.wait()


def a_drive_backup_makes_its_target():
    with Rig() as rig:
        create("base.qcow2")
        sh("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 8M", "base.qcow2")
        create("drive0.qcow2", backing="base.qcow2")
        d = Drive(rig)
        d.add_bitmap()
        d.write(BATCH1)
        common = {"job-id": "drive0", "device": "drive0"}
        for more, text in [({"sync": "incremental"}, "must provide a valid bitmap name"),
                           ({"sync": "incremental", "bitmap": "no"}, "'no' could not be found"),
                           ({"sync": "full", "format": "nope"}, "Unknown driver 'nope'"),
                           ({"sync": "full", "mode": "existing"}, "'format' is missing"),
                           ({"sync": "full", "speed": -1}, "non-negative"),
                           ({"sync": "full", "target": "gone/t.qcow2"}, "gone")]:
            expect_error(text, rig.q, "drive-backup", **dict({"target": "t.qcow2"}, **common, **more))
        assert not os.path.exists("t.qcow2")  # nothing is made for what cannot be
        expect_error("aborted", rig.q, "transaction", actions=[
            {"type": "drive-backup", "data": dict(common, sync="full", target="x.qcow2")},
            {"type": "abort", "data": {}}])
        rig.run({"drive0": ["created", "null"]})
        for sync, more in [("full", {}), ("top", {}), ("full", {"compress": True}),
                           ("incremental", {"bitmap": "bitmap0", "mode": "existing",
                                            "format": "qcow2"})]:
            if "mode" in more:
                create("t.qcow2", backing="full.qcow2")
            before = d.reference()
            rig.q("drive-backup", **dict(common, sync=sync, target="t.qcow2", **more))
            rig.run({"drive0": RAN})
            same("t.qcow2", before)
            info = json.loads(sh("qemu-img", "info", "--output=json", "t.qcow2"))
            backing = info.get("full-backing-filename", "")
            assert backing.endswith("base.qcow2" if sync == "top" else
                                    "full.qcow2" if "mode" in more else ""), info
            sh("qemu-img", "check", "t.qcow2")
            assert len(rig.q("query-named-block-nodes", flat=True)) == 4, "the target stays open"
            if sync == "full":
                os.rename("t.qcow2", "full.qcow2")
                rig.q("block-dirty-bitmap-clear", node="drive0", name="bitmap0")
                d.write(BATCH2)
            else:
                os.unlink("t.qcow2")
        # What is overwritten goes into an image upon the source.
        before = d.reference()
        rig.q("drive-backup", **dict(common, sync="none", target="t.qcow2"))
        rig.until("drive0", "running")
        target, = [n["node-name"] for n in rig.q("query-named-block-nodes")
                   if n["file"] == "t.qcow2" and n["drv"] == "qcow2"]
        rig.q("block-export-add", type="nbd", id="s", node_name=target, name="s")
        d.write(STORM)
        p = subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2",
                            "nbd+unix:///s?socket=" + os.path.abspath("nbd.sock"), before],
                           capture_output=True, text=True)
        assert p.returncode == 0, (p.stdout, p.stderr)
        rig.q("block-export-del", id="s", mode="hard")
        rig.q("block-job-cancel", device="drive0")
        rig.run({"drive0": CANCELLED[2:]})
        rig.q("drive-backup", **dict(common, sync="full", target="t.raw", format="raw"))
        rig.run({"drive0": RAN})
        sh("qemu-img", "compare", "-f", "raw", "-F", "qcow2", "t.raw", d.reference())


SCENARIOS = [a_drive_backup_makes_its_target, two_copies_of_one_moment_are_equal,
             a_node_and_what_lies_below_it_are_drained_together, every_cell_in_success,
             every_cell_in_failure, only_the_top_layer_is_copied,
             guests_write_and_the_copy_is_of_its_moment, fleecing_keeps_what_is_overwritten,
             a_cancelled_job_gives_the_bitmap_back, clients_pause_finalize_and_dismiss,
             the_target_may_fail, a_guests_write_never_fails_for_a_backup]

if __name__ == "__main__":
    run_scenarios(SCENARIOS)
