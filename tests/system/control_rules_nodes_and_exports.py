#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""`breakwater daemon` under QMP: nodes and exports come and go while others are served."""

import os
import pathlib
import socket
import ssl
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from qmp import Daemon, Qmp, QmpError, expect_error  # noqa: E402

BREAKWATER = os.environ["BREAKWATER"]
PROGRAM = [BREAKWATER, "daemon"]


def sh(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def image(name, *options):
    sh("qemu-img", "create", "-q", "-f", "qcow2", *options, name, "64M")


def address(path):
    return {"type": "unix", "data": {"path": os.path.abspath(path)}}


def io(path, export, *commands):
    out = sh("qemu-io", "-f", "raw", *[a for c in commands for a in ("-c", c)],
             "nbd+unix:///%s?socket=%s" % (export, os.path.abspath(path)))
    assert "rror" not in out and "failed" not in out, out


def a_node_is_served_and_taken_away():
    image("a.qcow2")
    with Daemon(PROGRAM) as d:
        q = d.connect()
        assert q.greeting["QMP"]["capabilities"] == []
        q("blockdev-add", driver="qcow2", node_name="disk", discard="unmap",
          file={"driver": "file", "filename": "a.qcow2"})
        q("nbd-server-start", addr=address("nbd.sock"))
        assert os.stat("nbd.sock").st_mode & 0o777 == 0o600
        q("block-export-add", type="nbd", id="e", node_name="disk", name="x", writable=True)
        io("nbd.sock", "x", "write -P 7 0 64k", "read -P 7 0 64k", "discard 0 64k",
           "read -P 0 0 64k", "write -P 9 1M 64k", "flush")
        expect_error("Node disk is in use", q, "blockdev-del", node_name="disk")
        assert q("query-block-exports") == [
            {"id": "e", "type": "nbd", "node-name": "disk", "shutting-down": False}]
        q("block-export-del", id="e")
        assert q.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "e"}
        q("blockdev-del", node_name="disk")
        assert q("query-named-block-nodes") == []
        # Closed: another program may have it.
        io_out = sh("qemu-io", "-f", "qcow2", "-c", "read -P 9 1M 64k", "a.qcow2")
        assert "64 KiB" in io_out, io_out
        q("quit")
        assert d.end() == 0
    assert not os.path.exists("nbd.sock") and not os.path.exists("control.sock")
    sh("qemu-img", "check", "a.qcow2")


