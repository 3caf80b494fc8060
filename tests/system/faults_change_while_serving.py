#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Fault rules come, go and strike over the control socket, as an NBD client sees it."""

import errno
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import nbd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from qmp import Daemon, Qmp, expect_error  # noqa: E402
from served import Served, fails  # noqa: E402

BREAKWATER = os.environ["BREAKWATER"]
CACHE = "[cache]\nlayer = guest\n"


def rule(q, name):
    return next(r for r in q("faults-list")[0]["rules"] if r.get("id") == name)


def rules_are_in_force_when_their_command_is_answered():
    with Served() as s:
        q, h = s.qmp, s.client()
        h.pwrite(b"a" * 512, 0)
        for layer in ("guest", "host"):
            for _ in range(20):
                q("faults-add", rule="id=w layer=%s op=write action=error errno=ENOSPC" % layer)
                fails(errno.ENOSPC, h.pwrite, b"b" * 512, 0)
                q("faults-remove", id="w")
                h.pwrite(b"c" * 512, 0)
        q("faults-add", export="disk", rules="[fault \"one\"]\nlayer=guest\nop=read\naction=log\n")
        q("faults-add", node="disk", before="one",
          rule="id=two layer=guest op=read action=error errno=EPERM")
        fails(errno.EPERM, h.pread, 512, 4096)
        assert rule(q, "one")["seen"] == 0
        two = rule(q, "two")
        assert (two["seen"], two["matched"], two["fired"]) == (1, 1, 1), two
        assert two["last"] == {"op": "read", "offset": 4096, "length": 512}, two
        q("faults-replace", rules="")
        assert q("faults-list")[0]["rules"] == []
        for words in (["faults-add", "rule=id=slow layer=guest op=read action=delay ms=100"],
                      ["faults"], ["faults-remove", "id=slow"],
                      ["faults-arm", "rule=layer=guest op=flush action=error"]):
            subprocess.run([BREAKWATER, "ctl", "control.sock", *words], check=True,
                           stdout=subprocess.DEVNULL)
        h.pwrite(b"d" * 512, 512)
        fails(errno.EIO, h.flush)
        assert h.pread(512, 0) == b"c" * 512


def rules_come_to_an_export_that_was_started_without_any():
    with Served(None) as s:
        q, h = s.qmp, s.client()
        assert q("faults-list")[0]["rules"] == []
        h.pwrite(b"a" * 512, 0)
        for layer in ("guest", "host"):
            q("faults-add", rule="id=w layer=%s op=write action=error errno=ENOSPC" % layer)
            fails(errno.ENOSPC, h.pwrite, b"b" * 512, 0)
            q("faults-remove", id="w")
            h.pwrite(b"c" * 512, 0)
        q("faults-add", rule="id=cut layer=wire op=read action=disconnect")
        fails(errno.ENOTCONN, h.pread, 512, 0)
        q("faults-remove", id="cut")
        assert s.client().pread(512, 0) == b"c" * 512
        # The filters are in nobody's way: what is asked of the node concerns the image.
        q("block-dirty-bitmap-add", node="disk", name="kept", persistent=True)
        q("block-dirty-bitmap-clear", node="disk", name="kept")
        s.client().pwrite(b"d" * 512, 65536)
        q("block-dirty-bitmap-remove", node="disk", name="kept")
        q("block-dirty-bitmap-add", node="disk", name="stays", persistent=True)
    info = json.loads(subprocess.run(["qemu-img", "info", "--output=json", "disk.qcow2"],
                                     check=True, capture_output=True).stdout)
    names = [b["name"] for b in info["format-specific"]["data"]["bitmaps"]]
    assert names == ["stays"], names


