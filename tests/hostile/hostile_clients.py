#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Clients that misbehave, each in its own way, while a good client works on beside them.

usage: hostile_clients.py [--seed S] [--rounds N] [PATTERN]   only rows with PATTERN in their names

BREAKWATER in the environment names the binary. The rows are in client_*.py; each says what must come
of it. All the time a good client (libnbd) writes, flushes, and reads what it wrote. All rows run
twice: descriptors and memory of the servers after the second time are held against those after the
first. At the end some misbehave still when SIGTERM comes: all servers must end in time, with exit
code 0, and the images must be sound.
"""

import argparse
import multiprocessing
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import client_handshake  # noqa: E402,F401
import client_tls  # noqa: E402,F401
import client_transmission  # noqa: E402,F401
from client_rows import ROWS, must  # noqa: E402
from raw_nbd import PATIENCE, READ, Raw, request_bytes  # noqa: E402

MIB = 1 << 20
DISK_MIB = 128  # the lower half is for rows, the upper for the good client
GROWTH_MIB = 24 if os.environ.get("SLOW_BUILD") == "1" else 4  # sanitizers keep what was freed
BREAKWATER = os.environ["BREAKWATER"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def work_on(path, seed, rounds):
    """The good client: what it wrote is what it reads, and each answer comes."""
    import nbd  # pylint: disable=import-outside-toplevel
    rng = random.Random(seed)
    handle = nbd.NBD()
    handle.add_meta_context("base:allocation")
    handle.set_export_name("disk")
    handle.connect_unix(path)
    base, block, count = DISK_MIB // 2 * MIB, 4096, DISK_MIB // 2 * MIB // 4096
    model = {}
    while True:
        for _ in range(8):
            at, n = rng.randrange(count - 32), rng.randrange(1, 32)
            data = rng.randbytes(n * block)
            handle.pwrite(data, base + at * block)
            for i in range(n):
                model[at + i] = data[i * block:(i + 1) * block]
        handle.flush()
        for at in rng.sample(sorted(model), 8):
            if handle.pread(block, base + at * block) != model[at]:
                raise SystemExit("block %d is not what was written" % at)
        handle.block_status(MIB, base, lambda *_: 0)
        with rounds.get_lock():
            rounds.value += 1


class Server:
    def __init__(self, name, image, options):
        self.name, self.image = name, image
        self.log = name + ".log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [BREAKWATER, "serve", "-k", name + ".sock", "-v"] + options + [image],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_up(self):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                return Raw(("unix", self.name + ".sock")).close()
            except OSError:
                time.sleep(0.02)
        raise SystemExit("the server %s does not come up: %s" % (self.name, open(self.log).read()))

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.process.pid))

    def resident_mib(self):
        with open("/proc/%d/statm" % self.process.pid, encoding="ascii") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB

    def end(self):
        """SIGTERM: it ends in time, content, and its image is sound."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        with open(self.log, encoding="utf-8", errors="replace") as log:
            text = log.read()
        must("Sanitizer" not in text and "runtime error" not in text, text)
        must(code == 0, self.name, "ended with exit code", code, text[-2000:])
        subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", self.image], check=True)


