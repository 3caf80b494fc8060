#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The same random operations through breakwater and through qemu-io, taking turns on the same images.

usage: random_sequences_match_qemu.py [--sequences N] [--seed S]      (BREAKWATER names the binary)

A sequence draws a geometry and makes one image with qemu-img and one with breakwater. Then come
several turns; in each, both images get the same operations, one through breakwater's server and the
other through qemu-io, and in the next turn it is the other way round: so each program goes on with
what the other one left. Between turns snapshots are made, applied and deleted, and disks grow. After every
turn both checks call both images clean, and at the end both programs read from both images exactly
what a plain array of bytes says.

A discard is of whole clusters: of less, each program may keep what it likes.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

import nbd

BREAKWATER = os.environ.get("BREAKWATER", "build/cli/breakwater")
SIZE = 4 << 20


class Mismatch(Exception):
    pass


def tool(*command, codes=(0,)):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, check=False, text=True, errors="replace")
    if result.returncode not in codes:
        raise Mismatch("%s: exit code %d\n%s" % (" ".join(command), result.returncode,
                                                 result.stdout[-3000:]))
    return result.stdout


class Geometry:
    """How the two images of a sequence are made."""

    def __init__(self, rng):
        self.cluster = 1 << rng.choice((9, 10, 12, 12, 14, 16, 16, 16, 18, 21))
        self.version = rng.choice((2, 3, 3, 3))
        self.refcount_bits = 16 if self.version == 2 else 1 << rng.randrange(7)
        self.size = SIZE - rng.choice((0, 0, 512, 5 * 512, 65536))
        self.backing = rng.choice((None, None, SIZE, SIZE // 2 + 512))
        self.extended = self.version == 3 and self.cluster >= 16384 and rng.random() < 0.4
        self.zstd = self.version == 3 and rng.random() < 0.3
        self.data_file = self.version == 3 and not self.backing and rng.random() < 0.15

    def discards_to_zero(self):
        return self.version == 3 or not self.backing

    def options(self, data_name):
        words = ["cluster_size=%d" % self.cluster, "refcount_bits=%d" % self.refcount_bits,
                 "compat=%s" % ("0.10" if self.version == 2 else "1.1")]
        if self.backing:
            words += ["backing_file=base.raw", "backing_fmt=raw"]
        if self.extended:
            words.append("extended_l2=on")
        if self.zstd:
            words.append("compression_type=zstd")
        if self.data_file:
            words += ["data_file=" + data_name, "data_file_raw=on"]
        return ",".join(words)

    def __str__(self):
        return "size %d, %s" % (self.size, self.options("DATA"))


def draw_range(rng, size, unit):
    """off, len in bytes, of whole units, often of a few and near a cluster's end."""
    units = size // unit
    first = rng.randrange(units)
    return first * unit, min(1 + int(rng.paretovariate(0.7)), 200, units - first) * unit


def draw_operations(rng, geometry, count):
    """(name, off, len, byte)"""
    names = ["write"] * 8 + ["zero"] * 2 + ["unmap"] * 2 + ["flush"] * 2
    if geometry.discards_to_zero():
        names += ["discard"] * 2
    for _ in range(count):
        name = rng.choice(names)
        off, length = draw_range(rng, geometry.size, rng.choice((512, 512, 4096, 65536)))
        if name == "discard":
            if geometry.size < geometry.cluster:
                continue
            off, length = draw_range(rng, geometry.size, geometry.cluster)
        yield name, off, length, rng.randrange(1, 256)


def apply_to_model(model, operation):
    name, off, length, byte = operation
    if name == "write":
        model[off:off + length] = bytes([byte]) * length
    elif name != "flush":
        model[off:off + length] = bytes(length)


def apply_with_qemu(path, operations):
    words = {"write": "write -P %(byte)d %(off)d %(length)d", "zero": "write -z %(off)d %(length)d",
             "unmap": "write -z -u %(off)d %(length)d", "discard": "discard %(off)d %(length)d",
             "flush": "flush"}
    command = ["qemu-io", "-f", "qcow2", "-d", "unmap"]
    for name, off, length, byte in operations:
        command += ["-c", words[name] % {"byte": byte, "off": off, "length": length}]
    said = tool(*command, path)
    if "failed" in said or "error" in said.lower():
        raise Mismatch("qemu-io on %s says:\n%s" % (path, said))


class Served:
    """A client of `breakwater serve` on one image."""

    def __init__(self, path, *options):
        self.socket = os.path.abspath("served.sock")
        self.process = subprocess.Popen([BREAKWATER, "serve", "-k", self.socket, "-f", "qcow2", "-t",
                                         *options, path], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                        errors="replace")
        self.handle = nbd.NBD()
        deadline = time.monotonic() + 60
        while True:
            try:
                self.handle.connect_unix(self.socket)
                return
            except nbd.Error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.process.kill()
                    said = self.process.communicate()[0]
                    raise Mismatch("breakwater does not serve %s:\n%s" % (path, said)) from None
                self.handle = nbd.NBD()
                time.sleep(0.01)

    def apply(self, operation):
        name, off, length, byte = operation
        if name == "write":
            self.handle.pwrite(bytes([byte]) * length, off)
        elif name == "zero":
            self.handle.zero(length, off, nbd.CMD_FLAG_NO_HOLE)
        elif name == "unmap":
            self.handle.zero(length, off)
        elif name == "discard":
            self.handle.trim(length, off)
        else:
            self.handle.flush()

    def content(self, size):
        step = 1 << 20
        return b"".join(self.handle.pread(min(step, size - off), off)
                        for off in range(0, size, step))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.handle.shutdown()
        self.process.terminate()
        said = self.process.communicate()[0]
        if self.process.returncode and not kind:
            raise Mismatch("breakwater ends with %d:\n%s" % (self.process.returncode, said))


def check_both(path):
    tool("qemu-img", "check", "-q", "-f", "qcow2", path)
    tool(BREAKWATER, "image", "check", "-q", "-f", "qcow2", path)


class Upkeep:
    """What happens to images between turns: snapshots and sizes."""

    def __init__(self, rng, geometry):
        self.rng, self.geometry = rng, geometry
        self.snapshots = {}  # name: content
        self.made = 0

    def choices(self):
        names = []
        if not self.geometry.data_file and self.geometry.refcount_bits >= 4 and self.made < 5:
            names += ["create"] * 2
        if self.snapshots:
            names += ["apply", "delete"]
        elif self.geometry.version == 3 or not self.geometry.backing:  # QEMU refuses it there
            names.append("grow")
        return names or [None]

    def run(self, images, model, history):
        """The first image by breakwater, the second by qemu-img. Returns the new content."""
        name = self.rng.choice(self.choices())
        if not name:
            return model
        if name == "grow":
            more = 512 * self.rng.randint(1, 3000)
            self.geometry.size += more
            words = ["resize", "-q", "-f", "qcow2"], ["+%d" % more]
            model = model + bytearray(more)
        elif name == "create":
            self.made += 1
            words = ["snapshot", "-q", "-c", "s%d" % self.made], []
            self.snapshots["s%d" % self.made] = bytearray(model)
        else:
            snapshot = self.rng.choice(sorted(self.snapshots))
            words = ["snapshot", "-q", "-a" if name == "apply" else "-d", snapshot], []
            if name == "apply":
                model = bytearray(self.snapshots[snapshot])
            else:
                del self.snapshots[snapshot]
        history.append("%s: %s" % (name, " ".join(words[0] + words[1])))
        tool(BREAKWATER, "image", *words[0], images[0], *words[1])
        tool("qemu-img", *words[0], images[1], *words[1])
        return model


def read_with_qemu(path):
    tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, "content.raw")
    with open("content.raw", "rb") as content:
        return content.read()


def compare(what, content, model):
    if len(content) != len(model):
        raise Mismatch("%s: %d bytes, expected %d" % (what, len(content), len(model)))
    if content != bytes(model):
        at = next(i for i, (a, b) in enumerate(zip(content, model)) if a != b)
        raise Mismatch("%s: byte %#x is %#x, expected %#x" % (what, at, content[at], model[at]))


def make_images(rng, geometry):
    if geometry.backing:
        base = bytes([255]) * geometry.backing
        with open("base.raw", "wb") as out:
            out.write(base)
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", geometry.options("qemu.data"), "qemu.qcow2",
         str(geometry.size))
    tool(BREAKWATER, "image", "create", "-q", "-f", "qcow2", "-o", geometry.options("ours.data"),
         "ours.qcow2", str(geometry.size))
    model = bytearray(geometry.size)
    if geometry.backing:
        model[:geometry.backing] = base[:geometry.size]
    return model


