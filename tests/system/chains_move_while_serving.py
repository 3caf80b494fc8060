#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""block-commit and block-stream of a disk that is being written to: at every moment, and after it,
the guest reads what it wrote, and the images hold it.
"""

import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from guest import Guest, check, content  # noqa: E402
from qmp import expect_error  # noqa: E402
from rig import CANCELLED, FAILED, RAN, Rig, create, run_scenarios, sh  # noqa: E402

SIZE = 8 << 20
READY = ["created", "running", "ready", "BLOCK_JOB_READY"]
CHAIN = ["base", "mid", "top"]


class Chain:
    """base <- mid <- top, each with data of its own, top being served."""

    def __init__(self, rig, base_size="8M", base_format="qcow2", faults=None, seed=1):
        self.rig, self.q = rig, rig.q
        sh("qemu-img", "create", "-q", "-f", base_format, "base.img", base_size)
        for i, name in enumerate(CHAIN):
            if i:
                below = CHAIN[i - 1]
                sh("qemu-img", "create", "-q", "-f", "qcow2", "-b", below + ".img", "-F",
                   base_format if below == "base" else "qcow2", name + ".img", "8M")
            sh("qemu-io", "-f", base_format if name == "base" else "qcow2",
               "-c", "write -P %d %dk 2M" % (i + 1, i * 1100), "-c", "write -P %d 6M 100k" % (i + 7),
               "-c", "write -z %dk 200k" % (i * 1100 + 300), name + ".img")
        below = None
        for name in CHAIN:
            file = {"driver": "file", "filename": name + ".img"}
            if faults and name in faults:
                file = dict({"driver": "blkdebug", "image": file}, **faults[name])
            fmt = base_format if name == "base" else "qcow2"
            extra = {"backing": below} if below else {}
            self.q("blockdev-add", driver=fmt, node_name=name, read_only=name != "top", file=file,
                   discard="unmap", **extra)
            below = name
        self.q("block-export-add", type="nbd", id="e", node_name="top", name="disk", writable=True)
        self.guest = Guest("disk", SIZE, seed)

    def nodes(self):
        return {n["node-name"]: n for n in self.q("query-named-block-nodes")}

    def backing(self, image):
        info = json.loads(sh("qemu-img", "info", "--output=json", "-f", "qcow2", image))
        return info.get("full-backing-filename")

    def end(self, *names):
        """Nobody uses any of it any more."""
        disk = self.guest.stop()
        self.q("block-export-del", id="e")
        for name in names:
            self.q("blockdev-del", node_name=name)
        return disk


def an_active_layer_is_committed_and_left(base="base", **options):
    with Rig() as rig:
        c = Chain(rig, **options)
        c.guest.start()
        rig.q("block-commit", job_id="j", device="top", base_node=base, speed=4 << 20)
        expect_error("Job 'j' in state 'running' cannot accept command verb 'complete'", rig.q,
                     "job-complete", id="j")
        for command, arguments in [
                ("blockdev-del", {"node-name": "top"}),
                ("blockdev-snapshot-sync", {"node-name": "top", "snapshot-file": "x",
                                            "snapshot-node-name": "x"}),
                ("block-stream", {"job-id": "k", "device": "top"}),
                ("block-commit", {"job-id": "k", "device": "top"})]:
            expect_error("in use|is busy", rig.q, command, **arguments)
        c.guest.wait_writes(20)
        rig.q("block-job-set-speed", device="j", speed=0)
        assert rig.until("j", "BLOCK_JOB_READY") == READY
        job, = rig.q("query-block-jobs")
        assert job["ready"] and job["status"] == "ready" and job["len"] == job["offset"], job
        c.guest.wait_writes(50)
        rig.q("job-pause", id="j")
        assert rig.until("j", "standby") == ["standby"]
        expect_error("'standby' cannot accept command verb 'complete'", rig.q, "job-complete", id="j")
        c.guest.wait_writes(20)
        rig.q("job-resume", id="j")
        assert rig.until("j", "ready") == ["ready"]
        rig.q("job-complete", id="j")
        data = rig.run({"j": RAN[2:]})["j"]
        assert data["len"] == data["offset"] and data["type"] == "commit", data
        export, = rig.q("query-block-exports")
        assert export["node-name"] == base, export
        assert not c.nodes()[base]["ro"]
        c.guest.wait_writes(50)
        disk = c.end("top", *["mid"] * (base == "base"))
        rig.q("blockdev-del", node_name=base)
        raw = options.get("base_format") == "raw"
        assert content(base + ".img", "raw" if raw else "qcow2") == disk
        check(*[n + ".img" for n in CHAIN if n != "base" or not raw])


def the_one_below_is_enough():
    an_active_layer_is_committed_and_left(base="mid")


def a_base_that_is_short_grows():
    an_active_layer_is_committed_and_left(base_size="7M")


def a_base_that_is_long_shrinks():
    an_active_layer_is_committed_and_left(base_size="9M")


def a_raw_base_takes_it_all():
    an_active_layer_is_committed_and_left(base_format="raw")


def a_ready_job_that_is_cancelled_softly_has_made_a_copy():
    with Rig() as rig:
        c = Chain(rig)
        rig.q("block-commit", job_id="j", device="top")
        assert rig.until("j", "BLOCK_JOB_READY") == READY
        for _ in range(40):
            c.guest.one_write()
        rig.q("block-job-cancel", device="j")
        rig.run({"j": RAN[2:]})
        assert rig.q("query-block-exports")[0]["node-name"] == "top"
        nodes = c.nodes()
        assert nodes["base"]["ro"] and not nodes["top"]["ro"]
        copy = content("base.img")
        c.guest.one_write()
        disk = c.end("top", "mid", "base")
        assert content("top.img") == disk != copy
        check(*[n + ".img" for n in CHAIN])


def a_ready_job_that_is_cancelled_leaves_all_as_it_reads():
    for command, arguments in [("job-cancel", {"id": "j"}),
                               ("block-job-cancel", {"device": "j", "force": True})]:
        with Rig() as rig:
            c = Chain(rig)
            c.guest.start()
            rig.q("block-commit", job_id="j", device="top")
            assert rig.until("j", "BLOCK_JOB_READY") == READY
            rig.q(command, **arguments)
            rig.run({"j": CANCELLED[2:]})
            c.guest.wait_writes(10)
            disk = c.end("top", "mid", "base")
            assert content("top.img") == disk
            check(*[n + ".img" for n in CHAIN])


def a_layer_in_between_is_committed():
    with Rig() as rig:
        c = Chain(rig)
        before = content("mid.img")
        c.guest.start()
        rig.q("block-commit", job_id="j", device="top", top_node="mid", base_node="base",
              auto_finalize=False)
        assert rig.until("j", "BLOCK_JOB_PENDING") == [
            "created", "running", "waiting", "pending", "BLOCK_JOB_PENDING"]
        assert c.nodes()["top"]["backing_file"].endswith("mid.img")
        c.guest.wait_writes(20)
        rig.q("job-finalize", id="j")
        rig.run({"j": RAN[4:]})
        nodes = c.nodes()
        assert nodes["top"]["backing_file"].endswith("base.img") and nodes["base"]["ro"], nodes
        c.guest.wait_writes(20)
        rig.q("blockdev-del", node_name="mid")
        disk = c.end("top", "base")
        assert c.backing("top.img").endswith("/base.img")
        assert content("base.img") == before
        assert content("top.img") == disk
        check(*[n + ".img" for n in CHAIN])


def an_image_takes_over_what_lies_below(base=None, **options):
    with Rig() as rig:
        c = Chain(rig, **options)
        rig.q("block-dirty-bitmap-add", node="top", name="b")
        c.guest.start()
        more = {"base-node": base} if base else {}
        rig.q("block-stream", job_id="j", device="top", speed=2 << 20, **more)
        c.guest.wait_writes(60)
        rig.q("block-job-set-speed", device="j", speed=0)
        data = rig.run({"j": RAN})["j"]
        assert data["type"] == "stream" and data["len"] == data["offset"] == SIZE, data
        c.guest.wait_writes(20)
        assert (c.nodes()["top"].get("backing_file") or "").endswith("base.img" if base else "")
        rig.q("blockdev-del", node_name="mid")
        disk = c.end("top", "base")
        assert (c.backing("top.img") or "").endswith("/base.img" if base else "")
        assert content("top.img") == disk
        check(*[n + ".img" for n in CHAIN])


def an_image_takes_over_what_lies_above_a_base():
    an_image_takes_over_what_lies_below(base="base")


def a_streamed_image_shows_nothing_of_a_longer_base():
    an_image_takes_over_what_lies_below(base="base", base_size="9M")


def streaming_marks_nothing_dirty():
    with Rig() as rig:
        c = Chain(rig)
        rig.q("block-dirty-bitmap-add", node="top", name="b")
        rig.q("block-stream", job_id="j", device="top")
        rig.run({"j": RAN})
        bitmap, = c.nodes()["top"]["dirty-bitmaps"]
        assert bitmap["count"] == 0, bitmap
        c.end("top", "mid", "base")


def killed_in_the_middle_nothing_is_lost():
    for i, (command, more) in enumerate([
            ("block-commit", {}), ("block-commit", {"top-node": "mid"}), ("block-stream", {}),
            ("block-stream", {"base-node": "base"})] * 2):
        with Rig() as rig:
            c = Chain(rig, seed=i)
            for _ in range(20):
                c.guest.one_write()
            c.guest.h.flush()
            # Half of them in the middle, half close to the end.
            rig.q(command, job_id="j", device="top", speed=0 if i >= 4 else 8 << 20, **more)
            time.sleep(0.02 * i)
            rig.daemon.kill()
            check(*[n + ".img" for n in CHAIN], crashed=True)
            assert content("top.img") == c.guest.disk
            rig.restart()


def errors_are_reported_or_waited_out():
    rule = {"inject-error": [{"event": "write_aio", "errno": 28, "once": True}]}
    for node, command in [("base", "block-commit"), ("top", "block-stream")]:
        for on_error in ["report", "stop", "ignore", "enospc"]:
            with Rig() as rig:
                c = Chain(rig, faults={node: rule})
                more = {"top-node": "mid", "backing-file": "base.img"} if node == "base" else {}
                rig.q(command, job_id="j", device="top", on_error=on_error, **more)
                if on_error == "report":
                    data = rig.run({"j": FAILED})
                    assert data["error"] == {"device": "j", "operation": "write",
                                             "action": "report"}, data
                    assert data["j"]["error"] == "No space left on device", data
                elif on_error == "ignore":
                    rig.run({"j": RAN[:2] + ["BLOCK_JOB_ERROR"] + RAN[2:]})
                else:
                    assert rig.until("j", "paused") == ["created", "running", "BLOCK_JOB_ERROR",
                                                        "paused"]
                    job, = rig.q("query-block-jobs")
                    assert job["io-status"] == "nospace" and job["paused"], job
                    rig.q("block-job-resume", device="j")
                    rig.run({"j": ["running"] + RAN[2:]})
                    assert rig.q("query-block-jobs") == []
                c.guest.one_write()
                gone = on_error != "report"
                disk = c.end(*(["mid", "top", "base"] if gone else ["top", "mid", "base"]))
                assert content("top.img") == disk
                check(*[n + ".img" for n in CHAIN])


SCENARIOS = [an_active_layer_is_committed_and_left, the_one_below_is_enough,
             a_base_that_is_short_grows, a_base_that_is_long_shrinks, a_raw_base_takes_it_all,
             a_ready_job_that_is_cancelled_softly_has_made_a_copy,
             a_ready_job_that_is_cancelled_leaves_all_as_it_reads, a_layer_in_between_is_committed,
             an_image_takes_over_what_lies_below, an_image_takes_over_what_lies_above_a_base,
             a_streamed_image_shows_nothing_of_a_longer_base, streaming_marks_nothing_dirty,
             killed_in_the_middle_nothing_is_lost, errors_are_reported_or_waited_out]

if __name__ == "__main__":
    run_scenarios(SCENARIOS)