class World:
    """What a row is given."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        port = free_port()
        tls = ["--tls-certificates", "keys", "--tls"]
        options = {
            "main": ["-x", "disk", "-B", "b", "-b", "127.0.0.1", "-p", str(port)] + tls + ["on"],
            "strict": ["-x", "strict", "-r", "-e", "1", "--handshake-limit", "1s"],
            "secret": ["-x", "disk", "--handshake-limit", "2s"] + tls + ["require"],
            "members": ["-x", "disk", "--tls-verify-peer"] + tls + ["require"],
            "spare": ["-x", "spare", "-B", "b"],
        }
        subprocess.run([BREAKWATER, "tls", "init", "keys"], check=True, stdout=subprocess.DEVNULL)
        self.servers = {}
        for name, more in options.items():
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", name + ".qcow2",
                            "%dM" % DISK_MIB], check=True)
            self.servers[name] = Server(name, name + ".qcow2", more)
        for server in self.servers.values():
            server.wait_up()
        self.where = {name: ("unix", name + ".sock") for name in self.servers}
        self.where["tcp"] = ("tcp", ("127.0.0.1", port))
        self.rounds = multiprocessing.Value("Q", 0)
        self.good = multiprocessing.Process(target=work_on, daemon=True,
                                            args=("main.sock", seed, self.rounds))
        self.good.start()
        self.good_goes_on()

    def connect(self, name="main", **more):
        return Raw(self.where[name], **more)

    def tls(self):
        context = ssl.create_default_context(cafile="keys/ca-cert.pem")
        context.check_hostname = False
        return context

    def read(self, offset, length):
        c = self.connect().ready()
        c.send(request_bytes(READ, offset, length))
        data = c.simple(length)[2]
        c.close()
        return data

    def log_lines(self):
        with open("main.log", "rb") as log:
            return log.read().count(b"\n")

    def settle(self):
        """A little later: what was closed has been seen to be."""
        time.sleep(0.1)
        self.good_goes_on()

    def good_goes_on(self):
        """The good client gets through another round of its work, begun from now on."""
        want = self.rounds.value + 2
        deadline = time.monotonic() + PATIENCE
        while self.rounds.value < want:
            must(self.good.exitcode is None, "the good client failed")
            must(time.monotonic() < deadline, "the good client is held up")
            time.sleep(0.002)

    def quiet(self):
        """{name: (descriptors, MiB)} once all but the good client have gone."""
        state = {}
        for name, server in self.servers.items():
            deadline = time.monotonic() + 5
            counts = [server.descriptors()]
            while time.monotonic() < deadline and (len(counts) < 5 or len(set(counts[-5:])) > 1):
                time.sleep(0.05)
                counts.append(server.descriptors())
            state[name] = counts[-1], server.resident_mib()
        return state


def run_rows(world, pattern, slow):
    failed = 0
    for name, is_slow, function in ROWS:
        if pattern not in name or (is_slow and not slow):
            continue
        started = time.monotonic()
        try:
            function(world)
            world.good_goes_on()
            for server in world.servers.values():
                must(server.process.poll() is None, "the server", server.name, "is gone")
        except Exception:  # pylint: disable=broad-exception-caught
            traceback.print_exc(file=sys.stdout)
            failed += 1
            print("FAILED: %s" % name, flush=True)
            continue
        print("%5.2f s  %s" % (time.monotonic() - started, name), flush=True)
    return failed


def hold_to(before, after):
    for name, (descriptors, mib) in after.items():
        must(descriptors <= before[name][0], name, "has", descriptors, "descriptors, had",
             before[name][0])
        must(mib <= before[name][1] + GROWTH_MIB, name, "has %.1f MiB, had %.1f" % (
            mib, before[name][1]))


def misbehave_at_the_end(world):
    """Silent clients, half a handshake, half a payload, unread replies: none holds the end up."""
    held = [world.connect() for _ in range(20)]
    for name in ("main", "spare"):
        half = world.connect(name).hello()
        half.send(b"IHAVEOPT\0\0")
        writer = world.connect(name).ready(name="disk" if name == "main" else name)
        writer.send(request_bytes(1, 0, MIB) + b"x" * 1000)
        deaf = world.connect(name).ready(name="disk" if name == "main" else name)
        deaf.sock.settimeout(0.2)
        try:
            for _ in range(100):
                deaf.request(READ, 0, MIB)
        except OSError:
            pass
        held += [half, writer, deaf]
    return held


def run(args):
    world = World(args.seed)
    before = None
    failed = run_rows(world, args.pattern, True)
    for _ in range(args.rounds - 1):
        before = world.quiet()
        failed += run_rows(world, args.pattern, False)
        if not failed:
            hold_to(before, world.quiet())
    world.good_goes_on()
    rounds = world.rounds.value
    world.good.terminate()
    held = misbehave_at_the_end(world)
    for server in world.servers.values():
        server.end()
    print("%d kinds of misbehaviour, %d failed; the good client did %d rounds; %d clients at the end"
          % (sum(args.pattern in name for name, _, _ in ROWS), failed, rounds, len(held)))
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("pattern", nargs="?", default="")
    args = parser.parse_args()
    try:
        import nbd  # noqa: F401  pylint: disable=import-outside-toplevel,unused-import
    except ImportError:
        print("SKIP: python3-libnbd is not installed")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            failed = run(args)
        finally:
            os.chdir("/")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
