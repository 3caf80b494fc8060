#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The drivers of `blockdev-add` over QMP: each does what QEMU's driver of that name does."""

import atexit
import json
import os
import pathlib
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
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
        begin = time.monotonic()
        for i in range(35):
            monitor_io(q, "write 0 4k", "tu"[i % 2])
            monitor_io(q, "read 0 4k", "ut"[i % 2])
        took = time.monotonic() - begin
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


def start(*command):
    """A server that does not outlive this program, nor keep its output open."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    atexit.register(server.kill)
    return server


def serve(path, *command):
    """Starts a server on a socket; returns once it listens."""
    if os.path.exists(path):
        os.unlink(path)
    server = start(*command)
    deadline = time.monotonic() + 20
    while not os.path.exists(path):
        assert server.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    return server


def qemu_nbd(path, *options):
    return serve(path, "qemu-nbd", "-t", "-e", "8", "-f", "raw", "-k", os.path.abspath(path), *options)


def end(server):
    server.kill()
    server.wait()


def unix_node(q, path, name="d", **options):
    q("blockdev-add", driver="nbd", node_name=name, discard="unmap",
      server={"type": "unix", "path": os.path.abspath(path)}, **options)


def uri(path, export=""):
    return "nbd+unix:///%s?socket=%s" % (export, os.path.abspath(path))


def nbd_node_equals_its_server():
    rng = random.Random(11)
    with open("f", "wb") as f:
        f.truncate(8 << 20)
    server = qemu_nbd("up.sock", "-x", "there", "--discard=unmap", "f")
    with Daemon(PROGRAM) as d:
        q = d.connect()
        expect_error("Failed to connect to", unix_node, q, "gone.sock")
        expect_error("no export named 'wrong'", unix_node, q, "up.sock", export="wrong")
        expect_error("'tls-creds' is unexpected", unix_node, q, "up.sock", tls_creds="t")
        assert q("query-named-block-nodes") == []
        unix_node(q, "up.sock", export="there")
        node, = q("query-named-block-nodes")
        assert node["image"]["virtual-size"] == 8 << 20 and not node["ro"], node
        q("nbd-server-start", addr=address("down.sock"))
        q("block-export-add", type="nbd", id="e", node_name="d", name="x", writable=True)
        content, commands = bytearray(8 << 20), []
        for _ in range(200):
            off = rng.randrange(0, (8 << 20) - (300 << 10))
            length = rng.choice([1, 511, 4096, 65536, 300 << 10])
            kind, byte = rng.choice(["write", "write", "write -f", "write -z", "write -z -u",
                                     "discard"]), rng.randrange(1, 255)
            commands += ["-c", "%s %s %d %d" % (kind, "" if "-z" in kind or kind == "discard" else
                                                "-P %d" % byte, off, length)]
            if kind != "discard":
                content[off:off + length] = bytes([0 if "-z" in kind else byte]) * length
            else: # what is left of it is not told
                commands += ["-c", "write -P 5 %d %d" % (off, length)]
                content[off:off + length] = b"\5" * length
        out = sh("qemu-io", "-f", "raw", *commands, "-c", "discard 1M 1M", "-c", "flush",
                 uri("down.sock", "x"))
        assert "rror" not in out and "failed" not in out, out
        content[1 << 20:2 << 20] = b"\0" * (1 << 20)
        sh("nbdcopy", uri("down.sock", "x"), "copy")
        assert open("copy", "rb").read() == content
        assert open("f", "rb").read() == content
        maps = [sh("nbdinfo", "--map", u) for u in (uri("up.sock", "there"), uri("down.sock", "x"))]
        assert maps[0] == maps[1] and "hole" in maps[0], maps
        q("quit")
        assert d.end() == 0
    end(server)


def nbd_servers_that_can_do_little_are_used():
    with open("f", "wb") as f:
        f.truncate(1 << 20)
    # No FUA, no zeros, no discards: a FUA write is followed by a flush, and nothing else is.
    script = ["get_size=echo 1M", "can_write=exit 0", "can_flush=exit 0", "can_fua=echo none",
              "pread=dd if=f skip=$4 count=$3 iflag=count_bytes,skip_bytes status=none",
              "pwrite=echo w >>log; dd of=f seek=$4 conv=notrunc oflag=seek_bytes status=none",
              "flush=echo f >>log"]
    server = serve("bare.sock", "nbdkit", "-f", "-U", "bare.sock", "eval", *script)
    with Daemon(PROGRAM) as d:
        q = d.connect()
        unix_node(q, "bare.sock")
        for command, log in [("write -P 1 0 64k", "w"), ("write -f -P 2 4k 4k", "wf"),
                             ("write -z 8k 4k", "w"), ("write -z -f 16k 4k", "wf"),
                             ("discard 0 64k", ""), ("read -P 0 8k 4k", ""), ("flush", "f")]:
            open("log", "w").close()
            out = monitor_io(q, command)
            assert "rror" not in out and "failed" not in out, out
            assert open("log").read().replace("\n", "") == log, (command, open("log").read())
        q("quit")
        assert d.end() == 0
    end(server)
    for i, options in enumerate([["--no-sr", "--filter=nozero"],
                                 ["--filter=blocksize-policy", "blocksize-minimum=4096",
                                  "blocksize-maximum=64k", "blocksize-error-policy=error"]]):
        path = "up%d.sock" % i
        flags = [o for o in options if o.startswith("-")]
        server = serve(path, "nbdkit", "-f", "-U", path, *flags, "file", "f",
                       *[o for o in options if not o.startswith("-")])
        with Daemon(PROGRAM) as d:
            q = d.connect()
            unix_node(q, path)
            q("nbd-server-start", addr=address("down.sock"))
            q("block-export-add", type="nbd", id="e", node_name="d", name="x", writable=True)
            out = sh("qemu-io", "-f", "raw", "-c", "write -P 3 0 512k", "-c", "write -z 1000 100000",
                     "-c", "write -f -P 4 3000 5000", "-c", "discard 600k 8k", "-c", "flush",
                     "-c", "read -P 0 1000 2000", "-c", "read -P 4 3000 5000",
                     "-c", "read -P 0 8000 93000", "-c", "read -P 3 101000 1000",
                     uri("down.sock", "x"))
            assert "rror" not in out and "failed" not in out, out
            sh("nbdinfo", "--map", uri("down.sock", "x"))
            q("quit")
            assert d.end() == 0
        end(server)


def a_lost_nbd_server_is_waited_for():
    with open("f", "wb") as f:
        f.truncate(1 << 20)
    server = qemu_nbd("up.sock", "f")
    with Daemon(PROGRAM) as d:
        q = d.connect()
        unix_node(q, "up.sock", reconnect_delay=60)
        unix_node(q, "up.sock", "impatient")
        q("nbd-server-start", addr=address("down.sock"))
        for node in ["d", "impatient"]:
            q("block-export-add", type="nbd", id=node, node_name=node, name=node, writable=True)
        assert "rror" not in monitor_io(q, "write -P 1 0 64k")
        end(server)
        client = subprocess.Popen(
            ["qemu-io", "-f", "raw", "-c", "read -P 1 0 64k", "-c", "write -P 2 64k 64k", "-c",
             "flush", uri("down.sock", "d")], stdout=subprocess.PIPE, text=True)
        time.sleep(0.3)
        assert client.poll() is None
        begin = time.monotonic()
        assert "Input/output error" in monitor_io(q, "read 0 4k", "impatient")
        assert time.monotonic() - begin < 5
        # One that shows another disk is not taken for it.
        with open("other", "wb") as f:
            f.truncate(2 << 20)
        server = qemu_nbd("up.sock", "other")
        time.sleep(1)
        assert client.poll() is None
        end(server)
        server = qemu_nbd("up.sock", "f")
        out = client.communicate(timeout=30)[0]
        assert client.returncode == 0 and "rror" not in out and "failed" not in out, out
        deadline = time.monotonic() + 20
        while "rror" in monitor_io(q, "read -P 2 64k 64k", "impatient"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        # Ending does not wait for a server that is not there.
        end(server)
        q("quit")
        assert d.end() == 0
    server = qemu_nbd("up.sock", "-r", "f")
    port = free_port()
    with Daemon(PROGRAM) as d:
        q = d.connect()
        expect_error("because the server is read-only", unix_node, q, "up.sock")
        unix_node(q, "up.sock", auto_read_only=True)
        assert q("query-named-block-nodes")[0]["ro"]
        unix_node(q, "up.sock", "e", read_only=True)
        # TCP; the name has more addresses than the server listens on.
        end(server)
        expect_error("Failed to connect to 'localhost:%d'" % port, q, "blockdev-add", driver="nbd",
                     node_name="t", server={"type": "inet", "host": "localhost", "port": str(port)})
        server = start("qemu-nbd", "-t", "-f", "raw", "-b", "127.0.0.1", "-p", str(port), "f")
        q("blockdev-add", driver="nbd", node_name="t", open_timeout=20, server={
            "type": "inet", "host": "localhost", "port": str(port)})
        assert "rror" not in monitor_io(q, "read -P 1 0 64k", "t")
        q("quit")
        assert d.end() == 0
    end(server)


def answer_half(listener):
    """An NBD server whose answers to reads leave out the second half."""
    s, _ = listener.accept()

    def take(n):
        return s.recv(n, socket.MSG_WAITALL)

    s.sendall(b"NBDMAGIC" + b"IHAVEOPT" + struct.pack(">H", 3))
    take(4)
    while True:
        _, option, length = struct.unpack(">QII", take(16))
        take(length)

        def reply(kind, data=b""):
            s.sendall(struct.pack(">QIII", 0x3e889045565a9, option, kind, len(data)) + data)

        if option == 8: # structured replies
            reply(1)
        elif option == 7: # go
            reply(3, struct.pack(">HQH", 0, 1 << 20, 1))
            reply(1)
            break
        else:
            reply((1 << 31) + 1)
    while True:
        request = take(28)
        if len(request) < 28:
            return
        _, _, kind, cookie, off, length = struct.unpack(">IHHQQI", request)
        if kind == 0:
            data = struct.pack(">Q", off) + b"x" * (length // 2)
            s.sendall(struct.pack(">IHHQI", 0x668e33ef, 1, 1, cookie, len(data)) + data)
        else:
            return


def half_an_answer_is_none():
    with socket.socket(socket.AF_UNIX) as listener, Daemon(PROGRAM) as d:
        listener.bind("up.sock")
        listener.listen()
        threading.Thread(target=answer_half, args=[listener], daemon=True).start()
        q = d.connect()
        unix_node(q, "up.sock")
        assert "Input/output error" in monitor_io(q, "read 0 64k")
        q("quit")
        assert d.end() == 0


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def what_was_read_is_kept():
    image("base.qcow2", size="4M")
    sh("qemu-io", "-f", "qcow2", "-c", "write -P 5 0 1M", "-c", "write -z 1M 64k", "-c",
       "write -P 6 3M 1M", "base.qcow2")
    image("top.qcow2", "-b", "base.qcow2", "-F", "qcow2", size="4M")
    sh("qemu-io", "-f", "qcow2", "-c", "write -P 7 128k 64k", "top.qcow2")
    sh("qemu-img", "convert", "-O", "raw", "top.qcow2", "want")
    top = {"driver": "qcow2", "file": {"driver": "file", "filename": "top.qcow2"}}
    with Daemon(PROGRAM) as d:
        q = d.connect()
        expect_error("read-only", q, "blockdev-add", driver="copy-on-read", node_name="d",
                     file=dict(top, **{"read-only": True}))
        expect_error("'bottom' is unexpected", q, "blockdev-add", driver="copy-on-read",
                     node_name="d", file=top, bottom="x")
        q("blockdev-add", driver="copy-on-read", node_name="d", file={
            "driver": "blkdebug", "image": top, "inject-error": [{"event": "cor_write", "once": True}]})
        assert "Input/output error" in monitor_io(q, "read -P 5 0 4k")
        out = monitor_io(q, "read -P 5 4k 4k")
        assert "rror" not in out and "failed" not in out, out
        q("quit")
        assert d.end() == 0
    depths = [(e["start"], e["length"]) for e in
              json.loads(sh("qemu-img", "map", "--output=json", "top.qcow2")) if e["depth"] == 0
              and e["present"]]
    assert depths == [(0, 65536), (131072, 65536)], depths
    with Daemon(PROGRAM) as d:
        q = d.connect()
        q("blockdev-add", driver="copy-on-read", node_name="d", file=top)
        q("nbd-server-start", addr=address("nbd.sock"))
        q("block-export-add", type="nbd", id="e", node_name="d", name="x")
        sh("nbdcopy", uri("nbd.sock", "x"), "copy")
        assert open("copy", "rb").read() == open("want", "rb").read()
        q("quit")
        assert d.end() == 0
    sh("qemu-img", "rebase", "-u", "-b", "", "top.qcow2")
    sh("qemu-img", "check", "top.qcow2")
    sh("qemu-img", "compare", "-f", "qcow2", "-F", "raw", "top.qcow2", "want")


def writes_are_compressed():
    image("a.qcow2", size="4194816")
    with open("want", "wb") as f:
        f.truncate(4194816)
    commands = [a for c in ["write -P 1 0 1M", "write -P 2 100k 1000", "write -P 3 4194304 512",
                            "write -P 4 200k 300k"] for a in ("-c", c)]
    sh("qemu-io", "-f", "raw", *commands, "want")
    with Daemon(PROGRAM) as d:
        q = d.connect()
        expect_error("Compression is not supported for underlying format", q, "blockdev-add",
                     driver="compress", node_name="d", file={"driver": "null-co"})
        q("blockdev-add", driver="compress", node_name="d", file={
            "driver": "qcow2", "file": {"driver": "file", "filename": "a.qcow2"}})
        q("nbd-server-start", addr=address("nbd.sock"))
        q("block-export-add", type="nbd", id="e", node_name="d", name="x", writable=True)
        sh("qemu-io", "-f", "raw", *commands, uri("nbd.sock", "x"))
        q("quit")
        assert d.end() == 0
    check = json.loads(sh("qemu-img", "check", "--output=json", "a.qcow2"))
    assert check["compressed-clusters"] == check["allocated-clusters"] == 17, check
    sh("qemu-img", "compare", "-f", "qcow2", "-F", "raw", "a.qcow2", "want")


def differing_mirrors_are_found():
    image("a.qcow2", size="1M")
    with open("r", "wb") as f:
        f.truncate(1 << 20)
    with Daemon(PROGRAM) as d:
        q = d.connect()
        q("blockdev-add", driver="qcow2", node_name="a", file={
            "driver": "file", "filename": "a.qcow2"})
        q("blockdev-add", driver="blkverify", node_name="d", test="a",
          raw={"driver": "file", "filename": "r"})
        for command in ["write -P 1 1000 5000", "write -z 2000 100", "read 0 1M", "flush"]:
            out = monitor_io(q, command)
            assert "rror" not in out and "failed" not in out, out
        with open("r", "r+b") as f:
            f.seek(70000)
            f.write(b"x")
        assert "Input/output error" in monitor_io(q, "read 64k 64k")
        assert "rror" not in monitor_io(q, "read 0 64k")
        q("quit")
        assert d.end() == 0


def read_log(name):
    """The sector size and the entries of a dm-log-writes log: (offset, length, flags, data)."""
    log = open(name, "rb").read()
    magic, version, count, size = struct.unpack("<QQQI", log[:28])
    assert (magic, version) == (0x6a736677736872, 1), log[:28]
    entries, at = [], size
    for _ in range(count):
        sector, n, flags, length = struct.unpack("<4Q", log[at:at + 32])
        assert at + size + length <= len(log)
        entries.append((sector * size, n * size, flags, log[at + size:at + size + length]))
        at += size + length
    return size, entries


def writes_are_logged():
    rng = random.Random(3)
    for options in [{}, {"log-sector-size": 4096, "log-super-update-interval": 1}]:
        for name in ["f", "log"]:
            with open(name, "wb") as f:
                f.truncate(1 << 20 if name == "f" else 0)
        log = {"driver": "file", "filename": "log"}
        disk = {"driver": "file", "filename": "f"}
        with Daemon(PROGRAM) as d:
            q = d.connect()
            for bad, text in [({"log-sector-size": 1000}, "Invalid log sector size 1000"),
                              ({"log-super-update-interval": 0}, "Invalid log superblock"),
                              ({"log-append": True}, "'log-append' is unexpected")]:
                expect_error(text, q, "blockdev-add", driver="blklogwrites", node_name="d",
                             file=disk, log=log, **bad)
            q("blockdev-add", driver="blklogwrites", node_name="d", file=disk, log=log,
              discard="unmap", **options)
            for _ in range(60):
                kind = rng.choice(["write -P %d" % rng.randrange(1, 255), "write -z", "flush"])
                out = monitor_io(q, kind if kind == "flush" else "%s %d %d" % (
                    kind, rng.randrange(0, 900000), rng.choice([512, 5000, 100000])))
                assert "rror" not in out and "failed" not in out, out
            monitor_io(q, "write -f -P 9 64k 8k")
            monitor_io(q, "discard 512k 64k")
            monitor_io(q, "flush")
            if options: # each entry is told of at once
                assert read_log("log")[1][-1][2] == 1
            q("quit")
            assert d.end() == 0
        size, entries = read_log("log")
        assert size == options.get("log-sector-size", 512)
        assert [e[:3] for e in entries[-3:]] == [(65536, 8192, 2), (524288, 65536, 4), (0, 0, 1)]
        assert sum(e[2] == 1 for e in entries) > 5
        replayed = bytearray(1 << 20)
        for off, length, flags, data in entries:
            assert len(data) == (0 if flags & 5 else length)
            replayed[off:off + length] = bytes(length) if flags & 4 else data
        assert replayed == open("f", "rb").read()


def main():
    for test in [blkdebug_pretends_limits, throttled_nodes_share_a_limit, nbd_node_equals_its_server,
                 nbd_servers_that_can_do_little_are_used, a_lost_nbd_server_is_waited_for, half_an_answer_is_none,
                 what_was_read_is_kept, writes_are_compressed, differing_mirrors_are_found,
                 writes_are_logged]:
        print("-", test.__name__, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            test()
            os.chdir("/")


if __name__ == "__main__":
    main()
