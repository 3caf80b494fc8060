#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Holds `breakwater image` to qemu-img, field by field, on the same file.

usage: image_fields.py BREAKWATER info|check|map|compare ARGUMENT...

What qemu-img prints as JSON must be there with the same values; for `compare` the lines are
compared. `map` is asked for the whole chain, which qemu-img always opens. The exit codes must be the same. Exit code: 0 they agree; 1 they do not, with the reason.
"""

import json
import re
import subprocess
import sys

# What this qemu-img has that is left out here: the tree of nodes below an image.
LEFT_OUT = {"children"}


def run(*command):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, check=False, text=True)
    if re.search(r"(Address|Leak)Sanitizer|runtime error:", result.stderr):
        raise SystemExit(result.stderr)
    return result


def fail(text, ours, theirs):
    print("%s\n--- breakwater (exit code %d)\n%s%s--- qemu-img (exit code %d)\n%s%s" % (
        text, ours.returncode, ours.stdout, ours.stderr,
        theirs.returncode, theirs.stdout, theirs.stderr), file=sys.stderr)
    sys.exit(1)


def missing(theirs, ours, path=""):
    """The first thing in theirs that ours does not say."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key, value in theirs.items():
            if key in LEFT_OUT:
                continue
            if key not in ours:
                return "%s/%s is missing" % (path, key)
            found = missing(value, ours[key], "%s/%s" % (path, key))
            if found:
                return found
        return None
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for i, (one, other) in enumerate(zip(theirs, ours)):
            found = missing(one, other, "%s[%d]" % (path, i))
            if found:
                return found
        return None
    return None if theirs == ours else "%s is %s, not %s" % (path, ours, theirs)


def compare_json(breakwater, command, arguments):
    chain = ["--backing-chain"] if command == "map" else []
    ours = run(breakwater, "image", command, "--json", *chain, *arguments)
    theirs = run("qemu-img", command, "--output=json", *arguments)
    if ours.returncode != theirs.returncode:
        fail("the exit codes differ", ours, theirs)
    if theirs.stdout.strip():
        found = missing(json.loads(theirs.stdout), json.loads(ours.stdout))
        if found:
            fail(found, ours, theirs)
        if command == "check":  # nothing may be claimed that qemu-img does not find, either
            found = missing(json.loads(ours.stdout), json.loads(theirs.stdout))
            if found:
                fail("the other way round: " + found, ours, theirs)


def compare_text(breakwater, command, arguments):
    ours = run(breakwater, "image", command, *arguments)
    theirs = run("qemu-img", command, *arguments)
    if ours.returncode != theirs.returncode:
        fail("the exit codes differ", ours, theirs)
    text = ours.stdout
    if command == "compare":  # qemu-img names the sector, we name the byte
        text = re.sub(r"(?<=at offset )\d+", lambda m: str(int(m.group()) // 512 * 512), text)
    if ours.returncode < 2 and text != theirs.stdout:
        fail("the text differs", ours, theirs)


def main(argv):
    breakwater, command, arguments = argv[1], argv[2], argv[3:]
    if command != "compare":
        compare_json(breakwater, command, arguments)
    if command in ("info", "compare"):
        compare_text(breakwater, command, arguments)


if __name__ == "__main__":
    main(sys.argv)
