#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Several images in one server: on the command line, in a configuration file, and when that file is
read again while clients are connected."""

import errno
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import nbd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from qmp import Qmp  # noqa: E402

BREAKWATER = os.environ["BREAKWATER"]
HERE = ""  # the folder of the test


class Served:
    """`breakwater serve` with these arguments, on nbd.sock."""

    def __init__(self, *arguments, socket="nbd.sock"):
        self.socket = os.path.join(HERE, socket)
        self.log = open(os.path.join(HERE, "serve.log"), "w+")
        self.process = subprocess.Popen([BREAKWATER, "serve", "-v", *arguments], stderr=self.log,
                                        stdout=subprocess.PIPE, text=True, cwd="/")

    def __enter__(self):
        deadline = time.monotonic() + 20
        while not self.listens():
            assert self.process.poll() is None and time.monotonic() < deadline, self.said()
            time.sleep(0.02)
        return self

    def listens(self):
        with open("/proc/net/unix") as sockets:
            return any(line.split()[3] == "00010000" and line.split()[-1] == self.socket
                       for line in sockets if line.startswith("0"))

    def said(self):
        return pathlib.Path(self.log.name).read_text()

    def wait_for(self, text):
        deadline = time.monotonic() + 20
        while text not in self.said():
            assert time.monotonic() < deadline, "%r does not come in: %s" % (text, self.said())
            time.sleep(0.02)

    def reread(self, expected):
        """SIGHUP, until the log says what is expected of it; only what is new in it counts."""
        os.ftruncate(self.log.fileno(), 0)
        os.lseek(self.log.fileno(), 0, os.SEEK_SET)
        self.process.send_signal(signal.SIGHUP)
        self.wait_for(expected)

    def client(self, export):
        h = nbd.NBD()
        h.set_export_name(export)
        h.add_meta_context("qemu:dirty-bitmap:daily")
        h.connect_unix(self.socket)
        return h

    def listed(self):
        h = nbd.NBD()
        h.set_opt_mode(True)
        h.connect_unix(self.socket)
        found = {}
        h.opt_list(lambda name, text: found.update({name: text}))
        h.opt_abort()
        return found

    def __exit__(self, kind, *_):
        self.process.terminate()
        status = self.process.wait(30)
        if kind is None:
            assert status == 0, self.said()
        else:
            print(self.said(), file=sys.stderr)
        self.process.stdout.close()
        self.log.close()


def write_config(text):
    pathlib.Path("serve.conf").write_text(text)


def refused(expected, *arguments):
    r = subprocess.run([BREAKWATER, "serve", *arguments], stdin=subprocess.DEVNULL, timeout=20,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True)
    assert r.returncode in (1, 2) and expected in r.stdout, (arguments, r.returncode, r.stdout)


def cannot_open(server, name):
    try:
        server.client(name)
    except nbd.Error:
        return
    raise AssertionError("there is an export %r" % name)


def cannot_write(h):
    try:
        h.pwrite(b"x" * 512, 0)
    except nbd.Error as error:
        assert error.errnum == errno.EPERM, error
        return
    raise AssertionError("a read-only export takes writes")


def options_before_the_images_are_for_all_and_those_behind_for_one():
    images = [os.path.join(HERE, name) for name in ("a.qcow2", "b.raw")]
    with Served("-k", os.path.join(HERE, "nbd.sock"), "-e", "3", images[0], "-x", "first", "-D",
                "one of two", images[1], "-r", "-f", "raw") as s:
        assert s.listed() == {"first": "one of two", "b.raw": ""}, s.listed()
        s.client("first").pwrite(b"x" * 512, 0)
        cannot_write(s.client("b.raw"))
        cannot_open(s, "")
        for name in ("first", "b.raw"):
            clients = [s.client(name) for _ in range(3)]
            cannot_open(s, name)  # -e 3 is for both
            for h in clients:
                h.shutdown()
        uris = [s.process.stdout.readline().strip() for _ in range(2)]
        assert uris == ["nbd+unix:///%s?socket=%s" % (name, s.socket) for name in
                        ("first", "b.raw")], uris


def command_lines_that_cannot_be_meant_are_refused():
    refused("two exports 'b.raw'", "-f", "raw", "b.raw", "./b.raw")
    refused("behind the image that it is for", "-x", "a", "a.qcow2", "b.raw", "-f", "raw")
    refused("cannot both write", "-f", "raw", "--fault-trace", "t", "b.raw", "c.raw")
    refused("b.raw: -l: a raw image", "a.qcow2", "b.raw", "-f", "raw", "-l", "s")


TWO = """; what is served
[server]
socket = nbd.sock
max-clients = 20

