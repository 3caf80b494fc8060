#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Makes images that are made to do harm, and holds the program to what it says of each.

usage: hostile_images.py [--keep DIRECTORY] [PATTERN]   only rows with PATTERN in their names

OPEN_IMAGE and BREAKWATER in the environment name the programs. Each image is opened read-only and
for writing (open_image.c), and must give the kind of error and the message of its row; in time, in
little memory (SECONDS, MEBIBYTES; more with sanitizers), and it must be left byte by byte as it
was, but for the corrupt bit where the row says so. What is accepted must be sound after it was
written to. The rows are in rows_*.py; --keep leaves the images there.
"""

import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import patch_image  # noqa: E402
import rows_extension  # noqa: E402
import rows_header  # noqa: E402
import rows_history  # noqa: E402
import rows_stored  # noqa: E402
import rows_table  # noqa: E402
from rows import Command  # noqa: E402
from seeds import SEEDS  # noqa: E402

SECONDS, MEBIBYTES = 1.0, 64
SANITIZED_SECONDS, SANITIZED_MEBIBYTES = 15.0, 128
TIMEOUT = 60
CORRUPT_AT = 79
SLOW = os.environ.get("SLOW_BUILD") == "1"  # not optimised, or it counts what it runs
OPEN_IMAGE, BREAKWATER = os.environ.get("OPEN_IMAGE"), os.environ.get("BREAKWATER")


class Wrong(Exception):
    pass


def make(row, folder):
    """The image of a row, and the files around it; returns the path."""
    path = os.path.join(folder, "image")
    seed = SEEDS[row.seed]() if isinstance(row.seed, str) else row.seed()
    for change in row.changes:
        if callable(change):
            change(seed)
    with open(path, "wb") as out:
        out.write(seed.finish())
        for offset, data in getattr(seed, "far", ()):
            out.seek(offset)
            out.write(data)
        for change in row.changes:
            if isinstance(change, tuple):
                out.seek(change[0])
                out.write(change[1])
    texts = [change for change in row.changes if isinstance(change, str)]
    image = patch_image.Image(path)
    for text in texts:
        image.patch(text)
    image.file.close()
    for name, content in (row.files or {}).items():
        target = os.path.join(folder, name)
        if callable(content):
            content(target)
        else:
            with open(target, "wb") as out:
                out.write(content)
    return path


def content(path):
    """The bytes that are not in holes, by offset, and the length."""
    parts, at = [], 0
    with open(path, "rb") as data:
        size = os.fstat(data.fileno()).st_size
        while at < size:
            try:
                start = os.lseek(data.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(data.fileno(), start, os.SEEK_HOLE)
            data.seek(start)
            part = data.read(at - start).rstrip(b"\0")
            skip = len(part) - len(part.lstrip(b"\0"))
            if part:
                parts.append((start + skip, part[skip:]))
    return size, parts


def byte_at(state, offset):
    for start, part in state[1]:
        if start <= offset < start + len(part):
            return part[offset - start]
    return 0


def bytes_at(state, offset, length):
    return bytes(byte_at(state, offset + i) for i in range(length))


def same(before, after, corrupt):
    """Are the bytes the same, but for the corrupt bit, which must then be set?"""
    def blocks(state):
        out = {}
        for start, part in state[1]:
            lead = start % 4096
            part = bytes(lead) + part
            for i in range(0, len(part), 4096):
                block = part[i:i + 4096].ljust(4096, b"\0")
                if any(block):
                    out[start - lead + i] = bytes(
                        a | b for a, b in zip(out.get(start - lead + i, bytes(4096)), block))
        return out
    one, two = blocks(before), blocks(after)
    if corrupt:
        head = bytearray(one[0])
        head[CORRUPT_AT] |= 2
        one[0] = bytes(head)
    return before[0] == after[0] and one == two


def must(condition, *what):
    if not condition:
        raise Wrong(" ".join(str(w) for w in what))


def check_cost(seconds, kib, sanitized):
    sanitized = sanitized or SLOW
    most = SANITIZED_SECONDS if sanitized else SECONDS
    must(seconds <= most, "it takes %.2f s, the limit is %.0f" % (seconds, most))
    most = SANITIZED_MEBIBYTES if sanitized else MEBIBYTES
    must(kib <= most << 10, "it takes %d KiB, the limit is %d MiB" % (kib, most))


def check_opening(seen, wanted, log):
    got = (seen["open"], seen["read"], seen["write"] if seen["writable"] else wanted.write)
    must(got == (wanted.open, wanted.read, wanted.write), "gives", got, seen["message"], log)
    must(wanted.text in (seen["message"] if wanted.open != "0" else log),
         "does not say '%s':" % wanted.text, seen["message"], log)
    must(seen["back"] == "0", "what was written reads back", seen["back"])
    must(wanted.open != "0" or wanted.read != "0" or seen["status"] == "0", "status", seen["status"])
    must(wanted.write != "0" or not seen["writable"] or seen["flush"] == "0", "flush", seen["flush"])


def run(command, folder):
    environment = dict(os.environ, ASAN_OPTIONS="quarantine_size_mb=8:" +
                       os.environ.get("ASAN_OPTIONS", ""))
    try:
        done = subprocess.run(command, cwd=folder, env=environment, check=False, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT,
                              errors="replace")
    except subprocess.TimeoutExpired:
        raise Wrong("runs for more than %d s" % TIMEOUT) from None
    must(done.returncode >= 0 and "Sanitizer" not in done.stderr and
         "runtime error:" not in done.stderr, "ends with", done.returncode, done.stderr)
    return done


def check_left(row, before, path, folder):
    after = content(path)
    if row.left.startswith("grown"):
        after = before[0], [(at, part[:max(0, before[0] - at)]) for at, part in after[1]]
    if row.left != "any":
        must(same(before, after, row.left.endswith("corrupt")), "the image was changed, or not marked")
        return
    for offset, kept in getattr(row, "keep", ()):
        wanted = bytes_at(before, offset, kept) if isinstance(kept, int) else kept
        must(bytes_at(after, offset, len(wanted)) == wanted, "bytes at", offset, "are",
             bytes_at(after, offset, len(wanted)))
    if getattr(row, "sound", False):
        done = run([BREAKWATER, "image", "check", "-f", "qcow2", path], folder)
        must(done.returncode in (0, 3), "is damaged afterwards:", done.stdout, done.stderr)


def try_row(row, folder):
    """(seconds, KiB) that it took."""
    path = make(row, folder)
    before = content(path)
    with open(path, "rb") as data:
        crc = zlib.crc32(data.read(16 << 20))
    lock = rows_history.locked(path) if row.name.startswith("K3") else None
    done = run([OPEN_IMAGE, *row.arguments, "image"], folder)
    if lock:
        lock.close()
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    must(done.returncode == 0 and 1 <= len(seen) <= 2, "ends with", done.returncode, done.stderr)
    must(seen[0]["crc"] == crc, "reading changed the image")
    for one, wanted in zip(seen, (row.ro, row.rw)):
        check_opening(one, wanted, done.stderr)
        check_cost(one["ms"] / 1000, one["peak_kib"], one["sanitized"])
    check_left(row, before, path, folder)
    return max(one["ms"] for one in seen) / 1000, max(one["peak_kib"] for one in seen)


def try_command(row, folder):
    path = make(row, folder)
    before = content(path)
    began = time.monotonic()
    done = run([BREAKWATER, "image", *row.arguments], folder)
    seconds = time.monotonic() - began
    must(seconds <= SANITIZED_SECONDS, "takes %.2f s" % seconds)
    must(done.returncode == row.code and row.text in done.stdout + done.stderr, "exit code",
         done.returncode, "and", done.stdout, done.stderr)
    check_left(row, before, path, folder)
    return seconds, 0


def one(row, keep):
    folder = tempfile.mkdtemp()
    try:
        cost = (try_command if isinstance(row, Command) else try_row)(row, folder)
        return row.name, None, cost
    except Wrong as problem:
        return row.name, str(problem), (0, 0)
    finally:
        if keep:
            target = os.path.join(keep, "".join(c if c.isalnum() else "_" for c in row.name))
            shutil.copytree(folder, target, symlinks=True,
                            ignore=lambda d, names: [n for n in names if n == "pipe"])
        shutil.rmtree(folder)


def main(argv):
    keep = None
    if argv[:1] == ["--keep"]:
        keep, argv = argv[1], argv[2:]
    if not OPEN_IMAGE or not BREAKWATER:
        sys.exit(__doc__)
    rows = [row for module in (rows_header, rows_extension, rows_table, rows_stored, rows_history)
            for row in module.ROWS if not argv or argv[0] in row.name]
    names = [row.name for row in rows]
    if len(set(names)) != len(names):
        sys.exit("two rows have one name: " + str({n for n in names if names.count(n) > 1}))
    failed, worst, slowest = 0, 0, 0
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        for name, problem, (seconds, kib) in pool.map(lambda row: one(row, keep), rows):
            slowest, worst = max(slowest, seconds), max(worst, kib)
            if problem:
                failed += 1
                print("FAIL %s: it %s" % (name, problem.strip()))
    hostile = sum(isinstance(row, Command) or row.rw.open != "0" or row.rw.read != "0" or
                  row.rw.write != "0" for row in rows)
    print("%d images, %d of them hostile; %d failed; at most %.3f s and %.1f MiB" %
          (len(rows), hostile, failed, slowest, worst / 1024))
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
