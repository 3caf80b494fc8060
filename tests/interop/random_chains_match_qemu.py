#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Random chains of images, changed by `breakwater image`, and judged by QEMU after every step.

usage: random_chains_match_qemu.py [--chains N] [--seed S] [--keep]   (BREAKWATER names the binary)

A chain is two or three images made and filled by QEMU, each of a geometry of its own (cluster
size, version, refcount width, subclusters, compression, data file, size), over a raw or a qcow2
base, some with stored bitmaps. Then come a few steps, each of them one of commit, rebase, resize,
snapshot, bitmap and convert. After each one qemu-img must read from the image what it is to hold,
from every snapshot what was there when it was made, find the stored bitmaps, and nothing wrong; so
must our own check. A failure prints the commands so far, and one that repeats it.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

SCRIPT = os.path.realpath(__file__)
BREAKWATER = os.path.realpath(os.environ.get("BREAKWATER", "build/cli/breakwater"))


class Mismatch(Exception):
    pass


class Skipped(Exception):
    """QEMU itself has made an image that it calls broken."""


class Layer:
    """One image of the chain; raw ones can only be a base."""

    def __init__(self, name, form="qcow2", cluster=0, version=3, data_file=False):
        self.name, self.form = name, form
        self.cluster, self.version, self.data_file = cluster, version, data_file
        self.bitmaps = []


def draw_size(rng):
    return rng.choice((512 * rng.randint(1, 9000), 65536 * rng.randint(1, 60),
                       (1 << 20) * rng.randint(1, 5), 2 << 20))