def what_cannot_be_is_refused_and_changes_nothing():
    with Served("[fault \"a\"]\nlayer=guest\nop=trim\naction=error\n") as s:
        q = s.qmp
        before = q("faults-list")
        for text, arguments in (
                (r"faults-add: unknown action \"eror\": did you mean error", {"rule": "action=eror"}),
                (r"faults-add:2:4: ", {"rules": "[fault]\nop=raed\naction=error\n"}),
                (r"faults-add: no export is called \"dusk\": ",
                 {"rule": "op=read export=dusk action=error"}),
                (r"has the id \"a\" already", {"rule": "id=a op=read action=error"}),
                (r"needs a disk with a volatile cache", {"rule": "action=powercut"}),
                (r"\[cache\] cannot be changed", {"rules": CACHE}),
                (r"no fault 'b'", {"rule": "op=read action=error", "before": "b"}),
                (r"Could not open rule file", {"file": "nowhere.conf"}),
                (r"One of 'rule', 'rules' and 'file'", {}),
                (r"Cannot find node 'gone'", {"rule": "op=read action=error", "node": "gone"}),
                (r"Export 'gone' is not found", {"rule": "op=read action=error", "export": "gone"})):
            expect_error(text, q, "faults-add", **arguments)
        expect_error("no fault rule 'b'", q, "faults-remove", id="b")
        expect_error("strikes once", q, "faults-arm", rule="op=read action=error once=on")
        expect_error("no volatile cache", q, "faults-powercut")
        expect_error("no volatile cache", q, "faults-crash-list")
        assert q("faults-list") == before


def what_is_armed_strikes_the_next_request_once():
    with Served() as s:
        q, h = s.qmp, s.client()
        for _ in range(3):
            q("faults-arm", rule="layer=guest op=flush action=error")
            h.pwrite(b"x" * 512, 0)
            fails(errno.EIO, h.flush)
            h.flush()


def damage_at_rest_ends_with_its_rule():
    with Served() as s:
        q, h = s.qmp, s.client()
        h.pwrite(b"old." * 1024, 0)
        q("faults-add", rule="id=lose layer=guest op=write range=0+4k action=lost")
        h.pwrite(b"new." * 1024, 0)
        assert h.pread(4096, 0) == b"old." * 1024
        q("faults-remove", id="lose")
        assert h.pread(4096, 0) == b"new." * 1024


def requests_under_way_keep_what_was_decided():
    with Served("[fault \"slow\"]\nlayer=guest\nop=read\naction=delay\nms=600\n") as s:
        q, h = s.qmp, s.client()
        buf = nbd.Buffer(512)
        start = time.monotonic()
        cookie = h.aio_pread(buf, 0)
        while h.aio_get_direction() & nbd.AIO_DIRECTION_WRITE:
            h.poll(100)
        deadline = time.monotonic() + 10
        while rule(q, "slow")["fired"] == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        q("faults-replace", rule="id=slow layer=guest op=read action=error")
        while not h.aio_command_completed(cookie):
            h.poll(-1)
        assert time.monotonic() - start >= 0.6
        fails(errno.EIO, h.pread, 512, 0)


def states_are_told_and_set():
    with Served("[fault]\nlayer=guest\nop=read\nstate=4\naction=error\n") as s:
        q, h = s.qmp, s.client()
        assert q("faults-state") == {"state": 1}
        h.pread(512, 0)
        assert q("faults-state", state=4) == {"state": 4}
        fails(errno.EIO, h.pread, 512, 0)
        q("faults-mark", name="half way")
    assert 'mark "half way"' in pathlib.Path("serve.log").read_text()


def fires_are_told_to_those_who_asked():
    with Served("[fault \"w\"]\nlayer=guest\nop=write\naction=error\n") as s:
        q, other, h = s.qmp, Qmp("control.sock"), s.client()
        fails(errno.EIO, h.pwrite, b"x" * 512, 512)
        q("faults-subscribe")
        fails(errno.EIO, h.pwrite, b"x" * 512, 1024)
        data = q.wait_event("FAULT_FIRED")["data"]
        assert data.pop("client").startswith("unix:"), data
        assert data.pop("node").startswith("#block")
        assert data == {"number": 1, "id": "w", "where": "rules.conf:1", "action": "error",
                        "layer": "guest", "op": "write", "offset": 1024, "length": 512,
                        "export": "disk", "missed": 0}, data
        # Bounded, and what is left out is counted.
        for _ in range(400):
            fails(errno.EIO, h.pwrite, b"x" * 512, 0)
        time.sleep(1.1)
        fails(errno.EIO, h.pwrite, b"x" * 512, 4096)
        told = missed = 0
        while True:
            data = q.wait_event("FAULT_FIRED")["data"]
            told, missed = told + 1, missed + data["missed"]
            if data["offset"] == 4096:
                break
        assert told + missed == 401, (told, missed)
        assert missed > 0
        q("faults-subscribe", enable=False)
        fails(errno.EIO, h.pwrite, b"x" * 512, 0)
        q("query-block-exports")
        other("query-block-exports")
        assert not q.events and not other.events


