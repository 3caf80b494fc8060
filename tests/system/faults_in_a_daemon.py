#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Faults of all layers, a volatile cache and crash states in `breakwater daemon`."""

import errno
import os
import pathlib
import subprocess
import sys
import tempfile

import nbd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from qmp import Daemon, expect_error  # noqa: E402
from served import fails  # noqa: E402

BREAKWATER = os.environ["BREAKWATER"]


def start(*options):
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "disk.qcow2", "64M"], check=True)
    for name in ("control.sock", "nbd.sock"):
        if os.path.exists(name):
            os.unlink(name)
    return Daemon([BREAKWATER, "daemon", "--nbd-server", "addr.type=unix,addr.path=nbd.sock",
                   "--blockdev", "file,node-name=file,filename=disk.qcow2", *options],
                  path="control.sock", log=open("daemon.log", "w"))


def stop(d, q):
    q("quit")
    assert d.end() == 0


def client(export="disk"):
    h = nbd.NBD()
    h.set_export_name(export)
    h.connect_unix("nbd.sock")
    return h


PLAIN = ("--blockdev", "qcow2,node-name=disk,file=file", "--export",
         "nbd,id=e,node-name=disk,name=disk,writable=on")


def faults_come_to_an_export_that_was_added_without_any():
    with start(*PLAIN) as d:
        q, h = d.connect(), client()
        h.pwrite(b"a" * 512, 0)
        q("faults-add", rule="id=g layer=guest op=write action=error errno=ENOSPC")
        fails(errno.ENOSPC, h.pwrite, b"b" * 512, 0)
        q("faults-remove", export="e", id="g")
        h.pwrite(b"c" * 512, 0)
        expect_error("nothing watches layer=host", q, "faults-add", rule="op=read action=error")
        expect_error("Node 'disk' has no fault filter", q, "faults-list", node="disk")
        q("faults-arm", rule="layer=wire op=read action=reply wrong=errno errno=EPERM")
        fails(errno.EPERM, h.pread, 512, 0)
        assert h.pread(512, 0) == b"c" * 512
        # Another export has rules of its own.
        q("block-export-add", type="nbd", id="f", node_name="disk", name="other")
        expect_error("several fault filters", q, "faults-add", rule="layer=guest action=error")
        q("faults-add", export="f", rule="layer=guest op=read action=error")
        fails(errno.EIO, client("other").pread, 512, 0)
        assert h.pread(512, 0) == b"c" * 512
        # An export that goes takes along who hangs at its faults.
        q("faults-add", export="f", rule="layer=guest op=status action=hang")
        q("faults-replace", export="f", rules="[fault]\nlayer=guest\nop=read\naction=hang\n")
        other = client("other")
        other.aio_pread(nbd.Buffer(512), 0)
        while other.aio_get_direction() & nbd.AIO_DIRECTION_WRITE:
            other.poll(100)
        while q("faults-list", export="f")[0]["rules"][0]["fired"] == 0:
            pass
        q("block-export-del", id="f", mode="hard")
        q.wait_event("BLOCK_EXPORT_DELETED")
        stop(d, q)


def both_sides_of_a_format_share_rules():
    pathlib.Path("r.conf").write_text(
        "[engine]\nseed = 7\n[fault \"g\"]\nlayer=guest\nop=read\nstate=2\naction=error\n"
        "[fault \"h\"]\nop=write\nkind=data\nrange=0+1M\naction=state\nnew_state=2\n")
    with start("--blockdev", "fault,node-name=under,file=file,config=r.conf,trace=t,trace-size=1M",
               "--blockdev", "qcow2,node-name=format,file=under",
               "--blockdev", "fault,node-name=disk,file=format,layer=guest",
               "--export", "nbd,id=e,node-name=disk,name=disk,writable=on") as d:
        q, h = d.connect(), client()
        engines = q("faults-list")
        assert [(e["node"], e["seed"]) for e in engines] == [("under", "0x7")], engines
        assert q("faults-list", node="disk") == q("faults-list", export="e") == engines
        assert q("faults-list", node="format") == engines
        assert h.pread(512, 0) == bytes(512)
        h.pwrite(b"x" * 512, 0)
        fails(errno.EIO, h.pread, 512, 0)
        found = {r["id"]: (r["seen"], r["fired"]) for r in q("faults-list")[0]["rules"]}
        assert found["g"] == (2, 1), found # seen by one filter of that layer, not by two
        q("faults-state", state=1)
        assert h.pread(512, 0) == b"x" * 512
        for text, options in (
                ("of this layer below it already", dict(file="under")),
                ("of this layer below it already", dict(file="disk", layer="guest")),
                ("'faults' belongs to the fault filter below", dict(
                    file="format", layer="guest", faults=["op=read action=error"])),
                ("put a node with driver 'fault' under it", dict(
                    file="plain", layer="guest", faults=["op=read action=error"])),
                ("put a node with driver 'fault' under it", dict(
                    file="plain", layer="guest", rules="[inject-error]\nevent = \"none\"\n")),
                ("its layer is host", dict(file="plain", layer="guest", rules="[cache]\n")),
                (r"faults.1: unknown action \"eror\"", dict(
                    file="plain", faults=["op=read action=log", "action=eror"])),
                ("needs a disk with a volatile cache", dict(
                    file="plain", faults=["op=write action=powercut"])),
                ("rules:1:2: unknown section", dict(file="plain", rules="[falt]\n")),
                ("at least 4k", dict(file="plain", trace="u", trace_size=1))):
            if not any(n["node-name"] == "plain" for n in q("query-named-block-nodes")):
                q("blockdev-add", driver="null-co", node_name="plain", size=1 << 20)
            expect_error(text, q, "blockdev-add", driver="fault", node_name="x", **options)
        stop(d, q)
    out = subprocess.run([BREAKWATER, "faults", "trace", "t"], check=True, capture_output=True,
                         text=True).stdout
    assert "guest read" in out and "host write" in out, out


