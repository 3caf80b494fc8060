# SPDX-License-Identifier: BSD-3-Clause
"""`breakwater serve` of a fresh image, for tests of faults."""

import os
import pathlib
import subprocess

import nbd

from qmp import Qmp

BREAKWATER = os.environ["BREAKWATER"]


def fails(expected, function, *args):
    try:
        function(*args)
    except nbd.Error as error:
        assert error.errnum == expected, error
        return
    raise AssertionError("no error")


def log():
    return pathlib.Path("serve.log").read_text()


def run(*tests):
    """Runs each in this folder, and shows the server's log if one fails."""
    for test in tests:
        print("-", test.__name__, flush=True)
        try:
            test()
        except BaseException:
            print(log())
            raise


class Served:
    """Serves a new disk.qcow2 as "disk", with a control socket; rules None: without a rule file."""

    def __init__(self, rules="", *options):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "disk.qcow2", "64M"], check=True)
        pathlib.Path("rules.conf").write_text(rules or "")
        faults = [] if rules is None else ["--faults", "rules.conf"]
        for name in ("nbd.sock", "control.sock"):
            if os.path.exists(name):
                os.unlink(name)
        self.log = open("serve.log", "w")
        self.process = subprocess.Popen(
            [BREAKWATER, "serve", "--socket", "nbd.sock", "-x", "disk", "--control", "control.sock",
             *faults, *options, "disk.qcow2"], stderr=self.log)

    def __enter__(self):
        self.qmp = Qmp("control.sock")
        return self

    def client(self, export="disk"):
        h = nbd.NBD()
        h.set_export_name(export)
        h.connect_unix("nbd.sock")
        return h

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()