def power_is_cut_by_command():
    with Served(CACHE) as s:
        q, h = s.qmp, s.client()
        expect_error("power is not cut yet", q, "faults-crash-list")
        for i in range(3):
            h.pwrite(bytes([i + 1]) * 4096, i * 4096)
        count = q("faults-powercut")["count"]
        assert count >= 8, count
        assert q("faults-list")[0]["cut"]
        fails(errno.ESHUTDOWN, h.pread, 512, 0)
        expect_error("cut already", q, "faults-powercut")
        listed = q("faults-crash-list")
        assert listed["count"] == count == len(listed["states"])
        assert [x["number"] for x in listed["states"]] == list(range(count))
        assert len({x["description"] for x in listed["states"]}) == count
        assert q("faults-crash-list", first=2, count=3)["states"] == listed["states"][2:5]
        assert s.client("disk@crash/0").pread(4096, 0) == bytes(4096)
        out = subprocess.run([BREAKWATER, "ctl", "control.sock", "crash", "list"], check=True,
                             capture_output=True, text=True).stdout.splitlines()
        assert len(out) == count + 1 and listed["states"][5]["description"] in out[6], out


def a_daemon_has_them_too():
    with Daemon([BREAKWATER, "daemon"], path="control.sock") as d:
        q = d.connect()
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "disk.qcow2", "64M"], check=True)
        expect_error("There is no fault filter", q, "faults-add", rule="op=read action=error")
        q("blockdev-add", driver="null-co", node_name="plain", size=512)
        expect_error("Node 'plain' has no fault filter: .*'fault'", q, "faults-add", node="plain",
                     rule="op=read action=error")
        q("blockdev-add", driver="qcow2", node_name="disk",
          file={"driver": "blkdebug", "image": {"driver": "file", "filename": "disk.qcow2"}})
        q("nbd-server-start", addr={"type": "unix", "data": {"path": os.path.abspath("nbd.sock")}})
        q("block-export-add", type="nbd", id="e", node_name="disk", name="disk", writable=True)
        h = nbd.NBD()
        h.set_export_name("disk")
        h.connect_unix("nbd.sock")
        q("faults-arm", export="e", rule="op=write kind=data action=error errno=ENOSPC")
        fails(errno.ENOSPC, h.pwrite, b"x" * 512, 0)
        h.pwrite(b"y" * 512, 0)
        q("faults-arm", rule="layer=guest op=read action=error errno=EPERM") # by the export's filter
        fails(errno.EPERM, h.pread, 512, 0)
        out = subprocess.run([BREAKWATER, "ctl", "control.sock", "faults", "node=disk"], check=True,
                             capture_output=True, text=True).stdout
        assert "kind=data" in out and "(spent)" in out and "faults-arm" not in out, out
        pathlib.Path("bad.conf").write_text(CACHE)
        expect_error(r"no \[cache\]", q, "blockdev-add", driver="blkdebug", node_name="b",
                     config="bad.conf", image={"driver": "null-co", "size": 512})
        # A request that hangs holds neither the monitor nor the end.
        q("faults-add", rule="op=write action=hang")
        h.aio_pwrite(b"z" * 512, 0)
        while h.aio_get_direction() & nbd.AIO_DIRECTION_WRITE:
            h.poll(100)
        deadline = time.monotonic() + 10
        while q("faults-list")[0]["rules"][-1]["fired"] == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        q("quit")
        d.end()