def power_is_cut_below_a_format():
    pathlib.Path("r.conf").write_text("[cache]\n")
    with start("--blockdev", "fault,node-name=under,file=file,config=r.conf",
               "--blockdev", "qcow2,node-name=format,file=under",
               "--blockdev", "raw,node-name=disk,file=format,offset=1048576",
               "--export", "nbd,id=e,node-name=disk,name=disk,writable=on") as d:
        q, h = d.connect(), client()
        h.pwrite(b"k" * 131072, 0)
        h.flush()
        h.pwrite(b"v" * 65536, 0)
        h.pwrite(b"w" * 65536, 65536)
        assert q("faults-powercut", export="e")["count"] > 3
        fails(errno.ESHUTDOWN, h.pread, 512, 0)
        states = q("faults-crash-list")["states"]
        seen = set()
        for state in states:
            g = client("disk@crash/%d" % state["number"])
            assert g.get_size() == 63 << 20
            first, second = bytes(g.pread(65536, 0)), bytes(g.pread(65536, 65536))
            assert set(first) <= set(b"kv"), first
            assert set(second) <= set(b"kw"), second
            seen.add((first[:1], second[:1]))
            g.pwrite(b"private!" * 64, 0)
            assert g.pread(512, 0) == b"private!" * 64
        assert (b"k", b"k") in seen and (b"v", b"w") in seen, seen
        fails_to_connect("disk@crash/%d" % len(states), "no export named")
        stop(d, q)


def fails_to_connect(export, text):
    try:
        client(export)
    except nbd.Error as error:
        assert text in str(error), error
        return
    raise AssertionError("no error")


def power_is_cut_of_the_guests_disk():
    pathlib.Path("r.conf").write_text("[cache]\nlayer = guest\n")
    under = ("--blockdev", "fault,node-name=under,file=file,config=r.conf",
             "--blockdev", "qcow2,node-name=format,file=under")
    guest = ("--blockdev", "fault,node-name=disk,file=format,layer=guest",
             "--export", "nbd,id=e,node-name=disk,name=disk,writable=on")
    with start(*under) as d:
        expect_error("put a node with driver 'fault' and layer 'guest'", d.connect(),
                     "block-export-add", type="nbd", id="e", node_name="format")
    with start(*under, *guest) as d:
        q, h = d.connect(), client()
        h.pwrite(b"a" * 512, 0)
        h.pwrite(b"b" * 512, 512)
        # A rule under the format cuts the power of the cache above it.
        q("faults-add", rule="op=write action=powercut")
        fails(errno.ESHUTDOWN, h.flush)
        got = {bytes(client("disk@crash/%d" % s["number"]).pread(1024, 0))
               for s in q("faults-crash-list")["states"]}
        none, a, b = bytes(512), b"a" * 512, b"b" * 512
        assert got == {none + none, a + none, none + b, a + b}, got
        q("block-export-del", id="e", mode="hard")
        q.wait_event("BLOCK_EXPORT_DELETED")
        q("blockdev-del", node_name="disk")
        expect_error("no volatile cache", q, "faults-powercut", node="under")
        q("faults-replace", rules="") # what the rule hits has no power to be cut any more
        stop(d, q)


def main():
    for test in (faults_come_to_an_export_that_was_added_without_any,
                 both_sides_of_a_format_share_rules, power_is_cut_below_a_format,
                 power_is_cut_of_the_guests_disk):
        print("-", test.__name__, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                test()
            except Exception:
                print(pathlib.Path("daemon.log").read_text())
                raise
            os.chdir("/")


if __name__ == "__main__":
    main()