class Chain:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.history = []
        self.layers = []     # lowest first; the last one is the top
        self.snapshots = {}  # of the top: name and content
        self.made = 0        # names that were given
        self.ended = False   # no further step makes sense

    # --- Programs ---

    def run(self, *command, codes=(0,)):
        words = [str(word) for word in command]
        self.history.append(" ".join(words))
        result = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, check=False, text=True, errors="replace")
        if result.returncode not in codes or "Sanitizer" in result.stdout:
            raise Mismatch("exit code %d:\n%s" % (result.returncode, result.stdout[-3000:]))
        return result

    def image(self, command, *arguments, codes=(0,)):
        quiet = [] if command == "bitmap" else ["-q"]
        return self.run(BREAKWATER, "image", command, *quiet, "-f", "qcow2", *arguments,
                        codes=codes)

    def content(self, layer, snapshot=None):
        """What qemu-img reads."""
        command = ["qemu-img", "convert", "-f", layer.form, "-O", "raw"]
        if snapshot:
            command += ["-l", "snapshot.name=" + snapshot]
        result = subprocess.run(command + [layer.name, "content.raw"], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                                text=True, errors="replace")
        if result.returncode:
            raise Mismatch("qemu-img cannot read %s: %s" % (layer.name, result.stdout))
        with open("content.raw", "rb") as raw:
            return raw.read()

    # --- Making images ---

    def new_name(self, stem):
        self.made += 1
        return "%s%d" % (stem, self.made)

    def make(self, size, below=None):
        rng = self.rng
        name = self.new_name("image")
        version = 3 if rng.random() < 0.75 else 2
        cluster = 1 << rng.choice((9, 10, 12, 12, 14, 16, 16, 17, 21))
        options = ["cluster_size=%d" % cluster, "compat=" + ("1.1" if version == 3 else "0.10")]
        extended = version == 3 and cluster >= 16384 and rng.random() < 0.4
        data_file = version == 3 and not extended and rng.random() < 0.12
        if version == 3:
            options.append("refcount_bits=%d" % (1 << rng.randrange(7)))
        if extended:
            options.append("extended_l2=on")
        if data_file:
            options.append("data_file=%s.data" % name)
            if not below and rng.random() < 0.5:
                options.append("data_file_raw=on")
        elif version == 3 and rng.random() < 0.3:
            options.append("compression_type=zstd")
        backing = ["-b", below.name, "-F", below.form] if below else []
        self.run("qemu-img", "create", "-q", "-f", "qcow2", "-o", ",".join(options), *backing, name,
                 size)
        return Layer(name, "qcow2", cluster, version, data_file)

    def make_raw(self, size):
        layer = Layer(self.new_name("raw"), "raw")
        with open(layer.name, "wb") as raw:
            raw.write(bytes(self.rng.choices(range(256), k=512)) * (size // 512))
        return layer

    def fill(self, layer, size, count):
        """By QEMU: data, zeros, holes and compressed clusters."""
        rng, words = self.rng, []
        for _ in range(count if size else 0):
            unit = rng.choice((512, 512, 4096, 65536))
            unit = unit if unit <= size else 512
            units = size // unit
            first = rng.randrange(units)
            length = min(1 + int(rng.paretovariate(0.7)), 300, units - first)
            place = "%d %d" % (first * unit, length * unit)
            kind = rng.random()
            if kind < 0.7:
                words.append("write -P %d %s" % (rng.randrange(1, 256), place))
            elif kind < 0.8:
                words.append("write -z " + place)
            elif kind < 0.88:
                words.append("write -z -u " + place)
            elif layer.cluster <= size and not layer.data_file:
                at = rng.randrange(size // layer.cluster) * layer.cluster
                words.append("write %s -P %d %d %d" % ("-c" if kind < 0.96 else "",
                                                       rng.randrange(256), at, layer.cluster))
        arguments = [part for word in words for part in ("-c", word)]
        # Packing what is allocated already fails in QEMU: that is all right.
        self.run("qemu-io", "-f", "qcow2", "-d", "unmap", *arguments, "-c", "quit", layer.name,
                 codes=(0, 1))
        sound = subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", layer.name],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, check=False)
        if sound.returncode:
            raise Skipped()

    def add_bitmap(self, layer):
        if layer.version == 2 or len(layer.bitmaps) == 3 or self.rng.random() < 0.5:
            return
        name = self.new_name("bitmap")
        granularity = 1 << self.rng.choice((9, 10, 16))
        if self.rng.random() < 0.5:
            self.run("qemu-img", "bitmap", "--add", "-g", granularity, layer.name, name)
        else:
            self.image("bitmap", "--add", "-g", granularity, layer.name, name)
        layer.bitmaps.append(name)

    def build(self):
        rng = self.rng
        size = draw_size(rng)
        if rng.random() < 0.3:
            below = self.make_raw(size)
        else:
            below = self.make(size)
            self.fill(below, size, rng.randint(0, 12))
            self.add_bitmap(below)
        self.layers = [below]
        for _ in range(rng.choice((1, 1, 2))):
            if rng.random() < 0.6:
                size = draw_size(rng)
            below = self.make(size, below)
            self.fill(below, size, rng.randint(0, 15))
            self.add_bitmap(below)
            self.layers.append(below)

    # --- Judging ---

    def expect(self, what, got, wanted):
        if got != wanted:
            at = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), "the end")
            raise Mismatch("%s: %d bytes, expected %d; the first difference is at %s" %
                           (what, len(got), len(wanted), at))

    def check(self, *layers):
        for layer in layers:
            if layer.form == "raw":
                continue
            self.run("qemu-img", "check", "-q", "-f", "qcow2", layer.name)
            self.image("check", layer.name)
            info = json.loads(self.run("qemu-img", "info", "--output=json", layer.name).stdout)
            stored = info.get("format-specific", {}).get("data", {}).get("bitmaps", [])
            for bitmap in stored:
                if "in-use" in bitmap["flags"]:
                    raise Mismatch("%s: bitmap in use: %s" % (layer.name, bitmap))
            names = sorted(bitmap["name"] for bitmap in stored)
            if names != sorted(layer.bitmaps):
                raise Mismatch("%s: bitmaps %s, expected %s" % (layer.name, names, layer.bitmaps))

    # --- Steps: each takes the top and its content ---

    def commit(self, top, content):
        if self.snapshots or len(self.layers) == 1:
            return
        depth = self.rng.randrange(len(self.layers) - 1)
        base = self.layers[depth]
        below = self.content(base)
        last = depth == len(self.layers) - 2
        options = ["-d"] if last and self.rng.random() < 0.3 else []
        self.image("commit", *([] if last else ["-b", base.name]), *options, top.name)
        self.expect("the base after commit", self.content(base), content + below[len(content):])
        self.expect("the top after commit", self.content(top), content)
        self.ended = not last  # what lies between may read anything now

    def rebase(self, top, content):
        if self.snapshots or top.data_file:
            return
        if self.rng.random() < 0.5:
            self.image("rebase", "-b", "", top.name)
            self.layers = [top]
        else:
            size = draw_size(self.rng)
            if self.rng.random() < 0.4:
                other = self.make_raw(size)
            else:
                other = self.make(size)
                self.fill(other, size, 8)
            packed = ["-c"] if self.rng.random() < 0.3 else []
            self.image("rebase", *packed, "-b", other.name, "-F", other.form, top.name)
            self.layers = [other, top]
        self.expect("rebase", self.content(top), content)

    def resize(self, top, arguments, wanted):
        result = self.image("resize", *arguments, codes=(0, 1))
        if result.returncode == 0:
            self.expect("resize", self.content(top), wanted)
        elif not self.snapshots or top.version == 3:
            raise Mismatch(result.stdout)

    def grow(self, top, content):
        more = 512 * self.rng.randint(1, 4000)
        mode = self.rng.choice(("off", "metadata", "falloc", "full"))
        self.resize(top, ["--preallocation", mode, top.name, len(content) + more],
                    content + bytes(more))

    def shrink(self, top, content):
        if len(content) < 512:
            return
        size = 512 * self.rng.randint(1, len(content) // 512)
        self.resize(top, ["--shrink", top.name, size], content[:size])

    def make_snapshot(self, top, content):
        if top.data_file:
            return
        name = self.new_name("snap")
        result = self.image("snapshot", "-c", name, top.name, codes=(0, 1))
        if result.returncode == 0:
            self.snapshots[name] = content
        elif "narrow" not in result.stdout:  # a refcount of one bit cannot count two
            raise Mismatch(result.stdout)

    def apply_snapshot(self, top, _):
        if not self.snapshots:
            return
        name = self.rng.choice(sorted(self.snapshots))
        self.image("snapshot", "-a", name, top.name)
        self.expect("apply", self.content(top), self.snapshots[name])

    def delete_snapshot(self, top, content):
        if not self.snapshots:
            return
        name = self.rng.choice(sorted(self.snapshots))
        self.image("snapshot", "-d", name, top.name)
        del self.snapshots[name]
        self.expect("delete", self.content(top), content)

    def convert(self, top, content):
        options = ["cluster_size=%d" % (1 << self.rng.choice((9, 12, 16, 21)))]
        if self.rng.random() < 0.3:
            options = ["cluster_size=65536", "extended_l2=on"]
        if self.rng.random() < 0.3:
            options.append("compression_type=zstd")
        target = Layer("target")
        more = ["-c"] if self.rng.random() < 0.4 else []
        if not more and self.rng.random() < 0.2:
            options.append("data_file=target.data")
        if top.bitmaps and self.rng.random() < 0.7:
            more.append("--bitmaps")
            target.bitmaps = top.bitmaps
        self.image("convert", "-O", "qcow2", *more, "-o", ",".join(options), top.name, target.name)
        self.expect("convert", self.content(target), content)
        self.check(target)

    def read_snapshot(self, top, _):
        """Ours must say the same of a snapshot as when it was made, to the byte."""
        if not self.snapshots:
            return
        name = self.rng.choice(sorted(self.snapshots))
        self.image("convert", "-O", "raw", "-l", name, top.name, "snapshot.raw")
        with open("snapshot.raw", "rb") as raw:
            self.expect("convert -l", raw.read(), self.snapshots[name])

    def refill(self, top, content):
        self.fill(top, len(content), 10)

    def bitmap(self, top, _):
        self.add_bitmap(top)

    def go(self):
        self.build()
        steps = (self.commit, self.rebase, self.rebase, self.grow, self.shrink, self.make_snapshot,
                 self.apply_snapshot, self.delete_snapshot, self.convert, self.read_snapshot,
                 self.refill, self.bitmap)
        for _ in range(self.rng.randint(1, 4)):
            top = self.layers[-1]
            self.rng.choice(steps)(top, self.content(top))
            if self.ended:
                self.check(*self.layers)
                return
            for name, content in self.snapshots.items():
                got = self.content(top, name)  # QEMU reads it with the size that the disk has now
                common = min(len(got), len(content))
                self.expect("snapshot %s" % name, got[:common], content[:common])
            self.check(*self.layers)


def try_chain(seed):
    """None: skipped."""
    chain = Chain(seed)
    try:
        chain.go()
    except Skipped:
        return None
    except Mismatch as problem:
        print("\n".join(chain.history))
        print("%s\nreplay: %s --chains 1 --seed %d" % (problem, SCRIPT, seed))
        return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chains", type=int, default=9)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave the files of a failure")
    options = parser.parse_args()
    if not shutil.which("qemu-io"):
        print("SKIP: qemu-io is not installed")
        return 77
    skipped = 0
    for number, seed in enumerate(range(options.seed, options.seed + options.chains)):
        if sys.stdout.isatty():
            print("chain %d of %d\r" % (number + 1, options.chains), end="", flush=True)
        folder = tempfile.mkdtemp()
        os.chdir(folder)
        good = try_chain(seed)
        os.chdir("/")
        if good is False and options.keep:
            print("files: %s" % folder)
        else:
            shutil.rmtree(folder)
        if good is False:
            return 1
        skipped += good is None
    print("%d chains from seed %d, %d of them skipped: same content, all checks clean" %
          (options.chains, options.seed, skipped))
    return 0 if skipped < options.chains else 1


if __name__ == "__main__":
    sys.exit(main())