[export disk]
  file = a.qcow2
  description = the first; of two
  bitmap = daily
  shared = 2

[export logs]
file=b.raw
format=raw
read-only=yes
"""


def a_file_names_exports_with_options_of_their_own():
    write_config(TWO)
    with Served("--config", os.path.join(HERE, "serve.conf")) as s:
        assert s.listed() == {"disk": "the first; of two", "logs": ""}, s.listed()
        assert s.client("disk").can_meta_context("qemu:dirty-bitmap:daily")
        assert not s.client("logs").can_meta_context("qemu:dirty-bitmap:daily")
        cannot_write(s.client("logs"))
        cannot_open(s, "")


def the_command_line_comes_before_the_file_for_the_server_and_behind_it_for_exports():
    write_config(TWO.replace("read-only=yes", "read-only=no"))
    config = os.path.join(HERE, "serve.conf")
    with Served("--config", config, "--max-clients", "1", "-r", os.path.join(HERE, "c.raw"),
                "-f", "raw") as s:
        h = s.client("logs")
        cannot_write(h)
        cannot_open(s, "disk")  # one client is all
    with Served("--config", config, os.path.join(HERE, "c.raw"), "-f", "raw") as s:
        assert set(s.listed()) == {"disk", "logs", "c.raw"}
        s.client("logs").pwrite(b"x" * 512, 0)


WRONG = [  # file, line and words of the message
    ("[sever]", "serve.conf:1: there is no section [sever]"),
    ("\nx = 1", "serve.conf:2: 'x' stands before the first section"),
    ("[export disk", "serve.conf:1: a section is"),
    ("[server]\n\nsocket", "serve.conf:3: 'socket' is neither a section nor KEY = VALUE"),
    ("[export a]\nfile = a\nread-onyl = 1", "serve.conf:3: the key 'read-onyl' is not known; did "
     "you mean 'read-only'?"),
    ("[export a]\nread-only = perhaps", "serve.conf:2: read-only: 'perhaps'"),
    ("[export a]\ncache = fast", "serve.conf:2: cache: --cache: 'fast' is not known"),
    ("[server]\nfile = a", "serve.conf:2: the key 'file' belongs into a section [export NAME]"),
    ("[export a]\nsocket = a", "serve.conf:2: the key 'socket' belongs into a section [server]"),
    ("[export a]\nconfig = a", "serve.conf:2: 'config' is for the command line only"),
    ("[export a]\nfile = a\nfile = b", "serve.conf:3: the key 'file' is there twice"),
    ("[export a]\nread-only = yes", "serve.conf:1: [export a]: the image is missing"),
    ("[export a]\nfile=a.qcow2\n[export a]", "serve.conf:3: the section [export a] is there twice"),
    ("[server]\n[server]", "serve.conf:2: the section [server] is there twice"),
    ("[export a]\nfile=a.qcow2\n[export b]\nname=a\nfile=b.raw\nformat=raw",
     "serve.conf:3: [export b]: there are two exports 'a'"),
    ("[export a]\nfile=%s" % ("x" * 9000), "serve.conf:2: the line is longer than"),
    ("[export a]\nfile=a\0b", "serve.conf:2: there is a byte 0"),
    ("[export a]\nfile=a.qcow2\ntls-only=yes", "serve.conf:1: [export a]: --tls-only needs TLS"),
    ("[export a]\nfile=a.qcow2\nfault=op=wriet", "serve.conf:1: [export a]: --fault 1:"),
    ("[server]\nport = 1", "there is no export in it"),
]


TLS = """[server]
socket = nbd.sock
tls = on
tls-certificates = pki
tls-verify-peer = yes
[export open]
file = b.raw
format = raw
[export hidden]
file = a.qcow2
tls-only = yes
[export ours]
file = c.qcow2
tls-allow = subject=CN=somebody else
"""


def each_export_has_its_rule_for_tls():
    subprocess.run([BREAKWATER, "tls", "init", "pki"], check=True, stdout=subprocess.DEVNULL)
    write_config(TLS)
    with Served("--config", os.path.join(HERE, "serve.conf")) as s:
        uris = [s.process.stdout.readline().split(":")[0] for _ in range(3)]
        assert uris == ["nbd+unix", "nbds+unix", "nbds+unix"], uris
        assert set(s.listed()) == {"open"}
        for export, works in (("open", True), ("hidden", True), ("ours", False)):
            h = nbd.NBD()
            h.set_export_name(export)
            h.set_tls(nbd.TLS_REQUIRE)
            h.set_tls_certificates("pki")
            h.set_tls_verify_peer(False)
            try:
                h.connect_unix(s.socket)
                assert works, export
                h.shutdown()
            except nbd.Error as error:
                assert not works, error
        write_config(TLS.replace("somebody else", "*"))
        s.reread("export 'ours' is changed")


FAULTS = """fault = layer=guest op=read action=error errno=ENOSPC
fault = layer=guest op=write action=error errno=EIO"""


def faults_of_an_export_do_not_strike_others():
    write_config(TWO.replace("bitmap = daily", FAULTS))
    with Served("--config", os.path.join(HERE, "serve.conf")) as s:
        s.client("logs").pread(512, 0)
        h = s.client("disk")
        for expected, act in ((errno.ENOSPC, lambda: h.pread(512, 0)),
                              (errno.EIO, lambda: h.pwrite(b"x" * 512, 0))):
            try:
                act()
            except nbd.Error as error:
                assert error.errnum == expected, error
                continue
            raise AssertionError("no fault")


def what_is_wrong_with_a_file_is_told_with_its_line():
    for text, expected in WRONG:
        write_config(text)
        refused(expected, "--config", "serve.conf")
        refused(expected, "--config", "serve.conf", "--check")
    refused("none.conf", "--config", "none.conf")


def a_file_can_be_checked_without_serving():
    write_config(TWO)
    with Served("-k", os.path.join(HERE, "nbd.sock"), os.path.join(HERE, "a.qcow2")):
        r = subprocess.run([BREAKWATER, "serve", "--config", "serve.conf", "--check"], check=True,
                           stdout=subprocess.PIPE, text=True)
    assert r.stdout == "export 'disk': a.qcow2\nexport 'logs': b.raw\n", r.stdout
    write_config(TWO.replace("b.raw", "d.raw"))
    refused("[export logs]: 'd.raw': No such file", "--config", "serve.conf", "--check")


def reading_again_brings_and_takes_exports_and_leaves_others_alone():
    write_config(TWO)
    with Served("--config", os.path.join(HERE, "serve.conf")) as s:
        stays, goes = s.client("disk"), s.client("logs")
        write_config(TWO.replace("[export logs]", "[export more]"))
        s.reread("export 'more' is new")
        assert set(s.listed()) == {"disk", "more"}
        stays.pwrite(b"y" * 512, 4096)
        try:
            goes.pread(512, 0)
            raise AssertionError("the client of a removed export is still served")
        except nbd.Error as error:
            assert error.errnum in (errno.ESHUTDOWN, errno.ENOTCONN, 0), error
        s.client("more").pread(512, 0)
        write_config(TWO.replace("[export disk]", "[export other]").replace("a.qcow2", "c.qcow2"))
        s.reread("export 'logs' is new")
        assert set(s.listed()) == {"other", "logs"}
        # What is not served any more is whole and free: its bitmap is stored, its lock is gone.
        info = subprocess.run(["qemu-img", "info", "a.qcow2"], check=True, stdout=subprocess.PIPE,
                              text=True).stdout
        assert "name: daily" in info and "in-use" not in info, info
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 0 512", "a.qcow2"], check=True,
                       stdout=subprocess.DEVNULL)


def an_export_that_is_said_otherwise_is_opened_anew():
    write_config(TWO)
    with Served("--config", os.path.join(HERE, "serve.conf")) as s:
        stays = s.client("disk")
        write_config(TWO.replace("read-only=yes", "read-only=no\ndescription=for writing"))
        s.reread("export 'logs' is changed")
        assert s.listed()["logs"] == "for writing"
        s.client("logs").pwrite(b"z" * 512, 0)
        stays.pread(512, 0)


def a_description_and_a_limit_change_under_clients():
    write_config(TWO)
    with Served("--config", os.path.join(HERE, "serve.conf")) as s:
        stays = s.client("disk")
        write_config(TWO.replace("the first; of two", "another").replace("shared = 2", "shared = 1"))
        s.reread("export 'disk' has other properties now")
        assert s.listed()["disk"] == "another", s.listed()
        cannot_open(s, "disk")
        stays.pread(512, 0)
        s.reread("is read again")
        assert "disk" not in s.said(), s.said()  # nothing is different
        write_config(TWO.replace("description = the first; of two", "").replace("shared = 2", ""))
        s.reread("export 'disk' has other properties now")
        assert s.listed()["disk"] == "", s.listed()
        s.client("disk").pread(512, 0)
        stays.pread(512, 0)
        write_config(TWO.replace("bitmap = daily", "bitmap = weekly"))
        s.reread("export 'disk' is changed")


def a_file_that_cannot_be_used_changes_nothing():
    write_config(TWO)
    with Served("--config", os.path.join(HERE, "serve.conf")) as s:
        h = s.client("logs")
        write_config(TWO.replace("read-only=yes", "read-only=perhaps"))
        s.reread("nothing is changed")
        assert "serve.conf:15: read-only: 'perhaps'" in s.said(), s.said()
        os.unlink("serve.conf")
        s.reread("nothing is changed")
        h.pread(512, 0)
        assert set(s.listed()) == {"disk", "logs"}
        # Well-formed, but the image is not there: the export goes on as it was.
        write_config(TWO.replace("file=b.raw", "file=none.raw"))
        s.reread("it cannot be changed, and is served as it was")
        s.client("logs").pread(512, 0)
        write_config(TWO.replace("max-clients = 20", "max-clients = 30"))
        s.reread("counts when the server is started again")


def the_control_socket_shows_all_exports_and_keeps_what_its_clients_use():
    write_config(TWO)
    with Served("--config", os.path.join(HERE, "serve.conf"), "--control",
                os.path.join(HERE, "control.sock")) as s:
        q = Qmp("control.sock")
        assert {e["id"] for e in q("query-block-exports")} == {"disk", "logs"}
        write_config(TWO.replace("[export logs]", "[export more]"))
        s.reread("export 'more' is new")
        assert {e["id"] for e in q("query-block-exports")} == {"disk", "more"}
        assert any(e["event"] == "BLOCK_EXPORT_DELETED" and e["data"]["id"] == "logs"
                   for e in q.events), q.events
        q("block-export-add", **{"type": "nbd", "id": "twice", "node-name": "more",
                                 "name": "again"})
        write_config(TWO)
        s.reread("export 'more': it cannot be removed")
        q("block-export-del", id="twice")
        s.reread("export 'more' is removed")
        assert {e["id"] for e in q("query-block-exports")} == {"disk", "logs"}


def sigterm_while_an_export_drains_ends_the_server():
    write_config(TWO.replace("read-only=yes", "fault=op=read action=delay ms=2000"))
    with Served("--config", os.path.join(HERE, "serve.conf")) as s:
        h = s.client("logs")
        c = h.aio_pread(nbd.Buffer(512), 0)
        h.poll(100)
        write_config(TWO[:TWO.index("[export logs]")])
        s.process.send_signal(signal.SIGHUP)
        s.wait_for("Hangup")
        s.process.send_signal(signal.SIGTERM)
        while not h.aio_command_completed(c):
            h.poll(1000)
        s.process.wait(30)  # a second signal would force it


def make_images():
    for name in ("a.qcow2", "c.qcow2"):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", name, "16M"], check=True)
    for name in ("b.raw", "c.raw"):
        with open(name, "wb") as image:
            image.truncate(8 << 20)


def main():
    global HERE
    parts = [options_before_the_images_are_for_all_and_those_behind_for_one,
             command_lines_that_cannot_be_meant_are_refused,
             a_file_names_exports_with_options_of_their_own,
             the_command_line_comes_before_the_file_for_the_server_and_behind_it_for_exports,
             each_export_has_its_rule_for_tls,
             faults_of_an_export_do_not_strike_others,
             what_is_wrong_with_a_file_is_told_with_its_line,
             a_file_can_be_checked_without_serving,
             reading_again_brings_and_takes_exports_and_leaves_others_alone,
             an_export_that_is_said_otherwise_is_opened_anew,
             a_description_and_a_limit_change_under_clients,
             a_file_that_cannot_be_used_changes_nothing,
             the_control_socket_shows_all_exports_and_keeps_what_its_clients_use,
             sigterm_while_an_export_drains_ends_the_server]
    for part in parts:
        with tempfile.TemporaryDirectory() as HERE:
            os.chdir(HERE)
            make_images()
            print("-", part.__name__.replace("_", " "), flush=True)
            part()
            os.chdir("/")


main()
