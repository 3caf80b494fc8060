#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The drivers of `blockdev-add` over QMP: each does what QEMU's driver of that name does."""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from qmp import Daemon, expect_error  # noqa: E402

BREAKWATER = os.environ["BREAKWATER"]
PROGRAM = [BREAKWATER, "daemon"]


def sh(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def image(name, *options, size="64M"):
    sh("qemu-img", "create", "-q", "-f", "qcow2", *options, name, size)


def address(path):
    return {"type": "unix", "data": {"path": os.path.abspath(path)}}


def monitor_io(q, command, node="d"):
    return q("human-monitor-command", command_line='qemu-io %s "%s"' % (node, command))


def blkdebug_pretends_limits():
    with open("f", "wb") as f:
        f.truncate(1 << 20)
    with Daemon(PROGRAM) as d:
        q = d.connect()

        def add(**limits):
            q("blockdev-add", driver="blkdebug", node_name="d",
              image={"driver": "file", "filename": "f"}, **limits)

        for limits, text in [({"align": 511}, "align 511"), ({"align": -1}, "align 18446744073709551615"),
                             ({"align": 4096, "max-transfer": 512}, "max-transfer 512"),
                             ({"opt-write-zero": 4096, "max-write-zero": 6144}, "max-write-zero 6144"),
                             ({"opt-discard": 4096, "max-discard": 6144}, "max-discard 6144")]:
            expect_error("Cannot meet constraints with " + text, add, **limits)
        assert q("query-named-block-nodes") == []
        # A write of 512 bytes to blocks of 4096 reads first: the read fails by its event.
        add(align=4096, **{"inject-error": [{"event": "pwritev_rmw_head", "once": True}]})
        assert "Input/output error" in monitor_io(q, "write -P 1 512 512")
        out = monitor_io(q, "write -P 1 4096 4096")
        assert "rror" not in out, out
        q("blockdev-del", node_name="d")
        # 64 KiB in pieces of 16 KiB: the third fails, so two are there.
        add(**{"max-transfer": 16384, "inject-error": [
            {"event": "none", "iotype": "write", "sector": 65, "errno": 28}]})
        assert "No space" in monitor_io(q, "write -P 7 0 64k")
        q("quit")
        assert d.end() == 0
    with open("f", "rb") as f:
        assert f.read(65536) == b"\x07" * 32768 + b"\0" * 32768


def throttled_nodes_share_a_limit():
    with Daemon(PROGRAM, "--object", "throttle-group,id=g,limits.iops-total=20,limits.iops-total-max=40",
                "--blockdev", "null-co,node-name=n",
                "--blockdev", "throttle,node-name=t,throttle-group=g,file=n") as d:
        q = d.connect()
        for group, text in [({"limits": {"bps-read": 5, "bps-total": 1}}, "at the same time"),
                            ({"x-bps-read": -1}, "cannot be negative"),
                            ({"limits": {"iops-total": 1, "iops-total-max-length": 1 << 32}},
                             "must be in the range"), ({"nope": 1}, "'nope' is unexpected")]:
            expect_error(text, q, "object-add", qom_type="throttle-group", id="x", **group)
        expect_error("Throttle group 'x' does not exist", q, "blockdev-add", driver="throttle",
                     node_name="u", throttle_group="x", file={"driver": "null-co"})
        q("blockdev-add", driver="throttle", node_name="u", throttle_group="g",
          file={"driver": "null-co"})
        expect_error("object 'g' is in use, can not be deleted", q, "object-del", id="g")
        start = time.monotonic()
        for i in range(35):
            monitor_io(q, "write 0 4k", "tu"[i % 2])
            monitor_io(q, "read 0 4k", "ut"[i % 2])
        took = time.monotonic() - start
        assert 1.3 < took < 6, took
        q("blockdev-del", node_name="u")
        q("blockdev-del", node_name="t")
        q("object-del", id="g")
        # A request that would wait for hours does not keep the program from ending.
        q("object-add", qom_type="throttle-group", id="h", **{"x-bps-write": 1})
        q("blockdev-add", driver="throttle", node_name="t", throttle_group="h", file="n")
        q("nbd-server-start", addr=address("nbd.sock"))
        q("block-export-add", type="nbd", id="e", node_name="t", name="x", writable=True)
        client = subprocess.Popen(
            ["qemu-io", "-f", "raw", "-c", "aio_write 0 64k", "-c", "aio_write 0 64k",
             "-c", "aio_flush", "nbd+unix:///x?socket=" + os.path.abspath("nbd.sock")],
            stdout=subprocess.PIPE)
        time.sleep(0.5)
        assert client.poll() is None
        q("block-export-del", id="e", mode="hard")
        q.wait_event("BLOCK_EXPORT_DELETED")
        client.communicate(timeout=20)
        q("quit")
        assert d.end() == 0


def main():
    for test in [blkdebug_pretends_limits, throttled_nodes_share_a_limit]:
        print("-", test.__name__, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            test()
            os.chdir("/")


if __name__ == "__main__":
    main()
