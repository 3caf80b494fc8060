#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Adds up what ./check did.

usage: summarise_tests.py FILE...

A FILE is a test log of meson (meson-logs/*.json: one JSON object per line with name, result,
duration) or ./check's own list of steps in the same form. Prints what failed and what was skipped,
the slowest tests, and as the last line `N passed, N failed, N skipped` (without the last part when
nothing was). A log that is missing or cannot be read counts as a failure, so does an empty sum.
Exit code 0 only if something passed and nothing failed.
"""

import json
import os
import sys

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


def main(paths):
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
