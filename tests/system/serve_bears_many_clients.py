#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Many clients at once, and one after another, cost what they should: a sample of bench/server.

usage: serve_bears_many_clients.py [AT-ONCE IN-TURN]      (BREAKWATER names the binary)
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from many_clients import at_once, one_after_another  # noqa: E402
from raw_nbd import PATIENCE  # noqa: E402

BREAKWATER = os.environ["BREAKWATER"]
SANITIZED = os.environ.get("SLOW_BUILD") == "1"  # keeps what was freed


def main():
    many, turns = (int(a) for a in sys.argv[1:3]) if len(sys.argv) > 2 else (300, 1000)
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/s.sock"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", folder + "/d.qcow2", "64M"],
                       check=True)
        with open(folder + "/log", "wb") as log:
            server = subprocess.Popen(
                [BREAKWATER, "serve", "-k", path, "-x", "disk", "--max-clients", str(many + 10),
                 folder + "/d.qcow2"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while not os.path.exists(path):
            assert time.monotonic() < deadline and server.poll() is None
            time.sleep(0.02)
        time.sleep(0.1)
        mib = at_once(("unix", path), server.pid, many, "disk")
        growth, left = one_after_another(("unix", path), server.pid, turns, "disk")
        server.terminate()
        assert server.wait(PATIENCE) == 0, pathlib.Path(folder + "/log").read_text(encoding="utf-8")
    print("%d at once: %.1f MiB; %d in turn: %.2f MiB more, %d descriptors left" % (
        many, mib, turns, growth, left))
    assert SANITIZED or mib < 128 * many / 1000 + 16
    assert SANITIZED or growth <= 1
    assert left <= 0


if __name__ == "__main__":
    main()
