#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What a server does after it has entered its sandbox works there: views, keys that are renewed,
configuration, control, crash states, the end. That the sandbox holds is the business of
tests/unit/cli/test_sandbox.c. Asks for it (--sandbox on), since builds with sanitizers do not enter it
by themselves."""

import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from qmp import Qmp  # noqa: E402
from raw_nbd import ACK, FLUSH, PATIENCE, READ, WRITE, Raw  # noqa: E402

BREAKWATER = os.environ["BREAKWATER"]
# Its leak check traces the process.
SANDBOXED = dict(os.environ, ASAN_OPTIONS=os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0")


class Server:
    def __init__(self, *options, sandbox=("--sandbox", "on"), fork=False, **env):
        if os.path.exists("run/s.sock"):
            os.unlink("run/s.sock")
        log = open("log", "wb")
        self.process = subprocess.Popen(
            [BREAKWATER, "serve", "-v", "-k", "run/s.sock", *sandbox, *options],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(SANDBOXED, **env))
        log.close()
        self.pid = self.process.pid
        if fork:
            assert self.process.wait(PATIENCE) == 0, self.log()
            self.pid = int(pathlib.Path("run/pid").read_text(encoding="ascii"))
        self.until(lambda: os.path.exists("run/s.sock") and "sandbox" in self.log() or fork)

    @staticmethod
    def log():
        text = pathlib.Path("log").read_text(encoding="utf-8")
        assert "Sanitizer" not in text and "runtime error" not in text, text
        return text

    def until(self, condition):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline and self.process.poll() in (None, 0), self.log()
            time.sleep(0.01)

    def is_in_sandbox(self):
        status = pathlib.Path("/proc/%d/status" % self.pid).read_text(encoding="ascii")
        assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status, status

    def hang_up(self, expected):
        before = self.log().count(expected)
        os.kill(self.pid, signal.SIGHUP)
        self.until(lambda: self.log().count(expected) > before)

    def end(self):
        os.kill(self.pid, signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0, self.log()
        self.until(lambda: not os.path.exists("run/s.sock"))
        self.until(lambda: not os.path.exists("run/pid"))
        self.log()


def connect():
    return Raw(("unix", "run/s.sock"))


def works(name):
    c = connect().ready(name=name)
    for at in (0, 1 << 20, (16 << 20) - 4096):
        assert c.error(WRITE, at, 4096, b"\x5a" * 4096) == 0
    assert c.error(FLUSH) == 0
    c.request(READ, 1 << 20, 4096)
    assert c.simple(4096) == (0, 0, b"\x5a" * 4096)
    c.close()


def image(name):
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", name, "16M"], check=True)
    return name


def views_bitmaps_and_the_end():
    for io in ("", "threads"):
        s = Server("-x", "disk", "-B", "b", "--pid-file", "run/pid", image("disk.qcow2"),
                   BREAKWATER_IO=io)
        s.is_in_sandbox()
        works("disk")
        assert connect().ready(name="disk@one").error(READ, 0, 65536) == 0
        works("disk")
        view = connect().ready(structured=True, contexts=("qemu:dirty-bitmap:one",), name="disk@two")
        view.in_step().close()
        s.end()
        found = subprocess.run(["qemu-img", "info", "disk.qcow2"], check=True, capture_output=True,
                               text=True).stdout
        assert "name: b" in found, found
        subprocess.run(["qemu-img", "check", "-q", "disk.qcow2"], check=True)


def another_folder_for_views():
    s = Server("-x", "disk", "--checkpoints", "--scratch-dir", "scratch", image("disk.qcow2"))
    works("disk")
    assert connect().ready(name="disk@one").error(READ, 0, 65536) == 0
    works("disk")
    s.end()


def keys_are_renewed_also_through_links():
    """As certbot and kubelet do it."""
    subprocess.run([BREAKWATER, "tls", "init", "archive/1"], check=True, stdout=subprocess.DEVNULL)
    os.makedirs("live", exist_ok=True)
    for name in ("server-cert.pem", "server-key.pem", "ca-cert.pem"):
        os.symlink("../archive/1/" + name, "live/" + name)
    s = Server("-x", "disk", "--tls-certificates", "live", "--tls", "on", image("disk.qcow2"))
    s.hang_up("new TLS credentials are in use")
    for name in ("server-cert.pem", "server-key.pem", "ca-cert.pem"):
        shutil.copy("archive/1/" + name, "archive/1/2-" + name)
        os.unlink("live/" + name)
        os.symlink("../archive/1/2-" + name, "live/" + name)
    s.hang_up("new TLS credentials are in use")
    context = ssl.create_default_context(cafile="archive/1/ca-cert.pem")
    context.check_hostname = False
    c = connect().hello().start_tls(context)
    assert c.go() == ACK
    c.in_step().close()
    s.end()


def the_configuration_is_read_again():
    first, second = image("other/first.qcow2"), image("other/second.qcow2")
    os.makedirs("far", exist_ok=True)
    far = os.path.abspath(image("far/far.qcow2"))
    text = "[export one]\nfile = %s\n" % os.path.abspath(first)
    config = pathlib.Path("etc/serve.ini")
    config.write_text(text, encoding="utf-8")
    for allowed in (False, True):
        config.write_text(text, encoding="utf-8")
        s = Server("--config", "etc/serve.ini", *(["--allow-path", "far"] if allowed else []))
        s.is_in_sandbox()
        works("one")
        config.write_text(text + "[export two]\nfile = %s\n[export far]\nfile = %s\n" %
                          (os.path.abspath(second), far), encoding="utf-8")
        s.hang_up("is read again")
        works("two")
        if allowed:
            works("far")
        else:
            assert "--allow-path" in s.log(), s.log()
            assert connect().hello().go("far") != ACK
        s.end()


def control_clients_open_what_they_want():
    image("far/any.qcow2")
    for more in ((), ("--allow-path", "far")):
        s = Server("-x", "disk", "--control", "run/control", *more, image("disk.qcow2"))
        s.is_in_sandbox()
        q = Qmp("run/control")
        q("blockdev-add", **{"node-name": "n", "driver": "qcow2",
                             "file": {"driver": "file", "filename": "far/any.qcow2"}})
        q("block-export-add", **{"type": "nbd", "id": "e", "node-name": "n", "name": "any",
                                 "writable": True})
        works("any")
        works("disk")
        try:
            q("blockdev-add", **{"node-name": "m", "driver": "file",
                                 "filename": os.path.abspath("other/second.qcow2")})
            assert not more, "opened outside"
        except Exception as problem:  # pylint: disable=broad-exception-caught
            assert more and "ermission" in str(problem), problem
        s.end()


def faults_and_crash_states():
    pathlib.Path("rules").write_text("[cache]\nlayer = guest\n", encoding="utf-8")
    s = Server("-x", "disk", "--faults", "rules", "--fault-trace", "run/trace", "--control",
               "run/control", image("disk.qcow2"))
    works("disk")
    assert Qmp("run/control")("faults-list")
    s.end()
    s = Server("-x", "disk", "--fault", "layer=guest op=write action=delay ms=5",
               image("disk.qcow2"))
    works("disk")
    s.end()


def in_the_background():
    s = Server("--fork", "-x", "disk", "--pid-file", "run/pid", image("disk.qcow2"), fork=True)
    s.is_in_sandbox()
    works("disk")
    s.end()


def runs(pid):
    """Is there such a process, which has not ended?"""
    try:
        return ") Z" not in pathlib.Path("/proc/%d/stat" % pid).read_text(encoding="ascii")
    except FileNotFoundError:
        return False


def a_command_around_which_it_serves_is_outside():
    code = ('qemu-io -f raw -c "write 0 64k" "$uri" && sleep 300 & echo left $!; sleep 1; '
            "cat /proc/self/status; exit 7")
    os.makedirs("own", exist_ok=True)
    ran = subprocess.run([BREAKWATER, "serve", "--sandbox", "on", "--run", code, image("disk.qcow2")], capture_output=True, text=True, timeout=PATIENCE,
                         check=False, env=dict(SANDBOXED, TMPDIR="own"), stdin=subprocess.DEVNULL)
    assert os.listdir("own") == [], "the socket of its own is left behind"
    assert ran.returncode == 7 and "Seccomp:\t0" in ran.stdout, ran
    left = int(ran.stdout.split("left ")[1].split()[0])
    deadline = time.monotonic() + PATIENCE
    while runs(left):
        assert time.monotonic() < deadline, "what the command left running was not ended"
        time.sleep(0.02)


def it_can_be_left_off():
    s = Server("--fork", "-x", "disk", "--pid-file", "run/pid", image("disk.qcow2"), fork=True,
               sandbox=("--sandbox", "off"))
    status = pathlib.Path("/proc/%d/status" % s.pid).read_text(encoding="ascii")
    assert "Seccomp:\t0" in status, status
    s.end()
    tried = subprocess.run([BREAKWATER, "serve", "--sandbox", "maybe", "disk.qcow2"],
                           capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert tried.returncode == 1 and "on, off or auto" in tried.stderr, tried


def main():
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chdir(folder)
        SANDBOXED["TMPDIR"] = folder + "/scratch"
        for name in ("run", "scratch", "archive", "other", "etc", "far"):
            os.mkdir(name)
        probe = subprocess.run([BREAKWATER, "serve", "--sandbox", "on", "--stdin", image("p.qcow2")],
                               stdin=subprocess.DEVNULL, capture_output=True, text=True,
                               check=False, env=SANDBOXED)
        if "seccomp" in probe.stderr or "Landlock" in probe.stderr:
            print("SKIP: " + probe.stderr)
            os.chdir("/")
            sys.exit(77)
        for test in (views_bitmaps_and_the_end, another_folder_for_views,
                     keys_are_renewed_also_through_links, the_configuration_is_read_again,
                     control_clients_open_what_they_want, faults_and_crash_states,
                     in_the_background, a_command_around_which_it_serves_is_outside,
                     it_can_be_left_off):
            print("-", test.__name__.replace("_", " "), flush=True)
            test()
        os.chdir("/")


if __name__ == "__main__":
    main()