def an_export_in_use_is_removed_only_when_told_so():
    image("a.qcow2")
    with Daemon(PROGRAM) as d:
        q, other = d.connect(), d.connect()
        q("blockdev-add", driver="qcow2", node_name="disk",
          file={"driver": "file", "filename": "a.qcow2"})
        q("nbd-server-start", addr=address("nbd.sock"))
        q("nbd-server-add", device="disk", writable=True)
        client = subprocess.Popen(
            ["qemu-io", "-f", "raw", "nbd+unix:///disk?socket=" + os.path.abspath("nbd.sock")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        client.stdin.write("write -P 1 0 512\n")
        client.stdin.flush()
        while "512/512" not in client.stdout.readline():
            pass
        expect_error("export 'disk' still in use", q, "block-export-del", id="disk")
        expect_error("unshared by block export 'disk'", q, "block_resize", node_name="disk",
                     size=128 << 20)
        q("block-export-del", id="disk", mode="hard")
        # Both monitors learn of it, and the other one can use what is free now.
        assert other.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "disk"}
        other("block_resize", node_name="disk", size=128 << 20)
        assert other("query-named-block-nodes")[0]["image"]["virtual-size"] in (128 << 20, )
        client.kill()
        client.wait()
        d.process.terminate()
        assert d.end() == 0
    assert '"virtual-size": 134217728' in sh("qemu-img", "info", "--output=json", "a.qcow2")


def options_do_what_commands_do():
    image("base.qcow2")
    image("top,1.qcow2", "-b", "base.qcow2", "-F", "qcow2")
    sh("qemu-io", "-f", "qcow2", "-c", "write -P 5 0 64k", "base.qcow2")
    path = os.path.abspath("nbd.sock")
    with Daemon(PROGRAM, "--blockdev", "driver=file,node-name=f,filename=top,,1.qcow2",
                "--blockdev", '{"driver": "qcow2", "node-name": "disk", "file": "f"}',
                "--nbd-server", "addr.type=unix,addr.path=%s,max-connections=3" % path,
                "--export", "nbd,id=e,node-name=disk,writable=on,name=x",
                "--object", "secret,id=s,data=word", "--object", "iothread,id=t",
                "--pidfile", "pid") as d:
        q = d.connect()
        io("nbd.sock", "x", "read -P 5 0 64k", "write -P 6 0 64k", "flush")
        nodes = {n["node-name"]: n for n in q("query-named-block-nodes")}
        assert nodes["disk"]["backing_file_depth"] == 1, nodes["disk"]
        assert nodes["disk"]["image"]["backing-image"]["filename"].endswith("base.qcow2")
        assert len(nodes) == 4, nodes.keys()
        expect_error("duplicate property 's'", q, "object-add", qom_type="secret", id="s", data="x")
        assert open("pid").read().strip() == str(d.process.pid)
        q("quit")
        assert d.end() == 0
    assert not os.path.exists("pid")
    sh("qemu-io", "-f", "qcow2", "-c", "read -P 6 0 64k", "top,1.qcow2")


def mistakes_on_the_command_line_are_named():
    for options, text in [
            (["--blockdev", "driver=file,filename=x"], "'node-name' must be specified"),
            (["--blockdev", "driver=file,node-name=f,filename=gone"],
             "Could not open 'gone': No such file or directory"),
            (["--blockdev", "nope,node-name=f"], "does not accept value 'nope'"),
            (["--export", "nbd,id=e,node-name=f"], "Cannot find device='' nor node-name='f'"),
            (["--nbd-server", "addr.type=unix"], "Parameter 'addr.data.path' is missing"),
            (["--monitor", "chardev=c"], 'chardev "c" not found'),
            (["--chardev", "socket,id=c,host=127.0.0.1,port=1"], "client certificates"),
            (["--chardev", "stdio,id=c"], "only 'socket' is"),
            (["--nonsense"], "option '--nonsense' is not known"),
            (["word"], "Unexpected argument: word")]:
        p = subprocess.run([*PROGRAM, *options], capture_output=True, text=True, timeout=30)
        assert p.returncode == 1, (options, p)
        assert text in p.stderr, (options, p.stderr)


def the_name_of_qemus_daemon_makes_a_drop_in():
    os.symlink(BREAKWATER, "qemu-storage-daemon")
    out = sh("./qemu-storage-daemon", "--version")
    assert out.startswith("breakwater "), out
    sh("./qemu-storage-daemon", "--daemonize", "--pidfile", "pid", "--chardev",
       "socket,id=c,path=control.sock,server=on,wait=off", "--monitor", "chardev=c")
    # Once the command has returned all is set up.
    q = Qmp("control.sock")
    assert os.stat("control.sock").st_mode & 0o777 == 0o600
    q("quit")
    deadline = time.monotonic() + 20
    while os.path.exists("pid"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def only_allowed_folders_are_opened():
    os.makedirs("in/deep")
    os.makedirs("out")
    image("in/deep/a.qcow2")
    image("out/b.qcow2")
    os.symlink("../out/b.qcow2", "in/link.qcow2")
    os.symlink(os.path.abspath("in/deep"), "out/back")
    with Daemon(PROGRAM, "--allow-path", "in") as d:
        q = d.connect()
        for name in ["out/b.qcow2", "in/link.qcow2", "in/../out/b.qcow2", "/etc/passwd", "in/../in2"]:
            expect_error("is not below a folder that was allowed", q, "blockdev-add",
                         driver="file", node_name="f", filename=name)
        expect_error("was allowed", q, "object-add", qom_type="secret", id="s", file="out/b.qcow2")
        expect_error("was allowed", q, "blockdev-add", driver="blkdebug", node_name="d",
                     config="/etc/passwd", image={"driver": "null-co"})
        expect_error("was allowed", q, "nbd-server-start", addr=address("nbd.sock"))
        # Nor are scripts, wherever a rule comes from; that of in/ok.lua would be.
        for where in ("in/ok.lua", "out/bad.lua"):
            with open(where, "w") as script:
                script.write("function decide() end\n")
        with open("in/rules.conf", "w") as rules:
            rules.write("[script]\nop = read\nfile = ../out/bad.lua\n")
        q("blockdev-add", driver="blkdebug", node_name="d", image={"driver": "null-co"})
        refused = "was allowed|built without it"
        expect_error(refused, q, "faults-add", node="d", file="in/rules.conf")
        expect_error(refused, q, "faults-add", node="d", rule="op=read action=script file=out/bad.lua")
        expect_error(refused, q, "faults-replace", node="d",
                     rules="[script]\nop = read\nfile = out/bad.lua\n")
        expect_error(refused, q, "blockdev-add", driver="blkdebug", node_name="e",
                     config="in/rules.conf", image={"driver": "null-co"})
        try:
            q("faults-add", node="d", rule="id=ok op=read action=script file=in/ok.lua")
        except QmpError as error:
            assert "built without it" in error.desc, error
        for i, name in enumerate(["in/deep/a.qcow2", "out/back/../deep/a.qcow2"]):
            q("blockdev-add", driver="file", node_name="f%d" % i, filename=name, read_only=True)
        q("nbd-server-start", addr=address("in/nbd.sock"))
        q("quit")
        assert d.end() == 0


def a_plain_socat_session_works():
    with Daemon(PROGRAM) as d:
        d.connect().close()
        out = sh("socat", "-t5", "-", "UNIX-CONNECT:control.sock",
                 input="{'execute':'qmp_capabilities'}\n{'execute':'query-block','id':'last'}\n")
        lines = out.splitlines()
        assert lines[0].startswith('{"QMP": {"version": {"qemu": {"micro":'), out
        assert lines[1:] == ['{"return": {}}', '{"return": [], "id": "last"}'], out
        d.process.terminate()
        assert d.end() == 0


def rude_monitors_harm_nobody():
    with Daemon(PROGRAM) as d:
        good = d.connect()
        for bad in [b"\x00\x01\x02", b"[" * 100000, b'{"execute": "' + b"x" * 5000000 + b'"}\n',
                    b"\xff\xff{}", b'{"execute":"quit"' * 10]:
            q = d.connect()
            q.send(bad)
            q.close()
            good("query-block")
        # It asks, and does not read its answers.
        q = d.connect()
        q.socket.settimeout(0.5)
        try:
            while True:
                q.send(b'{"execute":"query-qmp-schema"}' * 100)
        except (TimeoutError, OSError):
            pass
        start = time.monotonic()
        good("query-version")
        assert time.monotonic() - start < 5
        good("quit")
        assert d.end() == 0


def bitmaps_of(q, node):
    for n in q("query-named-block-nodes"):
        if n["node-name"] == node:
            return {b["name"]: b for b in n.get("dirty-bitmaps", [])}
    raise AssertionError("no node " + node)


def action(kind, **data):
    return {"type": "block-dirty-bitmap-" + kind, "data": data}


def bitmaps_live_in_the_image():
    image("a.qcow2")
    disk = ["--blockdev", "qcow2,node-name=d,file.driver=file,file.filename=a.qcow2",
            "--nbd-server", "addr.type=unix,addr.path=" + os.path.abspath("nbd.sock")]
    with Daemon(PROGRAM, *disk) as d:
        q = d.connect()
        q("block-dirty-bitmap-add", node="d", name="keep", persistent=True)
        q("block-dirty-bitmap-add", node="d", name="forget")
        # An aborted transaction leaves nothing in the image either.
        expect_error("Transaction aborted", q, "transaction", actions=[
            action("add", node="d", name="aborted", persistent=True),
            action("remove", node="d", name="keep"), {"type": "abort", "data": {}}])
        assert set(bitmaps_of(q, "d")) == {"keep", "forget"}
        q("block-export-add", type="nbd", id="e", node_name="d", writable=True, bitmaps=["keep"])
        io("nbd.sock", "d", "write 0 64k", "write 1M 128k")
        info = bitmaps_of(q, "d")["keep"]
        assert info == {"name": "keep", "granularity": 65536, "count": 196608, "recording": True,
                        "busy": True, "persistent": True}, info
        expect_error("in use by another operation", q, "block-dirty-bitmap-clear", node="d",
                     name="keep")
        before = q("x-debug-block-dirty-bitmap-sha256", node="d", name="keep")
        q("quit")
        assert d.end() == 0
    with Daemon(PROGRAM, *disk) as d:
        q = d.connect()
        assert set(bitmaps_of(q, "d")) == {"keep"}
        assert q("x-debug-block-dirty-bitmap-sha256", node="d", name="keep") == before
        q("block-dirty-bitmap-remove", node="d", name="keep")
        d.kill()
    with Daemon(PROGRAM, *disk) as d:
        assert bitmaps_of(d.connect(), "d") == {}
        d.process.terminate()
        assert d.end() == 0
    # The kill may have left clusters that nobody uses (3), and nothing worse.
    assert subprocess.run(["qemu-img", "check", "a.qcow2"], capture_output=True).returncode in (0, 3)


def a_crash_leaves_a_bitmap_inconsistent_and_visible():
    image("a.qcow2")
    disk = ["--blockdev", "qcow2,node-name=d,file.driver=file,file.filename=a.qcow2"]
    with Daemon(PROGRAM, *disk) as d:
        d.connect()("block-dirty-bitmap-add", node="d", name="b", persistent=True)
        d.kill()
    with Daemon(PROGRAM, *disk) as d:
        q = d.connect()
        info = bitmaps_of(q, "d")["b"]
        assert info["inconsistent"] and not info["recording"] and info["count"] == 0, info
        expect_error("inconsistent", q, "block-dirty-bitmap-clear", node="d", name="b")
        expect_error("inconsistent", q, "block_resize", node_name="d", size=128 << 20)
        q("block-dirty-bitmap-remove", node="d", name="b")
        q("quit")
        assert d.end() == 0


def wait_job(q, job):
    """The states that it went through until it concluded."""
    states = []
    while not states or states[-1] != "concluded":
        event = q.wait_event("JOB_STATUS_CHANGE")["data"]
        if event["id"] == job and event["status"] != "null":
            states.append(event["status"])
    return states


def images_are_created_by_jobs():
    with Daemon(PROGRAM) as d:
        q = d.connect()
        q("blockdev-create", job_id="f", options={"driver": "file", "filename": "new", "size": 0})
        assert wait_job(q, "f") == ["created", "running", "waiting", "pending", "concluded"]
        q("job-dismiss", id="f")
        assert q.wait_event("JOB_STATUS_CHANGE")["data"] == {"status": "null", "id": "f"}
        q("blockdev-add", driver="file", node_name="n", filename="new")
        q("blockdev-create", job_id="i", options={
            "driver": "qcow2", "file": "n", "size": 64 << 20, "cluster-size": 65536,
            "compression-type": "zstd"})
        assert wait_job(q, "i")[-2:] == ["pending", "concluded"]
        q("job-dismiss", id="i")
        q("blockdev-add", driver="qcow2", node_name="d", file="n")
        # While it is in use it is not formatted; the job tells why.
        q("blockdev-create", job_id="i", options={"driver": "qcow2", "file": "n", "size": 512})
        assert wait_job(q, "i") == ["created", "running", "aborting", "concluded"]
        job, = q("query-jobs")
        assert "Permission conflict on node 'n'" in job["error"], job
        expect_error("Job ID 'i' already in use", q, "blockdev-create", job_id="i",
                     options={"driver": "file", "filename": "x", "size": 1})
        q("quit")
        assert d.end() == 0
    sh("qemu-img", "check", "new")
    assert '"compression-type": "zstd"' in sh("qemu-img", "info", "--output=json", "new")


def io_over_the_monitor_reaches_the_node():
    image("a.qcow2")

    def io(command, node="d"):
        return q("human-monitor-command", command_line='qemu-io %s "%s"' % (node, command))

    with Daemon(PROGRAM) as d:
        q = d.connect()
        q("blockdev-add", driver="qcow2", node_name="d", file={
            "driver": "blkdebug", "node-name": "fault",
            "image": {"driver": "file", "filename": "a.qcow2"},
            "inject-error": [{"event": "write_aio", "errno": 28, "once": True, "state": 2}],
            "set-state": [{"event": "flush_to_disk", "state": 1, "new_state": 2}]})
        q("block-dirty-bitmap-add", node="d", name="b")
        assert io("write -P 0xab 0 64k") == "wrote 65536/65536 bytes at offset 0\n"
        assert io("read -P 0xab 0 64k") == "read 65536/65536 bytes at offset 0\n"
        assert io("read -P 1 0 512").startswith("Pattern verification failed at offset 0")
        assert bitmaps_of(q, "d")["b"]["count"] == 65536
        assert io("flush") == ""
        # The fault was armed by the flush.
        assert io("write 0 64k") == "write failed: No space left on device\n"
        assert io("write -z -u 0 64k") == "wrote 65536/65536 bytes at offset 0\n"
        assert io("read -P 0 0 64k") == "read 65536/65536 bytes at offset 0\n"
        assert io("discard 1M 64k").startswith("discard 65536/65536")
        assert "Invalid argument" in io("read 64M 512")
        expect_error("Permission conflict", io, "write 0 512", node="fault")
        expect_error("Cannot find device='zz'", io, "flush", node="zz")
        expect_error("command 'aio_read' is not there", io, "aio_read 0 512")
        expect_error("needs an offset", io, "read 0")
        expect_error("option '-x' is not there", io, "read -x 0 512")
        expect_error("Only 'qemu-io", q, "human-monitor-command", command_line="info block")
        q("quit")
        assert d.end() == 0


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def tls_client(port, folder, certificate):
    context = ssl.create_default_context(cafile=folder + "/ca-cert.pem")
    context.check_hostname = False
    if certificate:
        context.load_cert_chain(folder + "/client-cert.pem", folder + "/client-key.pem")
    raw = socket.create_connection(("127.0.0.1", port), timeout=20)
    return context.wrap_socket(raw)


def over_tcp_only_clients_with_certificates_get_in():
    sh(BREAKWATER, "tls", "init", "pki")
    sh(BREAKWATER, "tls", "init", "other")
    port, nbd_port = free_port(), free_port()
    image("a.qcow2")
    with Daemon(PROGRAM, "--object", "tls-creds-x509,id=t,endpoint=server,dir=pki",
                "--chardev", "socket,id=tcp,host=127.0.0.1,port=%d,server=on,tls-creds=t" % port,
                "--monitor", "tcp", "--blockdev",
                "qcow2,node-name=d,file.driver=file,file.filename=a.qcow2",
                "--nbd-server", "addr.type=inet,addr.host=127.0.0.1,addr.port=%d,tls-creds=t" %
                nbd_port, "--export", "nbd,id=e,node-name=d") as d:
        q = d.connect()
        good = tls_client(port, "pki", True)
        file = good.makefile("rb")
        assert b'"QMP"' in file.readline()
        good.sendall(b'{"execute":"qmp_capabilities"}{"execute":"query-block"}')
        assert file.readline() == b'{"return": {}}\r\n'
        assert file.readline() == b'{"return": []}\r\n'
        for folder, certificate in [("pki", False), ("other", True)]:
            try:
                bad = tls_client(port, folder, certificate)
                assert bad.recv(1) == b"", "it was let in"
            except (ssl.SSLError, ConnectionError):
                pass
        with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
            plain.sendall(b'{"execute":"qmp_capabilities"}\n')
            try:
                assert b"QMP" not in plain.recv(100)
            except ConnectionError:
                pass
        # NBD with the same credentials: TLS or nothing.
        uri = "nbds://127.0.0.1:%d/d?tls-certificates=%s" % (nbd_port, os.path.abspath("pki"))
        assert "67108864" in sh("nbdinfo", "--size", uri)
        assert subprocess.run(["nbdinfo", "nbd://127.0.0.1:%d/d" % nbd_port],
                              capture_output=True).returncode != 0
        q("quit")
        assert d.end() == 0
    for options, text in [
            (["--chardev", "socket,id=c,host=127.0.0.1,port=1"], "client certificates"),
            (["--object", "tls-creds-x509,id=t,endpoint=server,dir=pki,verify-peer=off", "--chardev",
              "socket,id=c,host=127.0.0.1,port=%d,server=on,tls-creds=t" % port, "--monitor", "c"],
             "do not ask clients for certificates"),
            (["--object", "tls-creds-x509,id=t,dir=pki"], "endpoint=server"),
            (["--object", "tls-creds-x509,id=t,endpoint=server,dir=gone"], "gone"),
            (["--object", "secret,id=t,data=x", "--nbd-server",
              "addr.type=inet,addr.host=127.0.0.1,addr.port=%d,tls-creds=t" % nbd_port],
             "is not TLS credentials"),
            (["--nbd-server", "addr.type=unix,addr.path=/x,tls-creds=u"],
             "No TLS credentials with id 'u'")]:
        p = subprocess.run([*PROGRAM, *options], capture_output=True, text=True, timeout=30)
        assert p.returncode == 1 and text in p.stderr, (options, p)


def main():
    for test in [a_node_is_served_and_taken_away, an_export_in_use_is_removed_only_when_told_so,
                 options_do_what_commands_do, mistakes_on_the_command_line_are_named,
                 the_name_of_qemus_daemon_makes_a_drop_in, only_allowed_folders_are_opened,
                 bitmaps_live_in_the_image, a_crash_leaves_a_bitmap_inconsistent_and_visible,
                 images_are_created_by_jobs, io_over_the_monitor_reaches_the_node, over_tcp_only_clients_with_certificates_get_in, a_plain_socat_session_works, rude_monitors_harm_nobody]:
        print("-", test.__name__, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            test()
            os.chdir("/")


if __name__ == "__main__":
    main()
