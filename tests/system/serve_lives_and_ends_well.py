#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The life of `breakwater serve`: what it tells the service manager, what it gives up, and how it
ends at the first signal and at the second."""

import os
import pathlib
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from raw_nbd import (ACK, GO, PATIENCE, READ, SHUTDOWN, WRITE, Raw, named,  # noqa: E402
                     option_bytes)

BREAKWATER = os.environ["BREAKWATER"]
ESHUTDOWN = 108
SLOW = ["--fault", "layer=guest op=read action=delay ms=3000"]


def start(*options, socket_path="s.sock", **more):
    log = open("log", "wb")
    server = subprocess.Popen([BREAKWATER, "serve", "-v", "-x", "disk", "-k", socket_path, *options, "disk.qcow2"],
                              stdin=subprocess.DEVNULL, stdout=log, stderr=log, **more)
    deadline = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < deadline:
        try:
            Raw(("unix", socket_path)).close()
            return server
        except OSError:
            time.sleep(0.02)
    raise AssertionError(pathlib.Path("log").read_text(encoding="utf-8"))


def client():
    return Raw(("unix", "s.sock"))


def log_text():
    text = pathlib.Path("log").read_text(encoding="utf-8")
    assert "Sanitizer" not in text and "runtime error" not in text, text
    return text


def ends(server, code=0):
    assert server.wait(PATIENCE) == code, (server.returncode, log_text())
    log_text()
    assert not os.path.exists("s.sock")


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, log_text()
        time.sleep(0.01)


def refused():
    try:
        client().close()
    except OSError:
        return True
    return False


def the_first_signal_drains():
    server = start(*SLOW)
    c, half, writer = client().ready(), client().hello(), client().ready()
    assert writer.error(WRITE, 65536, 4096, b"\x5a" * 4096) == 0  # and no flush
    c.request(READ, 0, 512, cookie=1)
    until(lambda: "connection" in log_text())
    time.sleep(0.2)
    server.terminate()
    until(refused)  # accepts nobody any more
    c.request(READ, 0, 512, cookie=2)  # while the first is in flight
    assert c.simple()[:2] == (ESHUTDOWN, 2)
    assert server.poll() is None
    assert half.closes() == b"" and writer.closes() == b""
    assert c.simple(512)[:2] == (0, 1)  # finished
    assert c.closes() == b""
    ends(server)
    image = subprocess.run(["qemu-io", "-c", "read -P 0x5a 64k 4k", "disk.qcow2"],
                           capture_output=True, check=True).stdout
    assert b"failed" not in image, image
    subprocess.run(["qemu-img", "check", "-q", "disk.qcow2"], check=True)


def the_second_signal_forces():
    server = start("--pid-file", "pid", "--fault", "layer=guest op=read action=delay ms=60000")
    c = client().ready()
    c.request(READ, 0, 512)
    time.sleep(0.2)
    server.terminate()
    until(refused)
    assert server.poll() is None
    started = time.monotonic()
    server.terminate()
    ends(server, 2)
    assert time.monotonic() - started < 20
    assert not os.path.exists("pid")
    assert "forced" in log_text()
    subprocess.run(["qemu-img", "check", "-q", "disk.qcow2"], check=True)


def told(manager):
    return dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())


def the_service_manager_is_told():
    for name in (os.path.abspath("notify"), "@breakwater-test-%d" % os.getpid()):
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.settimeout(PATIENCE)
        manager.bind(name.replace("@", "\0"))
        before = time.monotonic()
        server = start("--tls-certificates", "keys", "--tls", "on",
                       env=dict(os.environ, NOTIFY_SOCKET=name))
        assert told(manager) == {"READY": "1", "MAINPID": str(server.pid)}
        server.send_signal(signal.SIGHUP)
        said = told(manager)
        assert said["RELOADING"] == "1" and int(said["MONOTONIC_USEC"]) >= before * 1000000, said
        assert told(manager)["READY"] == "1"
        server.terminate()
        assert told(manager) == {"STOPPING": "1"}
        ends(server)
        manager.close()


def nobody_to_tell_is_no_reason_to_fail():
    for name in ("/nowhere/notify", "relative", "@", "/" + "x" * 200):
        server = start(env=dict(os.environ, NOTIFY_SOCKET=name))
        assert "NOTIFY_SOCKET" in log_text()
        server.terminate()
        ends(server)


def status_of(server, key):
    for line in pathlib.Path("/proc/%d/status" % server.pid).read_text(encoding="ascii").splitlines():
        if line.startswith(key + ":"):
            return line.split()[1:]
    raise AssertionError(key)


def privileges_are_given_up():
    if os.geteuid() != 0:
        print("  (not root: nothing to give up)")
        return
    nobody = pwd.getpwnam("nobody")
    os.chmod("disk.qcow2", 0o600)  # opened before
    cases = ((["--user", "nobody"], nobody.pw_uid, nobody.pw_gid),
             (["--user", "12345", "--group", "54321"], 12345, 54321),
             (["--group", "54321"], 0, 54321))
    for options, uid, gid in cases:
        server = start(*options, "--pid-file", "pid", preexec_fn=lambda: os.setgroups([7, 8]))
        until(lambda s=server, u=uid: status_of(s, "Uid") == [str(u)] * 4)
        assert status_of(server, "Gid") == [str(gid)] * 4
        assert status_of(server, "Groups") == []
        if uid:
            for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
                assert int(status_of(server, kind)[0], 16) == 0, kind
        for thread in os.listdir("/proc/%d/task" % server.pid):
            assert os.stat("/proc/%d/task/%s" % (server.pid, thread)).st_uid in (0, uid)
        c = client().ready()
        assert c.error(WRITE, 0, 4096, bytes(4096)) == 0
        c.close()
        server.terminate()
        assert server.wait(PATIENCE) == 0, log_text()
        for left in ("s.sock", "pid"):
            if os.path.exists(left):
                os.unlink(left)


def keys_out_of_reach_leave_the_old_ones_in_use():
    if os.geteuid() != 0:
        return
    server = start("--user", "nobody", "--tls-certificates", "keys", "--tls", "on")
    until(lambda: status_of(server, "Uid")[0] != "0")
    server.send_signal(signal.SIGHUP)
    until(lambda: "the old TLS credentials stay in use" in log_text())
    assert client().hello().go() == ACK
    server.terminate()
    server.wait(PATIENCE)
    if os.path.exists("s.sock"):
        os.unlink("s.sock")


def who_is_unknown_is_refused():
    for options, says in ((["--user", "nobody-of-that-name"], "there is no user"),
                          (["--group", "nobody-of-that-name"], "there is no group"),
                          (["--user", "4294967295"], "--user"),
                          (["--user", "3999999999"], "give --group")):
        tried = subprocess.run([BREAKWATER, "serve", "-k", "s.sock", *options, "disk.qcow2"],
                               capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert tried.returncode == 1 and says in tried.stderr, tried


def late_options_are_told():
    """A handshake that is half done when the end comes is told so, or cut."""
    server = start("--fault", "layer=guest op=read action=delay ms=2000")
    c, late = client().ready(), client().hello()
    c.request(READ, 0, 512)
    time.sleep(0.2)
    server.terminate()
    if late.send_anyway(option_bytes(GO, named("disk", b"\0\0"))):
        said = late.closes()
        assert said == b"" or said[12:16] == SHUTDOWN.to_bytes(4, "big"), said
    assert c.simple(512)[0] == 0
    ends(server)


def main():
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chdir(folder)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "disk.qcow2", "16M"], check=True)
        subprocess.run([BREAKWATER, "tls", "init", "keys"], check=True, stdout=subprocess.DEVNULL)
        for test in (the_first_signal_drains, the_second_signal_forces, the_service_manager_is_told,
                     nobody_to_tell_is_no_reason_to_fail, privileges_are_given_up,
                     keys_out_of_reach_leave_the_old_ones_in_use, who_is_unknown_is_refused,
                     late_options_are_told):
            print("-", test.__name__.replace("_", " "), flush=True)
            test()
        os.chdir("/")


if __name__ == "__main__":
    main()
