# SPDX-License-Identifier: BSD-3-Clause
"""A guest that writes, and knows what its disk must hold. Needs the module nbd of the system's Python.
"""

import os
import pathlib
import random
import subprocess
import threading

from rig import sh


class Guest(threading.Thread):
    """Writes blocks at random through an export, and knows what the disk must hold."""

    def __init__(self, export, size, seed):
        super().__init__(daemon=True)
        import nbd
        self.h = nbd.NBD()
        self.h.connect_uri("nbd+unix:///%s?socket=%s" % (export, os.path.abspath("nbd.sock")))
        self.size, self.random = size, random.Random(seed)
        self.disk = bytearray(self.h.pread(size, 0))
        self.stopping, self.writes, self.error = False, 0, None

    def one_write(self):
        r = self.random
        length = r.choice([512, 4096, 65536, 200000])
        offset = r.randrange(0, self.size - length)
        kind = r.randrange(8)
        if kind == 0:
            self.h.zero(length, offset)
            self.disk[offset:offset + length] = bytes(length)
        else:
            data = bytes([r.randrange(1, 256)]) * length
            self.h.pwrite(data, offset)
            self.disk[offset:offset + length] = data
        if kind == 1:
            self.h.flush()
        if kind == 2:
            assert self.h.pread(length, offset) == self.disk[offset:offset + length], offset
        self.writes += 1

    def run(self):
        try:
            while not self.stopping:
                self.one_write()
        except Exception as error:  # noqa: BLE001 - told by stop
            self.error = error

    def wait_writes(self, n):
        goal = self.writes + n
        while self.writes < goal and self.error is None:
            threading.Event().wait(0.002)

    def stop(self):
        """What the disk must hold; and it does, as read through the export."""
        self.stopping = True
        if self.is_alive():
            self.join()
        assert self.error is None, repr(self.error)
        assert self.h.pread(self.size, 0) == self.disk, "the guest reads something else"
        self.h.shutdown()
        return bytes(self.disk)


def content(image, fmt="qcow2"):
    sh("qemu-img", "convert", "-f", fmt, "-O", "raw", image, "content.raw")
    return pathlib.Path("content.raw").read_bytes()


def check(*images, crashed=False):
    """A crash may leave clusters allocated that nobody uses."""
    for image in images:
        p = subprocess.run(["qemu-img", "check", "-f", "qcow2", image], capture_output=True, text=True)
        assert p.returncode == 0 or (crashed and p.returncode == 3), (image, p.stdout, p.stderr)