def equal_runs_leave_equal_traces():
    rules = ("[engine]\nseed = 7\n[fault \"p\"]\nlayer = guest\nop = write\nprob = 30%\n"
             "action = error\n[fault]\nkind = l2\naction = delay\nms = 1..9\n")
    failed = []
    for name in ("one", "two"):
        with Served(rules, "--fault-trace", name) as s:
            h = s.client()
            for i in range(60):
                try:
                    h.pwrite(bytes([i + 1]) * 4096, i * 70000)
                except nbd.Error:
                    failed.append(i)
            h.flush()
            h.pread(65536, 0)
            s.qmp("faults-mark", name="the end\n")
            h.shutdown()
    first = pathlib.Path("one").read_bytes()
    assert first == pathlib.Path("two").read_bytes() and len(first) > 2000
    assert 5 < len(failed) / 2 < 35, failed
    text = subprocess.run([BREAKWATER, "faults", "trace", "one"], check=True, capture_output=True,
                          text=True).stdout
    assert text.startswith("seed 0x7\n")
    assert text.count("guest write") == 60
    assert text.count("guest write") - text.count("fails, Input/output error, by rule #1") == \
        60 - len(failed) // 2
    for part in ("event write_aio\n", "kind=l2", "passes after", "mark the end?\n", "guest flush 0+0",
                 "wire write 0+4096"):
        assert part in text, part
    lines = subprocess.run([BREAKWATER, "faults", "trace", "--json", "one"], check=True,
                           capture_output=True, text=True).stdout.splitlines()
    records = [json.loads(line) for line in lines]
    assert records[0] == {"seed": "0x7"} and len(records) == len(text.splitlines())
    assert [r["record"] for r in records[1:]] == list(range(1, len(records)))
    # Without its end it is that of a server that still runs, or was killed.
    pathlib.Path("open").write_bytes(first[:-9])
    p = subprocess.run([BREAKWATER, "faults", "trace", "open"], capture_output=True, text=True)
    assert p.returncode == 0 and "open has no end" in p.stderr, p
    assert p.stdout.splitlines() == text.splitlines()[:-1]
    # What is cut off, or no trace at all, is told.
    pathlib.Path("cut").write_bytes(first[:-3])
    for name, problem in (("cut", "not whole, at byte"), ("rules.conf", "is no fault trace"),
                          ("nowhere", "Could not open")):
        p = subprocess.run([BREAKWATER, "faults", "trace", name], capture_output=True, text=True)
        assert p.returncode == 2 and problem in p.stderr, p


def writes_of_every_kind_can_be_read_back():
    with Served("", "--fault-trace", "t", "-B", "daily") as s:
        h = s.client()
        h.pwrite(b"x" * 65536, 0)
        h.flush()
        h.shutdown()
    out = subprocess.run([BREAKWATER, "faults", "trace", "t"], check=True, capture_output=True,
                         text=True).stdout
    assert "kind=bitmap" in out, out


def a_trace_ends_at_its_limit():
    with Served("", "--fault-trace", "t", "--fault-trace-size", "4k") as s:
        h = s.client()
        for i in range(500):
            h.pwrite(b"x" * 512, i * 512)
        h.shutdown()
    assert 3900 < os.path.getsize("t") <= 4096, os.path.getsize("t")
    text = subprocess.run([BREAKWATER, "faults", "trace", "t"], check=True, capture_output=True,
                          text=True).stdout
    assert " the trace is full\n" in text and text.endswith(" end\n")
    assert "limit of 4096 bytes" in pathlib.Path("serve.log").read_text()


def human(q, node, command):
    return q("human-monitor-command", command_line='qemu-io %s "%s"' % (node, command))


def start_write(h, byte, offset, length):
    cookie = h.aio_pwrite(bytes([byte]) * length, offset)
    while h.aio_get_direction() & nbd.AIO_DIRECTION_WRITE:
        h.poll(100)
    return cookie


def end_write(h, cookie):
    deadline = time.monotonic() + 20
    while not h.aio_command_completed(cookie):
        assert time.monotonic() < deadline, "a write does not end"
        h.poll(100)


def two_writes_to_one_cluster_race_at_each_event():
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", "base.raw", "1M"], check=True)
    pathlib.Path("base.raw").write_bytes(b"Z" * (1 << 20))
    with Daemon([BREAKWATER, "daemon"], path="control.sock") as d:
        q = d.connect()
        q("nbd-server-start", addr={"type": "unix", "data": {"path": os.path.abspath("nbd.sock")}})
        for event in ("cluster_alloc", "refblock_alloc", "refblock_load", "cow_read",
                      "read_backing_aio", "write_aio", "cow_write", "pwritev", "pwritev_done"):
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw",
                            "disk.qcow2"], check=True)
            q("blockdev-add", driver="qcow2", node_name="disk",
              file={"driver": "blkdebug", "image": {"driver": "file", "filename": "disk.qcow2"}})
            q("block-export-add", type="nbd", id="e", node_name="disk", name="disk", writable=True)
            a, b = nbd.NBD(), nbd.NBD()
            for h in (a, b):
                h.set_export_name("disk")
                h.connect_unix("nbd.sock")
            a.pwrite(b"t" * 512, 0x80000)  # the tables are there
            assert human(q, "disk", "break %s A" % event) == ""
            first = start_write(a, 0xaa, 0x31000, 4096)
            assert human(q, "disk", "wait_break A") == "", event
            second = start_write(b, 0xbb, 0x38000, 8192)
            time.sleep(0.02)
            assert not a.aio_command_completed(first), event
            assert human(q, "disk", "resume A") == "", event
            end_write(a, first)
            end_write(b, second)
            want = bytearray(b"Z" * 65536)
            want[0x1000:0x2000] = b"\xaa" * 4096
            want[0x8000:0xa000] = b"\xbb" * 8192
            assert a.pread(65536, 0x30000) == want, event
            for h in (a, b):
                h.shutdown()
            q("block-export-del", id="e", mode="hard")
            q.wait_event("BLOCK_EXPORT_DELETED")
            q("blockdev-del", node_name="disk")
            subprocess.run(["qemu-img", "check", "-q", "disk.qcow2"], check=True)
        q("quit")
        assert d.end() == 0