def run_sequence(seed):
    rng = random.Random(seed)
    geometry = Geometry(rng)
    model = make_images(rng, geometry)
    upkeep = Upkeep(rng, geometry)
    images = ["ours.qcow2", "qemu.qcow2"]
    history = ["geometry: %s" % geometry]
    try:
        for _ in range(rng.randint(2, 4)):
            operations = list(draw_operations(rng, geometry, rng.randint(5, 30)))
            history.append("breakwater on %s, qemu-io on %s:" % tuple(images))
            history += ["  %s %d+%d %d" % operation for operation in operations]
            with Served(images[0]) as served:
                for operation in operations:
                    served.apply(operation)
                    apply_to_model(model, operation)
            apply_with_qemu(images[1], operations)
            for image in images:
                check_both(image)
            images.reverse()
            for _ in range(rng.choice((0, 1, 1, 2))):
                model = upkeep.run(images, model, history)
        for image in images:
            check_both(image)
        for image in images:
            compare("qemu-img reads %s" % image, read_with_qemu(image), model)
            with Served(image, "-r") as served:
                compare("breakwater reads %s" % image, served.content(geometry.size), model)
    except (Mismatch, nbd.Error) as problem:
        print("\n".join(history))
        print("%s\nreplay: %s --sequences 1 --seed %d" % (problem, os.path.abspath(__file__), seed))
        return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not shutil.which("qemu-io"):
        print("SKIP: qemu-io is not installed")
        return 77
    global BREAKWATER
    BREAKWATER = os.path.realpath(BREAKWATER)
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    try:
        for number, seed in enumerate(range(options.seed, options.seed + options.sequences)):
            if sys.stdout.isatty():
                print("sequence %d of %d\r" % (number + 1, options.sequences), end="", flush=True)
            if not run_sequence(seed):
                return 1
            for name in os.listdir("."):
                os.unlink(name)
    finally:
        os.chdir("/")
        shutil.rmtree(folder)
    print("%d sequences from seed %d: same content, all checks clean" % (options.sequences,
                                                                          options.seed))
    return 0


sys.exit(main())
