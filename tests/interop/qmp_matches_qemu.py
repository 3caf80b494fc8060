#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The same messages to `breakwater daemon` and to qemu-storage-daemon: the same answers, to the class
and text of each error.

Where the two differ on purpose, the table says which text is ours.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from qmp import Daemon  # noqa: E402

OURS = [os.environ["BREAKWATER"], "daemon"]
THEIRS = ["qemu-storage-daemon"]


def add(**options):
    return {"execute": "blockdev-add",
            "arguments": {k.replace("_", "-"): v for k, v in options.items()}}


def do(command, **arguments):
    return {"execute": command,
            "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}


def address(name):
    return {"type": "unix", "data": {"path": "@FOLDER@/" + name}}


def file(name, **options):
    return {"driver": "file", "filename": name,
            **{k.replace("_", "-"): v for k, v in options.items()}}


WAIT = "wait until all jobs have concluded"
CHAINS = "which nodes are there, and how do they lie upon each other?"


def chains(q):
    nodes = [{k: n.get(k) for k in ("node-name", "ro", "drv", "backing_file")}
             for n in q("query-named-block-nodes", flat=True) if n["drv"] != "file"]
    return sorted(nodes, key=lambda n: n["node-name"])


# A message, or (message, part of our own text where it is not QEMU's).
def form_of_messages():
    return [
        "foo",
        '{"execute":"qmp_capabilities"}',
        '[]', '1', '{}', '{"execute":1}', '{"execute":"quit","foo":1}',
        '{"execute":"quit","arguments":[]}', '{"execute":"nope","id":3}',
        '{"execute":"query-block","arguments":{"x":1}}', '{"a":1,"a":2}',
        "{'execute':'query-block','id':'it\\'s'}", '{"id":{"a":[1,null]},"execute":"query-block"}',
        '{"execute":"query-status"}', '{"execute":"query-block","arguments":{},"id":null}',
        ('{"execute":}', "JSON parse error"),
    ]


def nodes():
    return [
        do("blockdev-add"), add(driver="nope"), add(driver=1), add(driver="file"),
        add(driver="file", filename=1), add(driver="file", filename="x", foo=1),
        add(driver="file", filename="gone"), add(driver="file", filename="gone", node_name="f"),
        add(driver="file", filename="gone", node_name="f", read_only="on"),
        add(driver="file", filename="gone", node_name="f", cache={"direct": 1}),
        add(driver="file", filename="gone", node_name="f", cache={"x": True}),
        add(driver="file", filename="gone", node_name="f", discard="maybe"),
        add(driver="file", filename="a.qcow2", node_name="1bad"),
        add(driver="file", filename="a.qcow2", node_name="n" * 32),
        add(driver="file", filename="a.qcow2", node_name=""),
        add(driver="file", filename="a.qcow2", node_name="f0"),
        add(driver="file", filename="a.qcow2", node_name="f0"),
        add(driver="qcow2", node_name="q0", file="zz"), add(driver="qcow2", node_name="q0"),
        add(driver="qcow2", node_name="q0", file=1),
        add(driver="qcow2", node_name="q0", file={"driver": "file"}),
        add(driver="qcow2", node_name="q0", file={"driver": "file", "filename": 1}),
        (add(driver="qcow2", node_name="q0", file=file("raw")), "not a qcow2 image"),
        add(driver="qcow2", node_name="q0", file="f0"),
        add(driver="qcow2", node_name="q1", file="f0"),
        add(driver="qcow2", node_name="q1", file="f0", read_only=True),
        add(driver="raw", node_name="r1", file="f0"),
        add(driver="raw", node_name="r2", file="q0", offset=3),
        add(driver="raw", node_name="r3", file="q0", size=999999999),
        add(driver="raw", node_name="r3", file="q0", offset=999999999),
        add(driver="raw", node_name="r3", file="q0", offset="x"),
        add(driver="raw", node_name="r4", file="q0", read_only=True),
        do("blockdev-del", node_name="f0"), do("blockdev-del", node_name="zz"), do("blockdev-del"),
        add(driver="file", node_name="ro", filename="raw", read_only=True),
        add(driver="raw", node_name="rw", file="ro"),
        add(driver="qcow2", node_name="b0", file=file("b.qcow2"), backing="q0"),
        add(driver="qcow2", node_name="b1", file=file("raw", read_only=True)),
        add(driver="null-co", node_name="n0", size=65536),
        add(driver="blkdebug", node_name="d0", image="n0", inject_error=[{"event": "read_aio"}]),
        add(driver="blkdebug", node_name="d1", image="n0", inject_error=[{"event": "zzz"}]),
        add(driver="blkdebug", node_name="d1", image="n0", inject_error=[{}]),
        add(driver="blkdebug", node_name="d1", image="n0", set_state=[{"event": "read_aio"}]),
        add(driver="file", filename="raw", node_name="x", force_share=True),
        do("block_resize", node_name="zz", size=512), do("block_resize", device="zz", size=512),
        do("block_resize", node_name="q0", size="x"), do("block_resize", node_name="q0"),
        do("block_resize", node_name="b0", size=-512),
        (do("block_resize", node_name="q0", size=512), "used as backing hd of 'b0'"),
        do("blockdev-del", node_name="q0"),
        do("block_resize", node_name="b0", size=128 << 20),
        do("query-block"),
        do("query-named-block-nodes", flat=1),
    ]


def exports():
    return [
        add(driver="qcow2", node_name="q", file=file("a.qcow2")),
        add(driver="raw", node_name="ro", file=file("raw"), read_only=True),
        do("block-export-add", id="e", type="nbd", node_name="q"),
        do("nbd-server-add", device="q"), do("nbd-server-stop"), do("nbd-server-start"),
        do("nbd-server-start", addr={"type": "nope"}),
        do("nbd-server-start", addr={"type": "unix"}),
        do("nbd-server-start", addr={"type": "unix", "data": {}}),
        do("nbd-server-start", addr=address("nbd"), max_connections=-1),
        do("nbd-server-start", addr=address("nbd"), max_connections=5000000000),
        do("nbd-server-start", addr=address("nbd")), do("nbd-server-start", addr=address("nbd")),
        do("block-export-add", id="e", type="nbd"), do("block-export-add", id="e", node_name="q"),
        do("block-export-add", id="e", type="nbd", node_name="zz"),
        do("block-export-add", id="1e", type="nbd", node_name="q"),
        do("block-export-add", id="", type="nbd", node_name="q"),
        do("block-export-add", id="e", type="nbd", node_name="q", writable="on"),
        do("block-export-add", id="e", type="nbd", node_name="ro", writable=True),
        do("block-export-add", id="e", type="nbd", node_name="q", bitmaps=["nope"]),
        (do("block-export-add", id="e", type="nbd", node_name="q", bitmaps=[1]),
         "type for 'bitmaps[0]', expected: BlockDirtyBitmapOrStr"),
        do("block-export-add", id="e", type="nbd", node_name="q", writable=True),
        do("block-export-add", id="e", type="nbd", node_name="q"),
        do("block-export-add", id="e1", type="nbd", node_name="q"),
        do("nbd-server-add", device="q", name="second"), do("nbd-server-add", device="zz"),
        do("nbd-server-add", device="q", name="second"), do("query-block-exports"),
        do("blockdev-del", node_name="q"),
        (do("block_resize", node_name="q", size=1 << 30), "unshared by block export '"),
        do("block-export-del", id="zz"), do("block-export-del", id="e", mode="bad"),
        do("nbd-server-remove", name="zz"), do("nbd-server-remove", name="second", mode="hard"),
        do("block-export-del", id="e"), do("query-block-exports"), do("nbd-server-stop"),
        do("nbd-server-stop"), do("blockdev-del", node_name="q"),
    ]


def bitmaps():
    def bitmap(command, **arguments):
        return do("block-dirty-bitmap-" + command, node="q", **arguments)

    def transaction(*actions, **properties):
        return do("transaction", actions=[{"type": t, "data": d} for t, d in actions], **properties)

    def sha256(name):
        return do("x-debug-block-dirty-bitmap-sha256", node="q", name=name)

    def named(name):
        return {"node": "q", "name": name}

    return [
        add(driver="qcow2", node_name="q", file=file("a.qcow2", node_name="f")),
        add(driver="null-co", node_name="other", size=64 << 20),
        add(driver="null-co", node_name="small", size=65536),
        do("block-dirty-bitmap-add", node="zz", name="b"), do("block-dirty-bitmap-add", node="q"),
        (bitmap("add", name="b", granularity=3), "Granularity must be power of 2 and at least 512"),
        (bitmap("add", name="b", granularity=256), "Granularity must be power of 2 and at least 512"),
        bitmap("add", name="b", granularity=-1), bitmap("add", name=""), bitmap("add", name="b"),
        bitmap("add", name="b"), (bitmap("add", name="x" * 1024), "the limit is 1023"),
        bitmap("add", name="fine", granularity=512), bitmap("add", name="off", disabled=True),
        bitmap("add", name="p", persistent=True), bitmap("add", name="p"),
        (do("block-dirty-bitmap-add", node="f", name="p", persistent=True),
         "Can't store persistent bitmaps to f: "),
        do("block-dirty-bitmap-add", node="other", name="o", granularity=4096),
        do("block-dirty-bitmap-add", node="small", name="s"),
        bitmap("remove", name="zz"), bitmap("clear", name="zz"), bitmap("enable", name="zz"),
        bitmap("disable", name="b"), bitmap("disable", name="b"), bitmap("enable", name="b"),
        bitmap("merge", target="zz", bitmaps=["b"]), bitmap("merge", target="b", bitmaps=["zz"]),
        bitmap("merge", target="b", bitmaps=["b", "fine", {"node": "other", "name": "o"}]),
        bitmap("merge", target="b", bitmaps=["p", {"node": "other", "name": "zz"}]),
        bitmap("merge", target="b", bitmaps=["p", {"node": "zz", "name": "zz"}]),
        (bitmap("merge", target="b", bitmaps=[{"node": "small", "name": "s"}]), ""),
        bitmap("merge", target="b", bitmaps="p"),
        sha256("b"), sha256("fine"), sha256("zz"),
        do("x-debug-block-dirty-bitmap-sha256", node="small", name="s"),
        transaction(), transaction(("nope", {})), transaction(("abort", {})),
        transaction(("block-dirty-bitmap-clear", {"node": "q"})),
        transaction(("block-dirty-bitmap-clear", named("zz"))),
        transaction(("block-dirty-bitmap-clear", named("b")),
                    properties={"completion-mode": "grouped"}),
        transaction(("block-dirty-bitmap-add", named("t1")),
                    ("block-dirty-bitmap-add", named("b"))),
        transaction(("block-dirty-bitmap-add", named("t1")),
                    ("block-dirty-bitmap-disable", named("t1")),
                    ("block-dirty-bitmap-merge", {"node": "q", "target": "t1", "bitmaps": ["b"]})),
        transaction(("block-dirty-bitmap-remove", named("t1")),
                    ("block-dirty-bitmap-add", named("t1"))),
        transaction(("block-dirty-bitmap-remove", named("t1")), ("abort", {})),
        transaction(("block-dirty-bitmap-remove", named("t1"))),
        transaction(("block-dirty-bitmap-clear", named("t1"))),
        do("nbd-server-start", addr=address("nbd")),
        do("block-export-add", id="e", type="nbd", node_name="q", bitmaps=["b"]),
        do("block-export-add", id="e", type="nbd", node_name="q", bitmaps=["off"]),
        bitmap("remove", name="off"), bitmap("clear", name="off"), bitmap("enable", name="off"),
        bitmap("merge", target="b", bitmaps=["off"]), bitmap("merge", target="off", bitmaps=["b"]),
        do("block-export-add", id="e2", type="nbd", node_name="q", name="y", bitmaps=["off"]),
        do("block-export-del", id="e"), bitmap("clear", name="off"), bitmap("remove", name="off"),
        bitmap("remove", name="p"), bitmap("remove", name="p"),
    ]


def jobs():
    def create(job, **options):
        return do("blockdev-create", job_id=job, options={k.replace("_", "-"): v
                                                          for k, v in options.items()})

    return [
        do("query-jobs"), do("query-block-jobs"), do("job-cancel", id="x"), do("job-cancel"),
        do("job-dismiss", id="x"), do("block-job-cancel", device="x"),
        do("block-job-set-speed", device="x", speed=1), do("block-job-finalize", id="x"),
        do("blockdev-create"), create("1j", driver="file", filename="n", size=1),
        create("j", driver="nope"), create("j", driver="file"), create("j", driver="file", size=1),
        create("j", driver="file", filename="n.raw", size=1 << 20), WAIT,
        create("j", driver="file", filename="n.raw", size=1 << 20),
        do("job-cancel", id="j"), do("job-pause", id="j"), do("job-finalize", id="j"),
        do("block-job-cancel", device="j"), do("job-dismiss", id="j"), do("job-dismiss", id="j"),
        add(driver="file", node_name="n", filename="n.raw"),
        create("k", driver="qcow2", file="zz", size=1 << 20), WAIT, do("query-jobs"),
        create("l", driver="qcow2", file="n", size=64 << 20, version="v1"),
        create("l", driver="qcow2", file="n", size=64 << 20, version="v2", cluster_size=4096), WAIT,
        add(driver="qcow2", node_name="q", file="n"),
        do("job-dismiss", id="k"), do("job-dismiss", id="l"), do("query-jobs"),
    ]


def backups():
    def backup(sync, **more):
        return do("blockdev-backup", **dict({"job_id": "j", "device": "q", "target": "t",
                                             "sync": sync}, **more))

    syncs, modes = ["full", "top", "none", "incremental", "bitmap"], ["on-success", "always", "never"]
    # Only what is refused: what is started would race with the next message.
    table = [backup(s, bitmap_mode=m) for s in syncs for m in modes]
    table += [backup(s) for s in syncs[3:]]
    table += [backup(s, bitmap=b) for s in syncs for b in ["zz", "b"]
              if (s, b) != ("incremental", "b")]
    refused = [("incremental", "always"), ("incremental", "never"), ("full", "never"),
               ("top", "never"), *(("none", m) for m in modes)]
    table += [backup(s, bitmap="b", bitmap_mode=m) for s, m in refused]
    return [
        add(driver="qcow2", node_name="q", file=file("a.qcow2")),
        add(driver="null-co", node_name="t", size=64 << 20),
        add(driver="null-co", node_name="u", size=65536),
        do("block-dirty-bitmap-add", node="q", name="b"), *table,
        do("blockdev-backup"), backup("nope"), backup("full", job_id="1"),
        backup("full", device="zz"), backup("full", target="zz"), backup("full", target="q"),
        backup("full", target="u"), backup("full", speed=-1),
        (backup("full", compress=True), "Compression is not supported for this drive t"),
        backup("full", on_source_error="nope"),
        do("transaction", actions=[{"type": "blockdev-backup", "data": {"device": "q"}}]),
        do("transaction", properties={"completion-mode": "grouped"}, actions=[
            {"type": "blockdev-backup", "data": {"device": "q", "target": "t", "sync": "full",
                                                 "job-id": "j"}},
            {"type": "block-dirty-bitmap-clear", "data": {"node": "q", "name": "b"}}]),
        do("query-jobs"), do("query-block-jobs"),
    ]


def fleecing():
    def cbw(**more):
        return add(**dict({"driver": "copy-before-write", "node_name": "c", "file": "q",
                           "target": "t"}, **more))

    return [
        add(driver="qcow2", node_name="q", file=file("a.qcow2")),
        add(driver="null-co", node_name="t", size=64 << 20),
        add(driver="null-co", node_name="small", size=65536),
        do("block-dirty-bitmap-add", node="q", name="b"),
        add(driver="copy-before-write", node_name="c"),
        add(driver="copy-before-write", node_name="c", file="q"),
        cbw(target="zz"), cbw(bitmap={"node": "q", "name": "zz"}),
        cbw(bitmap={"node": "zz", "name": "b"}), cbw(bitmap="b"), cbw(bitmap={"node": "q"}),
        cbw(**{"on-cbw-error": "nope"}), cbw(**{"cbw-timeout": -1}), cbw(foo=1),
        cbw(), add(driver="snapshot-access", node_name="s"),
        add(driver="snapshot-access", node_name="s", file="zz"),
        add(driver="snapshot-access", node_name="s", file="c"),
        do("nbd-server-start", addr=address("nbd")),
        do("block-export-add", id="c", type="nbd", node_name="c", writable=True),
        (do("block-export-add", id="q", type="nbd", node_name="q", writable=True),
         "unshared by node 'c' (uses node 'q' as 'file' child)."),
        do("block-export-add", id="s", type="nbd", node_name="s", bitmaps=["b"]),
        do("block-export-add", id="s", type="nbd", node_name="s", writable=True),
        do("blockdev-del", node_name="c"), do("blockdev-del", node_name="s"),
        do("block-export-del", id="s"), do("block-export-del", id="c"),
        do("blockdev-del", node_name="c"), do("blockdev-del", node_name="s"),
        do("blockdev-del", node_name="c"), do("blockdev-del", node_name="q"),
    ]


def objects():
    return [
        do("object-add", qom_type="secret", id="s", data="x"),
        do("object-add", qom_type="secret", id="s", data="x"),
        do("object-add", qom_type="nope", id="t"), do("object-add", qom_type="secret"),
        do("object-add", id="t"), do("object-add", qom_type="iothread", id="t"),
        do("object-add", qom_type="secret", id="u"),
        do("object-add", qom_type="secret", id="u", data="a", file="b"),
        do("object-del", id="zz"), do("object-del", id="s"), do("object-del", id="s"),
    ]


def snapshots():
    def snapshot(node, overlay):
        return do("blockdev-snapshot", node=node, overlay=overlay)

    def sync(**more):
        return do("blockdev-snapshot-sync", **more)

    def transaction(*actions, **properties):
        return do("transaction", actions=[{"type": t, "data": d} for t, d in actions], **properties)

    def over(node, overlay):
        return "blockdev-snapshot", {"node": node, "overlay": overlay}

    abort = ("abort", {})
    return [
        add(driver="qcow2", node_name="a", file=file("a.qcow2", node_name="fa")),
        add(driver="qcow2", node_name="b", file=file("b.qcow2", node_name="fb"), backing=None),
        add(driver="qcow2", node_name="c", file=file("c.qcow2", node_name="fc")),
        add(driver="raw", node_name="r", file=file("raw", node_name="fr")),
        do("nbd-server-start", addr=address("nbd")),
        do("block-export-add", id="e", type="nbd", node_name="a", writable=True),
        do("blockdev-snapshot"), snapshot("zz", "b"), snapshot("a", "zz"), snapshot("a", "r"),
        snapshot("a", "fb"), (snapshot("a", "a"), "already in use"), snapshot("b", "a"), sync(),
        sync(snapshot_file="x"), sync(node_name="zz", snapshot_file="x"), sync(node_name="a"),
        sync(node_name="a", snapshot_file="x.qcow2"),
        sync(node_name="a", snapshot_file="x.qcow2", mode="nope"),
        sync(node_name="a", snapshot_file="x.qcow2", snapshot_node_name="b"),
        sync(device="zz", snapshot_file="x.qcow2"),
        sync(node_name="a", snapshot_file="gone/x.qcow2", snapshot_node_name="x", mode="existing"),
        transaction(over("a", "b"), abort), transaction(over("a", "b"), over("b", "zz")),
        transaction(over("a", "b"), properties={"completion-mode": "grouped"}),
        do("query-block-exports"), CHAINS,
        snapshot("a", "b"), do("query-block-exports"), CHAINS, snapshot("c", "b"), snapshot("a", "b"),
        do("blockdev-del", node_name="a"), do("blockdev-del", node_name="b"),
        transaction(over("b", "c"), ("block-dirty-bitmap-add", {"node": "c", "name": "n"})),
        do("query-block-exports"), CHAINS, do("block-export-del", id="e"),
        do("blockdev-del", node_name="c"), do("blockdev-del", node_name="b"),
        do("blockdev-del", node_name="a"),
    ]


def moves():
    """Only what is refused, and jobs of which nothing but the end is looked at."""
    def commit(**more):
        return do("block-commit", **dict({"job_id": "j", "device": "top"}, **more))

    def stream(**more):
        return do("block-stream", **dict({"job_id": "j", "device": "top"}, **more))

    kept = {"auto_dismiss": False}
    done = [WAIT, do("query-jobs"), do("query-block-jobs"), do("job-dismiss", id="j"), CHAINS]
    return [
        add(driver="qcow2", node_name="base", file=file("a.qcow2"), read_only=True),
        add(driver="qcow2", node_name="mid", file=file("b.qcow2"), backing="base", read_only=True),
        add(driver="qcow2", node_name="top", file=file("d.qcow2"), backing="mid"),
        add(driver="qcow2", node_name="other", file=file("c.qcow2")),
        do("block-commit"), commit(device="zz"), commit(device="mid"), commit(device="other"),
        commit(top_node="mid", top="b.qcow2"), commit(top_node="zz"), commit(top_node="other"),
        commit(top="zz"), commit(base_node="base", base="a.qcow2"), commit(base_node="zz"),
        commit(base_node="other"), commit(base="zz"), commit(top_node="mid", base_node="mid"),
        commit(backing_file="x"), commit(speed=-1), commit(on_error="nope"),
        commit(job_id="1"), commit(top_node="base"), commit(top_node="mid", base_node="top"),
        do("block-stream"), stream(device="zz"), stream(base="zz"), stream(base_node="zz"),
        stream(base_node="other"), stream(base_node="top"), stream(base="a.qcow2", base_node="base"),
        stream(base="a.qcow2", bottom="mid"), stream(bottom="mid", base_node="base"),
        stream(bottom="zz"), stream(bottom="other"), stream(backing_file="x"), stream(speed=-1),
        stream(job_id="1"), CHAINS,
        commit(top_node="mid", base_node="base", **kept), *done,
        stream(base_node="base", **kept), *done, stream(**kept), *done,
        do("blockdev-del", node_name="top"), do("blockdev-del", node_name="mid"),
        do("blockdev-del", node_name="base"), CHAINS,
    ]


def reopens():
    def reopen(*options):
        return do("blockdev-reopen", options=[{k.replace("_", "-"): v for k, v in o.items()}
                                              for o in options])

    def top(**more):
        return dict({"driver": "qcow2", "node_name": "top", "file": "ft", "backing": "base"}, **more)

    base = {"driver": "qcow2", "node_name": "base", "file": "fa", "read_only": True}
    return [
        add(driver="file", node_name="fa", filename="a.qcow2"), add(**base),
        add(driver="file", node_name="ft", filename="b.qcow2"), add(**top()),
        add(driver="null-co", node_name="null", size=64 << 20),
        do("nbd-server-start", addr=address("nbd")),
        do("block-export-add", id="e", type="nbd", node_name="top", writable=True),
        do("blockdev-reopen"), do("blockdev-reopen", options=1), reopen({"driver": "qcow2"}),
        reopen({"driver": "qcow2", "file": "ft"}), reopen(top(node_name="zz")),
        reopen({"driver": "raw", "node_name": "top", "file": "ft"}),
        reopen(top(read_only=True)), reopen(top(backing="zz")), reopen(top(backing="top")),
        reopen({"driver": "qcow2", "node_name": "top", "file": "ft"}), CHAINS,
        reopen({"driver": "file", "node_name": "ft", "filename": "c.qcow2"}),
        reopen(top(backing=None)), CHAINS, reopen(top(backing="null")), CHAINS,
        reopen(top(), dict(base, read_only=False)), CHAINS, reopen(top(), base), CHAINS,
        reopen(top(backing=None), dict(base, driver="raw")), CHAINS,
    ]


def run(program, messages):
    """The answers, in a fresh copy of the folder."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ["a.qcow2", "b.qcow2", "c.qcow2", "d.qcow2", "raw"]:
            shutil.copy(name, folder)
        back = os.getcwd()
        os.chdir(folder)
        answers = []
        with Daemon(program) as d:
            q = d.connect()
            for message in messages:
                if message == WAIT:
                    while any(j["status"] != "concluded" for j in q("query-jobs")):
                        time.sleep(0.01)
                    message = {"execute": "query-block"}
                if message == CHAINS:
                    answers.append(chains(q))
                    continue
                text = message if isinstance(message, str) else json.dumps(message)
                q.send(text.replace("@FOLDER@", folder) + "\n")
                answers.append(q.answer())
            q.raw('{"execute":"quit"}')
            assert d.end() == 0, "exit code %d of %s" % (d.process.returncode, program)
        os.chdir(back)
    return answers


def difference(a, b):
    """As text, without what is the same in both."""
    if isinstance(a, dict) and isinstance(b, dict):
        both = [k for k in a if k in b and a[k] == b[k]]
        a, b = ({k: v for k, v in x.items() if k not in both} for x in (a, b))
        if set(a) == set(b) and len(a) == 1:
            key, = a
            return ["  in %r" % key, *difference(a[key], b[key])]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [t for x, y in zip(a, b, strict=True) if x != y for t in difference(x, y)]
    return ["  %s %.400s" % (who, json.dumps(x)) for who, x in [("ours:  ", a), ("qemu's:", b)]]


def compare(group):
    table = [t if isinstance(t, tuple) else (t, None) for t in group()]
    mine, theirs = (run(program, [message for message, _ in table]) for program in (OURS, THEIRS))
    bad = 0
    for (message, own), a, b in zip(table, mine, theirs, strict=True):
        if own is None:
            same = a == b
        else:
            same = "error" in a and "error" in b and own in a["error"]["desc"] and \
                a["error"]["class"] == b["error"]["class"]
        if not same:
            bad += 1
            print("%.200s" % message, *difference(a, b), sep="\n")
    print("- %s: %d answers, %d differ" % (group.__name__, len(mine), bad))
    return bad


if __name__ == "__main__":
    for program in ["qemu-storage-daemon", "qemu-img"]:
        if not shutil.which(program):
            print("SKIP: %s is not installed" % program)
            sys.exit(77)
    with tempfile.TemporaryDirectory() as top:
        os.chdir(top)
        for args in [["a.qcow2", "64M"], ["c.qcow2", "64M"], ["-b", "a.qcow2", "-F", "qcow2", "b.qcow2", "64M"],
                     ["-b", "b.qcow2", "-F", "qcow2", "d.qcow2", "64M"]]:
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *args], check=True)
        subprocess.run(["truncate", "-s", "1M", "raw"], check=True)
        groups = [form_of_messages, nodes, exports, bitmaps, jobs, backups, objects, snapshots,
                  fleecing, moves, reopens]
        failures = sum(compare(g) for g in groups
                       if len(sys.argv) < 2 or g.__name__ in sys.argv[1:])
        os.chdir("/")
    sys.exit(failures != 0)
