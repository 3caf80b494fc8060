#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Ends a server that records stored bitmaps, at random moments and under load, and judges them.

usage: kill_bitmaps.py [--rounds N] [--seed S]        (BREAKWATER names the binary)

A round ends with SIGKILL while clients write, while the server starts, or while it stops after
SIGTERM; every fourth with SIGTERM alone. Afterwards a bitmap that is not in use must be clean only
where the disk holds what it held when the bitmap was made; one that the server had reported to serve
must be there; and after an orderly end it must not be in use. qemu-img check finds no corruption. A
bitmap in use is removed and made anew by the next round.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import nbd

SIZE = 16 << 20
MAPS = {"daily": 65536, "fine": 4096}
BREAKWATER = os.environ["BREAKWATER"]
GEOMETRIES = ["cluster_size=65536", "cluster_size=512", "cluster_size=4096,refcount_bits=1"]


def run(*command, ok=(0,)):
    # The kernel may keep a killed server's file open, and locked, for a moment.
    deadline = time.monotonic() + 20
    while True:
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, stdin=subprocess.DEVNULL, check=False)
        locked = result.returncode and ("lock" in result.stdout or "in use" in result.stdout)
        if not locked or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    if result.returncode not in ok:
        raise SystemExit("%s: exit code %d\n%s" % (" ".join(command), result.returncode,
                                                   result.stdout))
    return result.stdout


def start(*options):
    if os.path.exists("d.sock"):
        os.unlink("d.sock")
    with open("server.log", "ab") as log:
        return subprocess.Popen([BREAKWATER, "serve", "-t", "-k", "d.sock", "-f", "qcow2",
                                 *options, "disk.qcow2"],
                                stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def connect(server, context=None):
    """None: the server has gone."""
    deadline = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < deadline:
        handle = nbd.NBD()
        if context:
            handle.add_meta_context(context)
        try:
            handle.connect_unix("d.sock")
            return handle
        except nbd.Error:
            time.sleep(0.01)
    return None


def write_until_gone(handle, seed):
    rng = random.Random(seed)
    hot = rng.randrange(SIZE - (1 << 20))
    try:
        while True:
            length = rng.choice([512, 4096, 20480, 65536])
            off = (hot + rng.randrange(1 << 20) if rng.random() < 0.8 else rng.randrange(SIZE))
            off = min(off, SIZE - length) // 512 * 512
            op = rng.choices(["write", "fua", "zero", "trim", "flush"], [12, 2, 2, 1, 2])[0]
            if op in ("write", "fua"):
                handle.pwrite(rng.randbytes(length), off,
                              nbd.CMD_FLAG_FUA if op == "fua" else 0)
            elif op == "zero":
                handle.zero(length, off, 0)
            elif op == "trim":
                handle.trim(length, off)
            else:
                handle.flush()
    except nbd.Error:
        pass


def end_while_starting(rng, server):
    time.sleep(rng.uniform(0, 0.4))
    server.kill()
    server.wait()
    return False


def end_under_load(rng, server, how):
    """Whether the server reported that it serves the bitmaps."""
    handles = [connect(server) for _ in range(3)]
    if None in handles:
        raise SystemExit("the server does not come up")
    threads = [threading.Thread(target=write_until_gone, args=(h, rng.random())) for h in handles]
    for thread in threads:
        thread.start()
    time.sleep(rng.uniform(0.02, 0.4))
    if how == "kill":
        server.kill()
    else:
        server.terminate()
        if how == "kill while stopping":
            time.sleep(rng.uniform(0, 0.05))
            server.kill()
    code = server.wait()
    for thread in threads:
        thread.join()
    if how == "stop" and code != 0:
        raise SystemExit("an orderly end has exit code %d" % code)
    return True


def flags():
    info = json.loads(run(BREAKWATER, "image", "info", "--json", "disk.qcow2"))
    return {b["name"]: b["flags"] for b in info["format-specific"]["data"].get("bitmaps", [])}


def content():
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "disk.qcow2", "disk.raw")
    with open("disk.raw", "rb") as raw:
        return raw.read()


def clean_ranges(name):
    """By a read-only server, which changes nothing."""
    server = start("-r", "-B", name)
    context = "qemu:dirty-bitmap:" + name
    handle = connect(server, context)
    ranges, at = [], 0

    def extents(_, offset, entries, __):
        nonlocal at
        at = offset
        for length, dirty in zip(entries[::2], entries[1::2]):
            if not dirty:
                ranges.append((at, at + length))
            at += length
    while at < SIZE:
        handle.block_status(SIZE - at, at, extents)
    handle.shutdown()
    server.send_signal(signal.SIGTERM)
    if server.wait() != 0:
        raise SystemExit("the read-only server failed")
    return ranges


def judge(how, served, base):
    """The problems; base: what the disk held when each bitmap was made. Bitmaps in use go."""
    check = run("qemu-img", "check", "-f", "qcow2", "disk.qcow2", ok=(0, 2, 3))
    if "corrupt" in check.lower() or "ERROR" in check:
        return ["qemu-img check: " + check[:2000]], 0
    found, now, problems, good = flags(), content(), [], 0
    for name in MAPS:
        if name not in found:
            if served or name in base:
                problems.append("bitmap %s has vanished" % name)
            continue
        if "in-use" in found[name]:
            if how == "stop":
                problems.append("bitmap %s is in use after an orderly end" % name)
            run(BREAKWATER, "image", "bitmap", "--remove", "disk.qcow2", name)
            base.pop(name, None)
            continue
        good += 1
        # Made and stored within this round: it was clear when the round began.
        was = base.setdefault(name, base["round"])
        for first, end in clean_ranges(name):
            if now[first:end] != was[first:end]:
                problems.append("bitmap %s is wrongly clean in %d..%d" % (name, first, end))
    return problems, good


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    all_good = all_lost = 0
    base = {}
    for number in range(args.rounds):
        rng = random.Random(args.seed * 1000003 + number)
        if number % 10 == 0:
            run("qemu-img", "create", "-q", "-f", "qcow2", "-o",
                GEOMETRIES[(args.seed + number // 10) % len(GEOMETRIES)], "disk.qcow2", str(SIZE))
            base = {}
        base["round"] = content()
        how = "stop" if number % 4 == 0 else rng.choice(
            ["kill", "kill while stopping", "kill while starting"])
        server = start(*[word for name, granularity in MAPS.items()
                         for word in ("-B", "%s,granularity=%d" % (name, granularity))])
        served = (end_while_starting(rng, server) if how == "kill while starting"
                  else end_under_load(rng, server, how))
        problems, good = judge(how, served, base)
        all_good += good
        all_lost += len(MAPS) - good
        if problems:
            print("\n".join(problems[:20]))
            print("round %d (%s) of: kill_bitmaps.py --rounds %d --seed %d (the moment is not "
                  "repeatable)" % (number + 1, how, number + 1, args.seed))
            return 1
    if not all_good or not all_lost:
        print("every bitmap ended the same way: nothing was tested")
        return 1
    print("%d ends, %d bitmaps right, %d inconsistent or not made yet, 0 wrong" % (
        args.rounds, all_good, all_lost))
    return 0


if __name__ == "__main__":
    sys.exit(main())
