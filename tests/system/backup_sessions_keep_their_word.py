#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What only backup sessions have: leases, digests, views that get lost, restrictions, restarts.
"""

import hashlib
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from puller import (MIB, Disk, Puller, anchor, begin, bitmaps, end, ended, increment,  # noqa: E402
                    nbd, run, uri)
from qmp import Daemon, expect_error  # noqa: E402
from rig import (BATCH1, BATCH2, BREAKWATER, PROGRAM, Drive, Rig, run_scenarios, same,  # noqa: E402
                 sh)  # noqa: E402


def an_outcome_is_remembered():
    with Rig() as rig:
        p = Puller(Drive(rig))
        info, = begin(rig.q, "a", p.wish())["disks"]
        assert info["export"] == "drive0@a" and info["level"] == "full", info
        assert info["reason"] == "no-base"
        end(rig.q, "a", "success")
        rig.q("backup-end", id="a", outcome="success")
        expect_error("has ended with success already", rig.q, "backup-end", id="a",
                     outcome="failure")
        expect_error("Backup 'a' has ended", rig.q, "backup-renew", id="a")
        begin(rig.q, "b", p.wish())
        end(rig.q, "b", "failure")
        rig.q("backup-end", id="b", outcome="failure")
        expect_error("Backup 'b' has failed: client", rig.q, "backup-end", id="b",
                     outcome="success")
        assert [(s["id"], s["status"]) for s in rig.q("query-backups")] == \
            [("b", "failure"), ("a", "success")]


def a_lease_runs_out_but_not_while_it_is_renewed():
    with Rig() as rig:
        d = Drive(rig)
        p = Puller(d)
        anchor(p)
        d.write(BATCH1)
        begin(rig.q, "l", p.wish(), lease=2)
        for _ in range(6):
            time.sleep(0.5)
            rig.q("backup-renew", id="l")
        session = [s for s in rig.q("query-backups") if s["id"] == "l"][0]
        assert session["status"] == "active" and session["lease"] <= 2, session
        ended(rig.q, "l", "failure", "expired")
        assert p.bitmap()["count"] == 458752 and not p.bitmap()["busy"]
        expect_error("has failed: expired", rig.q, "backup-end", id="l", outcome="success")
        increment(p, dirty=458752)


def a_view_that_is_lost_is_no_success():
    with Rig() as rig:
        d = Drive(rig)
        p = Puller(d)
        anchor(p)
        d.write(["write -P 1 20M 3M"])
        begin(rig.q, "v", p.wish(**{"scratch-limit": 2 * MIB}))
        d.write(["write -P 2 20M 1800K"])
        low = rig.q.wait_event("BACKUP_SCRATCH_LOW")["data"]
        assert low["node"] == "drive0" and low["used"] > 0.8 * low["limit"], low
        d.write(["write -P 3 20M 3M"])  # which does not fail
        rig.q.wait_event("BACKUP_VIEW_LOST")
        info, = [s["disks"] for s in rig.q("query-backups") if s["id"] == "v"][0]
        assert info["lost"] and info["scratch"] <= 2 * MIB, info
        try:
            Disk(info).h.pread(512, 20 * MIB)
            raise AssertionError("a lost view was read")
        except nbd.Error:
            pass
        expect_error("the frozen view of node 'drive0' is lost", rig.q, "backup-end", id="v",
                     outcome="success")
        ended(rig.q, "v", "failure", "broken")
        increment(p, dirty=3 * MIB)


def the_view_has_the_digest_that_a_backup_has():
    with Rig() as rig:
        d = Drive(rig, size="64M")
        p = Puller(d)
        info, = begin(rig.q, "d", p.wish())["disks"]
        root = hashlib.sha256()
        disk = Disk(info)
        for at in range(0, 64 * MIB, MIB):
            data = bytes(disk.h.pread(MIB, at))
            for block in range(0, MIB, 65536):
                root.update(hashlib.sha256(data[block:block + 65536]).digest())
        disk.close()
        d.write(BATCH1)
        answer = rig.q("backup-digest", id="d", node="drive0")
        assert answer == {"algorithm": "sha256", "block-size": 65536,
                          "disk-root": root.hexdigest()}, answer
        expect_error("is not part of backup 'd'", rig.q, "backup-digest", id="d", node="x")
        end(rig.q, "d", "success")
        p.base = info["uuid"]
        begin(rig.q, "r", p.wish(restrict=True))
        expect_error("without 'restrict'", rig.q, "backup-digest", id="r", node="drive0")
        end(rig.q, "r", "failure")


def restriction_and_discards_keep_less():
    with Rig() as rig:
        d = Drive(rig)
        p = Puller(d)
        anchor(p)
        d.write(BATCH1)
        info, = begin(rig.q, "r", p.wish(restrict=True, discard=True))["disks"]
        d.write(["write -P 9 1M 32k", "write -P 9 0 512"])

        def scratch():
            return [s["disks"][0]["scratch"] for s in rig.q("query-backups") if s["id"] == "r"][0]
        assert scratch() == 65536  # what was clean needs no copy
        disk = Disk(info)
        assert bytes(disk.h.pread(512, 0)) == b"\xab" * 512
        disk.h.trim(256 << 10, 16 * MIB)
        d.write(["write -P 9 16M 256k"])
        assert scratch() == 65536
        for at in MIB, 16 * MIB:
            try:
                disk.h.pread(512, at)
                raise AssertionError("what is not kept was read")
            except nbd.Error:
                pass
        disk.close()
        end(rig.q, "r", "failure")
        increment(p)


def copies_and_differences_leave_the_bitmap_alone():
    with Rig() as rig:
        d = Drive(rig)
        p = Puller(d)
        anchor(p)
        base, parent = p.base, p.parent
        d.write(BATCH1)
        run(p, "copy.qcow2", "copy", level="copy")
        same("copy.qcow2", d.reference())
        p.base, p.parent = base, parent
        for i in range(2):
            info = run(p, "diff%d.qcow2" % i, "differential", level="differential")
            assert info["dirty"] == (458752, 1638400)[i], info
            same("diff%d.qcow2" % i, d.reference())
            p.base, p.parent = base, parent
            d.write(BATCH2)
        assert p.bitmap()["count"] == 1638400
        increment(p, dirty=1638400)


def bitmaps_survive_a_restart_but_no_crash():
    with Rig() as rig:
        d = Drive(rig)
        p = Puller(d)
        anchor(p)
        assert p.bitmap()["persistent"]
        d.write(BATCH1)

        def again(how):
            if how == "quit":
                # A session that is under way fails, and no bitmap of it stays.
                begin(d.q, "under-way", p.wish())
                d.q("quit")
                assert rig.daemon.end() == 0
            else:
                rig.daemon.kill()
            rig.daemon = Daemon(PROGRAM)
            rig.q = d.q = p.q = rig.daemon.connect()
            if os.path.exists("nbd.sock"):
                os.unlink("nbd.sock")
            rig.q("nbd-server-start",
                  addr={"type": "unix", "data": {"path": os.path.abspath("nbd.sock")}})
            rig.q("blockdev-add", driver="qcow2", node_name="drive0",
                  file={"driver": "file", "filename": "drive0.qcow2"})
            d.export()

        again("quit")
        assert len(bitmaps(rig.q)) == 1, bitmaps(rig.q)
        assert p.bitmap()["count"] == 458752 and p.bitmap()["recording"], p.bitmap()
        increment(p, dirty=458752)
        d.write(BATCH2)
        again("kill")
        assert p.bitmap()["inconsistent"], p.bitmap()
        expect_error("is inconsistent", begin, rig.q, "i", p.wish(level="incremental"))
        info, = begin(rig.q, "f", p.wish())["disks"]
        assert (info["level"], info["reason"]) == ("full", "inconsistent"), info
        p.take(info, "full.qcow2")
        end(rig.q, "f", "success")
        p.took(info, "full.qcow2")
        same("full.qcow2", d.reference())
        assert len(bitmaps(rig.q)) == 1, bitmaps(rig.q)  # the inconsistent one is gone
        # Who holds another backup is not given the changes since this one.
        p.base = "00000000-0000-4000-8000-000000000000"
        info, = begin(rig.q, "u", p.wish())["disks"]
        assert (info["level"], info["reason"]) == ("full", "unknown-base"), info
        end(rig.q, "u", "failure")
        p.base = [b["name"].split("@")[1] for b in bitmaps(rig.q)][0]
        rig.q("block-dirty-bitmap-disable", node="drive0", name="backup@" + p.base)
        info, = begin(rig.q, "n", p.wish())["disks"]
        assert (info["level"], info["reason"]) == ("full", "not-recording"), info
        end(rig.q, "n", "failure")


def guests_write_while_two_disks_are_pulled():
    with Rig() as rig:
        a, b = Drive(rig, "drive0"), Drive(rig, "drive1")
        pa, pb = Puller(a), Puller(b)
        for d in a, b:
            d.write(BATCH1)
        references = [d.reference() for d in (a, b)]
        disks = begin(rig.q, "two", pa.wish(), pb.wish())["disks"]
        clients = [Disk(i) for i in disks]
        for d in a, b:
            d.write(BATCH2 + ["write -z 1M 128k", "discard 16M 128k"])
        for p, client, i, reference in zip((pa, pb), clients, disks, references):
            client.copy(p.d.name + "-full.qcow2").close()
            same(p.d.name + "-full.qcow2", reference)
        end(rig.q, "two", "success")
        for p, i in zip((pa, pb), disks):
            p.took(i, p.d.name + "-full.qcow2")
            increment(p)


def the_commands_of_the_manual_run():
    with Rig() as rig:
        Drive(rig, "disk")

        def ctl(*words):
            return sh(BREAKWATER, "ctl", "control.sock", *words)
        ctl("backup-begin", "id=tuesday", "lease=3600", "disks.0.node=disk")
        sh("nbdcopy", uri("disk@tuesday"), "full.raw")
        root = hashlib.sha256()
        with open("full.raw", "rb") as f:
            while block := f.read(65536):
                root.update(hashlib.sha256(block).digest())
        assert root.hexdigest() in ctl("backup-digest", "id=tuesday", "node=disk")
        lines = ctl("backups").splitlines()
        assert lines[1].split()[:6] == ["tuesday", "active", "disk@tuesday", "full", "67108864", "0"]
        ctl("backup-end", "id=tuesday", "outcome=success")
        assert ctl("backups").splitlines()[1].split()[:2] == ["tuesday", "success"]
        ended(rig.q, "tuesday", "success")


SCENARIOS = [the_commands_of_the_manual_run, an_outcome_is_remembered, a_lease_runs_out_but_not_while_it_is_renewed,
             a_view_that_is_lost_is_no_success, the_view_has_the_digest_that_a_backup_has,
             restriction_and_discards_keep_less, copies_and_differences_leave_the_bitmap_alone,
             bitmaps_survive_a_restart_but_no_crash, guests_write_while_two_disks_are_pulled]

if __name__ == "__main__":
    run_scenarios(SCENARIOS)
