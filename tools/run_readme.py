#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Runs the commands of a Markdown page, so that the page cannot claim what does not work.

usage: run_readme.py PAGE BREAKWATER   run the marked blocks
       run_readme.py --list PAGE       print them

A block of commands to run is fenced as ```sh and has `<!-- run -->` on the line before it. Blocks run
in the order of the page, as one bash script that stops at the first failure, in an empty directory
where `breakwater` is in the path. The page starts servers in the background with a line that ends
in "&"; a reader types slower than a script runs, so the script waits until the socket of its -k
option exists. A line with a comment "# fails" must fail. Every ```sh block that is not run must say why: `<!-- not run: REASON -->`.
Exit code: 0 all ran, 1 a command failed, 2 the page is malformed.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

PROLOGUE = """set -euo pipefail
shopt -s inherit_errexit
trap 'for job in $(jobs -p); do kill "$job" 2>/dev/null || true; done; wait' EXIT
trap 'echo "failed: $BASH_COMMAND" >&2' ERR
await_socket() {
    for _ in $(seq 200); do
        [ ! -S "$1" ] || return 0
        sleep 0.05
    done
    echo "no socket $1" >&2
    return 1
}
"""


class PageError(Exception):
    pass


def blocks_of(text):
    """[(line number, commands)] of the blocks to run."""
    found, lines, number = [], text.splitlines(), 0
    while number < len(lines):
        if lines[number].strip() != "```sh":
            number += 1
            continue
        mark = lines[number - 1].strip() if number else ""
        end = number + 1
        while end < len(lines) and lines[end].strip() != "```":
            end += 1
        if end == len(lines):
            raise PageError("line %d: a block without an end" % (number + 1))
        if mark == "<!-- run -->":
            found.append((number + 2, lines[number + 1:end]))
        elif not re.fullmatch(r"<!-- not run: .+ -->", mark):
            raise PageError("line %d: say `<!-- run -->` or `<!-- not run: REASON -->` before "
                            "this block" % (number + 1))
        number = end + 1
    return found


def script_of(blocks):
    script = PROLOGUE
    for number, commands in blocks:
        script += "echo '== line %d'\n" % number
        for line in commands:
            command, fails, _ = line.partition("# fails")
            if fails:
                line = "if %s; then echo 'this should fail: line %d'; exit 1; fi" % (
                    command.strip(), number)
            script += line + "\n"
            if line.rstrip().endswith("&") and not line.rstrip().endswith("&&"):
                socket = re.search(r"\s-k\s+(\S+)", line)
                if not socket:
                    raise PageError("line %d: a command in the background without -k" % number)
                script += "await_socket %s\n" % socket.group(1)
    return script


def main(argv):
    if len(argv) != 3:
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 2
    page = argv[2] if argv[1] == "--list" else argv[1]
    with open(page, encoding="utf-8") as source:
        text = source.read()
    try:
        blocks = blocks_of(text)
        script = script_of(blocks)
    except PageError as problem:
        print("%s: %s" % (page, problem), file=sys.stderr)
        return 2
    if not blocks:
        print("%s: no block to run" % page, file=sys.stderr)
        return 2
    if argv[1] == "--list":
        print(script)
        return 0
    folder = tempfile.mkdtemp()
    try:
        tools, place = os.path.join(folder, "bin"), os.path.join(folder, "place")
        os.mkdir(tools)
        os.mkdir(place)
        os.symlink(os.path.abspath(argv[2]), os.path.join(tools, "breakwater"))
        environment = dict(os.environ, PATH=tools + ":" + os.environ["PATH"], LC_ALL="C")
        result = subprocess.run(["bash", "-c", script], cwd=place, env=environment,
                                stdin=subprocess.DEVNULL, check=False)
        return 1 if result.returncode else 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
