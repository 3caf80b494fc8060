#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A run that fails publishes nothing and loses no change: the next one includes it.

usage: random_failures_lose_nothing.py [ROUNDS [SEED]]     (40, and a new seed each time)

Each round changes the disk (writes, zeros, discards; sometimes all through the backup), then runs a
backup that may meet with a failure: a request that fails, connections that are cut or hang, a
client that is killed or told to end, a repository without room, a server that is killed or started
anew. Whatever was published is restored and compared with the frozen view it was made from, and
with a model of the disk; whatever was not published must have left no name. At the end all backups
are verified, and some are restored once more and shown to QEMU. TRACE=1 prints a line a round.
"""

import hashlib
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

try:
    import nbd
except ImportError:
    sys.exit(77)
sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from flaky_proxy import Proxy  # noqa: E402

BREAKWATER = os.path.realpath(os.environ["BREAKWATER"])
SIZE = (5 << 20) + 77 * 512
BLOCK = 65536
KEPT = 8  # backups that are looked into at the end


def uri(sock, name="disk"):
    return f"nbd+unix:///{name}?socket={sock}"


def connect(name="disk"):
    h = nbd.NBD()
    h.set_export_name(name)
    h.connect_unix("s.sock")
    return h


class Storm:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.server = None
        self.model = bytearray(SIZE)
        self.expected = {}  # uuid: SHA-256 of the disk at that instant
        self.span = 0.2  # seconds that a run takes
        self.knows_base = False  # the server has seen the newest backup made; None: maybe
        self.counts = {}

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    # --- the server

    def start(self):
        if os.path.exists("s.sock"):
            os.unlink("s.sock")
        scratch = self.rng.choice(["1G", "1G", "1G", "1M"])
        self.log = open("s.log", "ab")
        self.server = subprocess.Popen(
            [BREAKWATER, "serve", "-k", os.path.abspath("s.sock"), "-t", "-x", "disk", "-f", "qcow2",
             "-B", "daily", "--scratch-limit", scratch, "--view-grace", "10s", "--max-checkpoints",
             "400", "disk.qcow2"], stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 20
        while True:
            try:
                h = connect()
                break
            except nbd.Error:
                assert self.server.poll() is None, "the server did not start"
                assert time.monotonic() < deadline, "the server does not listen"
                time.sleep(0.02)
        self.model = bytearray(self.content(h))
        h.shutdown()

    def stop(self, how):
        self.server.send_signal(how)
        code = self.server.wait(30)
        self.log.close()
        assert how == signal.SIGKILL or code == 0, f"the server ended with {code}"
        time.sleep(0.05)

    @staticmethod
    def content(h):
        return b"".join(h.pread(min(1 << 20, SIZE - at), at) for at in range(0, SIZE, 1 << 20))

    # --- changes

    def change(self, h, rng, model):
        length = min(rng.choice([1, 512, 4096, 5000, BLOCK, 3 * BLOCK, rng.randrange(1, 1 << 20)]),
                     SIZE)
        at = rng.choice([rng.randrange(0, SIZE - length + 1), SIZE - length, 0])
        if rng.random() < 0.5:
            at = at // BLOCK * BLOCK
        kind = rng.random()
        if kind < 0.6:
            data = bytes([rng.choice([0, rng.randrange(1, 256)])]) * length
            h.pwrite(data, at)
        elif kind < 0.8:
            h.zero(length, at, rng.choice([0, nbd.CMD_FLAG_NO_HOLE]))
            data = bytes(length)
        else:
            h.trim(length, at)
            data = h.pread(length, at)
        model[at:at + length] = data
        if rng.random() < 0.2:
            h.flush()

    def writer(self, stop, seed):
        rng = random.Random(seed)
        try:
            h = connect()
            while not stop.is_set():
                self.change(h, rng, self.model)
                time.sleep(rng.random() * 0.003)
            h.shutdown()
        except nbd.Error:
            pass  # the server was killed

    # --- backups

    @staticmethod
    def published():
        return {p.stem[1:]: p for p in pathlib.Path("repo/disk").glob("G*.json")}

    def judge_new(self, uuid, quiet, has_view):
        """A backup exists: it must be the disk at one instant, the right one."""
        view = None
        if has_view:
            try:
                h = connect("disk@bw-" + uuid)
                view = self.content(h)
                h.shutdown()
            except nbd.Error:
                self.count("view without scratch")
        if quiet:
            assert view is None or view == self.model, "the frozen view is not the disk"
            view = bytes(self.model)
        self.restore(uuid)
        have = pathlib.Path("out.raw").read_bytes()
        if view is not None and have != view:
            at = next(i for i in range(SIZE) if have[i] != view[i])
            raise AssertionError(f"backup {uuid} differs from its instant at offset {at}")
        self.expected[uuid] = hashlib.sha256(have).digest()

    @staticmethod
    def restore(uuid):
        subprocess.run([BREAKWATER, "restore", "--force", "-f", "raw", "repo/disk@" + uuid,
                        "out.raw"], check=True, stdout=subprocess.DEVNULL)

    def attempt(self, harm):
        rng = self.rng
        argv = [BREAKWATER, "backup", "--json", "--max-chain", str(rng.choice([1, 2, 5, 30])),
                "--connections", str(rng.choice([1, 2, 4])), "--request-size",
                rng.choice(["64k", "256k", "1M"]), "--timeout", "1s" if harm == "hang" else "60s"]
        argv += ["--full"] if rng.random() < 0.1 else []
        before = None
        if harm == "no room":
            room = rng.choice([0, 4096, BLOCK * 3, rng.randrange(1, 2 << 20)])

            def before():  # SIGXFSZ stays ignored, as it is in Python
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        if harm in ("eio", "cut", "cut-all", "hang"):
            self.proxy.plan(harm, rng.choice([0, 1, 2, rng.randrange(0, 60)]))
        else:
            self.proxy.plan(None, 0)
        begun = time.monotonic()
        client = subprocess.Popen(argv + [uri(os.path.abspath("p.sock")), "repo"],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  errors="replace", preexec_fn=before,
                                  restore_signals=harm != "no room")
        if harm in ("kill", "term", "server killed"):
            time.sleep(rng.random() * self.span * 1.1)
        if harm == "kill":
            client.kill()
        elif harm == "term":
            client.terminate()
        elif harm == "server killed":
            self.stop(signal.SIGKILL)
        # Less than --timeout: a client that only its own time-out saves is one that hangs.
        out, report = client.communicate(timeout=45)
        if harm is None:
            self.span = 0.7 * self.span + 0.3 * (time.monotonic() - begun)
        pathlib.Path("client.err").write_text(report)
        assert "Sanitizer" not in report and "runtime error" not in report, report
        return client.returncode, out, report

    def round(self):
        rng = self.rng
        harm = rng.choice([None, None, "eio", "cut", "cut-all", "hang" if rng.random() < 0.1 else
                           "eio", "kill", "kill", "term", "no room", "server killed" if
                           rng.random() < 0.4 else "kill"])
        if rng.random() < 0.04:
            self.stop(signal.SIGTERM)
            self.start()
        h = connect()
        for _ in range(rng.choice([0, 1, 3, 10])):
            self.change(h, rng, self.model)
        h.shutdown()
        quiet = rng.random() < 0.5
        stop = threading.Event()
        thread = threading.Thread(target=self.writer, args=(stop, rng.random()))
        old = self.published()
        if not quiet:
            thread.start()
        code, out, report = self.attempt(harm)
        if not quiet:
            stop.set()
            thread.join()
        new = self.published()
        gone, made = set(old) - set(new), set(new) - set(old)
        assert not gone, f"backups are gone: {gone}"
        self.count(f"{harm}: {code}")
        if os.environ.get("TRACE"):
            print(f"{time.monotonic():.2f}", self.number, harm, quiet, code, report.strip(), flush=True)
        if code in (0, 3):
            assert len(made) == 1 and json.loads(out)["uuid"] in made, (made, out)
            # In full for want of the checkpoint, only when the server has lost it.
            assert code == 0 or not self.knows_base, (code, report)
            assert self.knows_base is not False or json.loads(out)["level"] == "full", out
        else:
            assert code in ((2, 75, -9, -15) if harm else (2,)), (harm, code, report)
            # A killed run may have published; any other must have cleaned up behind itself.
            assert not made or code in (-9, -15), (harm, code, made)
            if code not in (-9, -15):
                stray = [p for p in pathlib.Path("repo").rglob("G*") if p.stem.split(".")[0][1:]
                         not in new]
                assert not stray, (harm, code, stray)
                assert report.startswith("breakwater: "), report
            if harm is None:
                # Only a view that ran out of scratch fails by itself.
                assert not quiet and "at offset" in report, report
        for uuid in made:
            self.judge_new(uuid, quiet, harm != "server killed")
            self.knows_base = True
        if harm == "server killed":
            # It may know, if it was started after an orderly stop and nothing was written since.
            self.knows_base = None
            self.start()  # what was not flushed may be gone: the model is read anew

    def final(self):
        out = subprocess.run([BREAKWATER, "verify", "--json", "repo/disk"], stdout=subprocess.PIPE)
        assert out.returncode == 0, out.stdout
        assert json.loads(out.stdout)["backups_proven"] == len(self.expected), "backups are missing"
        manifests = {u: json.loads(p.read_text()) for u, p in self.published().items()}
        assert set(manifests) == set(self.expected)
        for uuid in self.rng.sample(sorted(manifests), min(KEPT, len(manifests))):
            self.restore(uuid)
            have = pathlib.Path("out.raw").read_bytes()
            assert hashlib.sha256(have).digest() == self.expected[uuid], f"{uuid} has changed"
            # QEMU's opinion, of the layer where it lies.
            layer = f"repo/disk/G{uuid}.qcow2"
            subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", layer], check=True)
            subprocess.run(["qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", layer,
                            "out.raw"], check=True)

    def run(self, rounds):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "disk.qcow2", str(SIZE)],
                       check=True)
        self.start()
        self.proxy = Proxy("p.sock", "s.sock")
        try:
            for self.number in range(rounds):
                self.round()
            self.stop(signal.SIGTERM)
            self.final()
        finally:
            if self.server.poll() is None:
                self.server.kill()
        report = pathlib.Path("s.log").read_text(errors="replace")
        assert "Sanitizer" not in report and "runtime error" not in report, report


def main(rounds=40, seed=None):
    seed = int.from_bytes(os.urandom(4), "big") if seed is None else int(seed)
    print(f"rounds {rounds}, seed {seed}", flush=True)
    storm = Storm(seed)
    storm.number = -1
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    try:
        storm.run(int(rounds))
    except BaseException:
        print(f"round {storm.number} of seed {seed}: the files are in {folder}", flush=True)
        for name in ("client.err", "s.log"):
            if os.path.exists(name):
                print(f"--- {name}", *open(name, errors="replace").readlines()[-20:], sep="")
        raise
    os.chdir("/")
    shutil.rmtree(folder)
    print(f"{len(storm.expected)} backups proven;", ", ".join(
        f"{what} x{n}" for what, n in sorted(storm.counts.items())))


main(*sys.argv[1:])
