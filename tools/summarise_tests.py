#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Adds up what ./check did.

usage: summarise_tests.py FILE...
       summarise_tests.py --self-test

A FILE is a test log of meson (meson-logs/*.json: one JSON object per line with name, result,
duration) or ./check's own list of steps in the same form. Prints what failed and what was skipped,
the slowest tests, and as the last line `N passed, N failed, N skipped` (without the last part when
nothing was). A log that is missing or cannot be read counts as a failure, so does an empty sum.
Exit code 0 only if something passed and nothing failed.
"""

import contextlib
import io
import json
import os
import sys
import tempfile

PASSED = {"OK", "EXPECTEDFAIL"}
SKIPPED = {"SKIP"}


def label(path):
    base = os.path.basename(path)
    return base[:-5] if base.endswith(".json") else base


def read_log(path):
    try:
        with open(path, encoding="utf-8") as log:
            return [json.loads(line) for line in log if line.strip()]
    except (OSError, ValueError) as problem:
        return [{"name": "cannot read the log: %s" % problem, "result": "ERROR"}]


def reason_of(test):
    """Why a test was skipped: the last thing it said."""
    lines = ((test.get("stderr") or "") + (test.get("stdout") or "")).strip().splitlines()
    lines = [line for line in lines if "SKIP" in line.upper()] or lines
    return lines[-1].strip() if lines else ""


def summarise(paths):
    passed, failed, skipped, slow = 0, [], [], []
    for path in paths:
        for test in read_log(path):
            name = "%s: %s" % (label(path), test["name"])
            slow.append((test.get("duration") or 0.0, name))
            if test["result"] in PASSED:
                passed += 1
            elif test["result"] in SKIPPED:
                skipped.append((name, reason_of(test)))
            else:
                failed.append((name, test["result"]))
    print("Slowest:")
    for seconds, name in sorted(slow, reverse=True)[:5]:
        print("  %6.1f s  %s" % (seconds, name))
    for name, reason in skipped:
        print("skipped  %s%s" % (name, " (%s)" % reason if reason else ""))
    for name, result in failed:
        print("FAILED   %s%s" % (name, "" if result == "FAIL" else " (%s)" % result))
    tail = ", %d skipped" % len(skipped) if skipped else ""
    print("%d passed, %d failed%s" % (passed, len(failed), tail))
    return 0 if passed and not failed else 1


def expect(name, log, code, last):
    """Summarises one log (None: a file that does not exist) and judges code and last line."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "log.json")
        if log is not None:
            with open(path, "w", encoding="utf-8") as out:
                out.write(log)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            got = summarise([path])
    good = got == code and said.getvalue().splitlines()[-1] == last
    print("%s: %s" % ("ok" if good else "NOT OK", name))
    return good


def self_test():
    line = '{"name": "a", "result": "%s", "duration": 1.5, "stdout": "SKIP: no qemu"}\n'
    results = [
        expect("all passed", line % "OK" * 2, 0, "2 passed, 0 failed"),
        expect("one failed", line % "OK" + line % "FAIL", 1, "1 passed, 1 failed"),
        expect("a crash, a timeout", line % "ERROR" + line % "TIMEOUT", 1, "0 passed, 2 failed"),
        expect("some skipped", line % "OK" + line % "SKIP", 0, "1 passed, 0 failed, 1 skipped"),
        expect("all skipped is no success", line % "SKIP", 1, "0 passed, 0 failed, 1 skipped"),
        expect("an unknown result is a failure", line % "ODD", 1, "0 passed, 1 failed"),
        expect("no log", None, 1, "0 passed, 1 failed"),
        expect("an empty log", "", 1, "0 passed, 0 failed"),
        expect("a torn log", line % "OK" + '{"na', 1, "0 passed, 1 failed"),
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(self_test() if sys.argv[1:] == ["--self-test"] else summarise(sys.argv[1:]))
