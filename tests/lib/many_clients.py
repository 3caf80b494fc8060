# SPDX-License-Identifier: BSD-3-Clause
"""Many connections to one server: what they cost it, for tests and for bench/server."""

import os
import time

from raw_nbd import READ, Raw


def resident_mib(pid):
    with open("/proc/%d/statm" % pid, encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def settled_descriptors(pid, expected):
    """Once no more than that are left, or after five seconds."""
    deadline = time.monotonic() + 5
    while descriptors(pid) > expected and time.monotonic() < deadline:
        time.sleep(0.01)
    return descriptors(pid)


def at_once(address, pid, n, name):
    """n clients that have read something and wait: the server's memory then, in MiB."""
    clients = [Raw(address).ready(name=name) for _ in range(n)]
    for c in clients:
        assert c.error(READ, 0, 4096) == 0
    mib = resident_mib(pid)
    for c in clients:
        assert c.error(READ, 0, 4096) == 0
        c.close()
    return mib


def one_after_another(address, pid, n, name):
    """n clients that come, read and go: by how many MiB the server grows, and how many descriptors it
    does not close. It has served some before, so that what is kept for reuse is there."""
    def come_and_go(times):
        for _ in range(times):
            c = Raw(address).ready(name=name)
            assert c.error(READ, 0, 4096) == 0
            c.close()

    before = descriptors(pid)
    come_and_go(max(n // 20, 50))
    settled_descriptors(pid, before)
    mib = resident_mib(pid)
    come_and_go(n)
    return resident_mib(pid) - mib, settled_descriptors(pid, before) - before
