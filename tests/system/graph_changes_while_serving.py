#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Snapshots of a disk that is being written to: the graph changes under its export, and not a byte
that was written is lost or shows up in the wrong image.
"""

import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from guest import Guest, check, content  # noqa: E402
from qmp import expect_error  # noqa: E402
from rig import Drive, Rig, create, run_scenarios  # noqa: E402


def a_chain_grows_under_a_guest_that_writes():
    with Rig() as rig:
        create("drive0.qcow2", size="8M")
        d = Drive(rig, size="8M")
        d.add_bitmap()
        guest = Guest("drive0", 8 << 20, seed=1)
        guest.start()
        top = "drive0"
        for i in range(6):
            guest.wait_writes(20)
            name = "o%d" % i
            if i % 2:
                create(name + ".qcow2", size="8M", backing=top + ".qcow2")
                rig.q("blockdev-add", driver="qcow2", node_name=name, backing=None,
                      file={"driver": "file", "filename": name + ".qcow2"})
                rig.q("blockdev-snapshot", node=top, overlay=name)
            else:
                rig.q("blockdev-snapshot-sync", node_name=top, snapshot_file=name + ".qcow2",
                      snapshot_node_name=name)
            top = name
        assert d.bitmap()["count"] > 0 and d.bitmap()["recording"]
        nodes = {n["node-name"]: n for n in rig.q("query-named-block-nodes")}
        assert nodes["drive0"]["ro"] and not nodes["o5"]["ro"], nodes
        export, = rig.q("query-block-exports")
        assert export["node-name"] == "o5", export
        expect_error("used as backing hd of 'o5'", rig.q, "blockdev-snapshot-sync", node_name="o4",
                     snapshot_file="x.qcow2", snapshot_node_name="x")
        disk = guest.stop()
        rig.q("block-export-del", id="e-drive0")
        for i in reversed(range(6)):
            rig.q("blockdev-del", node_name="o%d" % i)
        rig.q("blockdev-del", node_name="drive0")
        assert content("o5.qcow2") == disk
        check("drive0.qcow2", *["o%d.qcow2" % i for i in range(6)])


def what_is_below_a_snapshot_stays_as_it_was():
    with Rig() as rig:
        create("drive0.qcow2", size="8M")
        Drive(rig, size="8M")
        guest = Guest("drive0", 8 << 20, seed=2)
        for _ in range(30):
            guest.one_write()
        before = bytes(guest.disk)
        rig.q("blockdev-snapshot-sync", node_name="drive0", snapshot_file="o.qcow2",
              snapshot_node_name="o")
        for _ in range(30):
            guest.one_write()
        after = guest.stop()
        # The image below is read-only and unlocked for readers by now.
        assert content("drive0.qcow2") == before != after
        rig.q("block-export-del", id="e-drive0")
        rig.q("blockdev-del", node_name="o")
        assert content("o.qcow2") == after
        check("drive0.qcow2", "o.qcow2")


def a_failed_transaction_leaves_the_graph_as_it_was():
    with Rig() as rig:
        create("drive0.qcow2", size="8M")
        d = Drive(rig, size="8M")
        create("ov.qcow2", size="8M")
        rig.q("blockdev-add", driver="qcow2", node_name="ov",
              file={"driver": "file", "filename": "ov.qcow2"})
        guest = Guest("drive0", 8 << 20, seed=3)
        guest.start()
        before = rig.q("query-named-block-nodes", flat=True)
        for _ in range(10):
            guest.wait_writes(5)
            expect_error("aborted", rig.q, "transaction", actions=[
                {"type": "blockdev-snapshot", "data": {"node": "drive0", "overlay": "ov"}},
                {"type": "blockdev-snapshot-sync", "data": {
                    "node-name": "ov", "snapshot-file": "x.qcow2", "snapshot-node-name": "x"}},
                {"type": "block-dirty-bitmap-add", "data": {"node": "ov", "name": "b"}},
                {"type": "abort", "data": {}}])
        after = rig.q("query-named-block-nodes", flat=True)
        names = [[(n["node-name"], n["ro"]) for n in nodes] for nodes in (before, after)]
        assert names[0] == names[1], names
        assert rig.q("query-block-exports")[0]["node-name"] == "drive0"
        disk = guest.stop()
        rig.q("block-export-del", id="e-drive0")
        rig.q("blockdev-del", node_name="drive0")
        rig.q("blockdev-del", node_name="ov")
        assert content("drive0.qcow2") == disk
        assert content("ov.qcow2") == bytes(8 << 20)
        check("drive0.qcow2", "ov.qcow2")
        assert d


def several_disks_have_their_snapshots_at_one_moment():
    with Rig() as rig:
        for name in "drive0", "drive1":
            create(name + ".qcow2", size="8M")
            Drive(rig, name, size="8M")
        a, b = (Guest(name, 8 << 20, seed=4) for name in ("drive0", "drive1"))
        for _ in range(20):
            a.one_write()
            b.one_write()
        rig.q("transaction", actions=[
            {"type": "blockdev-snapshot-sync", "data": {
                "node-name": name, "snapshot-file": name + "-o.qcow2",
                "snapshot-node-name": name + "-o"}} for name in ("drive0", "drive1")] + [
            {"type": "block-dirty-bitmap-add", "data": {"node": "drive0-o", "name": "b"}}])
        a.one_write()
        assert a.stop() != b.stop()
        assert content("drive0.qcow2") == content("drive1.qcow2")
        for node in rig.q("query-named-block-nodes"):
            if node["node-name"] == "drive0-o":
                assert node["dirty-bitmaps"][0]["count"] > 0, node


def options_change_all_or_none():
    with Rig() as rig:
        create("base.qcow2", size="8M")
        create("drive0.qcow2", size="8M", backing="base.qcow2")
        common = {"driver": "qcow2", "node-name": "base",
                  "file": {"driver": "file", "filename": "base.qcow2"}}
        top = {"driver": "qcow2", "node-name": "drive0", "backing": "base",
               "file": {"driver": "file", "filename": "drive0.qcow2"}}
        for options in dict(common, **{"read-only": True}), top:
            rig.q("blockdev-add", **options)
        rig.q("block-export-add", type="nbd", id="e", node_name="drive0", name="d", writable=True)
        guest = Guest("d", 8 << 20, seed=5)
        guest.start()

        def reopen(*options):
            rig.q("blockdev-reopen", options=list(options))

        def state():
            return [(n["node-name"], n["ro"], n.get("backing_file"), n["detect_zeroes"])
                    for n in rig.q("query-named-block-nodes", flat=True)]

        before = state()
        for _ in range(5):
            guest.wait_writes(5)
            # The second cannot be; so the first is not, either.
            expect_error("cannot support read-write users", reopen, common,
                         dict(top, **{"read-only": True}))
            expect_error("Cannot change the option 'file'", reopen, common,
                         dict(top, file={"driver": "file", "filename": "base.qcow2"}))
            assert state() == before, (state(), before)
            reopen(common, dict(top, **{"detect-zeroes": "unmap", "discard": "unmap"}))
            nodes = {n[0]: n for n in state()}
            assert not nodes["base"][1] and nodes["drive0"][3] == "unmap", nodes
            # Written to through the same file, by another export.
            rig.q("block-export-add", type="nbd", id="b", node_name="base", name="b", writable=True)
            expect_error("cannot support read-write users", reopen,
                         dict(common, **{"read-only": True}))
            rig.q("block-export-del", id="b")
            reopen(dict(common, **{"read-only": True}), top)
            assert state() == before, (state(), before)
        disk = guest.stop()
        rig.q("block-export-del", id="e")
        rig.q("blockdev-del", node_name="drive0")
        rig.q("blockdev-del", node_name="base")
        assert content("drive0.qcow2") == disk
        check("drive0.qcow2", "base.qcow2")


def what_another_program_reads_is_not_written():
    with Rig() as rig:
        nodes = []
        for name in "a", "b":
            create(name + ".qcow2", size="8M")
            nodes.append({"driver": "qcow2", "node-name": name, "read-only": True,
                          "file": {"driver": "file", "filename": name + ".qcow2"}})
            rig.q("blockdev-add", **nodes[-1])
        reader = subprocess.Popen(["qemu-io", "-r", "-f", "qcow2", "b.qcow2"], text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        reader.stdin.write("read 0 512\n")
        reader.stdin.flush()
        assert reader.stdout.readline()
        writable = [dict(n, **{"read-only": False}) for n in nodes]
        expect_error("in use by another program", rig.q, "blockdev-reopen", options=writable)
        assert all(n["ro"] for n in rig.q("query-named-block-nodes"))
        reader.communicate("quit\n")
        rig.q("blockdev-reopen", options=writable)
        assert not any(n["ro"] for n in rig.q("query-named-block-nodes"))


SCENARIOS = [options_change_all_or_none, what_another_program_reads_is_not_written, a_chain_grows_under_a_guest_that_writes, what_is_below_a_snapshot_stays_as_it_was,
             a_failed_transaction_leaves_the_graph_as_it_was,
             several_disks_have_their_snapshots_at_one_moment]

if __name__ == "__main__":
    run_scenarios(SCENARIOS)
