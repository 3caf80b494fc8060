#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Random chains of images, rebased and committed: what a guest reads stays, and is what QEMU makes.

usage: image_chains_survive_changes.py [ROUNDS [SEED]]

Each round makes a chain of random depth, cluster sizes, versions and sizes, with data, zeros,
discards and compressed clusters; runs `rebase` (onto another image, onto a layer of the chain, onto
nothing) on one copy and `commit` (one layer, or several) on another, and compares with the content
before and with what qemu-img makes of a third copy. A failure prints the seed of its round.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

BREAKWATER = os.path.realpath(os.environ.get("BREAKWATER", "build/cli/breakwater"))
KIB = 1024


class Failure(Exception):
    pass


def run(*command, expect=0):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, check=False, text=True)
    bad = "Sanitizer" in result.stdout or "runtime error" in result.stdout
    if bad or (expect is not None and result.returncode != expect):
        raise Failure("exit code %d: %s\n%s" % (result.returncode, " ".join(command),
                                               result.stdout))
    return result


def ours(*arguments):
    return run(BREAKWATER, "image", *arguments)


def content(path, form):
    run("qemu-img", "convert", "-f", form, "-O", "raw", path, "content.raw")
    with open("content.raw", "rb") as raw:
        return raw.read()


def check_sound(path):
    run("qemu-img", "check", "-f", "qcow2", path)


def write_some(rng, path, form, size, cluster):
    """Aligned and unaligned changes of all kinds that a layer can hold."""
    commands = []
    for _ in range(rng.randint(1, 12)):
        unit = rng.choice([512, cluster, 4 * cluster])
        off = rng.randrange(0, size, 512) // unit * unit
        length = min(size - off, rng.randint(1, 6) * unit)
        kind = rng.choice(["write", "write", "write", "zero", "discard", "packed"])
        if kind == "packed" and form == "qcow2":
            off = off // cluster * cluster
            commands.append("write -c -P %d %d %d" % (rng.randint(1, 9), off, cluster)
                            if off + cluster <= size else "write -z %d 512" % off)
        elif kind == "zero":
            commands.append("write -z %s %d %d" % (rng.choice(["", "-u"]), off, length))
        elif kind == "discard":
            commands.append("discard %d %d" % (off, length))
        else:
            commands.append("write -P %d %d %d" % (rng.randint(0, 9), off, length))
    # Packing what is allocated already fails in QEMU: that is all right.
    for command in commands:
        subprocess.run(["qemu-io", "-f", form, "-c", command, path], stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def make_chain(rng, prefix, depth):
    """The paths and formats of a chain, lowest first."""
    chain = []
    size = rng.randrange(64 * KIB, 1536 * KIB, 512)
    for level in range(depth):
        form = "raw" if level == 0 and depth > 1 and rng.random() < 0.3 else "qcow2"
        path = "%s%d.%s" % (prefix, level, form)
        cluster = rng.choice([512, 4 * KIB, 64 * KIB])
        command = ["qemu-img", "create", "-q", "-f", form]
        if form == "qcow2":
            more = rng.choice(["compat=1.1", "compat=1.1", "compat=0.10", "extended_l2=on"])
            if more == "extended_l2=on":
                cluster = 64 * KIB
            command += ["-o", "cluster_size=%d,%s" % (cluster, more)]
        if chain:
            command += ["-b", chain[-1][0], "-F", chain[-1][1]]
        run(*command, path, str(size))
        write_some(rng, path, form, size, cluster)
        chain.append((path, form))
        if rng.random() < 0.5:
            size = rng.randrange(64 * KIB, 1536 * KIB, 512)
    return chain


def in_copy(name, function):
    """Runs function in a folder that has a copy of all images, and returns what it does."""
    shutil.copytree(".", name, ignore=shutil.ignore_patterns("copy-*", "content.raw"))
    here = os.getcwd()
    os.chdir(name)
    try:
        return function()
    finally:
        os.chdir(here)
        shutil.rmtree(name)


def try_rebase(rng, chain, others):
    top, _ = chain[-1]
    before = content(top, "qcow2")
    targets = [("", ""), others[-1]] + chain[:-1]
    base, form = rng.choice(targets)
    command = ["rebase", "-f", "qcow2", "-b", base] + (["-F", form] if base else [])
    if rng.random() < 0.3:
        command.append("-c")

    def change():
        ours(*command, top)
        check_sound(top)
        info = json.loads(run("qemu-img", "info", "--output=json", top).stdout)
        if info.get("backing-filename", "") != base or \
           info.get("backing-filename-format", "") != form:
            raise Failure("rebase -b '%s': the image says %s" % (base, info))
        if content(top, "qcow2") != before:
            raise Failure("rebase -b '%s' changed the content" % base)
    in_copy("copy-rebase", change)


def try_commit(rng, chain):
    top, _ = chain[-1]
    depth = rng.randint(1, len(chain) - 1)
    base, form = chain[-1 - depth]
    command = ["commit", "-f", "qcow2"]
    if depth > 1 or rng.random() < 0.2:
        command += ["-b", base]
    elif rng.random() < 0.3:
        command.append("-d")

    def change(program):
        def body():
            before = content(top, "qcow2")
            if run(*program, *command, top, expect=None if program == ["qemu-img"] else 0).returncode:
                return None # QEMU cannot: a base of version 2 with a backing file that must grow
            if content(top, "qcow2") != before:
                raise Failure("%s changed what the top reads" % " ".join(command))
            for path, kind in chain:
                if kind == "qcow2":
                    check_sound(path)
            after = content(base, form)
            if after[:len(before)] != before:
                raise Failure("%s: the base does not hold what the top reads" % " ".join(command))
            return after
        return body
    mine = in_copy("copy-ours", change([BREAKWATER, "image"]))
    theirs = in_copy("copy-theirs", change(["qemu-img"]))
    if theirs is not None and mine != theirs:
        at = next((i for i, (a, b) in enumerate(zip(mine, theirs)) if a != b), "the end")
        raise Failure("%s: the base differs from QEMU's at %s (%d and %d bytes)" %
                      (" ".join(command), at, len(mine), len(theirs)))


def one_round(seed):
    rng = random.Random(seed)
    chain = make_chain(rng, "layer", rng.randint(1, 4))
    others = make_chain(rng, "other", rng.randint(1, 2))
    try_rebase(rng, chain, others)
    if len(chain) > 1:
        try_commit(rng, chain)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    for program in ("qemu-img", "qemu-io"):
        if not shutil.which(program):
            print("SKIP: %s is not installed" % program)
            return 77
    for number in range(seed, seed + rounds):
        folder = tempfile.mkdtemp()
        os.chdir(folder)
        try:
            one_round(number)
        except Failure as failure:
            print("round %d: %s\nreplay: %s 1 %d" % (number, failure, sys.argv[0], number))
            return 1
        finally:
            os.chdir("/")
            shutil.rmtree(folder)
    print("%d rounds from seed %d" % (rounds, seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