def breakpoints_fail_as_qemus():
    with Daemon([BREAKWATER, "daemon"], path="control.sock") as d:
        q, other = d.connect(), d.connect()
        q("blockdev-add", driver="null-co", node_name="plain", size=65536)
        q("blockdev-add", driver="blkdebug", node_name="b",
          image={"driver": "null-co", "size": 65536})
        nothing = "No such file or directory\n"
        for node, command, text in (
                ("plain", "break read_aio A", "Could not set breakpoint: Operation not supported\n"),
                ("plain", "resume A", "Could not resume request: Operation not supported\n"),
                ("b", "break nonsense A", "Could not set breakpoint: " + nothing),
                ("b", "resume A", "Could not resume request: " + nothing),
                ("b", "remove_break A", "Could not remove breakpoint A: " + nothing),
                ("b", "break read_aio", "bad argument count 1 to break, expected 2 arguments\n"),
                ("b", "wait_break", "bad argument count 0 to wait_break, expected 1 arguments\n"),
                ("b", "break pwritev A", ""), ("b", "remove_break A", "")):
            assert human(q, node, command) == text, (command, human(q, node, command))
        expect_error("Cannot find device=.* nor node-name='gone'", human, q, "gone", "resume A")
        # I/O of one client is held, and another lets it go; removing resumes, but finds nothing.
        human(q, "b", "break pwritev A")
        q.send('{"execute": "human-monitor-command", "arguments": {"command-line": '
               '"qemu-io b \\"write 0 512\\""}}\n')
        assert human(other, "b", "wait_break A") == ""
        assert human(other, "b", "remove_break A") == "Could not remove breakpoint A: " + nothing
        assert q.answer()["return"].startswith("wrote 512/512")
        human(q, "b", "break pwritev A")
        q.send('{"execute": "human-monitor-command", "arguments": {"command-line": '
               '"qemu-io b \\"write 0 512\\""}}\n')
        for command in ("wait_break A", "resume A"):
            out = subprocess.run([BREAKWATER, "ctl", "control.sock", "human-monitor-command",
                                  'command-line=qemu-io b "%s"' % command], check=True,
                                 capture_output=True, text=True).stdout
            assert out == '""\n', out
        assert q.answer()["return"].startswith("wrote 512/512")
        # Who waits for what never comes does not hold the end.
        other.send('{"execute": "human-monitor-command", "arguments": {"command-line": '
                   '"qemu-io b \\"wait_break B\\""}}\n')
        time.sleep(0.1)
        expect_error("in use", q, "blockdev-del", node_name="b")
        q("quit")
        assert d.end() == 0


def main():
    for test in (rules_are_in_force_when_their_command_is_answered,
                 rules_come_to_an_export_that_was_started_without_any,
                 what_cannot_be_is_refused_and_changes_nothing,
                 what_is_armed_strikes_the_next_request_once, damage_at_rest_ends_with_its_rule,
                 requests_under_way_keep_what_was_decided, states_are_told_and_set,
                 fires_are_told_to_those_who_asked, power_is_cut_by_command,
                 a_daemon_has_them_too, equal_runs_leave_equal_traces,
                 writes_of_every_kind_can_be_read_back, a_trace_ends_at_its_limit,
                 breakpoints_fail_as_qemus,
                 two_writes_to_one_cluster_race_at_each_event):
        print("-", test.__name__, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            test()
            os.chdir("/")


if __name__ == "__main__":
    main()
